//! Questions about certificates: what is due, who refers to an issuer, which instance is which.
//!
//! It refuses scans: every answer comes from an index and costs what it returns.

use super::{Certificate, Instance, State};
use crate::event::Trigger;
use crate::ids::{AgentName, CertificateName, InstanceId, IssuerName};
use crate::time::Timestamp;

/// An instance whose next generation should be opened.
pub type Due = (Timestamp, CertificateName, InstanceId, Trigger);

impl Certificate {
    /// The instance with this id.
    pub fn instance(&self, id: InstanceId) -> Option<&Instance> {
        self.instances.iter().find(|instance| instance.id == id)
    }

    /// The instance that this agent holds.
    pub fn instance_of(&self, agent: &AgentName) -> Option<&Instance> {
        self.instances.iter().find(|instance| instance.agent == *agent)
    }
}

impl State {
    /// At most `limit` instances that are due at `now`, least life left first; those with an open issuance excluded.
    pub fn due(&self, _now: Timestamp, _limit: usize) -> Vec<Due> {
        Vec::new()
    }

    /// When the next instance becomes due; in the past when one is due already.
    pub fn next_due(&self) -> Option<Timestamp> {
        None
    }

    /// The next `limit` certificates, by name after `after`, that name this issuer.
    pub fn certificates_of_issuer(
        &self,
        _issuer: &IssuerName,
        _after: Option<&CertificateName>,
        _limit: usize,
    ) -> Vec<CertificateName> {
        Vec::new()
    }
}
