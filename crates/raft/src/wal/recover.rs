//! Opening what an earlier run left: find the live segments, fold their frames, cut a torn last batch, or refuse.
//!
//! It refuses to repair anything but what a power cut does to the batch that was being written, and changes nothing
//! on disk before everything has been checked.

use std::path::Path;
use std::sync::Arc;

use certwright_seams::disk::{Disk, Open};

use super::archive::{self, Archive, Index};
use super::chains::Chains;
use super::error::WalError;
use super::floor::{self, Floor};
use super::fold::{Fold, agree};
use super::frame::{Frame, Read, Seal};
use super::live::{Live, Location};
use super::segment::{self, Segment, Stop, Walk};
use super::writer::{Current, Tail, write_seal};
use super::{Identity, WalOptions};

/// A log as an earlier run left it, ready to go on.
pub(super) struct Opened {
    pub(super) live: Live,
    pub(super) archive: Archive,
    pub(super) tail: Tail,
    pub(super) chains: Chains,
    pub(super) current: Current,
    pub(super) cut_octets: u64,
}

/// Opens the log in a directory; `None` when it holds no segment.
pub(super) fn open(
    disk: &dyn Disk,
    directory: &Path,
    identity: Identity,
    options: &WalOptions,
    floor: Option<&Floor>,
) -> Result<Option<Opened>, WalError> {
    let segments: Vec<Arc<Segment>> =
        segment::list(disk, directory, Some(identity))?.into_iter().map(Arc::new).collect();
    let (Some(first), Some(last)) = (segments.first(), segments.last()) else { return Ok(None) };
    check_first(directory, first, floor)?;
    // A log that was begun at a floor needs nothing from before it.
    let begun_at = if first.header.first_sequence == 1 { first.header.start.next_index } else { 0 };
    let needed = last_purge(disk, last)?.max(begun_at);
    let Some(live_from) = segments.iter().rposition(|segment| segment.header.start.next_index <= needed) else {
        return Err(missing(directory, first.header.first_sequence.saturating_sub(1)));
    };
    // The last but one in any case: the power may have gone before it was sealed.
    let live_from = live_from.min(segments.len().saturating_sub(2));
    let mut archive = Archive::default();
    for pair in segments[..=live_from].windows(2) {
        let seal = archived_seal(disk, directory, &pair[0], &pair[1])?;
        archive.add(Arc::clone(&pair[0]), seal.low, Some(seal), None);
    }
    let mut replay = Replay::new(&segments[live_from], archive, options);
    for (place, segment) in segments.iter().enumerate().skip(live_from) {
        replay.segment(disk, directory, segment, segments.get(place + 1), place + 1 == segments.len() - 1)?;
    }
    make_durable(disk, directory, &segments[..segments.len() - 1])?;
    replay.finish(disk, last).map(Some)
}

/// An earlier run may have died between writing a seal or a name and syncing it; both are about to be relied upon.
fn make_durable(disk: &dyn Disk, directory: &Path, before_last: &[Arc<Segment>]) -> Result<(), WalError> {
    if let Some(segment) = before_last.last() {
        let octets = segment.load(disk)?;
        let walk = segment.walk(&octets, |_, _| Ok::<(), WalError>(()))?;
        segment.write_again(disk, &octets, &walk)?;
    }
    disk.sync_dir(directory).map_err(WalError::io("sync", directory))
}

/// A log begins with its first segment, or where its floor says that it may.
fn check_first(directory: &Path, first: &Segment, floor: Option<&Floor>) -> Result<(), WalError> {
    floor::check_first(&first.header, floor).map_err(|what| match first.header.first_sequence {
        1 => WalError::corrupt(&first.path, 0, what),
        sequence => missing(directory, sequence - 1),
    })
}

fn missing(directory: &Path, sequence: u64) -> WalError {
    WalError::Missing { path: directory.to_path_buf(), sequence }
}

/// The index after the purge mark, by the newest segment, which repeats it: entries before are not needed.
fn last_purge(disk: &dyn Disk, last: &Segment) -> Result<u64, WalError> {
    let octets = last.load(disk)?;
    let mut needed = 0;
    last.walk(&octets, |_, read| {
        if let Frame::Purge(mark, _) = read.frame {
            needed = needed.max(mark.index + 1);
        }
        Ok::<(), WalError>(())
    })?;
    Ok(needed)
}

/// The seal of a segment that is not replayed, checked against the header of the next one.
fn archived_seal(disk: &dyn Disk, directory: &Path, segment: &Segment, next: &Segment) -> Result<Seal, WalError> {
    let found = match segment.read_seal(disk)? {
        Some(found) => Some(found),
        // The power went after sealing and before the file was trimmed.
        None => {
            let octets = segment.load(disk)?;
            let walk = segment.walk(&octets, |_, _| Ok::<(), WalError>(()))?;
            if let Stop::Sealed(seal) = walk.stop { Some((walk.next_sequence - 1, seal)) } else { None }
        }
    };
    let Some((sequence, seal)) = found else {
        return Err(WalError::corrupt(&segment.path, 0, "it is archived but has no sound seal"));
    };
    if sequence + 1 != next.header.first_sequence {
        return Err(missing(directory, sequence + 1));
    }
    agree("the header", next.header.start, seal.end).map_err(|what| WalError::corrupt(&next.path, 0, what))?;
    Ok(seal)
}

/// The fold over the live segments.
struct Replay<'a> {
    options: &'a WalOptions,
    fold: Fold,
    live: Live,
    archive: Archive,
    current: Current,
    /// Of the segment being read.
    index: Index,
    not_after: Option<u64>,
    /// A seal to be written: the power went between the last two steps of going over to a new segment.
    unsealed: Option<(Arc<Segment>, Walk, Seal)>,
    /// The last segment, where it ended, and how much follows there that is not zero.
    end: Option<(Vec<u8>, Walk, u64)>,
}

impl<'a> Replay<'a> {
    fn new(first: &Segment, archive: Archive, options: &'a WalOptions) -> Self {
        let start = first.header.start;
        Self {
            options,
            fold: Fold::new(start),
            live: Live::new(start.next_index, options.cache_octets),
            archive,
            current: Current::default(),
            index: Index::new(),
            not_after: None,
            unsealed: None,
            end: None,
        }
    }

    fn segment(
        &mut self,
        disk: &dyn Disk,
        directory: &Path,
        segment: &Arc<Segment>,
        next: Option<&Arc<Segment>>,
        next_is_last: bool,
    ) -> Result<(), WalError> {
        self.fold.begin(segment.header.start).map_err(|what| WalError::corrupt(&segment.path, 0, what))?;
        (self.index, self.not_after) = (Index::new(), None);
        let octets = segment.load(disk)?;
        let walk = segment.walk(&octets, |offset, read| {
            self.frame(segment, offset, &read).map_err(|what| WalError::corrupt(&segment.path, offset as u64, what))
        })?;
        let Some(next) = next else { return self.last(directory, segment, octets, walk) };
        let seal = match walk.stop {
            Stop::Sealed(_) if walk.next_sequence != next.header.first_sequence => {
                return Err(missing(directory, walk.next_sequence));
            }
            Stop::Sealed(seal) => seal,
            Stop::Clean | Stop::Bad if next_is_last && walk.next_sequence + 1 == next.header.first_sequence => {
                let seal = Seal { end: self.fold.chains.end(), low: self.fold.low, not_after: self.not_after };
                self.unsealed = Some((Arc::clone(segment), walk, seal));
                seal
            }
            Stop::Clean | Stop::Bad => {
                let what = format!("frame {} is not sound, yet a later segment exists", walk.next_sequence);
                return Err(WalError::corrupt(&segment.path, walk.end as u64, what));
            }
        };
        let index = std::mem::take(&mut self.index);
        self.archive.add(Arc::clone(segment), self.fold.low, Some(seal), Some(index));
        Ok(())
    }

    fn frame(&mut self, segment: &Segment, offset: usize, read: &Read) -> Result<(), String> {
        self.fold.frame(&read.frame)?;
        archive::note(&mut self.index, offset, &read.frame);
        match &read.frame {
            Frame::Entry(record) => {
                let expiry = self.options.not_after.as_ref().and_then(|not_after| not_after(record));
                self.not_after = self.not_after.max(expiry);
                let location = Location { segment: segment.header.first_sequence, offset: offset as u32 };
                self.live.restore(record.clone(), location);
            }
            Frame::Truncate(point) => self.live.truncate(point.next_index),
            Frame::Vote(vote) => self.current.vote = Some(vote.clone()),
            Frame::Purge(mark, chain) => {
                self.live.purge(*mark);
                self.current.purged = Some((*mark, *chain));
            }
            Frame::Committed(mark) => self.current.committed = *mark,
            Frame::Seal(_) => {}
        }
        Ok(())
    }

    /// The segment that was being written.
    fn last(&mut self, directory: &Path, segment: &Arc<Segment>, octets: Vec<u8>, walk: Walk) -> Result<(), WalError> {
        if let Stop::Sealed(_) = walk.stop {
            return Err(missing(directory, walk.next_sequence));
        }
        segment.is_torn(&octets, &walk).map_err(|what| WalError::corrupt(&segment.path, walk.end as u64, what))?;
        let opening_end = segment.header.first_sequence + u64::from(segment.header.opening_frames);
        if let Some((unsealed, walk_before, _)) = &self.unsealed
            && walk.next_sequence > opening_end
        {
            let what = "its seal is not sound, yet the next segment was in use already";
            return Err(WalError::corrupt(&unsealed.path, walk_before.end as u64, what));
        }
        let junk = segment::written_octets(octets.get(walk.end..).unwrap_or_default());
        self.end = Some((octets, walk, junk as u64));
        Ok(())
    }

    /// Everything is sound: now repair, and make durable what was perhaps only written.
    fn finish(mut self, disk: &dyn Disk, last: &Arc<Segment>) -> Result<Opened, WalError> {
        let (octets, walk, cut_octets) = self.end.expect("the last segment is always among those replayed");
        if let Some((segment, walk, seal)) = &self.unsealed {
            let file = disk.open(&segment.path, Open::Write).map_err(WalError::io("open", &segment.path))?;
            write_seal(&*file, &segment.header, walk.end as u64, walk.next_sequence, *seal)
                .map_err(WalError::io("seal", &segment.path))?;
        }
        if cut_octets > 0 {
            tracing::warn!(path = %last.path.display(), offset = walk.end, cut_octets, "cutting a torn batch off the log");
            let file = disk.open(&last.path, Open::Write).map_err(WalError::io("open", &last.path))?;
            file.write_at(walk.end as u64, &vec![0; cut_octets as usize]).map_err(WalError::io("write", &last.path))?;
        }
        last.write_again(disk, &octets, &walk)?;
        let tail = Tail {
            segment: Arc::clone(last),
            offset: walk.end as u64,
            next_sequence: walk.next_sequence,
            low: self.fold.low,
            not_after: self.not_after,
        };
        self.archive.add(Arc::clone(last), self.fold.low, None, Some(std::mem::take(&mut self.index)));
        self.live.vote = self.current.vote.clone();
        self.live.set_committed(self.current.committed);
        let Self { live, archive, current, fold, .. } = self;
        Ok(Opened { live, archive, tail, chains: fold.chains, current, cut_octets })
    }
}
