//! Cutting snapshots by log volume, and letting go of log that two snapshots no longer need.
//!
//! It refuses openraft's own policies, which count entries instead of octets and keep nothing behind the newest cut.

use std::sync::Arc;

use certwright_core::log::Fold;
use openraft::Raft;
use openraft::async_runtime::WatchReceiver;
use tokio_util::sync::CancellationToken;

use crate::consensus::{LogId, Types};
use crate::fold::machine::Machine;
use crate::fold::shared::Shared;

/// The task: a cut when one is due, then the log up to the cut before it is purged, so that an older snapshot plus the
/// log is enough when the newest is damaged.
pub(crate) async fn cut_when_due<F: Fold>(
    raft: Raft<Types, Machine<F>>,
    shared: Arc<Shared<F>>,
    cancel: CancellationToken,
) {
    let mut metrics = raft.data_metrics();
    let mut newest = snapshot_index(&metrics);
    loop {
        tokio::select! {
            biased;
            () = cancel.cancelled() => return,
            () = shared.cut_due.notified() => {}
        }
        if raft.trigger().snapshot().await.is_err() {
            return;
        }
        while snapshot_index(&metrics) <= newest {
            tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                changed = metrics.changed() => if changed.is_err() { return },
            }
        }
        if let Some(before) = newest
            && raft.trigger().purge_log(before).await.is_err()
        {
            return;
        }
        newest = snapshot_index(&metrics);
        shared.metrics.snapshot_index.set(newest.map_or(0, |index| i64::try_from(index).unwrap_or(i64::MAX)));
    }
}

fn snapshot_index(
    metrics: &openraft::alias::WatchReceiverOf<Types, openraft::metrics::RaftDataMetrics<Types>>,
) -> Option<u64> {
    metrics.borrow_watched().snapshot.as_ref().map(LogId::index)
}
