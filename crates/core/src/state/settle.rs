//! Which certificates and agents are not as the targets want them: an instance is missing, or in excess.
//!
//! It refuses to put anything right; that is a command, a few pairs at a time.

use std::collections::BTreeSet;

use super::State;
use super::indexes::scope::Scope;
use crate::ids::{AgentName, CertificateName};
use crate::limits;
use crate::spec::{CertificateSpec, Labels};

impl State {
    /// Looks again at one pair.
    pub(super) fn settle(&mut self, name: &CertificateName, spec: &CertificateSpec, agent: &AgentName) {
        let wanted = self.agents.get(agent).is_some_and(|agent| spec.is_held_by(&agent.name, &agent.labels));
        let (held, full) = self.certificates.get(name).map_or((false, true), |certificate| {
            (certificate.instance_of(agent).is_some(), certificate.instances.len() >= limits::INSTANCES_MAX)
        });
        let pair = (name.clone(), agent.clone());
        if held && !wanted || wanted && !held && !full {
            self.indexes.holders.unsettled.insert(pair);
        } else {
            self.indexes.holders.unsettled.remove(&pair);
        }
    }

    /// Looks again at every agent that holds the certificate, or should by its specification, or should have by the one
    /// before.
    pub(super) fn settle_certificate(
        &mut self,
        name: &CertificateName,
        spec: &CertificateSpec,
        before: Option<&CertificateSpec>,
    ) {
        let Some(certificate) = self.certificates.get(name) else {
            return;
        };
        let mut agents = self.holders_of(spec);
        agents.extend(before.into_iter().flat_map(|before| self.holders_of(before)));
        agents.extend(certificate.instances.iter().map(|instance| instance.agent.clone()));
        for agent in &agents {
            self.settle(name, spec, agent);
        }
    }

    /// Looks again at every certificate that may want the agent since it came, went or changed its labels, or that it
    /// holds although it went.
    pub(super) fn settle_agent(&mut self, agent: &AgentName, before: Option<&Labels>, after: Option<&Labels>) {
        for name in self.concerned(agent, before, after) {
            if let Some(certificate) = self.certificates.get(&name) {
                let spec = certificate.spec();
                self.settle(&name, &spec, agent);
            }
        }
    }

    /// The certificates whose instance for an agent may have to come or go when its labels change from `before` to
    /// `after`; `None` where it is not registered. Those that name it are concerned only when it comes or goes.
    pub(crate) fn concerned(
        &self,
        agent: &AgentName,
        before: Option<&Labels>,
        after: Option<&Labels>,
    ) -> BTreeSet<CertificateName> {
        let holders = &self.indexes.holders;
        let mut names: BTreeSet<CertificateName> =
            before.into_iter().chain(after).flat_map(|l| holders.selecting(l)).cloned().collect();
        if before.is_none() || after.is_none() {
            names.extend(holders.naming(agent).cloned());
            names.extend(self.indexes.scopes.get(agent).into_iter().flat_map(Scope::names).cloned());
        }
        names
    }
}
