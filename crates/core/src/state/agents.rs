//! Agents' scopes: which instances an agent holds, and what of them changed since it last looked.
//!
//! It refuses history: intermediate generations are skipped, what left the scope is a bounded list of tombstones.

use super::certificates::names_after;
use super::indexes::scope::{Entry, Place, Scope};
use super::{Agent, State};
use crate::event::Trigger;
use crate::ids::{AgentName, CertificateName, Generation, InstanceId};
use crate::log::Position;

/// How far a reader of a scope has come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScopeCursor {
    place: Place,
    /// What left the scope up to here need not be told.
    gone_after: Position,
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
        Self { place: Place::behind(position), gone_after: position }
    }
}

impl Agent {
    /// Whether this is a key that the agent may prove itself by: that of its newest identity, or of the one before, which
    /// is all it has when the answer with the newest was lost.
    pub fn is_known_by(&self, spki_hash: [u8; 32]) -> bool {
        self.spki_hash == spki_hash || self.previous_spki_hash == Some(spki_hash)
    }
}

impl State {
    /// The agent's complete scope, a page at a time; `None` begins. Pages may be read from states that move: what
    /// changes meanwhile comes again, what leaves meanwhile is told. After the last page (`next` is `None`) go on with
    /// [`State::scope_since`] the state's own position. `None`, never at the beginning: too much left meanwhile; begin
    /// again.
    pub fn scope_complete(&self, agent: &AgentName, after: Option<ScopeCursor>, limit: usize) -> Option<ScopePage> {
        let start = ScopeCursor { gone_after: self.applied, ..ScopeCursor::from(Position::START) };
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
        let entries = scope.after(&cursor.place, cursor.gone_after, limit);
        let last = entries.last().filter(|_| entries.len() == limit);
        let next = last.map(|(place, _)| ScopeCursor { place: (*place).clone(), gone_after: cursor.gone_after });
        Some(ScopePage { changes: entries.into_iter().filter_map(|entry| self.change(entry)).collect(), next })
    }

    fn change(&self, (place, gone): Entry<'_>) -> Option<ScopeChange> {
        let certificate = place.name.clone()?;
        match gone {
            Some(instance) => Some(ScopeChange::Gone { certificate, instance }),
            None => {
                let instance = self.instance_id(&certificate, place.number)?;
                Some(ScopeChange::Present { certificate, instance })
            }
        }
    }

    fn instance_id(&self, name: &CertificateName, number: u32) -> Option<InstanceId> {
        self.certificates.get(name).map(|certificate| InstanceId { certificate: certificate.uid, number })
    }

    /// The newest position at which the agent's scope changed, or may have changed without being remembered; `START` when it
    /// never did.
    pub fn scope_changed(&self, agent: &AgentName) -> Position {
        self.indexes.scopes.get(agent).map_or(self.indexes.built, Scope::changed)
    }

    /// Issuances that wait for a CSR of this agent.
    pub fn open_issuances(&self, agent: &AgentName) -> Vec<(CertificateName, InstanceId, Generation, Trigger)> {
        let open = self.indexes.scopes.get(agent).into_iter().flat_map(Scope::open);
        open.filter_map(|(name, number, generation, trigger)| {
            Some((name.clone(), self.instance_id(name, number)?, generation, trigger))
        })
        .collect()
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
