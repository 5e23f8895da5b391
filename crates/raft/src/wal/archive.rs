//! Every segment on disk and which entries it holds for good; entries that Raft has purged are read from here.
//!
//! It refuses to decide what goes: that is for those who know what the entries are worth.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, MutexGuard};

use certwright_seams::disk::{Disk, File, Open};

use super::Record;
use super::frame::{self, Frame, HEAD_OCTETS, Seal};
use super::live::Location;
use super::segment::Segment;
use crate::chain::Chain;
use crate::limits;

/// A segment, for those who decide on retention.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SegmentInfo {
    /// Its file.
    pub path: PathBuf,
    /// Index that the next entry had when it was begun.
    pub start_index: u64,
    /// Index that the next entry had when it was sealed; `None` for the one being written.
    pub end_index: Option<u64>,
    /// Latest notAfter it holds, milliseconds since the Unix epoch, as the owner of the log reported.
    pub not_after_millis: Option<u64>,
}

/// Offsets of entries by index, superseded ones left out.
pub(super) type Index = BTreeMap<u64, u32>;

#[derive(Debug)]
struct Member {
    segment: Arc<Segment>,
    /// The least `next_index` within it so far.
    low: u64,
    seal: Option<Seal>,
    index: Option<Index>,
}

/// The segments in order; the last is being written.
#[derive(Debug, Default)]
pub(super) struct Archive {
    members: Vec<Member>,
    /// First sequences of sealed segments whose index is in memory, least recently loaded first.
    loaded: VecDeque<u64>,
    /// Entries in those indexes.
    loaded_entries: usize,
}

/// Where some entries may lie.
#[derive(Debug)]
pub(super) enum Lookup {
    /// Here, at these offsets.
    Held(Arc<Segment>, Vec<u32>),
    /// In this segment if anywhere: its index must be loaded first.
    NotLoaded(Arc<Segment>),
    Absent,
}

impl Archive {
    /// Adds a segment that is sealed, or the one being written with what it holds already.
    pub(super) fn add(&mut self, segment: Arc<Segment>, low: u64, seal: Option<Seal>, index: Option<Index>) {
        let sequence = segment.header.first_sequence;
        let counts = seal.is_some() && index.is_some();
        self.members.push(Member { segment, low, seal, index });
        if counts {
            self.keep(sequence);
        }
    }

    /// The segment that begins with that frame.
    pub(super) fn segment(&self, first_sequence: u64) -> Option<Arc<Segment>> {
        self.position(first_sequence).map(|place| Arc::clone(&self.members[place].segment))
    }

    fn position(&self, first_sequence: u64) -> Option<usize> {
        self.members.binary_search_by_key(&first_sequence, |member| member.segment.header.first_sequence).ok()
    }

    /// An entry is durable in the segment being written.
    pub(super) fn note_entry(&mut self, index: u64, offset: u32) {
        if let Some(entries) = self.members.last_mut().and_then(|member| member.index.as_mut()) {
            entries.insert(index, offset);
        }
    }

    /// A truncation is durable in the segment being written.
    pub(super) fn note_truncate(&mut self, next_index: u64) {
        if let Some(member) = self.members.last_mut() {
            member.low = member.low.min(next_index);
            if let Some(entries) = &mut member.index {
                entries.split_off(&next_index);
            }
        }
    }

    /// The segment being written is sealed.
    pub(super) fn seal(&mut self, seal: Seal) {
        if let Some(member) = self.members.last_mut() {
            member.seal = Some(seal);
            let sequence = member.segment.header.first_sequence;
            self.keep(sequence);
        }
    }

    /// Keeps the index of a segment once more, forgetting the oldest one beyond the bound.
    fn keep(&mut self, first_sequence: u64) {
        self.loaded.push_back(first_sequence);
        self.loaded_entries += self.entries_in(first_sequence);
        while self.loaded_entries > limits::WAL_INDEX_ENTRIES_KEPT && self.loaded.len() > 1 {
            let Some(oldest) = self.loaded.pop_front() else { return };
            self.loaded_entries -= self.entries_in(oldest);
            if let Some(place) = self.position(oldest) {
                self.members[place].index = None;
            }
        }
    }

    /// How many entries the index of a segment names, if it is in memory.
    fn entries_in(&self, first_sequence: u64) -> usize {
        let place = self.position(first_sequence);
        place.and_then(|place| self.members[place].index.as_ref()).map_or(0, Index::len)
    }

    /// Stores the index of a sealed segment, read from its file.
    pub(super) fn loaded(&mut self, first_sequence: u64, index: Index) {
        if let Some(place) = self.position(first_sequence)
            && self.members[place].index.is_none()
        {
            self.members[place].index = Some(index);
            self.keep(first_sequence);
        }
    }

    /// Where the entries from `from` up to `to` (exclusive) lie, as far as one segment has them without a hole.
    pub(super) fn look_up(&self, from: u64, to: u64) -> Lookup {
        let Some(place) = self.members.iter().rposition(|member| member.low <= from) else { return Lookup::Absent };
        let member = &self.members[place];
        let Some(index) = &member.index else { return Lookup::NotLoaded(Arc::clone(&member.segment)) };
        let superseded = self.members[place + 1..].iter().map(|later| later.low).min().unwrap_or(u64::MAX);
        let to = to.min(superseded);
        let run = index.range(from..to.max(from)).zip(from..).take_while(|((index, _), expected)| **index == *expected);
        let offsets: Vec<u32> = run.map(|((_, offset), _)| *offset).collect();
        if offsets.is_empty() { Lookup::Absent } else { Lookup::Held(Arc::clone(&member.segment), offsets) }
    }

    /// The least index that may be on disk.
    pub(super) fn first_index(&self) -> u64 {
        self.members.first().map_or(0, |member| member.segment.header.start.next_index)
    }

    /// The first segment, when it is sealed, is not the last one, and holds nothing from that index on. One that ends right
    /// there stays while the log could not begin with the one after it.
    pub(super) fn droppable(&self, before: u64) -> Option<Arc<Segment>> {
        let [first, later @ ..] = self.members.as_slice() else { return None };
        let begins = later.first()?.segment.header.start;
        let seal = first.seal.filter(|seal| seal.end.next_index <= before)?;
        debug_assert!(seal.end.next_index >= first.low);
        // A log that begins right at its floor must begin with the floor's chain. A segment that was begun within a tail that
        // it or a later one supersedes has that tail's; after a jump it may have none.
        let is_for_good = begins.chain.is_some() && later.iter().all(|member| member.low >= begins.next_index);
        (begins.next_index < before || is_for_good).then(|| Arc::clone(&first.segment))
    }

    /// Forgets the first segment: nobody finds entries there from now on.
    pub(super) fn drop_first(&mut self) {
        if self.members.is_empty() {
            return;
        }
        let sequence = self.members[0].segment.header.first_sequence;
        if let Some(place) = self.loaded.iter().position(|loaded| *loaded == sequence) {
            self.loaded.remove(place);
            self.loaded_entries -= self.entries_in(sequence);
        }
        self.members.remove(0);
    }

    /// Where segments begin whose beginning was never superseded, as far as the chain is known there.
    pub(super) fn anchors(&self) -> Vec<(u64, Chain)> {
        let mut low = u64::MAX;
        let mut anchors = Vec::new();
        for member in self.members.iter().rev() {
            low = low.min(member.low);
            let start = member.segment.header.start;
            anchors.extend(start.chain.filter(|_| start.next_index <= low).map(|chain| (start.next_index, chain)));
        }
        anchors
    }

    pub(super) fn infos(&self) -> Vec<SegmentInfo> {
        let info = |member: &Member| SegmentInfo {
            path: member.segment.path.clone(),
            start_index: member.segment.header.start.next_index,
            end_index: member.seal.map(|seal| seal.end.next_index),
            not_after_millis: member.seal.and_then(|seal| seal.not_after),
        };
        self.members.iter().map(info).collect()
    }
}

/// The entries from `from` up to `to` (exclusive), as many as fit `octets_max` but at least one; none when the first is
/// not there. Blocks on the disk, but never while it holds the archive.
pub(super) fn read<'a>(
    disk: &dyn Disk,
    archive: impl Fn() -> MutexGuard<'a, Archive>,
    (mut from, to): (u64, u64),
    octets_max: usize,
) -> io::Result<Vec<Record>> {
    let (mut records, mut octets) = (Vec::new(), 0);
    while from < to && octets < octets_max {
        let lookup = archive().look_up(from, to);
        let (segment, offsets) = match lookup {
            Lookup::Held(segment, offsets) => (segment, offsets),
            Lookup::NotLoaded(segment) => {
                let index = segment.build_index(disk)?;
                archive().loaded(segment.header.first_sequence, index);
                continue;
            }
            Lookup::Absent => break,
        };
        let reader = Reader::open(disk, segment)?;
        for offset in offsets {
            let record = reader.record(from, offset, None)?;
            octets += record.payload.len();
            if octets > octets_max && !records.is_empty() {
                return Ok(records);
            }
            records.push(record);
            from += 1;
        }
    }
    Ok(records)
}

impl Segment {
    /// Reads which entries it holds from its file.
    pub(super) fn build_index(&self, disk: &dyn Disk) -> io::Result<Index> {
        let octets = self.load(disk).map_err(io::Error::other)?;
        let mut index = Index::new();
        let walk = self.walk(&octets, |offset, read| {
            note(&mut index, offset, &read.frame);
            Ok::<(), Infallible>(())
        });
        match walk {
            Ok(walk) if matches!(walk.stop, super::segment::Stop::Sealed(_)) => Ok(index),
            Ok(walk) => Err(damaged(&self.path, walk.end as u64)),
            Err(never) => match never {},
        }
    }
}

/// Folds one frame into an index.
pub(super) fn note(index: &mut Index, offset: usize, frame: &Frame) {
    match frame {
        Frame::Entry(record) => drop(index.insert(record.index, offset as u32)),
        Frame::Truncate(point) => drop(index.split_off(&point.next_index)),
        Frame::Vote(_) | Frame::Purge(..) | Frame::Committed(_) | Frame::Seal(_) => {}
    }
}

/// Reads records from one segment, opening its file once.
pub(super) struct Reader {
    segment: Arc<Segment>,
    file: Box<dyn File>,
}

impl Reader {
    pub(super) fn open(disk: &dyn Disk, segment: Arc<Segment>) -> io::Result<Self> {
        let file = disk.open(&segment.path, Open::Read)?;
        Ok(Self { segment, file })
    }

    pub(super) fn is_of(&self, location: Location) -> bool {
        self.segment.header.first_sequence == location.segment
    }

    /// The record with that index at that offset; a sound frame that is another one is an error, not an answer.
    pub(super) fn record(&self, index: u64, offset: u32, payload_octets: Option<usize>) -> io::Result<Record> {
        let size = match payload_octets {
            Some(octets) => frame::entry_octets(octets),
            None => self.frame_octets(offset)?,
        };
        let mut octets = vec![0; size];
        self.file.read_at(u64::from(offset), &mut octets)?;
        match frame::decode(&octets, self.segment.header.salt).map(|read| read.frame) {
            Some(Frame::Entry(record)) if record.index == index => Ok(record),
            _ => Err(damaged(&self.segment.path, u64::from(offset))),
        }
    }

    fn frame_octets(&self, offset: u32) -> io::Result<usize> {
        let mut head = [0; HEAD_OCTETS];
        self.file.read_at(u64::from(offset), &mut head)?;
        frame::whole_octets(&head, self.segment.header.salt)
            .ok_or_else(|| damaged(&self.segment.path, u64::from(offset)))
    }
}

fn damaged(path: &Path, offset: u64) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{} is damaged at offset {offset}", path.display()))
}
