//! What is due when: a calendar of what will be due, and a queue of what is, most urgent first.
//!
//! It refuses to scan: what becomes due moves from calendar to queue a few entries at a time, as log time passes.

use std::collections::BTreeMap;

use super::{Facts, InstanceKey, SharedName};
use crate::time::Timestamp;

/// Entries that one event may move from calendar to queue: more than one, so that the queue catches up with any herd;
/// few, so that no event stalls.
pub(in crate::state) const MOVES_PER_EVENT: usize = 16;

#[derive(Debug, Default)]
pub(in crate::state) struct DueIndex {
    /// By due time.
    calendar: BTreeMap<(Timestamp, InstanceKey), SharedName>,
    /// By urgency: the moment at which something goes dark.
    queue: BTreeMap<(Timestamp, InstanceKey), SharedName>,
    /// Where in the queue an instance is.
    queued: BTreeMap<InstanceKey, Timestamp>,
}

impl DueIndex {
    pub(super) fn put(&mut self, facts: &Facts, name: &SharedName) {
        if let Some(due) = facts.due {
            self.calendar.insert((due, facts.key), name.clone());
        }
    }

    pub(super) fn take(&mut self, facts: &Facts) {
        if let Some(due) = facts.due {
            self.calendar.remove(&(due, facts.key));
            if let Some(urgency) = self.queued.remove(&facts.key) {
                self.queue.remove(&(urgency, facts.key));
            }
        }
    }

    /// The first entry of the calendar if it is due at `now`.
    pub(in crate::state) fn first_due(&self, now: Timestamp) -> Option<(InstanceKey, SharedName)> {
        let ((due, key), name) = self.calendar.first_key_value()?;
        (*due <= now).then(|| (*key, name.clone()))
    }

    /// Moves the first entry of the calendar to the queue.
    pub(in crate::state) fn queue_first(&mut self, urgency: Timestamp) {
        if let Some(((_, key), name)) = self.calendar.pop_first() {
            self.queue.insert((urgency, key), name);
            self.queued.insert(key, urgency);
        }
    }

    /// The queue, most urgent first.
    pub(in crate::state) fn queue(&self) -> impl Iterator<Item = (Timestamp, InstanceKey, &SharedName)> {
        self.queue.iter().map(|((urgency, key), name)| (*urgency, *key, name))
    }

    /// What is due at `now` and still in the calendar, earliest due first.
    pub(in crate::state) fn due_in_calendar(
        &self,
        now: Timestamp,
    ) -> impl Iterator<Item = (Timestamp, InstanceKey, &SharedName)> {
        let upto = (now, (u64::MAX, u32::MAX, u32::MAX));
        self.calendar.range(..=upto).map(|((due, key), name)| (*due, *key, name))
    }

    /// When the next becomes due; the epoch when one is due already.
    pub(in crate::state) fn next(&self) -> Option<Timestamp> {
        if !self.queue.is_empty() {
            return Some(Timestamp::EPOCH);
        }
        self.calendar.first_key_value().map(|((due, _), _)| *due)
    }

    /// Every instance that is due sometime, in no particular order.
    #[cfg(test)]
    pub(in crate::state) fn members(&self) -> std::collections::BTreeSet<(InstanceKey, SharedName)> {
        let all = self.calendar.iter().chain(&self.queue);
        all.map(|((_, key), name)| (*key, name.clone())).collect()
    }
}
