//! What is due when: a calendar of what will be due, and a queue of what is, most urgent first.
//!
//! It refuses to scan: what becomes due moves from calendar to queue a few entries at a time, as log time passes.

use std::collections::{BTreeMap, BTreeSet};

use super::Facts;
use crate::event::Trigger;
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

/// What is due for the same reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::state) enum Lane {
    /// Never issued, or it says something old.
    Missing,
    /// Its renewal time came; may be held back.
    Renewals,
}

impl Lane {
    /// All of them.
    pub(in crate::state) const ALL: [Self; 2] = [Self::Missing, Self::Renewals];
}

#[derive(Debug, Default)]
pub(in crate::state) struct DueIndex {
    missing: LaneIndex,
    renewals: LaneIndex,
}

#[derive(Debug, Default)]
struct LaneIndex {
    /// By due time.
    calendar: BTreeSet<Entry>,
    /// By urgency: the moment at which something goes dark.
    queue: BTreeSet<Entry>,
    /// Where in the queue an instance is.
    queued: BTreeMap<Held, Timestamp>,
}

/// Entries of the calendars, in any order.
#[derive(Default)]
pub(super) struct Rows {
    missing: Vec<Entry>,
    renewals: Vec<Entry>,
}

impl Rows {
    pub(super) fn add(&mut self, name: &CertificateName, facts: &Facts) {
        if let Some((at, trigger)) = facts.due {
            let rows = match lane_of(trigger) {
                Lane::Missing => &mut self.missing,
                Lane::Renewals => &mut self.renewals,
            };
            rows.push(Entry { at, name: name.clone(), number: facts.number });
        }
    }
}

impl DueIndex {
    /// The calendars of an index that is empty.
    pub(super) fn fill(&mut self, rows: Rows) {
        self.missing.calendar = rows.missing.into_iter().collect();
        self.renewals.calendar = rows.renewals.into_iter().collect();
    }

    fn lane(&self, lane: Lane) -> &LaneIndex {
        match lane {
            Lane::Missing => &self.missing,
            Lane::Renewals => &self.renewals,
        }
    }

    fn lane_mut(&mut self, lane: Lane) -> &mut LaneIndex {
        match lane {
            Lane::Missing => &mut self.missing,
            Lane::Renewals => &mut self.renewals,
        }
    }

    pub(in crate::state) fn put(&mut self, name: &CertificateName, facts: &Facts) {
        if let Some((at, trigger)) = facts.due {
            let entry = Entry { at, name: name.clone(), number: facts.number };
            self.lane_mut(lane_of(trigger)).calendar.insert(entry);
        }
    }

    pub(super) fn take(&mut self, name: &CertificateName, facts: &Facts) {
        if let Some((at, trigger)) = facts.due {
            let lane = self.lane_mut(lane_of(trigger));
            let mut entry = Entry { at, name: name.clone(), number: facts.number };
            if !lane.calendar.remove(&entry)
                && let Some(urgency) = lane.queued.remove(&(name.clone(), facts.number))
            {
                entry.at = urgency;
                lane.queue.remove(&entry);
            }
        }
    }

    /// The first entry of the calendar if it is due at `now`.
    pub(in crate::state) fn first_due(&self, lane: Lane, now: Timestamp) -> Option<Held> {
        let first = self.lane(lane).calendar.first().filter(|entry| entry.at <= now)?;
        Some((first.name.clone(), first.number))
    }

    /// Moves the first entry of the calendar to the queue.
    pub(in crate::state) fn queue_first(&mut self, lane: Lane, urgency: Timestamp) {
        let lane = self.lane_mut(lane);
        if let Some(mut entry) = lane.calendar.pop_first() {
            entry.at = urgency;
            lane.queued.insert((entry.name.clone(), entry.number), urgency);
            lane.queue.insert(entry);
        }
    }

    /// Empties the queue.
    pub(in crate::state) fn unqueue(&mut self, lane: Lane) -> Vec<Held> {
        let lane = self.lane_mut(lane);
        lane.queue.clear();
        std::mem::take(&mut lane.queued).into_keys().collect()
    }

    /// The queue with each entry's urgency, most urgent first.
    pub(in crate::state) fn queue(&self, lane: Lane) -> impl Iterator<Item = (Timestamp, &CertificateName, u32)> {
        self.lane(lane).queue.iter().map(|entry| (entry.at, &entry.name, entry.number))
    }

    /// How long the queue is.
    pub(in crate::state) fn queue_len(&self, lane: Lane) -> usize {
        self.lane(lane).queue.len()
    }

    /// What is due at `now` and still in the calendar, earliest due first.
    pub(in crate::state) fn due_in_calendar(
        &self,
        lane: Lane,
        now: Timestamp,
    ) -> impl Iterator<Item = (&CertificateName, u32)> {
        let due = self.lane(lane).calendar.iter().take_while(move |entry| entry.at <= now);
        due.map(|entry| (&entry.name, entry.number))
    }

    /// When the next becomes due; the epoch when one is due already.
    pub(in crate::state) fn next(&self) -> Option<Timestamp> {
        Lane::ALL.into_iter().filter_map(|lane| self.lane(lane).next()).min()
    }

    /// Every instance that is due sometime.
    #[cfg(test)]
    pub(in crate::state) fn members(&self) -> BTreeSet<Held> {
        let lanes = [&self.missing, &self.renewals].into_iter();
        let all = lanes.flat_map(|lane| lane.calendar.iter().chain(&lane.queue));
        all.map(|entry| (entry.name.clone(), entry.number)).collect()
    }
}

impl LaneIndex {
    fn next(&self) -> Option<Timestamp> {
        if !self.queue.is_empty() {
            return Some(Timestamp::EPOCH);
        }
        self.calendar.first().map(|entry| entry.at)
    }
}

const fn lane_of(trigger: Trigger) -> Lane {
    match trigger {
        Trigger::Due => Lane::Renewals,
        _ => Lane::Missing,
    }
}
