//! Reading applied entries back: from memory while they are recent, from the log or its archive otherwise.
//!
//! It refuses entries that are not applied here.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use certwright_core::log::Fold;
use certwright_core::time::Timestamp;

use crate::consensus::store;
use crate::error::ReadError;
use crate::fold::shared::Shared;
use crate::limits::{ENTRY_CACHE_MAX, READ_OCTETS_MAX};
use crate::view::AppliedEntry;
use crate::wal::gaps::Gaps;
use crate::wal::{Record, Wal};

type Found<E> = Arc<AppliedEntry<E>>;

/// Reads applied entries.
pub(crate) struct Entries<F: Fold> {
    shared: Arc<Shared<F>>,
    wal: Wal,
    gaps: Arc<Gaps>,
    /// Entries read one by one from disk; the oldest index leaves first.
    cache: Mutex<BTreeMap<u64, Found<F::Event>>>,
}

fn storage(error: &dyn std::fmt::Display) -> ReadError {
    ReadError::Storage(error.to_string())
}

impl<F: Fold> Entries<F> {
    pub(crate) fn new(shared: Arc<Shared<F>>, wal: Wal, gaps: Arc<Gaps>) -> Self {
        Self { shared, wal, gaps, cache: Mutex::default() }
    }

    /// Index of the last entry applied.
    pub(crate) fn applied(&self) -> u64 {
        self.shared.mark().index
    }

    /// Told when more was applied.
    pub(crate) fn watch(&self) -> tokio::sync::watch::Receiver<crate::member::Mark> {
        self.shared.applied()
    }

    /// Told when entries that were missing are here.
    pub(crate) fn gaps_filled(&self) -> tokio::sync::watch::Receiver<u64> {
        self.gaps.changes()
    }

    /// At most `limit` applied entries from that index on; empty when nothing that far is applied. Blocks on the disk
    /// for entries that are not recent.
    pub(crate) fn range(&self, from: u64, limit: usize) -> Result<Vec<Found<F::Event>>, ReadError> {
        let applied = self.applied();
        if from > applied {
            return Ok(Vec::new());
        }
        let mut recent = self.shared.recent().range(from, limit);
        // An entry is pushed a moment before it counts as applied.
        recent.retain(|entry| entry.index <= applied);
        if !recent.is_empty() {
            return Ok(recent);
        }
        let to = applied.saturating_add(1).min(from.saturating_add(limit as u64));
        let records = self.gaps.archive_read(&self.wal, from, to, READ_OCTETS_MAX).map_err(|error| storage(&error))?;
        if records.is_empty() {
            return Err(ReadError::TooOld { first: self.first_after_gap(from, applied)? });
        }
        records.into_iter().map(|record| self.decode(record)).collect()
    }

    /// The end of the gap that begins at or before `from`: a bisection, because what lies behind a gap is contiguous.
    fn first_after_gap(&self, from: u64, applied: u64) -> Result<u64, ReadError> {
        let (mut missing, mut held) = (from, self.wal.first_index().clamp(from + 1, applied.max(from) + 1));
        while held - missing > 1 {
            let middle = missing + (held - missing) / 2;
            let probe = self.gaps.archive_read(&self.wal, middle, middle + 1, 1).map_err(|error| storage(&error))?;
            if probe.is_empty() { missing = middle } else { held = middle }
        }
        Ok(held)
    }

    fn decode(&self, record: Record) -> Result<Found<F::Event>, ReadError> {
        let index = record.index;
        let entry = store::entry(record).map_err(|error: io::Error| storage(&error))?;
        let decoded = self.shared.decode(&entry).map_err(|error| storage(&error))?;
        let (at, transactions) =
            decoded.map_or((Timestamp::EPOCH, Vec::new()), |decoded| (decoded.at, decoded.transactions));
        let refused = self.shared.refused(index, &transactions);
        Ok(Arc::new(AppliedEntry { index, at, transactions, refused }))
    }

    /// The applied entry with that index; `None` when it is not applied here or no longer kept.
    pub(crate) fn get(&self, index: u64) -> Result<Option<Found<F::Event>>, ReadError> {
        if index > self.applied() {
            return Ok(None);
        }
        if let Some(entry) = self.shared.recent().get(index) {
            return Ok(Some(entry));
        }
        if let Some(entry) = self.cache().get(&index) {
            return Ok(Some(entry.clone()));
        }
        let found = match self.range(index, 1) {
            Ok(found) => found.into_iter().next().filter(|entry| entry.index == index),
            Err(ReadError::TooOld { .. }) => None,
            Err(error) => return Err(error),
        };
        if let Some(entry) = &found {
            let mut cache = self.cache();
            cache.insert(index, entry.clone());
            if cache.len() > ENTRY_CACHE_MAX {
                cache.pop_first();
            }
        }
        Ok(found)
    }

    /// Entries kept decoded.
    #[cfg(test)]
    pub(crate) fn cached(&self) -> usize {
        self.cache().len()
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Found<F::Event>>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
