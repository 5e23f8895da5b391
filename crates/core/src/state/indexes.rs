//! Secondary indexes: by due time, agent, issuer, selector and change. Derived from the maps, never stored.
//!
//! It refuses anything that could not be rebuilt from the aggregates alone, and whole names in every index: a
//! certificate's name is held once and shared.

pub(super) mod due;
pub(super) mod holders;
pub(super) mod scope;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use due::DueIndex;
use holders::Holders;
use scope::Scope;

use super::{Instance, Open};
use crate::ids::{AgentName, CertificateName, InstanceId, Namespace, Uid};
use crate::log::{Position, Revision};
use crate::time::Timestamp;

/// A certificate's name as the indexes share it.
pub(super) type SharedName = Arc<CertificateName>;

/// An instance's id without padding: uid index, uid ordinal, number; ordered like the id.
pub(super) type InstanceKey = (u64, u32, u32);

pub(super) fn key_of(id: InstanceId) -> InstanceKey {
    (id.certificate.0.index, id.certificate.0.ordinal, id.number)
}

pub(super) fn id_of(key: InstanceKey) -> InstanceId {
    InstanceId { certificate: Uid(Position { index: key.0, ordinal: key.1 }), number: key.2 }
}

/// The secondary indexes of the state.
#[derive(Debug, Default)]
pub struct Indexes {
    /// Every certificate's name, shared by the others.
    pub(super) names: BTreeSet<SharedName>,
    /// How many certificates each namespace has; the key is the text that they share.
    pub(super) namespaces: BTreeMap<Namespace, usize>,
    /// What is due when.
    pub(super) due: DueIndex,
    /// What each agent holds, by change and by name.
    pub(super) scopes: BTreeMap<AgentName, Scope>,
    /// The floor of scopes that are not there (any more).
    pub(super) floor: Position,
    /// Who refers to whom.
    pub(super) holders: Holders,
    /// For metrics.
    pub(super) counts: Counts,
}

/// How much there is, for metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Instances of all certificates.
    pub instances: usize,
    /// Instances whose newest certificate says what the specification wants.
    pub ready: usize,
    /// Instances with an issuance under way.
    pub open: usize,
    /// Instances whose last issuance failed.
    pub failing: usize,
}

/// What the indexes know of one instance.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Facts {
    pub(super) key: InstanceKey,
    pub(super) changed: Position,
    pub(super) due: Option<Timestamp>,
    pub(super) open: Option<Open>,
    pub(super) ready: bool,
    pub(super) failing: bool,
}

impl Facts {
    pub(super) fn of(instance: &Instance, spec_revision: Revision) -> Self {
        Self {
            key: key_of(instance.id),
            changed: instance.changed,
            due: instance.due(spec_revision).map(|(at, _)| at),
            open: instance.open,
            ready: instance.current.is_some_and(|current| current.spec_revision >= spec_revision),
            failing: instance.failures > 0,
        }
    }
}

impl Counts {
    fn add(&mut self, facts: &Facts) {
        self.instances += 1;
        self.ready += usize::from(facts.ready);
        self.open += usize::from(facts.open.is_some());
        self.failing += usize::from(facts.failing);
    }

    fn subtract(&mut self, facts: &Facts) {
        self.instances -= 1;
        self.ready -= usize::from(facts.ready);
        self.open -= usize::from(facts.open.is_some());
        self.failing -= usize::from(facts.failing);
    }
}

impl Indexes {
    /// The shared form of a certificate's name; made on first use.
    pub(super) fn share(&mut self, name: &CertificateName) -> SharedName {
        if let Some(shared) = self.names.get(name) {
            return shared.clone();
        }
        let namespace = match self.namespaces.get_key_value(&name.namespace) {
            Some((namespace, _)) => namespace.clone(),
            None => name.namespace.clone(),
        };
        *self.namespaces.entry(namespace.clone()).or_default() += 1;
        let shared = Arc::new(CertificateName::new(namespace, name.name.clone()));
        self.names.insert(shared.clone());
        shared
    }

    /// The certificate is gone; its name need not be shared any more.
    pub(super) fn unshare(&mut self, name: &CertificateName) {
        if self.names.remove(name) {
            let left = self.namespaces.get_mut(&name.namespace).map(|count| {
                *count -= 1;
                *count
            });
            if left == Some(0) {
                self.namespaces.remove(&name.namespace);
            }
        }
    }

    pub(super) fn scope_mut(&mut self, agent: &AgentName) -> &mut Scope {
        let floor = self.floor;
        if !self.scopes.contains_key(agent) {
            self.scopes.insert(agent.clone(), Scope::new(floor));
        }
        self.scopes.get_mut(agent).expect("it was put there if it was not")
    }

    /// An instance is there.
    pub(super) fn add(&mut self, name: &SharedName, agent: &AgentName, facts: &Facts) {
        self.counts.add(facts);
        self.due.put(facts, name);
        self.scope_mut(agent).put(facts, name);
    }

    /// An instance changed.
    pub(super) fn change(&mut self, name: &SharedName, agent: &AgentName, before: &Facts, after: &Facts) {
        if before == after {
            return;
        }
        self.counts.subtract(before);
        self.counts.add(after);
        if before.due != after.due {
            self.due.take(before);
            self.due.put(after, name);
        }
        let scope = self.scope_mut(agent);
        scope.take(before);
        scope.put(after, name);
    }

    /// An instance is gone since `position`.
    pub(super) fn remove(&mut self, name: &SharedName, agent: &AgentName, facts: &Facts, position: Position) {
        self.counts.subtract(facts);
        self.due.take(facts);
        let scope = self.scope_mut(agent);
        scope.take(facts);
        scope.leave(facts.key, name, position);
    }

    /// Forgets the scope of an agent that is gone: whoever comes back under its name gets a complete scope.
    pub(super) fn forget_scope(&mut self, agent: &AgentName, position: Position) {
        if self.scopes.get(agent).is_some_and(Scope::is_empty) {
            self.scopes.remove(agent);
            self.floor = self.floor.max(position);
        }
    }
}
