//! Cuts: the state without what is derived, to be stored, and the state rebuilt from that.
//!
//! It refuses tombstones: after a rebuild every agent's feed begins at the cut.

use super::indexes::{Facts, Gathered};
use super::{Agent, Authority, Certificate, Cluster, Indexes, Issuer, State, Token};
use crate::ids::{AgentName, AuthorityName, CertificateName, IssuerName, TokenId};
use crate::log::Position;
use crate::shard::Sharded;
use crate::spec::{Holder, References};

/// Everything of the state that is not derived; cheap to clone. Iterate the maps in key order to encode it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Cut {
    /// The cluster itself.
    pub cluster: Cluster,
    /// Certificates by name.
    pub certificates: Sharded<CertificateName, Certificate>,
    /// Agents by name.
    pub agents: Sharded<AgentName, Agent>,
    /// Issuers by name.
    pub issuers: Sharded<IssuerName, Issuer>,
    /// Authorities by name.
    pub authorities: Sharded<AuthorityName, Authority>,
    /// Join tokens by id.
    pub tokens: Sharded<TokenId, Token>,
    /// Position of the newest transaction folded; agents that resume from before it get their complete scope.
    pub applied: Position,
}

impl State {
    /// Rebuilds the state from a cut, indexes included.
    pub fn from_parts(cut: Cut) -> Self {
        let mut state = Self {
            cluster: cut.cluster,
            certificates: cut.certificates,
            agents: cut.agents,
            issuers: cut.issuers,
            authorities: cut.authorities,
            tokens: cut.tokens,
            indexes: Indexes { floor: cut.applied, built: cut.applied, ..Indexes::default() },
            applied: cut.applied,
        };
        state.rebuild();
        state
    }

    fn rebuild(&mut self) {
        for agent in self.agents.iter() {
            self.indexes.holders.add_agent(&agent.name, &agent.labels);
        }
        let mut gathered = Gathered::of(self.agents.iter().map(|agent| agent.name.clone()));
        let mut doubtful = Vec::new();
        for certificate in self.certificates.values_mut() {
            certificate.name = self.indexes.enter(&certificate.name);
            let name = &certificate.name;
            let mut known = 0;
            for instance in &mut certificate.instances {
                for delivery in &mut instance.deliveries {
                    delivery.target = delivery.target.take().map(|target| self.indexes.share_target(target));
                }
                let facts = Facts::of(instance, certificate.spec_revision);
                known += usize::from(gathered.add(name, &mut instance.agent, &facts));
            }
            let References { issuer, holders } = certificate.spec.references();
            let is_held_by = |agent: &AgentName| certificate.instance_of(agent).is_some();
            self.indexes.holders.add_certificate(name, &issuer, holders.iter(), is_held_by);
            // One target that names an agent, and exactly the instance that belongs to it: most are settled as plainly as
            // that, told without looking up selectors.
            let is_settled = match (&holders[..], &certificate.instances[..]) {
                ([Holder::Agent(agent)], [instance]) => known == 1 && instance.agent == *agent,
                ([Holder::Agent(agent)], []) => !self.agents.contains(agent),
                _ => false,
            };
            if !is_settled {
                doubtful.push(name.clone());
            }
        }
        self.indexes.fill(gathered);
        for name in doubtful {
            if let Some(spec) = self.certificates.get(&name).map(Certificate::spec) {
                self.settle_certificate(&name, &spec, None);
            }
        }
    }

    /// The state without what is derived.
    pub fn to_parts(&self) -> Cut {
        Cut {
            cluster: self.cluster.clone(),
            certificates: self.certificates.clone(),
            agents: self.agents.clone(),
            issuers: self.issuers.clone(),
            authorities: self.authorities.clone(),
            tokens: self.tokens.clone(),
            applied: self.applied,
        }
    }
}
