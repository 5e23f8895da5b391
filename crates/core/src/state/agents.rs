//! Agents' scopes: which instances an agent holds, and what of them changed since it last looked.
//!
//! It refuses history: intermediate generations are skipped, what left the scope is a bounded list of tombstones.

use super::State;
use super::certificates::names_after;
use super::indexes::scope::{Entry, Scope};
use super::indexes::{id_of, key_of};
use crate::event::Trigger;
use crate::ids::{AgentName, CertificateName, Generation, InstanceId, Uid};
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

impl From<Position> for ScopeCursor {
    /// Everything up to and including the position was read.
    fn from(position: Position) -> Self {
        let last = Uid(Position { index: u64::MAX, ordinal: u32::MAX });
        Self { position, instance: InstanceId { certificate: last, number: u32::MAX }, gone_after: position }
    }
}

impl State {
    /// The agent's complete scope, a page at a time; `None` begins. Pages may be read from states that move: what
    /// changes meanwhile comes again, what leaves meanwhile is told. After the last page (`next` is `None`) go on with
    /// [`State::scope_since`] the state's own position. `None`, never at the beginning: too much left meanwhile; begin
    /// again.
    pub fn scope_complete(&self, agent: &AgentName, after: Option<ScopeCursor>, limit: usize) -> Option<ScopePage> {
        let start = ScopeCursor {
            position: Position::START,
            instance: InstanceId { certificate: Uid(Position::START), number: 0 },
            gone_after: self.applied,
        };
        self.scope_page(agent, after.unwrap_or(start), limit)
    }

    /// What changed for the agent after a position or cursor. `None`: that is below the floor of what is remembered;
    /// read the complete scope.
    pub fn scope_since(&self, agent: &AgentName, after: impl Into<ScopeCursor>, limit: usize) -> Option<ScopePage> {
        self.scope_page(agent, after.into(), limit)
    }

    fn scope_page(&self, agent: &AgentName, cursor: ScopeCursor, limit: usize) -> Option<ScopePage> {
        let scope = self.indexes.scopes.get(agent);
        if cursor.gone_after < scope.map_or(self.indexes.floor, |scope| scope.floor) {
            return None;
        }
        let Some(scope) = scope else {
            return Some(ScopePage::default());
        };
        let limit = limit.max(1);
        let entries = scope.after((cursor.position, key_of(cursor.instance)), cursor.gone_after, limit);
        let next = entries.last().filter(|_| entries.len() == limit).map(|((position, key), ..)| ScopeCursor {
            position: *position,
            instance: id_of(*key),
            gone_after: cursor.gone_after,
        });
        Some(ScopePage { changes: entries.into_iter().map(change).collect(), next })
    }

    /// The newest position at which the agent's scope changed; `START` when it never did.
    pub fn scope_changed(&self, agent: &AgentName) -> Position {
        self.indexes.scopes.get(agent).map_or(Position::START, Scope::changed)
    }

    /// Issuances that wait for a CSR of this agent.
    pub fn open_issuances(&self, agent: &AgentName) -> Vec<(CertificateName, InstanceId, Generation, Trigger)> {
        let open = self.indexes.scopes.get(agent).into_iter().flat_map(Scope::open);
        open.map(|(key, name, generation, trigger)| ((**name).clone(), id_of(key), generation, trigger)).collect()
    }

    /// The next `limit` certificates, by name after `after`, of which the agent holds an instance.
    pub fn certificates_of_agent(
        &self,
        agent: &AgentName,
        after: Option<&CertificateName>,
        limit: usize,
    ) -> Vec<CertificateName> {
        names_after(self.indexes.scopes.get(agent).map(Scope::names), after, limit)
    }

    /// How many instances the agent holds.
    pub fn instances_of_agent(&self, agent: &AgentName) -> usize {
        self.indexes.scopes.get(agent).map_or(0, Scope::len)
    }
}

fn change(((_, key), name, live): Entry<'_>) -> ScopeChange {
    let (certificate, instance) = ((**name).clone(), id_of(key));
    if live { ScopeChange::Present { certificate, instance } } else { ScopeChange::Gone { certificate, instance } }
}
