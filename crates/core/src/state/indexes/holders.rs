//! Who refers to whom: certificates by issuer, by the agents and labels their targets name, agents by label, and the
//! pairs of certificate and agent that are not as the targets want them.
//!
//! It refuses to decide: what is unsettled is put right by a command.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{AgentName, CertificateName, IssuerName};
use crate::spec::{CertificateSpec, Holder, Labels};

/// A label as an index key.
type Label = (String, String);

#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::state) struct Holders {
    /// Certificates by issuer.
    pub(in crate::state) by_issuer: BTreeMap<IssuerName, BTreeSet<CertificateName>>,
    /// Certificates by an agent that a target names and that does not hold them (yet): what is held is in its scope.
    naming: BTreeMap<AgentName, BTreeSet<CertificateName>>,
    /// Certificates by the first label of a target's selector.
    selecting: BTreeMap<Label, BTreeSet<CertificateName>>,
    /// Agents by each of their labels.
    agents: BTreeMap<Label, BTreeSet<AgentName>>,
    /// Certificates and agents where an instance is missing or in excess.
    pub(in crate::state) unsettled: BTreeSet<(CertificateName, AgentName)>,
}

fn put<K: Ord + Clone, V: Ord>(map: &mut BTreeMap<K, BTreeSet<V>>, key: &K, value: V) {
    match map.get_mut(key) {
        Some(set) => {
            set.insert(value);
        }
        None => {
            map.insert(key.clone(), BTreeSet::from([value]));
        }
    }
}

fn take<K: Ord, V: Ord>(map: &mut BTreeMap<K, BTreeSet<V>>, key: &K, value: &V) {
    if let Some(set) = map.get_mut(key) {
        set.remove(value);
        if set.is_empty() {
            map.remove(key);
        }
    }
}

fn first_label(labels: &Labels) -> Option<Label> {
    labels.first_key_value().map(|(key, value)| (key.clone(), value.clone()))
}

impl Holders {
    /// A certificate refers to these, and these agents hold it.
    pub(in crate::state) fn add_certificate<'a>(
        &mut self,
        name: &CertificateName,
        issuer: &IssuerName,
        holders: impl Iterator<Item = &'a Holder>,
        is_held_by: impl Fn(&AgentName) -> bool,
    ) {
        put(&mut self.by_issuer, issuer, name.clone());
        for holder in holders {
            match holder {
                Holder::Agent(agent) if is_held_by(agent) => {}
                Holder::Agent(agent) => put(&mut self.naming, agent, name.clone()),
                Holder::Selector(labels) => {
                    if let Some(label) = first_label(labels) {
                        put(&mut self.selecting, &label, name.clone());
                    }
                }
            }
        }
    }

    /// An agent came to hold a certificate.
    pub(in crate::state) fn hold(&mut self, name: &CertificateName, agent: &AgentName) {
        take(&mut self.naming, agent, name);
    }

    /// An agent no longer holds a certificate of this specification.
    pub(in crate::state) fn release(&mut self, name: &CertificateName, spec: &CertificateSpec, agent: &AgentName) {
        if spec.targets.iter().any(|target| target.holder == Holder::Agent(agent.clone())) {
            put(&mut self.naming, agent, name.clone());
        }
    }

    /// It no longer has it.
    pub(in crate::state) fn remove_certificate(&mut self, name: &CertificateName, spec: &CertificateSpec) {
        take(&mut self.by_issuer, &spec.issuer, name);
        for target in &spec.targets {
            match &target.holder {
                Holder::Agent(agent) => take(&mut self.naming, agent, name),
                Holder::Selector(labels) => {
                    if let Some(label) = first_label(labels) {
                        take(&mut self.selecting, &label, name);
                    }
                }
            }
        }
    }

    /// An agent carries these labels.
    pub(in crate::state) fn add_agent(&mut self, agent: &AgentName, labels: &Labels) {
        for (key, value) in labels {
            put(&mut self.agents, &(key.clone(), value.clone()), agent.clone());
        }
    }

    /// It no longer carries them.
    pub(in crate::state) fn remove_agent(&mut self, agent: &AgentName, labels: &Labels) {
        for (key, value) in labels {
            take(&mut self.agents, &(key.clone(), value.clone()), agent);
        }
    }

    /// Certificates with a target that names this agent, without those that it holds.
    pub(in crate::state) fn naming(&self, agent: &AgentName) -> impl Iterator<Item = &CertificateName> {
        self.naming.get(agent).into_iter().flatten()
    }

    /// Certificates with a selector that may select these labels; its labels but the first are not looked at.
    pub(in crate::state) fn selecting(&self, labels: &Labels) -> impl Iterator<Item = &CertificateName> {
        let sets = labels.iter().filter_map(|(key, value)| self.selecting.get(&(key.clone(), value.clone())));
        sets.flatten()
    }

    /// Agents that may carry all these labels: those that carry the rarest of them.
    pub(in crate::state) fn may_carry(&self, labels: &Labels) -> Option<&BTreeSet<AgentName>> {
        let mut rarest: Option<&BTreeSet<AgentName>> = None;
        for (key, value) in labels {
            let agents = self.agents.get(&(key.clone(), value.clone()))?;
            if rarest.is_none_or(|rarest| agents.len() < rarest.len()) {
                rarest = Some(agents);
            }
        }
        rarest
    }
}
