//! Decisions about the log's checkpoints: the key made once, sealed again with the data key, checkpoints in order.
//!
//! It refuses a checkpoint that the key did not sign, of another epoch, or of what was not applied yet.

use super::draft::Draft;
use super::misdirected;
use crate::command::Command;
use crate::event::{Event, SealedKey, SignedCheckpoint};
use crate::ids::{checkpoints_stream, cluster_stream};
use crate::rejection::{Reason, Rejection};
use crate::state::CheckpointKey;

pub(super) fn decide(draft: &mut Draft<'_>, command: &Command) -> Result<(), Rejection> {
    match command {
        Command::RecordCheckpointKey { public_key, sealed_key } => {
            if draft.state.cluster.checkpoints.key.is_none() {
                expect_current(draft, sealed_key)?;
                let (public_key, sealed_key) = (*public_key, sealed_key.clone());
                draft.push(checkpoints_stream(), Event::CheckpointKeyMade { public_key, sealed_key });
            }
            Ok(())
        }
        Command::ResealCheckpointKey { sealed_key } => {
            let sealed_under = key(draft)?.sealed_key.data_key_id;
            expect_current(draft, sealed_key)?;
            if sealed_under != sealed_key.data_key_id {
                draft.push(checkpoints_stream(), Event::CheckpointKeyResealed { sealed_key: sealed_key.clone() });
            }
            Ok(())
        }
        Command::RecordCheckpoint { signed } => record(draft, signed),
        _ => Err(misdirected()),
    }
}

fn key<'a>(draft: &Draft<'a>) -> Result<&'a CheckpointKey, Rejection> {
    let key = draft.state.cluster.checkpoints.key.as_ref();
    key.ok_or_else(|| Rejection::new(Reason::NotReady, "there is no key for checkpoints yet"))
}

/// What is sealed is sealed under the data key in use: another may be forgotten any moment.
fn expect_current(draft: &mut Draft<'_>, sealed_key: &SealedKey) -> Result<(), Rejection> {
    draft.guard(cluster_stream());
    let (current, under) = (draft.state.cluster.data_key_id, sealed_key.data_key_id);
    if under == current {
        return Ok(());
    }
    Err(Rejection::new(Reason::Moved, format!("the data key in use is {current}, the key is sealed under {under}")))
}

fn record(draft: &mut Draft<'_>, signed: &SignedCheckpoint) -> Result<(), Rejection> {
    let (cluster, public_key) = (&draft.state.cluster, key(draft)?.public_key);
    let moved = |what: String| Err(Rejection::new(Reason::Moved, what));
    if signed.epoch != cluster.epoch {
        return moved(format!("the epoch is {}, the checkpoint is of {}", cluster.epoch, signed.epoch));
    }
    if let Some((last, _)) = cluster.checkpoints.last
        && last.epoch == signed.epoch
        && last.index >= signed.index
    {
        return Ok(());
    }
    let cluster_id = cluster.id.ok_or_else(|| Rejection::new(Reason::NotReady, "there is no cluster yet"))?;
    if !signed.of(cluster_id).is_signed(&public_key, &signed.signature) {
        return Err(Rejection::new(Reason::Internal, format!("the checkpoint at {} is not signed", signed.index)));
    }
    draft.push_free(checkpoints_stream(), Event::CheckpointSigned(Box::new(*signed)));
    Ok(())
}
