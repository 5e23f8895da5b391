//! Identities: certificates by which servers, agents and administrators know each other, and the birth of a cluster.
//!
//! It refuses keys whose possession is not proved, and issuing authorities: identities come from `system` alone.

mod bootstrap;
mod join;

use std::sync::Arc;
use std::time::Duration;

use certwright_core::command::Command;
use certwright_core::event::{Event, Identity, NodeRecord};
use certwright_core::ids::{Actor, AuthorityName, ClusterId};
use certwright_core::log::Position;
use certwright_core::policy::{Action, Resource};
use certwright_core::state::{IdentityState, State};
use certwright_core::x509::{IdentityPlan, Profile, compose, csr, lint};
use certwright_core::{Reason, Rejection, limits};
use certwright_proto::identity::format_uri;

pub(crate) use bootstrap::bootstrap;
pub(crate) use join::{admit_agent, admit_node};

use crate::chain;
use crate::issuers::Signer;
use crate::order::{Call, IdentityAnswer, Outcome};
use crate::session::Session;

/// Name of the system authority.
pub(crate) const SYSTEM_AUTHORITY: &str = "system";
/// Life of a server's identity: as long as the system authority's; raft peers do not even look at it.
const NODE_DURATION: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// Life of an administrator's identity.
const ADMINISTRATOR_DURATION: Duration = Duration::from_secs(365 * 24 * 3600);
/// A repeat with the same key so soon is a lost reply: it gets the identity that was made.
const LOST_REPLY: Duration = Duration::from_secs(60);

/// SHA-256 of the key in a request, possession not proved: good for look-ups only.
pub(crate) fn claimed(request: &[u8]) -> Result<[u8; 32], Rejection> {
    csr::parse(request).map(|csr| csr.claimed_key().hash())
}

pub(crate) fn system_authority() -> Result<AuthorityName, Rejection> {
    AuthorityName::parse(SYSTEM_AUTHORITY)
}

pub(crate) fn cluster_id(state: &State) -> Result<ClusterId, Rejection> {
    state.cluster.id.ok_or_else(|| Rejection::new(Reason::NotReady, "the cluster has not been bootstrapped"))
}

/// Lifetime of an actor's identity.
pub(crate) fn lifetime(actor: &Actor) -> Duration {
    match actor {
        Actor::Node(_) => NODE_DURATION,
        Actor::Administrator(_) => ADMINISTRATOR_DURATION,
        _ => limits::IDENTITY_DURATION,
    }
}

/// Hosts that a node's certificate names, so that clients which verify host names accept it: that of its API address,
/// and `localhost` where that is a loopback address.
pub(crate) fn hosts(node: &NodeRecord) -> Vec<String> {
    let host = node.api_address.rsplit_once(':').map_or(node.api_address.as_str(), |(host, _)| host);
    let host = host.trim_matches(['[', ']']);
    let loopback = host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    let local = loopback.then(|| "localhost".to_owned());
    std::iter::once(host.to_owned()).chain(local).collect()
}

/// Signs an identity of that actor for a key (SubjectPublicKeyInfo, DER) whose possession was proved, or is our own.
pub(crate) async fn sign(
    session: &Session,
    actor: &Actor,
    spki_der: Vec<u8>,
    hosts: Vec<String>,
) -> Result<(Identity, Arc<Signer>), Rejection> {
    let signer = session.signer(&system_authority()?)?;
    let (cluster_id, now) = session.tools.log.read(|view| (cluster_id(view.state), session.tools.now(view)));
    let no_name = || Rejection::new(Reason::Internal, format!("{actor} has no identity"));
    let uri = format_uri(cluster_id?, actor).ok_or_else(no_name)?;
    let (not_before, not_after) = crate::signing::validity(now, lifetime(actor), &signer)?;
    let not_after = not_after.min(signer.certificate.not_after());
    let serial = session.tools.draw_serial();
    let (serves, common_name) = (matches!(actor, Actor::Node(_)), short_name(actor));
    let issuer = signer.clone();
    let make = move || {
        let composed = compose::identity(&IdentityPlan {
            serial,
            not_before,
            not_after,
            uri: &uri,
            hosts: &hosts,
            common_name: common_name.as_deref(),
            serves,
            spki_der: &spki_der,
            issuer: &issuer.certificate,
        })?;
        Ok((lint::lint(composed, &Profile::Identity)?, ()))
    };
    let (signed, ()) = session.sign(signer.key.clone(), make).await?;
    let identity = Identity {
        serial: signed.serial(),
        spki_hash: signed.spki_hash(),
        not_before: signed.not_before(),
        not_after: signed.not_after(),
        certificate: signed.der().clone(),
    };
    Ok((identity, signer))
}

/// The actor's name for people, where it fits a common name.
fn short_name(actor: &Actor) -> Option<String> {
    let name = match actor {
        Actor::Administrator(name) => name.to_string(),
        Actor::Agent(name) => name.to_string(),
        Actor::Node(id) => format!("node {id}"),
        Actor::System | Actor::Anonymous => return None,
    };
    (name.len() <= limits::COMMON_NAME_OCTETS_MAX).then_some(name)
}

pub(crate) fn answer(actor: &Actor, identity: &Identity, signer: &Signer, position: Position) -> IdentityAnswer {
    IdentityAnswer {
        certificate: identity.certificate.clone(),
        chain: signer.chain.clone(),
        not_after: identity.not_after,
        name: actor.to_string(),
        position,
    }
}

/// What state remembers of the actor's newest identity.
fn known(state: &State, actor: &Actor) -> Option<IdentityState> {
    match actor {
        Actor::Node(id) => state.cluster.nodes.get(id)?.identity,
        Actor::Agent(name) => state.agents.get(name)?.identity,
        Actor::Administrator(name) => state.cluster.administrators.get(name).copied(),
        Actor::System | Actor::Anonymous => None,
    }
}

/// The actor's newest identity, if it is for that key, read from the log.
pub(crate) async fn existing(
    session: &Session,
    actor: &Actor,
    spki_hash: [u8; 32],
) -> Result<Option<(Identity, IdentityAnswer)>, Rejection> {
    let known = session.tools.log.read(|view| known(view.state, actor).filter(|known| known.spki_hash == spki_hash));
    let Some(known) = known else { return Ok(None) };
    let identity = session.tools.find_event(known.position, |event| match event {
        Event::NodeIdentityIssued { identity, .. }
        | Event::AdministratorIdentityIssued { identity, .. }
        | Event::AgentIdentityIssued { identity, .. }
            if identity.serial == known.serial =>
        {
            Some(identity.clone())
        }
        _ => None,
    });
    let identity = identity.await?;
    let chain = session.tools.log.read(|view| chain::of(view.state, &system_authority()?))?;
    let answer = IdentityAnswer {
        certificate: identity.certificate.clone(),
        chain,
        not_after: identity.not_after,
        name: actor.to_string(),
        position: known.position,
    };
    Ok(Some((identity, answer)))
}

/// A new identity for the caller, for the key of the request, which may be a new one.
pub(crate) async fn renew(session: &Session, call: Call, request: Vec<u8>) -> Result<IdentityAnswer, Rejection> {
    let actor = call.actor.clone();
    let resource = match &actor {
        Actor::Agent(name) => Resource::Agent(name.clone()),
        Actor::Administrator(name) => Resource::Administrator(name.clone()),
        _ => return Err(Rejection::new(Reason::PermissionDenied, format!("{actor} has no identity to renew"))),
    };
    session.allow(&call, Action::RenewIdentity, &resource)?;
    let verified = session.verify(request).await?;
    if let Some(answer) = lost_reply(session, &actor, verified.spki_hash()).await {
        return Ok(answer);
    }
    let (identity, signer) = sign(session, &actor, verified.spki_der().to_vec(), Vec::new()).await?;
    let outcome = record(session, call, &actor, identity.clone()).await?;
    Ok(answer(&actor, &identity, &signer, outcome.position))
}

/// The identity that was made a moment ago for that key, whose reply was lost. Only then is the log read: an older one
/// may lie where this server cannot read it, and a new one is wanted anyhow.
async fn lost_reply(session: &Session, actor: &Actor, spki_hash: [u8; 32]) -> Option<IdentityAnswer> {
    let known = session.tools.log.read(|view| known(view.state, actor).filter(|known| known.spki_hash == spki_hash))?;
    let (made, now) = (known.not_after.minus(lifetime(actor)), session.tools.now_here());
    // One that will have been made in the future was made while clocks were ahead.
    if made > now || now.since(made) >= LOST_REPLY {
        return None;
    }
    existing(session, actor, spki_hash).await.ok().flatten().map(|(_, answer)| answer)
}

/// Appends an identity of the actor's. The request id is not used: a repeat gets what state has.
pub(crate) async fn record(
    session: &Session,
    call: Call,
    actor: &Actor,
    identity: Identity,
) -> Result<Outcome, Rejection> {
    let command = match actor {
        Actor::Agent(agent) => Command::RecordAgentIdentity { agent: agent.clone(), proved: call.key, identity },
        Actor::Administrator(name) => Command::RecordAdministratorIdentity { name: name.clone(), identity },
        Actor::Node(node_id) => Command::RecordNodeIdentity { node_id: *node_id, identity },
        Actor::System | Actor::Anonymous => {
            return Err(Rejection::new(Reason::Internal, format!("{actor} has no identity")));
        }
    };
    session.execute(Call { request_id: None, ..call }, command).await
}
