//! The projection's worker: follows what is applied, behind the commit path.
//!
//! It refuses to stop for a broken store: it wipes it and starts again.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use certwright_core::log::Fold;
use tokio::sync::{Notify, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{Batch, ProjectionError, ProjectionStore, Projector};
use crate::error::ReadError;
use crate::handle::entries::Entries;
use crate::limits::PROJECTION_BATCH_ENTRIES_MAX;
use crate::metrics::LogMetrics;
use crate::view::AppliedEntry;

/// Key of the mark that entries were passed over because they were not here; no projector's keys begin so.
const SKIPPED: &[u8] = b"\0skipped";
/// Before a broken store or log is tried again.
const PAUSE: Duration = Duration::from_millis(500);

/// A store that the worker writes and everybody reads.
#[derive(Clone)]
pub(crate) struct Projection(Arc<Shared>);

struct Shared {
    store: Mutex<Box<dyn ProjectionStore>>,
    /// Somebody could not read it.
    doubt: Notify,
    /// Index up to which every entry is projected; 0 while some were not here.
    complete: watch::Sender<u64>,
    /// How often reads found nothing because of a fault, or the store was emptied.
    wipes: AtomicU64,
}

impl Projection {
    pub(crate) fn new(store: Box<dyn ProjectionStore>) -> Self {
        let complete = watch::Sender::new(0);
        Self(Arc::new(Shared { store: Mutex::new(store), doubt: Notify::new(), complete, wipes: AtomicU64::new(0) }))
    }

    /// Stores answer panics with errors, so a poisoned lock guards a whole store.
    pub(crate) fn store(&self) -> MutexGuard<'_, Box<dyn ProjectionStore>> {
        self.0.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Index up to which every entry since the log's first is projected; 0 while some of them are not here.
    pub(crate) fn complete(&self) -> watch::Receiver<u64> {
        self.0.complete.subscribe()
    }

    /// Grows when what was read before may have been read of an emptied or broken store.
    pub(crate) fn wipes(&self) -> u64 {
        self.0.wipes.load(Ordering::SeqCst)
    }

    /// A read that failed finds nothing, and has the store built again.
    pub(crate) fn doubt<T: Default>(&self, error: &ProjectionError) -> T {
        tracing::error!(%error, "the projection cannot be read");
        self.0.wipes.fetch_add(1, Ordering::SeqCst);
        self.0.doubt.notify_one();
        T::default()
    }
}

/// How far the projection is.
#[derive(Clone, Copy, Default)]
struct Reached {
    index: u64,
    /// Entries before that were not here.
    skipped: bool,
}

/// The worker.
pub(crate) struct Worker<F: Fold> {
    pub(crate) projection: Projection,
    pub(crate) projector: Arc<dyn Projector<F::Event>>,
    pub(crate) entries: Arc<Entries<F>>,
    pub(crate) metrics: LogMetrics,
    /// Index of the last entry in the log at the start: a projection beyond it is of another log.
    pub(crate) log_end: u64,
}

impl<F: Fold> Worker<F> {
    /// Follows until cancelled.
    pub(crate) async fn run(self, cancel: CancellationToken) {
        let mut applied = self.entries.watch();
        let mut gaps = self.entries.gaps_filled();
        let mut filled = *gaps.borrow_and_update();
        let mut reached = self.start();
        loop {
            let complete = if reached.skipped { 0 } else { reached.index };
            self.projection.0.complete.send_if_modified(|before| std::mem::replace(before, complete) != complete);
            applied.borrow_and_update();
            let now = *gaps.borrow_and_update();
            if std::mem::replace(&mut filled, now) != now {
                tracing::info!("entries that were missing are here: projecting from the start");
                reached = self.wipe();
            }
            match self.step(&mut reached) {
                Ok(true) => {
                    if cancel.is_cancelled() {
                        return;
                    }
                    // Others of this runtime have their turn while much is projected.
                    tokio::task::yield_now().await;
                    continue;
                }
                Ok(false) => {}
                Err(error) => {
                    tracing::error!(%error, "the projection fails: wiping it");
                    reached = self.wipe();
                    tokio::select! {
                        biased;
                        () = cancel.cancelled() => return,
                        () = sleep(PAUSE) => continue,
                    }
                }
            }
            tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                () = self.projection.0.doubt.notified() => reached = self.wipe(),
                changed = applied.changed() => if changed.is_err() { return },
                changed = gaps.changed() => if changed.is_err() { return },
            }
        }
    }

    fn start(&self) -> Reached {
        let reached = {
            let store = self.projection.store();
            store.applied_index().and_then(|index| Ok(Reached { index, skipped: store.get(SKIPPED)?.is_some() }))
        };
        match reached {
            Ok(Reached { index, .. }) if index > self.log_end => {
                tracing::warn!(index, log_end = self.log_end, "the projection is ahead of the log: wiping it");
                self.wipe()
            }
            Ok(Reached { skipped: true, .. }) if !self.entries.has_gap() => {
                tracing::info!("entries that were missing have come: projecting from the start");
                self.wipe()
            }
            Ok(reached) => reached,
            Err(error) => {
                tracing::warn!(%error, "the projection does not say how far it is: wiping it");
                self.wipe()
            }
        }
    }

    fn wipe(&self) -> Reached {
        self.projection.0.wipes.fetch_add(1, Ordering::SeqCst);
        self.projection.0.complete.send_replace(0);
        self.metrics.projection_wipes.inc();
        let wiped = self.projection.store().wipe();
        if let Err(error) = wiped {
            tracing::error!(%error, "the projection cannot be wiped");
        }
        Reached::default()
    }

    /// Projects one batch; says whether there was one.
    fn step(&self, reached: &mut Reached) -> Result<bool, ProjectionError> {
        let entries = match self.entries.range(reached.index + 1, PROJECTION_BATCH_ENTRIES_MAX) {
            Ok(entries) => entries,
            // History begins later: nothing is missing that could be looked up.
            Err(ReadError::TooOld { first }) if first == self.entries.first_kept() => {
                *reached = Reached { index: first.saturating_sub(1).max(reached.index), skipped: reached.skipped };
                return Ok(true);
            }
            Err(ReadError::TooOld { first }) => {
                tracing::warn!(
                    from = reached.index + 1,
                    to = first,
                    "entries that are not kept here are not projected"
                );
                *reached = Reached { index: first.saturating_sub(1).max(reached.index + 1), skipped: true };
                return Ok(true);
            }
            Err(error) => return Err(ProjectionError(error.to_string())),
        };
        let Some(last) = entries.last() else { return Ok(false) };
        let index = last.index;
        // Projected before the store is locked: a projector may look up what is there.
        let batch = self.project(&entries, reached.skipped);
        self.projection.store().apply(batch, index)?;
        reached.index = index;
        self.metrics.projection_index.set(i64::try_from(index).unwrap_or(i64::MAX));
        Ok(true)
    }

    fn project(&self, entries: &[Arc<AppliedEntry<F::Event>>], skipped: bool) -> Batch {
        let mut rows = BTreeMap::new();
        if skipped {
            rows.insert(SKIPPED.to_vec(), Vec::new());
        }
        for (position, transaction) in entries.iter().flat_map(|entry| entry.effective()) {
            self.projector.project(position, transaction, &mut |key, value| {
                rows.insert(key, value);
            });
        }
        rows.into_iter().collect()
    }
}
