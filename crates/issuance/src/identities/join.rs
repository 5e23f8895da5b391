//! Joining: a token's secret and a key become an agent or a server.
//!
//! It refuses to sign for those whom the decision would refuse: it is asked before any signature is verified or made.

use certwright_core::command::Command;
use certwright_core::event::{Identity, NodeRecord};
use certwright_core::ids::{Actor, NodeId, Serial, TokenId};
use certwright_core::policy;
use certwright_core::state::State;
use certwright_core::{Reason, Rejection, decide};
use zeroize::Zeroizing;

use super::{answer, claimed, cluster_id, existing, sign};
use crate::digest::sha256;
use crate::order::{AgentJoin, Call, IdentityAnswer, NodeAnswer, NodeJoin};
use crate::sequencer::Refusal;
use crate::session::{Ask, Session};
use crate::signing::ATTEMPTS_MAX;

/// Registers an agent and gives it its first identity. The same key may repeat a lost reply.
pub(crate) async fn admit_agent(session: &Session, call: Call, join: AgentJoin) -> Result<IdentityAnswer, Rejection> {
    let AgentJoin { token, secret, agent, labels, csr } = join;
    let secret_hash = hash(&secret);
    let claimed = claimed(&csr)?;
    let actor = Actor::Agent(agent.clone());
    let command = |identity: Identity| Command::AdmitAgent {
        token: token.clone(),
        secret_hash,
        agent: agent.clone(),
        labels: labels.clone(),
        identity,
    };
    let repeat = may_join(session, &call, &token, &command(unsigned(session, claimed)), claimed)?;
    let verified = session.verify(csr).await?;
    if repeat && let Some((_, answer)) = existing(session, &actor, claimed).await? {
        return Ok(answer);
    }
    let (identity, signer) = sign(session, &actor, verified.spki_der().to_vec(), Vec::new()).await?;
    let outcome = session.execute(Call { request_id: None, ..call }, command(identity.clone())).await?;
    match outcome.unchanged {
        false => Ok(answer(&actor, &identity, &signer, outcome.position)),
        // Another attempt with the same key was quicker.
        true => lost(existing(session, &actor, claimed).await?.map(|(_, answer)| answer)),
    }
}

/// Registers a server and gives it its identity; admission takes it into the cluster afterwards.
pub(crate) async fn admit_node(session: &Session, call: Call, join: NodeJoin) -> Result<NodeAnswer, Rejection> {
    let secret_hash = hash(&join.secret);
    let claimed = claimed(&join.csr)?;
    for _ in 0..ATTEMPTS_MAX {
        let node_id = session.tools.log.read(|view| node_id(view.state, claimed));
        let command = |identity: Identity| Command::AdmitNode {
            token: join.token.clone(),
            secret_hash,
            node: Box::new(record(&join, node_id, claimed)),
            identity,
            format: join.format,
        };
        let actor = Actor::Node(node_id);
        let repeat = may_join(session, &call, &join.token, &command(unsigned(session, claimed)), claimed)?;
        can_be_wrapped_to(session, node_id, &join.hpke_public)?;
        let verified = session.verify(join.csr.clone()).await?;
        if repeat && let Some((identity, _)) = existing(session, &actor, claimed).await? {
            return welcome(session, node_id, &identity);
        }
        let hosts = super::hosts(&record(&join, node_id, claimed));
        let (identity, _) = sign(session, &actor, verified.spki_der().to_vec(), hosts).await?;
        // The id was free when the identity was composed; another server may take it meanwhile.
        let free: crate::sequencer::Check = Box::new(move |state| self::node_id(state, claimed) == node_id);
        let call = Call { request_id: None, ..call.clone() };
        match session.submit(Ask::of(call, command(identity.clone())).while_holds(free)).await {
            Ok(settled) if settled.outcome.unchanged => {
                let identity = lost(existing(session, &actor, claimed).await?)?.0;
                return welcome(session, node_id, &identity);
            }
            Ok(_) => return welcome(session, node_id, &identity),
            Err(Refusal::Moved) => {}
            Err(Refusal::Rejected(rejection)) => return Err(rejection),
        }
    }
    Err(Refusal::Moved.into_rejection())
}

/// A server to whose key nothing can be wrapped could never vote.
fn can_be_wrapped_to(session: &Session, node_id: NodeId, hpke_public: &[u8]) -> Result<(), Rejection> {
    let cluster_id = session.tools.log.read(|view| cluster_id(view.state))?;
    let wrapped = session.tools.custody.wrap_for(cluster_id, node_id, hpke_public);
    wrapped.map(drop).map_err(|error| Rejection::field(Reason::InvalidSpec, "hpke_public", error.to_string()))
}

/// The id of the server with that key, or the next one.
fn node_id(state: &State, spki_hash: [u8; 32]) -> NodeId {
    let cluster = &state.cluster;
    let bound = cluster.nodes.values().find(|node| !node.removed && node.record.spki_hash == spki_hash);
    bound.map_or(cluster.last_node_id + 1, |node| node.record.id)
}

fn record(join: &NodeJoin, id: NodeId, spki_hash: [u8; 32]) -> NodeRecord {
    NodeRecord {
        id,
        name: join.name.clone(),
        raft_address: join.raft_address.clone(),
        api_address: join.api_address.clone(),
        http_address: join.http_address.clone(),
        spki_hash,
        hpke_public: join.hpke_public.clone(),
    }
}

fn welcome(session: &Session, node_id: NodeId, identity: &Identity) -> Result<NodeAnswer, Rejection> {
    session.tools.log.read(|view| {
        let cluster = &view.state.cluster;
        Ok(NodeAnswer {
            node_id,
            cluster_id: cluster_id(view.state)?,
            epoch: cluster.epoch,
            certificate: identity.certificate.clone(),
            chain: crate::chain::of(view.state, &super::system_authority()?)?,
            peers: cluster.nodes.values().filter(|node| !node.removed).map(|node| node.record.clone()).collect(),
        })
    })
}

/// Asks for the decision without carrying it out: a token that is used up, expired or foreign costs no signature.
/// Answers whether that key has consumed the token before: then it repeats a lost reply.
fn may_join(
    session: &Session,
    call: &Call,
    token: &TokenId,
    command: &Command,
    claimed: [u8; 32],
) -> Result<bool, Rejection> {
    let (action, resource) = policy::needed(command);
    let actor = session.allow(call, action, &resource)?;
    session.tools.log.read(|view| {
        decide(view.state, &actor, command, &session.tools.context(view))?;
        Ok(view.state.tokens.get(token).is_some_and(|token| token.consumed_by == Some(claimed)))
    })
}

/// What the decision is shown before there is a certificate.
fn unsigned(session: &Session, spki_hash: [u8; 32]) -> Identity {
    let now = session.tools.now_here();
    Identity {
        serial: Serial::from_random([0; 20]),
        spki_hash,
        not_before: now,
        not_after: now.plus(certwright_core::limits::IDENTITY_DURATION),
        certificate: [0u8; 0].as_slice().into(),
    }
}

fn lost<T>(existing: Option<T>) -> Result<T, Rejection> {
    existing.ok_or_else(|| Rejection::new(Reason::Internal, "an identity was recorded and is not there"))
}

fn hash(secret: &Zeroizing<Vec<u8>>) -> [u8; 32] {
    sha256(secret)
}
