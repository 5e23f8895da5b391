//! Secondary indexes: by due time, agent, issuer, selector and change. Derived from the maps, never stored.
//!
//! It refuses anything that could not be rebuilt from the aggregates alone. Its entries hold a certificate's own name, one
//! pointer, and an instance's number; what else they stand for is looked up.

pub(super) mod due;
pub(super) mod holders;
pub(super) mod scope;

use std::collections::{BTreeMap, BTreeSet};

use due::DueIndex;
use holders::Holders;
use scope::Scope;

use super::{Instance, Open};
use crate::event::Trigger;
use crate::ids::{AgentName, CertificateName, Namespace, TargetName};
use crate::log::{Position, Revision};
use crate::time::Timestamp;

/// Names of targets that are shared; beyond that many, sharing begins anew.
const TARGET_NAMES_MAX: usize = 1024;

/// The secondary indexes of the state.
#[derive(Debug, Default)]
pub struct Indexes {
    /// How many certificates each namespace has; the key is the text that they share.
    pub(super) namespaces: BTreeMap<Namespace, usize>,
    /// Names of targets, for reports to share.
    pub(super) targets: BTreeSet<TargetName>,
    /// What is due when.
    pub(super) due: DueIndex,
    /// What each agent holds, by change and by name.
    pub(super) scopes: BTreeMap<AgentName, Scope>,
    /// The floor of scopes that are not there (any more).
    pub(super) floor: Position,
    /// Where these indexes were built: what left any scope before that is not remembered.
    pub(super) built: Position,
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
    pub(super) number: u32,
    pub(super) changed: Position,
    pub(super) due: Option<(Timestamp, Trigger)>,
    pub(super) open: Option<Open>,
    pub(super) ready: bool,
    pub(super) failing: bool,
}

impl Facts {
    pub(super) fn of(instance: &Instance, spec_revision: Revision) -> Self {
        Self {
            number: instance.id.number,
            changed: instance.changed,
            due: instance.due(spec_revision),
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

/// The entries of many instances, gathered to be put in at once: a map that is built of all its keys takes a fraction of the
/// time of one that grows key by key.
pub(super) struct Gathered {
    counts: Counts,
    due: due::Rows,
    /// By agent, in the order of their names.
    scopes: Vec<(AgentName, scope::Rows)>,
    /// Which of these was added to last.
    newest: usize,
    /// Of agents that are not there any more.
    others: BTreeMap<AgentName, scope::Rows>,
}

impl Gathered {
    /// Nothing yet; `agents` in the order of their names.
    pub(super) fn of(agents: impl Iterator<Item = AgentName>) -> Self {
        let scopes = agents.map(|agent| (agent, scope::Rows::default())).collect();
        Self { counts: Counts::default(), due: due::Rows::default(), scopes, newest: 0, others: BTreeMap::new() }
    }

    /// An instance is there; its agent's name becomes the one that all share. Whether that agent is there, too.
    pub(super) fn add(&mut self, name: &CertificateName, agent: &mut AgentName, facts: &Facts) -> bool {
        self.counts.add(facts);
        self.due.add(name, facts);
        // Neighbours are often held by one agent.
        let as_before = self.scopes.get(self.newest).filter(|(known, _)| known == agent).map(|_| self.newest);
        let found = as_before.or_else(|| self.scopes.binary_search_by(|(known, _)| known.cmp(agent)).ok());
        let Some(at) = found else {
            self.others.entry(agent.clone()).or_default().add(name, facts);
            return false;
        };
        let (known, rows) = &mut self.scopes[at];
        *agent = known.clone();
        rows.add(name, facts);
        self.newest = at;
        true
    }
}

impl Indexes {
    /// A certificate comes: its name, with the namespace's text shared with the others of the namespace.
    pub(super) fn enter(&mut self, name: &CertificateName) -> CertificateName {
        let shared = self.namespaces.get_key_value(&name.namespace).map(|(namespace, _)| namespace.clone());
        let namespace = shared.unwrap_or_else(|| name.namespace.clone());
        *self.namespaces.entry(namespace.clone()).or_default() += 1;
        CertificateName::new(namespace, name.name.clone())
    }

    /// A certificate went.
    pub(super) fn leave(&mut self, name: &CertificateName) {
        if let Some(count) = self.namespaces.get_mut(&name.namespace) {
            *count -= 1;
            if *count == 0 {
                self.namespaces.remove(&name.namespace);
            }
        }
    }

    /// A target's name, its text shared with that of other certificates' targets.
    pub(super) fn share_target(&mut self, name: TargetName) -> TargetName {
        if let Some(shared) = self.targets.get(&name) {
            return shared.clone();
        }
        if self.targets.len() >= TARGET_NAMES_MAX {
            self.targets.clear();
        }
        self.targets.insert(name.clone());
        name
    }

    pub(super) fn scope_mut(&mut self, agent: &AgentName) -> &mut Scope {
        let floor = self.floor;
        if !self.scopes.contains_key(agent) {
            self.scopes.insert(agent.clone(), Scope::new(floor));
        }
        self.scopes.get_mut(agent).expect("it was put there if it was not")
    }

    /// An instance is there.
    pub(super) fn add(&mut self, name: &CertificateName, agent: &AgentName, facts: &Facts) {
        self.counts.add(facts);
        self.due.put(name, facts);
        self.scope_mut(agent).put(name, facts);
    }

    /// Puts in what was gathered. The indexes must be without instances.
    pub(super) fn fill(&mut self, gathered: Gathered) {
        let Gathered { counts, due, scopes, others, newest: _ } = gathered;
        self.counts = counts;
        self.due.fill(due);
        let floor = self.floor;
        let all = scopes.into_iter().chain(others).filter(|(_, rows)| !rows.is_empty());
        self.scopes.extend(all.map(|(agent, rows)| (agent, Scope::of(floor, rows))));
    }

    /// An instance changed.
    pub(super) fn change(&mut self, name: &CertificateName, agent: &AgentName, before: &Facts, after: &Facts) {
        if before == after {
            return;
        }
        self.counts.subtract(before);
        self.counts.add(after);
        if before.due != after.due {
            self.due.take(name, before);
            self.due.put(name, after);
        }
        self.scope_mut(agent).change(name, before, after);
    }

    /// An instance is gone; its agent's feed is told apart.
    pub(super) fn remove(&mut self, name: &CertificateName, agent: &AgentName, facts: &Facts) {
        self.counts.subtract(facts);
        self.due.take(name, facts);
        self.scope_mut(agent).take(name, facts);
    }

    /// Forgets the scope of an agent that is gone: whoever comes back under its name gets a complete scope.
    pub(super) fn forget_scope(&mut self, agent: &AgentName, position: Position) {
        if self.scopes.get(agent).is_some_and(Scope::is_empty) {
            self.scopes.remove(agent);
            self.floor = self.floor.max(position);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_target_names_are_shared_and_no_more() {
        let mut indexes = Indexes::default();
        let target = |n: usize| TargetName::parse(&format!("t{n}")).expect("a name");
        let first = indexes.share_target(target(0));
        assert!(std::ptr::eq(indexes.share_target(target(0)).as_str(), first.as_str()));
        (1..TARGET_NAMES_MAX).for_each(|n| drop(indexes.share_target(target(n))));
        assert_eq!(indexes.targets.len(), TARGET_NAMES_MAX);
        indexes.share_target(target(TARGET_NAMES_MAX));
        assert_eq!(indexes.targets.len(), 1);
    }
}
