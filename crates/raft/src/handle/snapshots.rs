//! Cutting snapshots by log volume, and letting go of log that two snapshots no longer need.
//!
//! It refuses openraft's own policies, which count entries instead of octets and keep nothing behind the newest cut.

use std::sync::Arc;
use std::time::Duration;

use certwright_core::log::Fold;
use certwright_seams::exec::compute;
use openraft::Raft;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::consensus::Types;
use crate::fold::machine::Machine;
use crate::fold::shared::Shared;
use crate::snapshot::Snapshots;

/// The pool on which the names of snapshots are read.
const POOL: &str = "snapshot";

/// Between two times that consensus is asked for a cut.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// Until another attempt where there was no room for a snapshot.
const ROOM_EVERY: Duration = Duration::from_secs(10);

/// The task: a cut when one is due, then the log up to the last cut but two is purged: an older snapshot plus the log is enough
/// when the newest is damaged, and who was away while the log grew by two cuts needs no snapshot.
pub(crate) async fn cut_when_due<F: Fold>(
    raft: Raft<Types, Machine<F>>,
    shared: Arc<Shared<F>>,
    snapshots: Arc<Snapshots>,
    cancel: CancellationToken,
) {
    let mut ended = shared.cuts.ended();
    loop {
        tokio::select! {
            biased;
            () = cancel.cancelled() => return,
            () = shared.cuts.due.notified() => {}
        }
        // What was applied before the last cut was made has told it once more. A second cut right behind it would have the log
        // purged up to the first: whoever is a moment behind would need a whole snapshot.
        if !shared.cuts.is_due() {
            continue;
        }
        // As they lie there, whoever cut them: a server that is started again between two cuts purges as any other.
        let kept = kept(&shared, &snapshots).await;
        let before = ended.borrow_and_update().count;
        let end = loop {
            // Consensus passes over it while it has not noticed yet that the cut before has ended.
            if raft.trigger().snapshot().await.is_err() {
                return;
            }
            tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                end = ended.wait_for(|end| end.count > before) => break end.map(|end| end.index),
                () = sleep(ASK_EVERY) => {}
            }
        };
        let Ok(index) = end else { return };
        let Some(index) = index else {
            tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                () = sleep(ROOM_EVERY) => {}
            }
            shared.cuts.want();
            continue;
        };
        shared
            .metrics
            .snapshot_index
            .set(i64::try_from(index.max(kept.last().copied().unwrap_or(0))).unwrap_or(i64::MAX));
        // One that is not newer takes the place of one that was damaged.
        if let [.., behind, newest] = kept[..]
            && newest < index
            && raft.trigger().purge_log(behind).await.is_err()
        {
            return;
        }
    }
}

/// Up to where each snapshot on disk reaches, oldest first.
async fn kept<F: Fold>(shared: &Shared<F>, snapshots: &Arc<Snapshots>) -> Vec<u64> {
    let snapshots = Arc::clone(snapshots);
    let kept = compute(&*shared.seams.exec, POOL, move || snapshots.indexes()).await;
    kept.unwrap_or_else(|error| {
        tracing::warn!(%error, "snapshots cannot be listed: nothing is purged this time");
        Vec::new()
    })
}
