//! The projection's worker: follows what is applied, behind the commit path.
//!
//! It refuses to stop for a broken store: it wipes it and starts again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use certwright_core::log::Fold;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{Batch, ProjectionError, ProjectionStore, Projector};
use crate::error::ReadError;
use crate::handle::entries::Entries;
use crate::limits::PROJECTION_BATCH_ENTRIES_MAX;
use crate::metrics::LogMetrics;
use crate::view::AppliedEntry;

/// Before a broken store or log is tried again.
const PAUSE: Duration = Duration::from_millis(500);

/// A store that the worker writes and everybody reads.
#[derive(Clone)]
pub(crate) struct Projection(Arc<Mutex<Box<dyn ProjectionStore>>>);

impl Projection {
    pub(crate) fn new(store: Box<dyn ProjectionStore>) -> Self {
        Self(Arc::new(Mutex::new(store)))
    }

    /// Stores answer panics with errors, so a poisoned lock guards a whole store.
    pub(crate) fn store(&self) -> MutexGuard<'_, Box<dyn ProjectionStore>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
                changed = applied.changed() => if changed.is_err() { return },
                changed = gaps.changed() => if changed.is_err() { return },
            }
        }
    }

    fn start(&self) -> u64 {
        let reached = self.projection.store().applied_index();
        match reached {
            Ok(reached) if reached <= self.log_end => reached,
            Ok(reached) => {
                tracing::warn!(reached, log_end = self.log_end, "the projection is ahead of the log: wiping it");
                self.wipe()
            }
            Err(error) => {
                tracing::warn!(%error, "the projection does not say how far it is: wiping it");
                self.wipe()
            }
        }
    }

    fn wipe(&self) -> u64 {
        self.metrics.projection_wipes.inc();
        let wiped = self.projection.store().wipe();
        if let Err(error) = wiped {
            tracing::error!(%error, "the projection cannot be wiped");
        }
        0
    }

    /// Projects one batch; says whether there was one.
    fn step(&self, reached: &mut u64) -> Result<bool, ProjectionError> {
        let entries = match self.entries.range(*reached + 1, PROJECTION_BATCH_ENTRIES_MAX) {
            Ok(entries) => entries,
            Err(ReadError::TooOld { first }) => {
                tracing::warn!(from = *reached + 1, to = first, "entries that are not kept here are not projected");
                *reached = first.saturating_sub(1).max(*reached + 1);
                return Ok(true);
            }
            Err(error) => return Err(ProjectionError(error.to_string())),
        };
        let Some(last) = entries.last() else { return Ok(false) };
        let index = last.index;
        // Projected before the store is locked: a projector may look up what is there.
        let batch = self.project(&entries);
        self.projection.store().apply(batch, index)?;
        *reached = index;
        self.metrics.projection_index.set(i64::try_from(index).unwrap_or(i64::MAX));
        Ok(true)
    }

    fn project(&self, entries: &[Arc<AppliedEntry<F::Event>>]) -> Batch {
        let mut rows = BTreeMap::new();
        for (position, transaction) in entries.iter().flat_map(|entry| entry.effective()) {
            self.projector.project(position, transaction, &mut |key, value| {
                rows.insert(key, value);
            });
        }
        rows.into_iter().collect()
    }
}
