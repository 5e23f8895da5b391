//! Reading applied entries back: from memory while they are recent, from the log or its archive otherwise.
//!
//! It refuses entries that are not applied here.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use certwright_core::log::{Fold, Position};
use certwright_core::time::Timestamp;
use certwright_proto::storage::EntryParts;
use certwright_seams::exec::compute;

use crate::base::Bases;
use crate::chain::Chain;
use crate::consensus::{EntryPayload, store};
use crate::error::ReadError;
use crate::fold::shared::Shared;
use crate::handle::retention::History;
use crate::limits::{ENTRY_CACHE_MAX, READ_OCTETS_MAX};
use crate::view::{AppliedEntry, Effective};
use crate::wal::gaps::Gaps;
use crate::wal::{Record, Wal};

/// The pool on which the log is read back.
const POOL: &str = "read";

type Found<E> = Arc<AppliedEntry<E>>;

/// Reads applied entries.
pub(crate) struct Entries<F: Fold> {
    shared: Arc<Shared<F>>,
    wal: Wal,
    gaps: Arc<Gaps>,
    bases: Arc<Bases>,
    /// Entries read one by one from disk, as they lie there: who looks one up wants one of its transactions, and the next
    /// one soon. The one that was wanted last stands last; the first leaves.
    cache: Mutex<VecDeque<Record>>,
}

fn storage(error: &dyn std::fmt::Display) -> ReadError {
    ReadError::Storage(error.to_string())
}

impl<F: Fold> Entries<F> {
    pub(crate) fn new(history: History<F>) -> Self {
        let History { shared, wal, gaps, bases, .. } = history;
        Self { shared, wal, gaps, bases, cache: Mutex::default() }
    }

    /// The first entry that is told: what is older may be on the disk still, and is not told any more, as anywhere else.
    pub(crate) fn first_kept(&self) -> u64 {
        self.bases.first_index()
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

    /// Whether entries are still to be fetched from peers.
    pub(crate) fn has_gap(&self) -> bool {
        self.gaps.unfilled(0).is_some()
    }

    /// At most `limit` applied entries from that index on; empty when nothing that far is applied. Blocks on the disk
    /// for entries that are not recent.
    pub(crate) fn range(&self, from: u64, limit: usize) -> Result<Vec<Found<F::Event>>, ReadError> {
        let applied = self.applied();
        if from > applied {
            return Ok(Vec::new());
        }
        self.require_kept(from)?;
        let recent = self.recent(from, limit);
        if !recent.is_empty() {
            return Ok(recent);
        }
        let to = applied.saturating_add(1).min(from.saturating_add(limit as u64));
        let records = self.gaps.archive_read(&self.wal, from, to, READ_OCTETS_MAX);
        // It may have gone while it was read.
        self.require_kept(from)?;
        let records = records.map_err(|error| storage(&error))?;
        if records.is_empty() {
            return Err(ReadError::TooOld { first: self.first_after_gap(from, applied)? });
        }
        records.into_iter().map(|record| self.decode(record)).collect()
    }

    fn require_kept(&self, from: u64) -> Result<(), ReadError> {
        let first = self.first_kept();
        if from >= first { Ok(()) } else { Err(ReadError::TooOld { first }) }
    }

    /// As [`range`](Self::range), for those who must not block: what is not recent is read on a worker. `Gap` when it is
    /// still to come from the other nodes.
    pub(crate) async fn fetch(self: &Arc<Self>, from: u64, limit: usize) -> Result<Vec<Found<F::Event>>, ReadError> {
        self.require_kept(from)?;
        let recent = self.recent(from, limit);
        if from > self.applied() || !recent.is_empty() {
            return Ok(recent);
        }
        let entries = Arc::clone(self);
        let found = compute(&*self.shared.seams.exec, POOL, move || entries.range(from, limit)).await;
        match found {
            Err(ReadError::TooOld { .. }) if self.gaps.lacks(from) => Err(ReadError::Gap),
            found => found,
        }
    }

    /// Those that are in memory, when the first of them is.
    fn recent(&self, from: u64, limit: usize) -> Vec<Found<F::Event>> {
        let mut recent = self.shared.recent().range(from, limit);
        // An entry is pushed a moment before it counts as applied.
        let applied = self.applied();
        recent.retain(|entry| entry.index <= applied);
        recent
    }

    /// The chain after an applied entry; `None` when it is not applied here, or entries before it are not kept.
    pub(crate) fn chain_after(&self, index: u64) -> Result<Option<Chain>, ReadError> {
        if index > self.applied() {
            return Ok(None);
        }
        self.gaps.chain_before(&self.wal, index + 1).map_err(|error| storage(&error))
    }

    /// The end of the gap that begins at or before `from`: a bisection, because what lies behind a gap is contiguous.
    fn first_after_gap(&self, from: u64, applied: u64) -> Result<u64, ReadError> {
        let (mut missing, mut held) = (from, applied.max(from) + 1);
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

    /// The applied entry with that index; `None` when it is not applied here or no longer kept. State shows an entry a moment
    /// before it counts as applied: it is here from then on.
    pub(crate) fn get(&self, index: u64) -> Result<Option<Found<F::Event>>, ReadError> {
        if index < self.first_kept() {
            return Ok(None);
        }
        if let Some(entry) = self.shared.recent().get(index) {
            return Ok(Some(entry));
        }
        if index > self.applied() {
            return Ok(None);
        }
        self.record(index)?.map(|record| self.decode(record)).transpose()
    }

    /// The transaction at a position, if it took effect; as [`get`](Self::get). Of an entry on disk nothing else is decoded.
    pub(crate) fn transaction(&self, position: Position) -> Result<Option<Effective<F::Event>>, ReadError> {
        let Position { index, ordinal } = position;
        if index < self.first_kept() {
            return Ok(None);
        }
        if let Some(entry) = self.shared.recent().get(index) {
            let found = entry.effective().find(|(at, _)| *at == position);
            return Ok(found.map(|(_, transaction)| Effective { at: entry.at, transaction: transaction.clone() }));
        }
        if index > self.applied() || self.shared.replica().refused.contains(&position) {
            return Ok(None);
        }
        let Some(record) = self.record(index)? else { return Ok(None) };
        let entry = store::entry(record).map_err(|error| storage(&error))?;
        let EntryPayload::Normal(payload) = entry.payload else { return Ok(None) };
        let parts = EntryParts::read(payload.0).map_err(|error| storage(&error))?;
        let transaction = parts.transaction(&*self.shared.codec, ordinal).map_err(|error| storage(&error))?;
        Ok(transaction.map(|transaction| Effective { at: parts.at(), transaction }))
    }

    /// An applied entry as it lies on disk; `None` when it is no longer kept.
    fn record(&self, index: u64) -> Result<Option<Record>, ReadError> {
        if let Some(record) = self.cached(index) {
            return Ok(Some(record));
        }
        let found = self.gaps.archive_read(&self.wal, index, index + 1, READ_OCTETS_MAX);
        // It may have gone while it was read.
        if index < self.first_kept() {
            return Ok(None);
        }
        let found = found.map_err(|error| storage(&error))?.into_iter().next();
        if let Some(record) = &found {
            let mut cache = self.cache();
            cache.push_back(record.clone());
            if cache.len() > ENTRY_CACHE_MAX {
                cache.pop_front();
            }
        }
        Ok(found)
    }

    /// An entry that is in memory although it is not recent.
    pub(crate) fn cached(&self, index: u64) -> Option<Record> {
        let mut cache = self.cache();
        let place = cache.iter().position(|record| record.index == index)?;
        let record = cache.remove(place)?;
        cache.push_back(record.clone());
        Some(record)
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, VecDeque<Record>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
