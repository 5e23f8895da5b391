//! Folding the events of tokens, agents, authorities and issuers.
//!
//! It refuses to touch certificates, but for one thing: an agent that comes back with another key has lost its keys.

use crate::event::Event;
use crate::ids::{AgentName, AuthorityName, IssuerName, TokenId, Uid};
use crate::limits;
use crate::log::Applied;
use crate::mutant;
use crate::spec::Labels;
use crate::state::{Agent, Authority, Certified, Issuer, State, Token};
use crate::time::Timestamp;

use super::cluster::remembered;

impl State {
    pub(super) fn apply_token(&mut self, applied: &Applied<'_>, id: &TokenId, event: &Event) {
        if let Event::TokenCreated { id, secret_hash, grant, expires_at } = event {
            self.forget_old_tokens(applied.at);
            self.tokens.insert(Token {
                uid: Uid::new(applied.position, self.cluster.epoch),
                revision: applied.revision.unwrap_or(1),
                id: id.clone(),
                secret_hash: *secret_hash,
                grant: grant.clone(),
                created_at: applied.at,
                expires_at: mutant::unsteady(*expires_at),
                consumed_by: None,
                revoked: false,
            });
            return;
        }
        let Some(token) = self.tokens.get_mut(id) else {
            return;
        };
        token.revision = applied.revision.unwrap_or(token.revision);
        match event {
            Event::TokenConsumed { spki_hash } => token.consumed_by = Some(*spki_hash),
            Event::TokenRevoked => token.revoked = true,
            _ => {}
        }
    }

    fn forget_old_tokens(&mut self, now: Timestamp) {
        let old = self.tokens.iter().filter(|token| token.expires_at.plus(limits::TOKEN_REMEMBERED) < now);
        let old: Vec<TokenId> = old.map(|token| token.id.clone()).collect();
        for id in &old {
            self.tokens.remove(id);
        }
    }

    pub(super) fn apply_agent(&mut self, applied: &Applied<'_>, name: &AgentName, event: &Event) {
        match event {
            Event::AgentRegistered { labels, spki_hash, .. } => self.register(applied, name, labels, spki_hash),
            Event::AgentLabelsChanged { labels } => {
                let Some(agent) = self.agents.get_mut(name) else {
                    return;
                };
                agent.revision = applied.revision.unwrap_or(agent.revision);
                let before = std::mem::replace(&mut agent.labels, labels.clone());
                self.relabel(name, Some(&before), Some(labels));
            }
            Event::AgentIdentityIssued { identity, readmitted } => {
                if let Some(agent) = self.agents.get_mut(name) {
                    agent.revision = applied.revision.unwrap_or(agent.revision);
                    if agent.spki_hash != identity.spki_hash {
                        agent.previous_spki_hash = Some(agent.spki_hash).filter(|_| !readmitted);
                        agent.spki_hash = identity.spki_hash;
                    }
                    agent.identity = Some(remembered(identity, applied.position));
                }
            }
            Event::AgentRemoved => {
                if let Some(agent) = self.agents.remove(name) {
                    self.relabel(name, Some(&agent.labels), None);
                    self.indexes.scope_mut(name).forget(applied.position);
                    self.indexes.forget_scope(name, applied.position);
                }
            }
            _ => {}
        }
    }

    fn register(&mut self, applied: &Applied<'_>, name: &AgentName, labels: &Labels, spki_hash: &[u8; 32]) {
        let before = self.agents.get(name).map(|agent| (agent.labels.clone(), agent.spki_hash));
        match self.agents.get_mut(name) {
            Some(agent) => {
                agent.revision = applied.revision.unwrap_or(agent.revision);
                agent.labels = labels.clone();
                if agent.spki_hash != *spki_hash {
                    // It joined again: whoever has the key before is not it.
                    agent.previous_spki_hash = None;
                }
                agent.spki_hash = *spki_hash;
            }
            None => {
                self.agents.insert(Agent {
                    uid: Uid::new(applied.position, self.cluster.epoch),
                    revision: applied.revision.unwrap_or(1),
                    name: name.clone(),
                    labels: labels.clone(),
                    registered_at: applied.at,
                    spki_hash: *spki_hash,
                    previous_spki_hash: None,
                    identity: None,
                });
            }
        }
        self.relabel(name, before.as_ref().map(|(labels, _)| labels), Some(labels));
        if before.is_some_and(|(_, hash)| hash != *spki_hash) {
            self.doubt_instances_of(name, applied.position);
        }
    }

    fn relabel(&mut self, name: &AgentName, before: Option<&Labels>, after: Option<&Labels>) {
        before.into_iter().for_each(|labels| self.indexes.holders.remove_agent(name, labels));
        after.into_iter().for_each(|labels| self.indexes.holders.add_agent(name, labels));
        self.settle_agent(name, before, after);
    }

    pub(super) fn apply_authority(&mut self, applied: &Applied<'_>, name: &AuthorityName, event: &Event) {
        if let Event::AuthorityDeclared { spec, public_key, sealed_key, .. } = event {
            self.authorities.insert(Authority {
                uid: Uid::new(applied.position, self.cluster.epoch),
                revision: applied.revision.unwrap_or(1),
                name: name.clone(),
                spec: spec.clone(),
                public_key: public_key.clone(),
                sealed_key: sealed_key.clone(),
                intended: None,
                certified: None,
            });
            return;
        }
        let Some(authority) = self.authorities.get_mut(name) else {
            return;
        };
        authority.revision = applied.revision.unwrap_or(authority.revision);
        match event {
            Event::AuthorityKeyResealed { sealed_key } => authority.sealed_key = sealed_key.clone(),
            Event::AuthorityCertificateIntended { serial, tbs_hash } => {
                authority.intended = Some((*serial, *tbs_hash));
            }
            Event::AuthorityCertified { serial, not_before, not_after, certificate } => {
                authority.intended = None;
                authority.certified = Some(Certified {
                    serial: *serial,
                    not_before: *not_before,
                    not_after: *not_after,
                    certificate: certificate.clone(),
                });
            }
            _ => {}
        }
    }

    pub(super) fn apply_issuer(&mut self, applied: &Applied<'_>, name: &IssuerName, event: &Event) {
        match event {
            Event::IssuerDeclared { spec, .. } => {
                self.issuers.insert(Issuer {
                    uid: Uid::new(applied.position, self.cluster.epoch),
                    revision: applied.revision.unwrap_or(1),
                    name: name.clone(),
                    spec: spec.clone(),
                    created_at: applied.at,
                });
            }
            Event::IssuerUpdated { spec } => {
                if let Some(issuer) = self.issuers.get_mut(name) {
                    issuer.revision = applied.revision.unwrap_or(issuer.revision);
                    issuer.spec = spec.clone();
                }
            }
            Event::IssuerDeleted => {
                self.issuers.remove(name);
            }
            _ => {}
        }
    }
}
