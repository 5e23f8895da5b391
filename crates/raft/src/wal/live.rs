//! The live range of the log in memory: where each entry lies, and the newest entries themselves.
//!
//! It refuses to wait and to read: it is the short critical section behind every call.

use std::collections::VecDeque;
use std::io;

use bytes::Bytes;

use super::{LogMark, Record};

/// Octets that an entry costs in memory beside its payload.
const RECORD_OVERHEAD_OCTETS: usize = 96;

/// Where a record lies on disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Location {
    /// The first sequence of its segment.
    pub(super) segment: u64,
    /// Offset of its frame.
    pub(super) offset: u32,
}

#[derive(Debug)]
struct Slot {
    term: u64,
    node: u64,
    /// Which operation appended it; a truncated index may be appended again before the writer reports on the first.
    stamp: u64,
    payload_octets: usize,
    /// Known once it is durable.
    location: Option<Location>,
    cached: Option<Record>,
}

/// A record to be had: at hand or on disk.
#[derive(Debug)]
pub(super) enum Found {
    Here(Record),
    OnDisk(LogMark, Location, usize),
}

/// The live range.
#[derive(Debug, Default)]
pub(super) struct Live {
    pub(super) purged: Option<LogMark>,
    /// Before it nothing is live by what is on the disk for good: a purge mark that is on its way may be lost.
    durably_from: u64,
    pub(super) vote: Option<Bytes>,
    committed: Option<LogMark>,
    /// Index of the first slot.
    base: u64,
    slots: VecDeque<Slot>,
    /// Slots before this place in `slots` are not cached.
    uncached: usize,
    cached_octets: usize,
    cache_octets_max: usize,
}

impl Live {
    pub(super) fn new(base: u64, cache_octets_max: usize) -> Self {
        Self { base, cache_octets_max, ..Self::default() }
    }

    pub(super) fn next_index(&self) -> u64 {
        self.base + self.slots.len() as u64
    }

    pub(super) fn first_index(&self) -> u64 {
        self.base
    }

    /// The last entry, or the purge mark when there is none.
    pub(super) fn last(&self) -> Option<LogMark> {
        match self.slots.back() {
            Some(slot) => Some(LogMark { index: self.next_index() - 1, term: slot.term, node: slot.node }),
            None => self.purged,
        }
    }

    /// The committed mark, never beyond the last entry: a mark may be durable before the entry it speaks of.
    pub(super) fn committed(&self) -> Option<LogMark> {
        self.committed.min(self.last())
    }

    pub(super) fn set_committed(&mut self, mark: Option<LogMark>) {
        self.committed = mark;
    }

    /// Adds records, all or none; they must continue the log.
    pub(super) fn append(&mut self, records: &[Record], stamp: u64) -> io::Result<()> {
        let expected = self.next_index();
        if let Some(wrong) = records.iter().zip(expected..).find(|(record, index)| record.index != *index) {
            let text = format!("entry {} does not continue the log, which expects {}", wrong.0.index, wrong.1);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        for record in records {
            self.push(record.clone(), stamp, None);
        }
        self.evict();
        Ok(())
    }

    /// Adds one record that is on disk already.
    pub(super) fn restore(&mut self, record: Record, location: Location) {
        self.push(record, 0, Some(location));
        self.evict();
    }

    fn push(&mut self, record: Record, stamp: u64, location: Option<Location>) {
        self.cached_octets += cost(record.payload.len());
        self.slots.push_back(Slot {
            term: record.term,
            node: record.node,
            stamp,
            payload_octets: record.payload.len(),
            location,
            cached: Some(record),
        });
    }

    /// The writer's report: the record of that operation is durable there.
    pub(super) fn locate(&mut self, index: u64, stamp: u64, location: Location) {
        let slot = index.checked_sub(self.base).and_then(|place| self.slots.get_mut(place as usize));
        if let Some(slot) = slot.filter(|slot| slot.stamp == stamp) {
            slot.location = Some(location);
        }
    }

    /// Forgets the oldest cached records until the cache fits; those not yet on disk stay.
    pub(super) fn evict(&mut self) {
        while self.cached_octets > self.cache_octets_max {
            match self.slots.get_mut(self.uncached) {
                Some(slot) if slot.location.is_some() => {
                    slot.cached = None;
                    self.cached_octets -= cost(slot.payload_octets);
                    self.uncached += 1;
                }
                _ => return,
            }
        }
    }

    /// Drops the entries from `next_index` on.
    pub(super) fn truncate(&mut self, next_index: u64) {
        while self.next_index() > next_index {
            let Some(slot) = self.slots.pop_back() else {
                // Before the range: only on recovery, where older entries are not loaded.
                self.base = next_index;
                return;
            };
            self.release(&slot);
        }
        self.uncached = self.uncached.min(self.slots.len());
    }

    /// Drops the entries up to the mark; beyond the end the log goes on after the mark.
    pub(super) fn purge(&mut self, mark: LogMark) {
        while self.base <= mark.index {
            let Some(slot) = self.slots.pop_front() else {
                self.base = mark.index + 1;
                break;
            };
            self.base += 1;
            self.uncached = self.uncached.saturating_sub(1);
            self.release(&slot);
        }
        self.purged = self.purged.max(Some(mark));
    }

    /// The index of the first entry that may be live after a power cut, never beyond the first that is.
    pub(super) fn durably_from(&self) -> u64 {
        self.durably_from.min(self.base)
    }

    /// A purge mark before that index is on the disk for good.
    pub(super) fn purged_durably(&mut self, next_index: u64) {
        self.durably_from = self.durably_from.max(next_index);
    }

    fn release(&mut self, slot: &Slot) {
        if slot.cached.is_some() {
            self.cached_octets -= cost(slot.payload_octets);
        }
    }

    /// The records from `from` up to `to` (exclusive), as many as fit `octets_max` but at least one.
    pub(super) fn find(&self, from: u64, to: u64, octets_max: usize) -> Vec<Found> {
        let Some(start) = from.checked_sub(self.base) else { return Vec::new() };
        let count = to.saturating_sub(from) as usize;
        let mut octets = 0;
        let slots = self.slots.iter().skip(start as usize).take(count).zip(from..);
        slots
            .take_while(|(slot, index)| {
                octets += slot.payload_octets;
                *index == from || octets <= octets_max
            })
            .filter_map(|(slot, index)| {
                let mark = LogMark { index, term: slot.term, node: slot.node };
                match (&slot.cached, slot.location) {
                    (Some(record), _) => Some(Found::Here(record.clone())),
                    (None, Some(location)) => Some(Found::OnDisk(mark, location, slot.payload_octets)),
                    // Evicted only when located.
                    (None, None) => None,
                }
            })
            .collect()
    }
}

fn cost(payload_octets: usize) -> usize {
    payload_octets + RECORD_OVERHEAD_OCTETS
}
