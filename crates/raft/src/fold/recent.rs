//! The newest applied entries, decoded, for watchers and the projection.
//!
//! It refuses to grow: bounded by octets and by number; older ones are read from disk.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::limits::{RECENT_ENTRIES_MAX, RECENT_OCTETS_MAX};
use crate::view::AppliedEntry;

/// A run of entries without holes.
pub(crate) struct Recent<E> {
    entries: VecDeque<(usize, Arc<AppliedEntry<E>>)>,
    octets: usize,
}

impl<E> Recent<E> {
    pub(crate) fn new() -> Self {
        Self { entries: VecDeque::new(), octets: 0 }
    }

    /// Adds the next entry, whose payload has that size.
    pub(crate) fn push(&mut self, octets: usize, entry: Arc<AppliedEntry<E>>) {
        if self.entries.back().is_some_and(|(_, last)| last.index + 1 != entry.index) {
            self.clear();
        }
        self.octets += octets;
        self.entries.push_back((octets, entry));
        while self.entries.len() > RECENT_ENTRIES_MAX || (self.octets > RECENT_OCTETS_MAX && self.entries.len() > 1) {
            if let Some((octets, _)) = self.entries.pop_front() {
                self.octets -= octets;
            }
        }
    }

    /// Forgets all: the log jumped.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.octets = 0;
    }

    /// The entry with that index.
    pub(crate) fn get(&self, index: u64) -> Option<Arc<AppliedEntry<E>>> {
        let first = self.entries.front()?.1.index;
        let place = usize::try_from(index.checked_sub(first)?).ok()?;
        self.entries.get(place).map(|(_, entry)| entry.clone())
    }

    /// At most `limit` entries from that index on; empty when the first of them is not here.
    pub(crate) fn range(&self, from: u64, limit: usize) -> Vec<Arc<AppliedEntry<E>>> {
        let Some(first) = self.entries.front().map(|(_, entry)| entry.index) else { return Vec::new() };
        let Some(skip) = from.checked_sub(first).and_then(|skip| usize::try_from(skip).ok()) else {
            return Vec::new();
        };
        self.entries.iter().skip(skip).take(limit).map(|(_, entry)| entry.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use certwright_core::time::Timestamp;

    use super::*;

    fn entry(index: u64) -> Arc<AppliedEntry<()>> {
        Arc::new(AppliedEntry { index, at: Timestamp::EPOCH, transactions: Vec::new(), refused: Vec::new() })
    }

    #[test]
    fn one_entry_too_many_pushes_the_oldest_out() {
        let mut recent = Recent::new();
        for index in 0..RECENT_ENTRIES_MAX as u64 {
            recent.push(1, entry(index));
        }
        assert!(recent.get(0).is_some());
        recent.push(1, entry(RECENT_ENTRIES_MAX as u64));
        assert!(recent.get(0).is_none());
        assert_eq!(recent.range(1, 2).len(), 2);
        assert!(recent.range(0, 2).is_empty());
    }

    #[test]
    fn one_octet_too_many_pushes_the_oldest_out_but_never_the_newest() {
        let mut recent = Recent::new();
        recent.push(RECENT_OCTETS_MAX, entry(1));
        assert!(recent.get(1).is_some());
        recent.push(1, entry(2));
        assert!(recent.get(1).is_none());
        recent.push(RECENT_OCTETS_MAX + 1, entry(3));
        assert!(recent.get(3).is_some());
    }

    #[test]
    fn a_hole_starts_anew() {
        let mut recent = Recent::new();
        recent.push(1, entry(1));
        recent.push(1, entry(5));
        assert!(recent.get(1).is_none());
        assert!(recent.get(5).is_some());
    }
}
