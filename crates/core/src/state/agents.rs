//! Agents' scopes: which instances an agent holds, and what of them changed since it last looked.
//!
//! It refuses history: intermediate generations are skipped, what left the scope is a bounded list of tombstones.

use super::State;
use crate::event::Trigger;
use crate::ids::{AgentName, CertificateName, Generation, InstanceId};
use crate::log::Position;

/// How far a reader of a scope has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ScopeCursor {
    /// Everything before this position was read.
    pub position: Position,
    /// And of this position every instance up to this one.
    pub instance: InstanceId,
    /// What left the scope up to here need not be told.
    pub gone_after: Position,
}

/// One thing that an agent must know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ScopeChange {
    /// The instance is in the scope; read its state now.
    Present {
        /// The certificate it belongs to.
        certificate: CertificateName,
        /// The instance.
        instance: InstanceId,
    },
    /// The instance left the scope.
    Gone {
        /// The certificate it belonged to.
        certificate: CertificateName,
        /// The instance.
        instance: InstanceId,
    },
}

/// Part of a scope, in the order in which things changed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ScopePage {
    /// What changed.
    pub changes: Vec<ScopeChange>,
    /// Where to go on; `None` when this is everything there is now.
    pub next: Option<ScopeCursor>,
}

impl State {
    /// The agent's complete scope, a page at a time; `None` begins.
    pub fn scope_complete(&self, _agent: &AgentName, _after: Option<ScopeCursor>, _limit: usize) -> ScopePage {
        ScopePage::default()
    }

    /// What changed for the agent after a position or cursor. `None`: that is below the floor of what is remembered;
    /// read the complete scope.
    pub fn scope_since(&self, _agent: &AgentName, _after: impl Into<ScopeCursor>, _limit: usize) -> Option<ScopePage> {
        Some(ScopePage::default())
    }

    /// The newest position at which the agent's scope changed; `START` when it never did.
    pub fn scope_changed(&self, _agent: &AgentName) -> Position {
        Position::START
    }

    /// Issuances that wait for a CSR of this agent.
    pub fn open_issuances(&self, _agent: &AgentName) -> Vec<(CertificateName, InstanceId, Generation, Trigger)> {
        Vec::new()
    }

    /// The next `limit` certificates, by name after `after`, of which the agent holds an instance.
    pub fn certificates_of_agent(
        &self,
        _agent: &AgentName,
        _after: Option<&CertificateName>,
        _limit: usize,
    ) -> Vec<CertificateName> {
        Vec::new()
    }

    /// How many instances the agent holds.
    pub fn instances_of_agent(&self, _agent: &AgentName) -> usize {
        0
    }
}

impl From<Position> for ScopeCursor {
    /// Everything up to and including the position was read.
    fn from(position: Position) -> Self {
        let last = crate::ids::Uid(Position { index: u64::MAX, ordinal: u32::MAX });
        Self { position, instance: InstanceId { certificate: last, number: u32::MAX }, gone_after: position }
    }
}
