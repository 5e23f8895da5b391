//! Admission: takes servers that joined into the cluster, step by step, and those that were removed out of it.
//!
//! It refuses a vote to a server that has not proved that it can open the data key: as leader it could sign nothing.

use std::time::Duration;

use certwright_core::command::Command;
use certwright_core::event::NodeRecord;
use certwright_core::ids::NodeId;
use certwright_core::log::Trace;
use certwright_core::state::{Cluster, Node};
use certwright_core::{Reason, Rejection};
use certwright_custody::CustodyError;
use certwright_proto::internal::v1 as wire;
use certwright_raft::{Member, Members, MembershipError};

use crate::session::{Session, Tools};
use crate::stepwise::Work;
use crate::{peer, rotation, succession};

/// Longest wait for another server's proof.
const PROVE_TIMEOUT: Duration = Duration::from_secs(5);
/// How far behind a learner may be and still be given a vote: less than it applies in a heartbeat.
const CAUGHT_UP_ENTRIES: u64 = 128;

/// What has to be done next for one server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// Receives the log from now on.
    Learn(Member),
    /// Gets the data key, wrapped to its own key.
    Wrap(NodeId),
    /// Shows that it can open it.
    Prove(NodeId),
    /// Votes.
    Promote(NodeId),
    /// Votes no more, and receives the log still.
    Demote(NodeId),
    /// Is no longer a member.
    Remove(NodeId),
    /// A change of who votes that was begun, by a leader that went or a call that was given up, is brought to its end.
    Finish,
    /// This server is the one to be removed or demoted: another leads first, and does it.
    HandOver,
}

/// Why a step was not done.
#[derive(Debug, thiserror::Error)]
enum Obstacle {
    #[error("{0}")]
    Refused(#[from] Rejection),
    #[error("{0}")]
    Membership(#[from] MembershipError),
    #[error("{0}")]
    Custody(#[from] CustodyError),
    #[error("it does not answer: {0}")]
    Unreachable(String),
    #[error("it has not caught up")]
    Behind,
    #[error("it leads still")]
    Leading,
    #[error("its proof is wrong")]
    Disproved,
    #[error("CA keys are being sealed again under another data key")]
    Rotating,
}

/// Taking servers into the cluster and out of it.
pub(crate) struct Admission;

impl Work for Admission {
    type Step = Step;

    fn steps(session: &Session) -> Vec<Step> {
        let members = session.tools.log.status().members;
        session.tools.log.read(|view| steps(&view.state.cluster, &members, session.tools.node_id))
    }

    async fn take(session: &Session, step: Step) -> bool {
        let taken = take(session, &step).await;
        match &taken {
            Ok(()) => tracing::info!(?step, "admission"),
            Err(obstacle) => tracing::info!(?step, "a server is not admitted yet: {obstacle}"),
        }
        taken.is_ok()
    }
}

/// The next step of every server that is not where it should be.
pub(crate) fn steps(cluster: &Cluster, members: &Members, me: NodeId) -> Vec<Step> {
    let mut steps: Vec<_> =
        cluster.nodes.iter().filter_map(|(id, node)| step(cluster, members, me, *id, node)).collect();
    let ends_change = |it: &Step| matches!(it, Step::Demote(_) | Step::Remove(_) | Step::HandOver);
    if members.is_joint && !steps.iter().any(ends_change) {
        // First: a promotion, too, may wait for a server that is not there.
        steps.insert(0, Step::Finish);
    }
    steps
}

fn step(cluster: &Cluster, members: &Members, me: NodeId, id: NodeId, node: &Node) -> Option<Step> {
    let among = |members: &[Member]| members.iter().any(|member| member.node_id == id);
    let (votes, learns) = (among(&members.voters), among(&members.learners));
    if node.removed {
        let step = if id == me { Step::HandOver } else { Step::Remove(id) };
        return (votes || learns).then_some(step);
    }
    if !votes && !learns {
        return Some(Step::Learn(member(&node.record)));
    }
    if node.learner {
        // It never leads: it needs no data key.
        let step = if id == me { Step::HandOver } else { Step::Demote(id) };
        return votes.then_some(step);
    }
    if !node.wrapped.contains_key(&cluster.data_key_id) {
        return Some(Step::Wrap(id));
    }
    if node.proved != Some(cluster.data_key_id) {
        return Some(Step::Prove(id));
    }
    (!votes).then_some(Step::Promote(id))
}

fn member(record: &NodeRecord) -> Member {
    Member { node_id: record.id, address: record.raft_address.clone(), spki_hash: record.spki_hash }
}

async fn take(session: &Session, step: &Step) -> Result<(), Obstacle> {
    let log = &session.tools.log;
    match step {
        Step::Learn(member) => Ok(log.add_learner(member.clone()).await?),
        Step::Wrap(id) => wrap(session, *id).await,
        Step::Prove(id) => prove(session, *id).await,
        Step::Promote(id) => {
            // It may have proved itself long ago and be gone since: as a voter it would count towards every quorum.
            if *id != session.tools.node_id {
                is_caught_up(session, *id).await?;
            }
            Ok(log.promote(*id).await?)
        }
        Step::Demote(id) => Ok(log.demote(*id).await?),
        Step::Remove(id) => Ok(log.remove(*id).await?),
        Step::Finish => Ok(log.finish_change().await?),
        Step::HandOver => {
            succession::hand_over(&session.tools).await;
            Err(Obstacle::Leading)
        }
    }
}

async fn wrap(session: &Session, id: NodeId) -> Result<(), Obstacle> {
    let custody = &session.tools.custody;
    let (data_key_id, wrapped) = session.tools.log.read(|view| {
        let cluster = &view.state.cluster;
        // It would hold the new key alone, and as leader could not finish what the old one is needed for.
        if !rotation::is_resealed(view.state) || custody.unlocked_with() != Some(cluster.data_key_id) {
            return Err(Obstacle::Rotating);
        }
        let (cluster_id, node) = cluster.id.zip(cluster.nodes.get(&id)).ok_or_else(missing)?;
        let wrapped = custody.wrap_for(cluster_id, id, &node.record.hpke_public)?;
        Ok::<_, Obstacle>((cluster.data_key_id, wrapped))
    })?;
    let command = Command::WrapDataKey { node_id: id, data_key_id, wrapped };
    session.act(Trace::default(), command).await?;
    Ok(())
}

async fn prove(session: &Session, id: NodeId) -> Result<(), Obstacle> {
    let data_key_id = session.tools.log.read(|view| view.state.cluster.data_key_id);
    if id != session.tools.node_id {
        is_caught_up(session, id).await?;
        let challenge: [u8; 32] = session.tools.draw();
        let proof = ask_for_proof(&session.tools, id, data_key_id, challenge).await?;
        if !session.tools.custody.proved(&challenge, &proof)? {
            return Err(Obstacle::Disproved);
        }
    }
    let command = Command::ProveDataKey { node_id: id, data_key_id };
    session.act(Trace::default(), command).await?;
    Ok(())
}

/// Whether a learner has applied nearly all that this server has.
async fn is_caught_up(session: &Session, id: NodeId) -> Result<(), Obstacle> {
    let ours = session.tools.log.status().applied_index;
    let status = peer::status_of(&session.tools.log, id, PROVE_TIMEOUT).await.map_err(Obstacle::Unreachable)?;
    let theirs = status.applied_index;
    if theirs.saturating_add(CAUGHT_UP_ENTRIES) >= ours { Ok(()) } else { Err(Obstacle::Behind) }
}

async fn ask_for_proof(tools: &Tools, id: NodeId, data_key_id: u64, challenge: [u8; 32]) -> Result<Vec<u8>, Obstacle> {
    let request = wire::ProveDataKeyRequest { data_key_id, challenge: challenge.to_vec().into() };
    let mut peer = peer::client(&tools.log, id).map_err(Obstacle::Unreachable)?;
    let answer = tokio::time::timeout(PROVE_TIMEOUT, peer.prove_data_key(request)).await;
    let answer = answer.map_err(|_| Obstacle::Unreachable("no answer in time".into()))?;
    Ok(answer.map_err(|status| Obstacle::Unreachable(status.message().to_owned()))?.into_inner().proof.to_vec())
}

fn missing() -> Obstacle {
    Obstacle::Refused(Rejection::new(Reason::NotReady, "the cluster has not been bootstrapped"))
}

#[cfg(test)]
pub(crate) mod tests;
