//! The walk over what was fetched to fill the gaps that snapshots left.
//!
//! It refuses entries that do not lead from one end of their gap to the other; that they are not here yet is no fault.

use std::path::Path;

use super::segments::Check;
use super::{Failed, Jump, Seen};
use crate::wal::error::WalError;
use crate::wal::fold::{Fold, agree};
use crate::wal::frame::{Frame, Read};
use crate::wal::gaps::sequence_of;
use crate::wal::header::ChainPoint;
use crate::wal::segment::{self, Segment, Stop, file_name, parse_name};

impl Check<'_, '_> {
    /// Verifies every gap, as far as it is filled.
    pub(super) fn backfill(&mut self, directory: &Path) -> Result<(), Failed> {
        for jump in std::mem::take(&mut self.jumps) {
            self.gap(directory, jump)?;
        }
        Ok(())
    }

    fn gap(&mut self, directory: &Path, jump: Jump) -> Result<(), Failed> {
        let Some(mut at) = self.beginning(directory, jump)? else { return Ok(()) };
        while at.next_index < jump.to.next_index {
            let sequence = sequence_of(at.next_index);
            let path = directory.join(file_name(sequence));
            let exists = self.disk.exists(&path).map_err(WalError::io("open", &path)).map_err(Failed::Read)?;
            if !exists {
                self.report.absent.push((at.next_index, jump.to.next_index - 1));
                return Ok(());
            }
            let segment = segment::read_header(self.disk, path, sequence, self.report.identity)
                .map_err(|error| Failed::header(error, at.next_index))?;
            at = self.portion(&segment, at)?;
            if at.next_index >= jump.to.next_index {
                agree("the gap's end", jump.to, at)
                    .map_err(|what| Failed::found(&segment, 0, jump.from.next_index, what))?;
            }
        }
        Ok(())
    }

    /// Where what is kept of a gap begins; `None` when nothing of it is. Behind a floor in the middle of it, what was fetched
    /// begins there, or with the file that leads across the floor.
    fn beginning(&mut self, directory: &Path, jump: Jump) -> Result<Option<ChainPoint>, Failed> {
        let Some(floor) = self.report.floor.filter(|floor| floor.first_index > jump.from.next_index) else {
            return Ok(Some(jump.from));
        };
        if floor.first_index >= jump.to.next_index {
            return Ok(None);
        }
        let names = match self.disk.exists(directory) {
            Ok(true) => self.disk.list(directory),
            found => found.map(|_| Vec::new()),
        };
        let names = names.map_err(|error| Failed::Read(WalError::io("list", directory)(error)))?;
        let across = sequence_of(jump.from.next_index)..sequence_of(floor.first_index);
        let found = names.iter().filter_map(|name| parse_name(name)).filter(|it| across.contains(it)).max();
        let Some(sequence) = found else { return Ok(Some(floor.point())) };
        let segment =
            segment::read_header(self.disk, directory.join(file_name(sequence)), sequence, self.report.identity)
                .map_err(|error| Failed::header(error, floor.first_index))?;
        match segment.read_seal(self.disk).map_err(Failed::Read)? {
            Some((_, seal)) if seal.end.next_index > floor.first_index => Ok(Some(segment.header.start)),
            // What ends before the floor is only not deleted yet.
            _ => Ok(Some(floor.point())),
        }
    }

    /// One sealed file of entries that continue what came before it.
    fn portion(&mut self, segment: &Segment, at: ChainPoint) -> Result<ChainPoint, Failed> {
        let found = |offset, index, what: String| Failed::found(segment, offset, index, what);
        agree("the header", segment.header.start, at).map_err(|what| found(0, at.next_index, what))?;
        (self.see)(Seen::Segment(&segment.path, at.next_index)).map_err(|what| found(0, at.next_index, what))?;
        let octets = segment.load(self.disk).map_err(Failed::Read)?;
        let mut fold = Fold::new(segment.header.start);
        let walk = segment.walk(&octets, |offset, Read { frame, .. }| {
            let index = if let Frame::Entry(record) = &frame { record.index } else { at.next_index };
            fold.frame(&frame).map_err(|what| found(offset, index, what))?;
            let end = fold.chains.end();
            if let Some(floor) = self.report.floor.filter(|floor| floor.first_index == end.next_index) {
                agree("the floor", floor.point(), end).map_err(|what| found(offset, index, what))?;
            }
            match &frame {
                Frame::Entry(record) => {
                    self.report.entries += 1;
                    (self.see)(Seen::Entry(record, fold.chains.end().chain)).map_err(|what| found(offset, index, what))
                }
                Frame::Seal(_) => Ok(()),
                _ => Err(found(offset, index, "it holds something else than entries".into())),
            }
        })?;
        let end = fold.chains.end();
        let rest = octets.get(walk.end..).unwrap_or_default();
        if !matches!(walk.stop, Stop::Sealed(_)) || segment::written_octets(rest) > 0 || end.next_index == at.next_index
        {
            return Err(found(walk.end, end.next_index, "it does not end with its seal".into()));
        }
        self.report.segments += 1;
        Ok(end)
    }
}
