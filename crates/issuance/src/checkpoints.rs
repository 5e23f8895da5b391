//! Signs how the log stands, every few seconds while it grows: whoever keeps the newest signature notices a log that was
//! exchanged or set back.
//!
//! It refuses to make the log grow by itself: after a checkpoint the next one waits for something else to be appended.

use std::sync::Arc;
use std::time::Duration;

use certwright_core::checkpoint::Checkpoint;
use certwright_core::command::Command;
use certwright_core::event::SignedCheckpoint;
use certwright_core::log::Trace;
use certwright_core::state::CheckpointKey;
use certwright_core::{Reason, Rejection};
use certwright_custody::CustodyError;
use certwright_raft::Mark;
use tokio::sync::watch;

use crate::session::Session;

/// From the first entry that no checkpoint covers to the checkpoint that does.
const INTERVAL: Duration = Duration::from_secs(5);
/// Entries that no checkpoint covers, before one is made at once.
const ENTRIES_MAX: u64 = 1000;
/// Before what failed is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// Why there is no checkpoint.
#[derive(Debug, thiserror::Error)]
enum Obstacle {
    #[error("{0}")]
    Refused(#[from] Rejection),
    #[error("{0}")]
    Custody(#[from] CustodyError),
}

/// Runs until the term is over.
pub(crate) async fn run(session: Arc<Session>) {
    let mut applied = session.tools.log.applied();
    loop {
        match step(&session, &mut applied).await {
            Some(Ok(())) => {}
            Some(Err(obstacle)) => {
                // Custody is opened a moment after the cluster is made.
                tracing::debug!("no checkpoint yet: {obstacle}");
                tokio::time::sleep(RETRY).await;
            }
            None => return,
        }
    }
}

/// Makes the key, or waits until a checkpoint is due and makes that; `None` once the log has stopped.
async fn step(session: &Session, applied: &mut watch::Receiver<Mark>) -> Option<Result<(), Obstacle>> {
    let (is_cluster, key, covered) = session.tools.log.read(|view| {
        let cluster = &view.state.cluster;
        let covered = cluster.checkpoints.last.map_or(0, |(_, position)| position.index);
        (cluster.id.is_some(), cluster.checkpoints.key.clone(), covered)
    });
    if !is_cluster {
        return applied.changed().await.ok().map(Ok);
    }
    let Some(key) = key else { return Some(make_key(session).await) };
    applied.wait_for(|mark| mark.index > covered).await.ok()?;
    tokio::select! {
        biased;
        many = applied.wait_for(|mark| mark.index >= covered + ENTRIES_MAX) => drop(many.ok()?),
        () = tokio::time::sleep(INTERVAL) => {}
    }
    Some(sign(session, key).await)
}

/// Signs one now, with the key there is.
pub(crate) async fn now(session: &Session) -> Result<(), Rejection> {
    let key = session.tools.log.read(|view| view.state.cluster.checkpoints.key.clone());
    let Some(key) = key else { return Ok(()) };
    sign(session, key).await.map_err(|obstacle| match obstacle {
        Obstacle::Refused(rejection) => rejection,
        Obstacle::Custody(error) => Rejection::new(Reason::NotReady, error.to_string()),
    })
}

async fn make_key(session: &Session) -> Result<(), Obstacle> {
    let CheckpointKey { public_key, sealed_key } = session.tools.custody.generate_checkpoint_key().await?;
    session.act(Trace::default(), Command::RecordCheckpointKey { public_key, sealed_key }).await?;
    Ok(())
}

async fn sign(session: &Session, key: CheckpointKey) -> Result<(), Obstacle> {
    let checkpoint = session.tools.log.read(|view| {
        let (cluster, chain) = (&view.state.cluster, view.chain);
        let of = |cluster_id| Checkpoint { cluster_id, epoch: cluster.epoch, index: view.index, chain, at: view.at };
        cluster.id.map(of)
    });
    let checkpoint = checkpoint.ok_or_else(|| Rejection::new(Reason::NotReady, "there is no cluster yet"))?;
    let signature = session.tools.custody.sign_checkpoint(key, checkpoint).await?;
    let Checkpoint { epoch, index, chain, at, .. } = checkpoint;
    let signed = SignedCheckpoint { epoch, index, chain, at, signature };
    session.act(Trace::default(), Command::RecordCheckpoint { signed }).await?;
    Ok(())
}
