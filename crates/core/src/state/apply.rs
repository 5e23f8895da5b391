//! Folding: what each event does to the state. Infallible: an event that does not fit changes nothing.
//!
//! It refuses to decide; whatever it is given has been decided.

mod certificates;
mod checkpoints;
mod cluster;
mod estate;
mod rebase;

use super::{Cut, State};
use crate::event::Event;
use crate::ids::{AgentName, AuthorityName, CertificateName, IssuerName, Serial, TokenId};
use crate::log::{Applied, Fold, Revision, StreamId};
use crate::time::Timestamp;

/// A stream of the domain, by what it belongs to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Stream {
    /// The cluster itself.
    Cluster,
    /// Checkpoints of the log.
    Checkpoints,
    /// A join token.
    Token(TokenId),
    /// An agent.
    Agent(AgentName),
    /// An authority.
    Authority(AuthorityName),
    /// An issuer.
    Issuer(IssuerName),
    /// A certificate.
    Certificate(CertificateName),
    /// A direct issuance; written once and not remembered.
    Direct(Serial),
}

impl Stream {
    /// Parses a stream's resource name.
    pub fn parse(stream: &StreamId) -> Option<Self> {
        let (kind, name) = match stream.as_str().split_once('/') {
            None => {
                return match stream.as_str() {
                    "cluster" => Some(Self::Cluster),
                    "checkpoints" => Some(Self::Checkpoints),
                    _ => None,
                };
            }
            Some(parts) => parts,
        };
        match kind {
            "tokens" => TokenId::parse(name).ok().map(Self::Token),
            "agents" => AgentName::parse(name).ok().map(Self::Agent),
            "authorities" => AuthorityName::parse(name).ok().map(Self::Authority),
            "issuers" => IssuerName::parse(name).ok().map(Self::Issuer),
            "direct" => Serial::parse(name).map(Self::Direct),
            "namespaces" => {
                let (namespace, name) = name.split_once("/certificates/")?;
                CertificateName::parse(namespace, name).ok().map(Self::Certificate)
            }
            _ => None,
        }
    }
}

impl Fold for State {
    type Event = Event;
    type Cut = Cut;

    fn revision(&self, stream: &StreamId) -> Revision {
        match Stream::parse(stream) {
            Some(Stream::Cluster) => self.cluster.revision,
            Some(Stream::Checkpoints) => self.cluster.checkpoints.revision,
            Some(Stream::Token(id)) => self.tokens.get(&id).map_or(0, |token| token.revision),
            Some(Stream::Agent(name)) => self.agents.get(&name).map_or(0, |agent| agent.revision),
            Some(Stream::Authority(name)) => self.authorities.get(&name).map_or(0, |authority| authority.revision),
            Some(Stream::Issuer(name)) => self.issuers.get(&name).map_or(0, |issuer| issuer.revision),
            Some(Stream::Certificate(name)) => self.certificates.get(&name).map_or(0, |found| found.revision),
            Some(Stream::Direct(_)) | None => 0,
        }
    }

    fn apply(&mut self, applied: &Applied<'_>, event: &Event) {
        self.applied = applied.position;
        self.advance_due(applied.at);
        match Stream::parse(applied.stream) {
            Some(Stream::Cluster) => self.apply_cluster(applied, event),
            Some(Stream::Checkpoints) => self.cluster.checkpoints.apply(applied, event),
            Some(Stream::Token(id)) => self.apply_token(applied, &id, event),
            Some(Stream::Agent(name)) => self.apply_agent(applied, &name, event),
            Some(Stream::Authority(name)) => self.apply_authority(applied, &name, event),
            Some(Stream::Issuer(name)) => self.apply_issuer(applied, &name, event),
            Some(Stream::Certificate(name)) => self.apply_certificate(applied, &name, event),
            Some(Stream::Direct(_)) | None => {}
        }
    }

    fn rebases(event: &Event) -> Option<Timestamp> {
        match event {
            Event::TimeRebased { to, .. } => Some(*to),
            _ => None,
        }
    }

    fn cut(&self) -> Cut {
        self.to_parts()
    }
}
