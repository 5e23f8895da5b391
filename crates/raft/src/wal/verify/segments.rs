//! The walk over a log's own segments and its preallocated file.
//!
//! It refuses what no power cut can have left, and what contradicts an anchor that came before or after it.

use std::path::Path;

use certwright_seams::disk::Disk;

use super::{Failed, Finding, Jump, Report, See, Seen};
use crate::chain::Chain;
use crate::limits::{WAL_SEGMENT_OCTETS_MAX, WAL_SEGMENT_RESERVE_OCTETS};
use crate::wal::error::WalError;
use crate::wal::floor;
use crate::wal::fold::Fold;
use crate::wal::frame::{Frame, Read};
use crate::wal::header::ChainPoint;
use crate::wal::segment::{self, Segment, Stop, Walk, check_identity, file_name};
use crate::wal::{LogMark, spare};

/// Whether there is more to verify.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Go,
    Stop,
}

/// Verification under way.
pub(super) struct Check<'a, 'see> {
    pub(super) disk: &'a dyn Disk,
    pub(super) directory: &'a Path,
    in_use: bool,
    pub(super) see: &'a mut See<'see>,
    pub(super) report: Report,
    fold: Option<Fold>,
    /// Entries before it are what an anchor says.
    anchor: u64,
    /// The first frame of the segment to come.
    next_sequence: Option<u64>,
    /// The segment before was left without its seal: this one must hold only its opening frames.
    unsealed: Option<Finding>,
    committed: Option<LogMark>,
    /// The chain's value where the floor is, as the entries before it have it; superseded ones may have had another.
    at_floor: Option<Chain>,
    pub(super) jumps: Vec<Jump>,
}

impl<'a, 'see> Check<'a, 'see> {
    pub(super) fn new(disk: &'a dyn Disk, directory: &'a Path, in_use: bool, see: &'a mut See<'see>) -> Self {
        let report = Report {
            identity: None,
            segments: 0,
            entries: 0,
            first_index: 0,
            floor: None,
            next_index: 0,
            chain: None,
            in_use,
            absent: Vec::new(),
            finding: None,
        };
        Self {
            disk,
            directory,
            in_use,
            see,
            report,
            fold: None,
            anchor: 0,
            next_sequence: None,
            unsealed: None,
            committed: None,
            at_floor: None,
            jumps: Vec::new(),
        }
    }

    /// What was found so far.
    pub(super) fn report(self) -> Report {
        let mut report = self.report;
        if let Some(fold) = &self.fold {
            let ChainPoint { next_index, chain } = fold.chains.end();
            (report.next_index, report.chain) = (next_index, chain);
        }
        report
    }

    pub(super) fn log(&mut self, sequences: &[u64]) -> Result<(), Failed> {
        if sequences.is_empty() {
            return Err(self.found_in(self.directory, 0, "it holds no segment"));
        }
        for (place, sequence) in sequences.iter().enumerate() {
            let next = self.segment(*sequence, sequences.len() - 1 - place)?;
            self.report.segments += 1;
            if next == Next::Stop {
                return self.agrees_with_floor();
            }
        }
        self.agrees_with_floor()?;
        if self.in_use {
            return Ok(());
        }
        let next_index = self.next_index();
        if let Some(mark) = self.committed.filter(|mark| mark.index >= next_index) {
            let what = format!("it ends before entry {next_index}, yet entry {} was committed", mark.index);
            return Err(self.found_in(self.directory, 0, what));
        }
        self.spare()
    }

    /// What was deleted led to where the entries that are left begin.
    fn agrees_with_floor(&self) -> Result<(), Failed> {
        match (self.report.floor, self.at_floor) {
            (Some(floor), Some(chain)) if floor.chain != chain => {
                let what = format!("entry {} comes after another chain than the floor says", floor.first_index);
                let (path, first_bad_index) = (self.directory.join(floor::NAME), self.report.first_index);
                Err(Failed::Found(Finding { path, offset: 0, first_bad_index, what }))
            }
            _ => Ok(()),
        }
    }

    /// The preallocated file becomes a segment as it is but for its beginning, which is written anew.
    fn spare(&mut self) -> Result<(), Failed> {
        let path = self.directory.join(spare::NAME);
        if !self.disk.exists(&path).map_err(|error| Failed::Read(WalError::io("open", &path)(error)))? {
            return Ok(());
        }
        let octets = self.disk.read(&path, WAL_SEGMENT_OCTETS_MAX);
        let octets = octets.map_err(|error| Failed::Read(WalError::io("read", &path)(error)))?;
        let written = segment::written_octets(&octets);
        if written > WAL_SEGMENT_RESERVE_OCTETS as usize {
            return Err(self.found_in(&path, written as u64 - 1, "the preallocated segment is not empty"));
        }
        Ok(())
    }

    fn segment(&mut self, sequence: u64, later: usize) -> Result<Next, Failed> {
        let path = self.directory.join(file_name(sequence));
        let segment = segment::read_header(self.disk, path, sequence, None)
            .map_err(|error| Failed::header(error, self.next_index()))?;
        self.begin(&segment)?;
        let octets = segment.load(self.disk).map_err(Failed::Read)?;
        let walk = self.frames(&segment, &octets)?;
        let rest = octets.get(walk.end..).unwrap_or_default();
        if let Stop::Sealed(_) = walk.stop
            && segment::written_octets(rest) > 0
        {
            return Err(Failed::found(&segment, walk.end, self.next_index(), "octets follow its seal"));
        }
        self.end(&segment, &walk, later)
    }

    /// Checks the header against what came before.
    fn begin(&mut self, segment: &Segment) -> Result<(), Failed> {
        let header = &segment.header;
        let index = self.next_index();
        let found = |what: String| Failed::found(segment, 0, index, what);
        match (self.report.identity, &mut self.fold) {
            (Some(identity), Some(fold)) => {
                check_identity(&segment.path, header.identity, identity).map_err(|error| found(error.to_string()))?;
                if let Some(expected) = self.next_sequence.filter(|expected| *expected != header.first_sequence) {
                    return Err(found(format!("the segment that begins with frame {expected} is missing")));
                }
                fold.begin(header.start).map_err(found)?;
            }
            _ => {
                floor::check_first(header, self.report.floor.as_ref()).map_err(|what| found(what.into()))?;
                self.report.identity = Some(header.identity);
                self.report.first_index = header.start.next_index;
                self.fold = Some(Fold::new(header.start));
            }
        }
        self.anchor = header.start.next_index;
        (self.see)(Seen::Segment(&segment.path, header.start.next_index)).map_err(found)
    }

    fn frames(&mut self, segment: &Segment, octets: &[u8]) -> Result<Walk, Failed> {
        let mut fold = self.fold.take().expect("set when the first segment began");
        let walk = segment.walk(octets, |offset, Read { frame, .. }| {
            let before = fold.chains.end();
            let is_anchor = matches!(frame, Frame::Truncate(_) | Frame::Purge(..) | Frame::Seal(_));
            let bad_index = if is_anchor { self.anchor } else { before.next_index };
            let found = |what| Failed::found(segment, offset, bad_index, what);
            fold.frame(&frame).map_err(found)?;
            self.frame(&frame, before, fold.chains.end()).map_err(found)
        });
        self.fold = Some(fold);
        walk
    }

    /// A frame that agrees with all before it.
    fn frame(&mut self, frame: &Frame, before: ChainPoint, after: ChainPoint) -> Result<(), String> {
        if self.report.floor.is_some_and(|floor| floor.first_index == after.next_index) {
            self.at_floor = after.chain;
        }
        match frame {
            Frame::Entry(record) => {
                self.report.entries += 1;
                (self.see)(Seen::Entry(record, after.chain))
            }
            Frame::Truncate(point) => {
                self.anchor = point.next_index;
                (self.see)(Seen::Superseded(point.next_index))
            }
            Frame::Purge(..) if after.next_index > before.next_index => {
                self.anchor = after.next_index;
                self.jumps.push(Jump { from: before, to: after });
                (self.see)(Seen::Jumped(after.next_index, after.chain))
            }
            Frame::Purge(mark, _) => {
                self.anchor = self.anchor.max(mark.index + 1);
                Ok(())
            }
            Frame::Committed(mark) => {
                self.committed = *mark;
                Ok(())
            }
            Frame::Seal(_) | Frame::Vote(_) => Ok(()),
        }
    }

    /// Judges where the frames ended; so many segments come later.
    fn end(&mut self, segment: &Segment, walk: &Walk, later: usize) -> Result<Next, Failed> {
        let (next_index, is_last) = (self.next_index(), later == 0);
        let found = |what: &str| Failed::found(segment, walk.end, next_index, what);
        // One that was written to when the directory was listed, or is just being sealed.
        if self.in_use && (is_last || later == 1 && walk.stop == Stop::Clean) {
            return Ok(Next::Stop);
        }
        let opening_end = segment.header.first_sequence + u64::from(segment.header.opening_frames);
        if let Some(unsealed) = self.unsealed.take()
            && (!is_last || walk.next_sequence != opening_end)
        {
            return Err(Failed::Found(unsealed));
        }
        self.next_sequence = Some(walk.next_sequence);
        match (walk.stop, is_last) {
            (Stop::Sealed(_), false) | (Stop::Clean, true) if walk.next_sequence >= opening_end => Ok(Next::Go),
            (Stop::Sealed(_), true) => Err(found("it is sealed, yet the next segment is missing")),
            (Stop::Clean, false) => {
                // The power may have gone between beginning the next segment and sealing this one.
                let what = "it is not sealed, yet a later segment was in use".to_string();
                let (path, offset) = (segment.path.clone(), walk.end as u64);
                self.unsealed = Some(Finding { path, offset, first_bad_index: next_index, what });
                self.next_sequence = Some(walk.next_sequence + 1);
                Ok(Next::Go)
            }
            _ => Err(found("what follows is not the next frame: altered, or torn by a power cut")),
        }
    }

    pub(super) fn next_index(&self) -> u64 {
        self.fold.as_ref().map_or(0, |fold| fold.chains.end().next_index)
    }

    fn found_in(&self, path: &Path, offset: u64, what: impl Into<String>) -> Failed {
        let (path, first_bad_index) = (path.to_path_buf(), self.next_index());
        Failed::Found(Finding { path, offset, first_bad_index, what: what.into() })
    }
}
