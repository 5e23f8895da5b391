//! What events are made of, to and from the stored form: nodes, identities, grants, sealed keys, deliveries, issues.
//!
//! It refuses enums that are absent or unknown.

use certwright_core::event::{
    Delivered, EpochCause, EpochOpened, HistoryTrimmed, Identity, Issued, NodeRecord, SealedKey, SignedCheckpoint,
    Stage, TokenGrant, Trigger,
};
use certwright_core::ids::{AgentName, AuthorityName, IssuerName, NodeName, TargetName};
use certwright_core::log::CodecError;

use crate::storage::v1;
use crate::storage::wire::{broken, fixed, instance, map, moment, name, need, octets, pairs, serial};

impl From<&NodeRecord> for v1::NodeRecord {
    fn from(node: &NodeRecord) -> Self {
        Self {
            id: node.id,
            name: node.name.to_string(),
            raft_address: node.raft_address.clone(),
            api_address: node.api_address.clone(),
            http_address: node.http_address.clone(),
            spki_hash: octets(&node.spki_hash),
            hpke_public: octets(&node.hpke_public),
        }
    }
}

impl TryFrom<v1::NodeRecord> for NodeRecord {
    type Error = CodecError;

    fn try_from(node: v1::NodeRecord) -> Result<Self, CodecError> {
        Ok(Self {
            id: node.id,
            name: name("node", NodeName::parse(&node.name))?,
            spki_hash: fixed("key hash", &node.spki_hash)?,
            hpke_public: node.hpke_public.to_vec(),
            raft_address: node.raft_address,
            api_address: node.api_address,
            http_address: node.http_address,
        })
    }
}

impl From<&HistoryTrimmed> for v1::HistoryTrimmed {
    fn from(trimmed: &HistoryTrimmed) -> Self {
        Self {
            first_index: trimmed.first_index,
            chain: octets(&trimmed.chain),
            digest: octets(&trimmed.digest),
            digest_version: trimmed.digest_version,
            last_at_millis: trimmed.last_at.millis(),
            last_not_after_millis: trimmed.last_not_after.millis(),
        }
    }
}

impl TryFrom<v1::HistoryTrimmed> for HistoryTrimmed {
    type Error = CodecError;

    fn try_from(trimmed: v1::HistoryTrimmed) -> Result<Self, CodecError> {
        Ok(Self {
            first_index: trimmed.first_index,
            chain: fixed("chain", &trimmed.chain)?,
            digest: fixed("digest", &trimmed.digest)?,
            digest_version: trimmed.digest_version,
            last_at: moment(trimmed.last_at_millis),
            last_not_after: moment(trimmed.last_not_after_millis),
        })
    }
}

impl From<&EpochOpened> for v1::EpochOpened {
    fn from(opened: &EpochOpened) -> Self {
        let cause = match opened.cause {
            EpochCause::Restored => v1::EpochCause::Restored,
            EpochCause::QuorumLost => v1::EpochCause::QuorumLost,
        };
        Self {
            epoch: opened.epoch,
            cause: cause.into(),
            after_index: opened.after_index,
            after_chain: octets(&opened.after_chain),
            after_millis: opened.after.millis(),
            at_millis: opened.at.millis(),
        }
    }
}

impl TryFrom<v1::EpochOpened> for EpochOpened {
    type Error = CodecError;

    fn try_from(opened: v1::EpochOpened) -> Result<Self, CodecError> {
        let cause = match opened.cause() {
            v1::EpochCause::Restored => EpochCause::Restored,
            v1::EpochCause::QuorumLost => EpochCause::QuorumLost,
            v1::EpochCause::Unspecified => return Err(broken("cause of an epoch", "absent or unknown")),
        };
        Ok(Self {
            epoch: opened.epoch,
            cause,
            after_index: opened.after_index,
            after_chain: fixed("chain", &opened.after_chain)?,
            after: moment(opened.after_millis),
            at: moment(opened.at_millis),
        })
    }
}

impl From<&SignedCheckpoint> for v1::SignedCheckpoint {
    fn from(signed: &SignedCheckpoint) -> Self {
        Self {
            epoch: signed.epoch,
            index: signed.index,
            chain: octets(&signed.chain),
            at_millis: signed.at.millis(),
            signature: octets(&signed.signature),
        }
    }
}

impl TryFrom<v1::SignedCheckpoint> for SignedCheckpoint {
    type Error = CodecError;

    fn try_from(signed: v1::SignedCheckpoint) -> Result<Self, CodecError> {
        Ok(Self {
            epoch: signed.epoch,
            index: signed.index,
            chain: fixed("chain", &signed.chain)?,
            at: moment(signed.at_millis),
            signature: fixed("signature", &signed.signature)?,
        })
    }
}

impl From<&Identity> for v1::Identity {
    fn from(identity: &Identity) -> Self {
        Self {
            serial: octets(identity.serial.octets()),
            spki_hash: octets(&identity.spki_hash),
            not_before_millis: identity.not_before.millis(),
            not_after_millis: identity.not_after.millis(),
            certificate: octets(&identity.certificate),
        }
    }
}

impl TryFrom<v1::Identity> for Identity {
    type Error = CodecError;

    fn try_from(identity: v1::Identity) -> Result<Self, CodecError> {
        Ok(Self {
            serial: serial("serial", &identity.serial)?,
            spki_hash: fixed("key hash", &identity.spki_hash)?,
            not_before: moment(identity.not_before_millis),
            not_after: moment(identity.not_after_millis),
            certificate: identity.certificate[..].into(),
        })
    }
}

impl From<&TokenGrant> for v1::TokenGrant {
    fn from(grant: &TokenGrant) -> Self {
        use v1::token_grant::Kind;
        Self {
            kind: Some(match grant {
                TokenGrant::Node => Kind::Node(v1::NodeGrant { learner: false }),
                TokenGrant::Learner => Kind::Node(v1::NodeGrant { learner: true }),
                TokenGrant::Agent { name, labels } => {
                    Kind::Agent(v1::AgentGrant { name: name.as_ref().map(ToString::to_string), labels: pairs(labels) })
                }
            }),
        }
    }
}

impl TryFrom<v1::TokenGrant> for TokenGrant {
    type Error = CodecError;

    fn try_from(grant: v1::TokenGrant) -> Result<Self, CodecError> {
        use v1::token_grant::Kind;
        Ok(match need("grant's kind", grant.kind)? {
            Kind::Node(v1::NodeGrant { learner: false }) => Self::Node,
            Kind::Node(v1::NodeGrant { learner: true }) => Self::Learner,
            Kind::Agent(grant) => Self::Agent {
                name: grant.name.map(|agent| name("agent", AgentName::parse(&agent))).transpose()?,
                labels: map("labels", grant.labels)?,
            },
        })
    }
}

impl From<&SealedKey> for v1::SealedKey {
    fn from(key: &SealedKey) -> Self {
        Self { data_key_id: key.data_key_id, sealed: octets(&key.sealed) }
    }
}

impl From<v1::SealedKey> for SealedKey {
    fn from(key: v1::SealedKey) -> Self {
        Self { data_key_id: key.data_key_id, sealed: key.sealed.to_vec() }
    }
}

impl From<Trigger> for v1::Trigger {
    fn from(trigger: Trigger) -> Self {
        match trigger {
            Trigger::First => Self::First,
            Trigger::Due => Self::Due,
            Trigger::Requested => Self::Requested,
            Trigger::SpecChanged => Self::SpecChanged,
            Trigger::Restored => Self::Restored,
            Trigger::Direct => Self::Direct,
        }
    }
}

impl TryFrom<v1::Trigger> for Trigger {
    type Error = CodecError;

    fn try_from(trigger: v1::Trigger) -> Result<Self, CodecError> {
        Ok(match trigger {
            v1::Trigger::First => Self::First,
            v1::Trigger::Due => Self::Due,
            v1::Trigger::Requested => Self::Requested,
            v1::Trigger::SpecChanged => Self::SpecChanged,
            v1::Trigger::Restored => Self::Restored,
            v1::Trigger::Direct => Self::Direct,
            v1::Trigger::Unspecified => return Err(broken("trigger", "unknown")),
        })
    }
}

impl From<Stage> for v1::Stage {
    fn from(stage: Stage) -> Self {
        match stage {
            Stage::Received => Self::Received,
            Stage::Verified => Self::Verified,
            Stage::Written => Self::Written,
            Stage::Served => Self::Served,
        }
    }
}

impl TryFrom<v1::Stage> for Stage {
    type Error = CodecError;

    fn try_from(stage: v1::Stage) -> Result<Self, CodecError> {
        Ok(match stage {
            v1::Stage::Received => Self::Received,
            v1::Stage::Verified => Self::Verified,
            v1::Stage::Written => Self::Written,
            v1::Stage::Served => Self::Served,
            v1::Stage::Unspecified => return Err(broken("stage", "unknown")),
        })
    }
}

/// A failure's reason and message.
pub(in crate::storage) fn encode_failure(failure: &(String, String)) -> v1::Failure {
    v1::Failure { reason: failure.0.clone(), message: failure.1.clone() }
}

impl From<&Delivered> for v1::CertificateDelivered {
    fn from(delivered: &Delivered) -> Self {
        Self {
            instance: Some(delivered.instance.into()),
            generation: delivered.generation,
            target: delivered.target.as_ref().map(ToString::to_string),
            stage: v1::Stage::from(delivered.stage).into(),
            failure: delivered.failure.as_ref().map(encode_failure),
            elapsed: Some(delivered.elapsed.into()),
        }
    }
}

impl TryFrom<v1::CertificateDelivered> for Delivered {
    type Error = CodecError;

    fn try_from(delivered: v1::CertificateDelivered) -> Result<Self, CodecError> {
        Ok(Self {
            stage: delivered.stage().try_into()?,
            instance: instance(delivered.instance)?,
            generation: delivered.generation,
            target: delivered.target.map(|target| name("target", TargetName::parse(&target))).transpose()?,
            failure: delivered.failure.map(|failure| (failure.reason, failure.message)),
            elapsed: need("elapsed", delivered.elapsed)?.try_into()?,
        })
    }
}

impl From<&Issued> for v1::CertificateIssued {
    fn from(issued: &Issued) -> Self {
        Self {
            instance: issued.instance.map(Into::into),
            generation: issued.generation,
            serial: octets(issued.serial.octets()),
            issuer: issued.issuer.to_string(),
            authority: issued.authority.to_string(),
            authority_serial: octets(issued.authority_serial.octets()),
            not_before_millis: issued.not_before.millis(),
            not_after_millis: issued.not_after.millis(),
            renew_at_millis: issued.renew_at.map(|at| at.millis()),
            spki_hash: octets(&issued.spki_hash),
            certificate: octets(&issued.certificate),
        }
    }
}

impl TryFrom<v1::CertificateIssued> for Issued {
    type Error = CodecError;

    fn try_from(issued: v1::CertificateIssued) -> Result<Self, CodecError> {
        Ok(Self {
            instance: issued.instance.map(Into::into),
            generation: issued.generation,
            serial: serial("serial", &issued.serial)?,
            issuer: name("issuer", IssuerName::parse(&issued.issuer))?,
            authority: name("authority", AuthorityName::parse(&issued.authority))?,
            authority_serial: serial("authority's serial", &issued.authority_serial)?,
            not_before: moment(issued.not_before_millis),
            not_after: moment(issued.not_after_millis),
            renew_at: issued.renew_at_millis.map(moment),
            spki_hash: fixed("key hash", &issued.spki_hash)?,
            certificate: issued.certificate[..].into(),
        })
    }
}
