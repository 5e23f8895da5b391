//! What is due when: a calendar of what will be due, and a queue of what is, most urgent first.
//!
//! It refuses to scan: what becomes due moves from calendar to queue a few entries at a time, as log time passes.

use std::collections::{BTreeMap, BTreeSet};

use super::Facts;
use crate::ids::CertificateName;
use crate::time::Timestamp;

/// Entries that one event may move from calendar to queue: more than one, so that the queue catches up with any herd;
/// few, so that no event stalls.
pub(in crate::state) const MOVES_PER_EVENT: usize = 16;

/// An instance: its certificate's name and its own number.
pub(in crate::state) type Held = (CertificateName, u32);

/// A moment and an instance; flat, because there is one for each.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Entry {
    at: Timestamp,
    name: CertificateName,
    number: u32,
}

#[derive(Debug, Default)]
pub(in crate::state) struct DueIndex {
    /// By due time.
    calendar: BTreeSet<Entry>,
    /// By urgency: the moment at which something goes dark.
    queue: BTreeSet<Entry>,
    /// Where in the queue an instance is.
    queued: BTreeMap<Held, Timestamp>,
}

impl DueIndex {
    pub(super) fn put(&mut self, name: &CertificateName, facts: &Facts) {
        if let Some(at) = facts.due {
            self.calendar.insert(Entry { at, name: name.clone(), number: facts.number });
        }
    }

    pub(super) fn take(&mut self, name: &CertificateName, facts: &Facts) {
        if let Some(at) = facts.due {
            let mut entry = Entry { at, name: name.clone(), number: facts.number };
            if !self.calendar.remove(&entry)
                && let Some(urgency) = self.queued.remove(&(name.clone(), facts.number))
            {
                entry.at = urgency;
                self.queue.remove(&entry);
            }
        }
    }

    /// The first entry of the calendar if it is due at `now`.
    pub(in crate::state) fn first_due(&self, now: Timestamp) -> Option<Held> {
        let first = self.calendar.first().filter(|entry| entry.at <= now)?;
        Some((first.name.clone(), first.number))
    }

    /// Moves the first entry of the calendar to the queue.
    pub(in crate::state) fn queue_first(&mut self, urgency: Timestamp) {
        if let Some(mut entry) = self.calendar.pop_first() {
            entry.at = urgency;
            self.queued.insert((entry.name.clone(), entry.number), urgency);
            self.queue.insert(entry);
        }
    }

    /// The queue with each entry's urgency, most urgent first.
    pub(in crate::state) fn queue(&self) -> impl Iterator<Item = (Timestamp, &CertificateName, u32)> {
        self.queue.iter().map(|entry| (entry.at, &entry.name, entry.number))
    }

    /// What is due at `now` and still in the calendar, earliest due first.
    pub(in crate::state) fn due_in_calendar(&self, now: Timestamp) -> impl Iterator<Item = (&CertificateName, u32)> {
        let due = self.calendar.iter().take_while(move |entry| entry.at <= now);
        due.map(|entry| (&entry.name, entry.number))
    }

    /// When the next becomes due; the epoch when one is due already.
    pub(in crate::state) fn next(&self) -> Option<Timestamp> {
        if !self.queue.is_empty() {
            return Some(Timestamp::EPOCH);
        }
        self.calendar.first().map(|entry| entry.at)
    }

    /// Every instance that is due sometime.
    #[cfg(test)]
    pub(in crate::state) fn members(&self) -> BTreeSet<Held> {
        let all = self.calendar.iter().chain(&self.queue);
        all.map(|entry| (entry.name.clone(), entry.number)).collect()
    }
}
