//! Policy: who may ask for what ([`authorize`]) and what a final certificate may say ([`evaluate`]). One call site each
//! for every door: the command path and the lint.
//!
//! It refuses state and context: roles are fixed, and a certificate is judged by its own bytes, not by the request.

mod certificate;
mod rights;
mod words;

#[cfg(test)]
mod tests;

pub use certificate::evaluate;
pub use rights::needed;

use crate::ids::{Actor, AdministratorName, AgentName, CertificateName, IssuerName, NodeId};
use crate::rejection::{Reason, Rejection};

/// What somebody wants to do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Action {
    /// Get, list, watch: anything that changes nothing.
    Read,
    /// Create an object.
    Create,
    /// Change an object.
    Update,
    /// Delete or revoke an object.
    Delete,
    /// Open new generations of a certificate.
    Renew,
    /// Have a certificate signed for one's own CSR.
    Issue,
    /// Join with a token; the token is the proof.
    Join,
    /// Open an agent's session.
    Session,
    /// Answer an open issuance with a CSR.
    SubmitCsr,
    /// Report deliveries.
    Report,
    /// Renew one's own identity certificate.
    RenewIdentity,
    /// Operate the cluster: membership, digests, leadership.
    Operate,
    /// What servers do among themselves and the leader of its own accord.
    Internal,
}

impl Action {
    /// Every action.
    pub const ALL: &'static [Self] = &[
        Self::Read,
        Self::Create,
        Self::Update,
        Self::Delete,
        Self::Renew,
        Self::Issue,
        Self::Join,
        Self::Session,
        Self::SubmitCsr,
        Self::Report,
        Self::RenewIdentity,
        Self::Operate,
        Self::Internal,
    ];
}

/// What it is about.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Resource {
    /// One certificate.
    Certificate(CertificateName),
    /// Certificates, all or of a namespace.
    Certificates,
    /// One issuer.
    Issuer(IssuerName),
    /// Issuers as a collection.
    Issuers,
    /// Authorities.
    Authorities,
    /// One agent.
    Agent(AgentName),
    /// Agents as a collection.
    Agents,
    /// Join tokens.
    Tokens,
    /// The event log.
    Events,
    /// The cluster itself.
    Cluster,
    /// One server.
    Node(NodeId),
    /// One administrator.
    Administrator(AdministratorName),
}

/// An actor that was authorised: only [`authorize`] makes one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AuthorizedActor {
    actor: Actor,
    action: Action,
    resource: Resource,
}

impl AuthorizedActor {
    /// Who it is.
    pub fn actor(&self) -> &Actor {
        &self.actor
    }

    /// What it was authorised to do.
    pub fn action(&self) -> Action {
        self.action
    }

    /// To what.
    pub fn resource(&self) -> &Resource {
        &self.resource
    }
}

/// Decides whether `actor` may do that. Three fixed roles and two special actors:
///
/// - an administrator may do everything but speak for others: sessions, CSRs and reports are the agents', internal
///   calls the servers', and it renews no identity but its own;
/// - an agent may open its own session, submit CSRs, report and renew its own identity, nothing else;
/// - a node may make internal calls only;
/// - an anonymous caller may only join;
/// - the system itself (the leader's scheduler) may do everything.
///
/// Rejects with UNAUTHENTICATED (anonymous) or PERMISSION_DENIED.
pub fn authorize(actor: &Actor, action: Action, resource: &Resource) -> Result<AuthorizedActor, Rejection> {
    if allowed(actor, action, resource) {
        return Ok(AuthorizedActor { actor: actor.clone(), action, resource: resource.clone() });
    }
    Err(match actor {
        Actor::Anonymous => unproved(),
        actor => Rejection::new(Reason::PermissionDenied, format!("{actor} may not {action} {resource}")),
    })
}

/// Why strangers are refused whatever needs to know who asks.
pub fn unproved() -> Rejection {
    Rejection::new(Reason::Unauthenticated, "this call needs a client certificate")
}

fn allowed(actor: &Actor, action: Action, resource: &Resource) -> bool {
    match actor {
        Actor::System => true,
        Actor::Administrator(name) => match action {
            Action::Session | Action::SubmitCsr | Action::Report | Action::Internal => false,
            Action::RenewIdentity => *resource == Resource::Administrator(name.clone()),
            _ => true,
        },
        Actor::Agent(name) => {
            let own = *resource == Resource::Agent(name.clone());
            own && matches!(action, Action::Session | Action::SubmitCsr | Action::Report | Action::RenewIdentity)
        }
        Actor::Node(_) => action == Action::Internal,
        Actor::Anonymous => action == Action::Join,
    }
}
