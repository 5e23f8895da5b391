//! Replaces the data key when somebody who left could open it: a new one for all who stay, every CA key and the key
//! for checkpoints sealed again under it, the old one forgotten. Each step follows from state alone, so whoever leads next goes on where this ends.
//!
//! It refuses to run on a server that is being removed itself: it would know the new key.

use certwright_core::command::Command;
use certwright_core::ids::{AuthorityName, NodeId};
use certwright_core::log::Trace;
use certwright_core::state::{Node, State};
use certwright_core::{Reason, Rejection};
use certwright_custody::{Custody, CustodyError, DataKey, KeyRef};

use crate::fault::{self, Point};
use crate::session::Session;
use crate::stepwise::Work;

/// What has to be done next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// This CA key is sealed under a data key that was replaced.
    Reseal(AuthorityName),
    /// So is the key that signs checkpoints.
    ResealCheckpointKey,
    /// Nothing is sealed under that data key any more.
    Retire(u64),
    /// Somebody who is no member could open the data key in use.
    Rotate,
}

/// Why a step was not done.
#[derive(Debug, thiserror::Error)]
enum Obstacle {
    #[error("{0}")]
    Refused(#[from] Rejection),
    #[error("{0}")]
    Custody(#[from] CustodyError),
}

/// The replacement of the data key.
pub(crate) struct Rotation;

impl Work for Rotation {
    type Step = Step;

    fn steps(session: &Session) -> Vec<Step> {
        session.tools.log.read(|view| steps(view.state, session.tools.node_id))
    }

    async fn take(session: &Session, step: Step) -> bool {
        let taken = take(session, &step).await;
        match &taken {
            Ok(()) => tracing::info!(?step, "the data key is replaced"),
            Err(obstacle) => tracing::warn!(?step, "the data key is not replaced yet: {obstacle}"),
        }
        if taken.is_ok() {
            fault::point(Point::AfterRotation);
        }
        taken.is_ok()
    }
}

/// What is to be done next; a replacement that was begun is finished before the next one.
pub(crate) fn steps(state: &State, me: NodeId) -> Vec<Step> {
    let cluster = &state.cluster;
    if cluster.nodes.get(&me).is_none_or(|node| node.removed) {
        return Vec::new();
    }
    let in_use = cluster.data_key_id;
    let reseal = reseals(state).collect::<Vec<_>>();
    if !reseal.is_empty() {
        return reseal;
    }
    let held = cluster.nodes.values().flat_map(|node| node.wrapped.keys());
    if let Some(replaced) = held.copied().find(|id| *id != in_use) {
        return vec![Step::Retire(replaced)];
    }
    let left = cluster.nodes.values().any(|node| node.removed && node.wrapped.contains_key(&in_use));
    if left { vec![Step::Rotate] } else { Vec::new() }
}

/// Whether everything is sealed under the data key in use.
pub(crate) fn is_resealed(state: &State) -> bool {
    reseals(state).next().is_none()
}

/// What is sealed under a data key that was replaced.
fn reseals(state: &State) -> impl Iterator<Item = Step> {
    let in_use = state.cluster.data_key_id;
    let authorities = state.authorities.iter().filter(move |it| it.sealed_key.data_key_id != in_use);
    let key = state.cluster.checkpoints.key.iter().filter(move |key| key.sealed_key.data_key_id != in_use);
    authorities.map(|it| Step::Reseal(it.name.clone())).chain(key.map(|_| Step::ResealCheckpointKey))
}

async fn take(session: &Session, step: &Step) -> Result<(), Obstacle> {
    follow(session)?;
    match step {
        Step::Reseal(name) => reseal(session, name).await,
        Step::ResealCheckpointKey => reseal_checkpoint_key(session).await,
        Step::Retire(data_key_id) => {
            session.act(Trace::default(), Command::RetireDataKey { data_key_id: *data_key_id }).await?;
            Ok(session.tools.custody.retire_replaced()?)
        }
        Step::Rotate => {
            rotate(session).await?;
            follow(session)
        }
    }
}

/// Has custody seal under the data key in use, as it is wrapped to this server: whether this term brought it or not.
fn follow(session: &Session) -> Result<(), Obstacle> {
    let in_use = session.tools.log.read(|view| view.state.cluster.data_key_id);
    if session.tools.custody.unlocked_with() != Some(in_use)
        && let Some((data_key, _)) = session.tools.data_keys()?
    {
        session.tools.custody.rotate(data_key)?;
    }
    Ok(())
}

async fn rotate(session: &Session) -> Result<(), Obstacle> {
    let (cluster_id, replaces, members) = session.tools.log.read(|view| {
        let cluster = &view.state.cluster;
        // Others are wrapped to step by step as they are admitted; an unusable key of theirs holds nothing up.
        let held = |node: &&Node| !node.removed && node.wrapped.contains_key(&cluster.data_key_id);
        let stay = cluster.nodes.values().filter(held);
        let members: Vec<_> = stay.map(|node| (node.record.id, node.record.hpke_public.clone())).collect();
        (cluster.id, cluster.data_key_id, members)
    });
    let cluster_id = cluster_id.ok_or_else(|| Rejection::new(Reason::NotReady, "there is no cluster yet"))?;
    let data_key = DataKey::generate(&*session.tools.seams.entropy);
    let mut wrapped = Vec::with_capacity(members.len());
    for (node_id, hpke_public) in members {
        wrapped.push((node_id, certwright_custody::wrap(&data_key, cluster_id, node_id, &hpke_public)?));
    }
    let command = Command::RotateDataKey { replaces, data_key_id: data_key.id(), wrapped };
    session.act(Trace::default(), command).await?;
    Ok(())
}

async fn reseal(session: &Session, name: &AuthorityName) -> Result<(), Obstacle> {
    let key = session.tools.log.read(|view| view.state.authorities.get(name).map(KeyRef::of));
    let Some(key) = key else { return Ok(()) };
    let sealed_key = session.tools.custody.reseal(key).await?;
    session.act(Trace::default(), Command::ResealAuthorityKey { name: name.clone(), sealed_key }).await?;
    Ok(())
}

async fn reseal_checkpoint_key(session: &Session) -> Result<(), Obstacle> {
    let key = session.tools.log.read(|view| view.state.cluster.checkpoints.key.clone());
    let Some(key) = key else { return Ok(()) };
    let sealed_key = session.tools.custody.reseal_checkpoint_key(key).await?;
    session.act(Trace::default(), Command::ResealCheckpointKey { sealed_key }).await?;
    Ok(())
}

#[cfg(test)]
mod tests;
