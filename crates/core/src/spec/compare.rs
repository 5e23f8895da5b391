//! What a change of a specification means, and who holds its targets.
//!
//! It refuses to know agents that exist; it is asked about one agent's name and labels at a time.

use std::collections::BTreeSet;

use super::{CertificateSpec, Holder, KeyAlgorithm, Labels, Target, Usage};
use crate::ids::AgentName;

impl CertificateSpec {
    /// Whether a certificate issued under `other` says all that this specification wants it to say: the fields that
    /// cert-manager compares with the request, in any order, and the key's algorithm. Targets, labels, renewal times and
    /// the key file's encoding may differ.
    pub fn asks_the_same(&self, other: &Self) -> bool {
        self.common_name == other.common_name
            && same_members(&self.dns_names, &other.dns_names)
            && same_members(&self.ip_addresses, &other.ip_addresses)
            && same_members(&self.uris, &other.uris)
            && same_members(&self.email_addresses, &other.email_addresses)
            && self.subject == other.subject
            && self.effective_duration() == other.effective_duration()
            && same_members(&self.effective_usages(), &other.effective_usages())
            && self.is_ca == other.is_ca
            && self.private_key.algorithm == other.private_key.algorithm
            && self.issuer == other.issuer
    }

    /// The lifetime wanted: 90 days when the specification does not say.
    pub fn effective_duration(&self) -> std::time::Duration {
        self.duration.unwrap_or(crate::limits::DURATION_DEFAULT)
    }

    /// The usages wanted: digital signature and key encipherment when the specification does not say, as in
    /// cert-manager; a CA certificate also signs certificates.
    pub fn effective_usages(&self) -> Vec<Usage> {
        let mut usages = self.usages.clone();
        if usages.is_empty() {
            usages.extend([Usage::DigitalSignature, Usage::KeyEncipherment]);
        }
        if self.is_ca && !usages.contains(&Usage::CertSign) {
            usages.push(Usage::CertSign);
        }
        usages
    }

    /// Who holds each target, in their order.
    pub fn holders(&self) -> impl Iterator<Item = &Holder> {
        self.targets.iter().map(|target| &target.holder)
    }

    /// Whether an agent of this name, carrying these labels, holds at least one of the targets.
    pub fn is_held_by(&self, agent: &AgentName, labels: &Labels) -> bool {
        self.targets.iter().any(|target| target.holder.matches(agent, labels))
    }

    /// The targets that an agent of this name, carrying these labels, holds.
    pub fn targets_of<'a>(&'a self, agent: &'a AgentName, labels: &'a Labels) -> impl Iterator<Item = &'a Target> {
        self.targets.iter().filter(move |target| target.holder.matches(agent, labels))
    }
}

impl Holder {
    /// Whether an agent of this name, carrying these labels, is meant.
    pub fn matches(&self, agent: &AgentName, labels: &Labels) -> bool {
        match self {
            Self::Agent(name) => name == agent,
            // An empty selector selects nothing: validation refuses it, and a stored one must not fan out.
            Self::Selector(wanted) => {
                !wanted.is_empty() && wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
            }
        }
    }
}

impl KeyAlgorithm {
    /// Every algorithm, in the order of its discriminants.
    pub const ALL: &'static [Self] =
        &[Self::Rsa2048, Self::Rsa3072, Self::Rsa4096, Self::EcdsaP256, Self::EcdsaP384, Self::Ed25519];
}

fn same_members<T: Ord>(left: &[T], right: &[T]) -> bool {
    left.iter().collect::<BTreeSet<_>>() == right.iter().collect::<BTreeSet<_>>()
}

#[cfg(test)]
mod tests;
