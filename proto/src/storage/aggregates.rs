//! The aggregates of live state, field by field, to and from their snapshot records.
//!
//! It refuses to derive anything: what is not a field of the aggregate is not stored.

use std::time::Duration;

use certwright_core::event::NodeRecord;
use certwright_core::ids::{
    AdministratorName, AgentName, AuthorityName, CertificateName, ClusterId, IssuerName, TargetName, TokenId, Uid,
};
use certwright_core::log::{CodecError, Position};
use certwright_core::spec::{CertificateSpec, PackedSpec};
use certwright_core::state::{
    Agent, Authority, Certificate, Certified, CheckpointKey, Checkpoints, Cluster, Delivery, Generated, IdentityState,
    Instance, Issuer, Node, Open, Rebase, RenewalHold, Retention, Setting, Token,
};

use super::event::encode_failure;
use super::v1;
use super::wire::{broken, fixed, instance, map, moment, name, need, octets, pairs, serial};

fn uid(what: &'static str, uid: Option<v1::Uid>) -> Result<Uid, CodecError> {
    need(what, uid).map(|uid| Uid(uid.into()))
}

fn position(what: &'static str, position: Option<v1::Uid>) -> Result<Position, CodecError> {
    need(what, position).map(Into::into)
}

pub(super) fn encode_cluster(cluster: &Cluster, applied: Position) -> v1::ClusterRecord {
    v1::ClusterRecord {
        revision: cluster.revision,
        id: cluster.id.map(|id| octets(&id.0)),
        epoch: cluster.epoch,
        last_node_id: cluster.last_node_id,
        data_key_id: cluster.data_key_id,
        applied: Some(applied.into()),
        checkpoints: (cluster.checkpoints != Checkpoints::default()).then(|| (&cluster.checkpoints).into()),
        hold: cluster.hold.map(|hold| v1::RenewalHold {
            since_millis: hold.since.millis(),
            ahead_millis: hold.ahead_millis,
            hour_millis: hold.hour.millis(),
            begun: hold.begun,
        }),
        released_millis: cluster.released_at.map(|at| at.millis()),
        epochs: cluster.epochs.iter().map(Into::into).collect(),
        rebases: cluster.rebases.iter().map(Into::into).collect(),
        keep_seconds: cluster.retention.keep.map_or(0, |keep| keep.as_secs()),
        trimmed: cluster.retention.trimmed.as_ref().map(Into::into),
        keep_since_millis: cluster.retention.since.map(|at| at.millis()),
        trimmed_under: cluster.retention.under.map(|under| v1::RetentionSetting {
            keep_seconds: under.keep.as_secs(),
            since_millis: under.since.millis(),
        }),
    }
}

impl From<&Rebase> for v1::Rebase {
    fn from(rebase: &Rebase) -> Self {
        Self { index: rebase.index, from_millis: rebase.from.millis(), to_millis: rebase.to.millis() }
    }
}

impl From<v1::Rebase> for Rebase {
    fn from(rebase: v1::Rebase) -> Self {
        Self { index: rebase.index, from: moment(rebase.from_millis), to: moment(rebase.to_millis) }
    }
}

impl From<&Checkpoints> for v1::CheckpointsRecord {
    fn from(checkpoints: &Checkpoints) -> Self {
        let key = checkpoints.key.as_ref().map(|key| v1::CheckpointKeyMade {
            public_key: octets(&key.public_key),
            sealed_key: Some((&key.sealed_key).into()),
        });
        let last = checkpoints.last.as_ref();
        Self {
            revision: checkpoints.revision,
            key,
            last: last.map(|(signed, _)| signed.into()),
            last_position: last.map(|(_, position)| (*position).into()),
        }
    }
}

impl TryFrom<v1::CheckpointsRecord> for Checkpoints {
    type Error = CodecError;

    fn try_from(record: v1::CheckpointsRecord) -> Result<Self, CodecError> {
        let key = |key: v1::CheckpointKeyMade| {
            Ok::<_, CodecError>(CheckpointKey {
                public_key: fixed("public key", &key.public_key)?,
                sealed_key: need("sealed key", key.sealed_key)?.into(),
            })
        };
        let last = match (record.last, record.last_position) {
            (None, None) => None,
            (Some(last), position) => Some((last.try_into()?, self::position("checkpoint's position", position)?)),
            (None, Some(_)) => return Err(broken("snapshot", "the position of a checkpoint without it")),
        };
        Ok(Self { revision: record.revision, key: record.key.map(key).transpose()?, last })
    }
}

/// The cluster without nodes and administrators, which have records of their own, and the newest position.
pub(super) fn decode_cluster(record: v1::ClusterRecord) -> Result<(Cluster, Position), CodecError> {
    let cluster = Cluster {
        revision: record.revision,
        id: record.id.map(|id| fixed("cluster id", &id).map(ClusterId)).transpose()?,
        epoch: record.epoch,
        last_node_id: record.last_node_id,
        data_key_id: record.data_key_id,
        epochs: record.epochs.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
        checkpoints: record.checkpoints.map(TryInto::try_into).transpose()?.unwrap_or_default(),
        hold: record.hold.map(|hold| RenewalHold {
            since: moment(hold.since_millis),
            ahead_millis: hold.ahead_millis,
            hour: moment(hold.hour_millis),
            begun: hold.begun,
        }),
        released_at: record.released_millis.map(moment),
        rebases: record.rebases.into_iter().map(Into::into).collect(),
        retention: Retention {
            keep: (record.keep_seconds > 0).then(|| Duration::from_secs(record.keep_seconds)),
            since: record.keep_since_millis.map(moment),
            trimmed: record.trimmed.map(TryInto::try_into).transpose()?,
            under: record.trimmed_under.map(|under| Setting {
                keep: Duration::from_secs(under.keep_seconds),
                since: moment(under.since_millis),
            }),
        },
        ..Cluster::default()
    };
    Ok((cluster, position("applied position", record.applied)?))
}

impl From<&Node> for v1::NodeState {
    fn from(node: &Node) -> Self {
        let wrapped = node.wrapped.iter();
        Self {
            record: Some((&node.record).into()),
            wrapped: wrapped
                .map(|(&data_key_id, wrapped)| v1::WrappedKey { data_key_id, wrapped: octets(wrapped) })
                .collect(),
            proved: node.proved,
            identity: node.identity.as_ref().map(Into::into),
            removed: node.removed,
            learner: node.learner,
        }
    }
}

pub(super) fn decode_node(node: v1::NodeState) -> Result<Node, CodecError> {
    Ok(Node {
        record: NodeRecord::try_from(need("node", node.record)?)?,
        wrapped: node.wrapped.into_iter().map(|key| (key.data_key_id, key.wrapped.to_vec())).collect(),
        proved: node.proved,
        identity: node.identity.map(IdentityState::try_from).transpose()?,
        removed: node.removed,
        learner: node.learner,
    })
}

pub(super) fn decode_administrator(
    record: v1::AdministratorRecord,
) -> Result<(AdministratorName, IdentityState), CodecError> {
    let identity = need("administrator's identity", record.identity)?;
    Ok((name("administrator", AdministratorName::parse(&record.name))?, identity.try_into()?))
}

impl From<&IdentityState> for v1::IdentityState {
    fn from(identity: &IdentityState) -> Self {
        Self {
            serial: octets(identity.serial.octets()),
            spki_hash: octets(&identity.spki_hash),
            not_after_millis: identity.not_after.millis(),
            position: Some(identity.position.into()),
        }
    }
}

impl TryFrom<v1::IdentityState> for IdentityState {
    type Error = CodecError;

    fn try_from(identity: v1::IdentityState) -> Result<Self, CodecError> {
        Ok(Self {
            serial: serial("serial", &identity.serial)?,
            spki_hash: fixed("key hash", &identity.spki_hash)?,
            not_after: moment(identity.not_after_millis),
            position: position("identity's position", identity.position)?,
        })
    }
}

impl From<&Token> for v1::TokenRecord {
    fn from(token: &Token) -> Self {
        Self {
            uid: Some(token.uid.0.into()),
            revision: token.revision,
            id: token.id.to_string(),
            secret_hash: octets(&token.secret_hash),
            grant: Some((&token.grant).into()),
            created_at_millis: token.created_at.millis(),
            expires_at_millis: token.expires_at.millis(),
            consumed_by: token.consumed_by.map(|hash| octets(&hash)),
            revoked: token.revoked,
        }
    }
}

impl TryFrom<v1::TokenRecord> for Token {
    type Error = CodecError;

    fn try_from(token: v1::TokenRecord) -> Result<Self, CodecError> {
        Ok(Self {
            uid: uid("token's uid", token.uid)?,
            revision: token.revision,
            id: name("token", TokenId::parse(&token.id))?,
            secret_hash: fixed("secret hash", &token.secret_hash)?,
            grant: need("grant", token.grant)?.try_into()?,
            created_at: moment(token.created_at_millis),
            expires_at: moment(token.expires_at_millis),
            consumed_by: token.consumed_by.map(|hash| fixed("key hash", &hash)).transpose()?,
            revoked: token.revoked,
        })
    }
}

impl From<&Agent> for v1::AgentRecord {
    fn from(agent: &Agent) -> Self {
        Self {
            uid: Some(agent.uid.0.into()),
            revision: agent.revision,
            name: agent.name.to_string(),
            labels: pairs(&agent.labels),
            registered_at_millis: agent.registered_at.millis(),
            spki_hash: octets(&agent.spki_hash),
            identity: agent.identity.as_ref().map(Into::into),
            previous_spki_hash: agent.previous_spki_hash.as_ref().map(|hash| octets(hash)).unwrap_or_default(),
        }
    }
}

impl TryFrom<v1::AgentRecord> for Agent {
    type Error = CodecError;

    fn try_from(agent: v1::AgentRecord) -> Result<Self, CodecError> {
        Ok(Self {
            uid: uid("agent's uid", agent.uid)?,
            revision: agent.revision,
            name: name("agent", AgentName::parse(&agent.name))?,
            labels: map("labels", agent.labels)?,
            registered_at: moment(agent.registered_at_millis),
            spki_hash: fixed("key hash", &agent.spki_hash)?,
            identity: agent.identity.map(IdentityState::try_from).transpose()?,
            previous_spki_hash: match &*agent.previous_spki_hash {
                [] => None,
                hash => Some(fixed("key hash", hash)?),
            },
        })
    }
}

impl From<&Issuer> for v1::IssuerRecord {
    fn from(issuer: &Issuer) -> Self {
        Self {
            uid: Some(issuer.uid.0.into()),
            revision: issuer.revision,
            name: issuer.name.to_string(),
            spec: Some((&issuer.spec).into()),
            created_at_millis: issuer.created_at.millis(),
        }
    }
}

impl TryFrom<v1::IssuerRecord> for Issuer {
    type Error = CodecError;

    fn try_from(issuer: v1::IssuerRecord) -> Result<Self, CodecError> {
        Ok(Self {
            uid: uid("issuer's uid", issuer.uid)?,
            revision: issuer.revision,
            name: name("issuer", IssuerName::parse(&issuer.name))?,
            spec: need("issuer's specification", issuer.spec)?.try_into()?,
            created_at: moment(issuer.created_at_millis),
        })
    }
}

impl From<&Authority> for v1::AuthorityRecord {
    fn from(authority: &Authority) -> Self {
        Self {
            uid: Some(authority.uid.0.into()),
            revision: authority.revision,
            name: authority.name.to_string(),
            spec: Some((&authority.spec).into()),
            public_key: octets(&authority.public_key),
            sealed_key: Some((&authority.sealed_key).into()),
            intended: authority.intended.as_ref().map(|(serial, hash)| v1::AuthorityCertificateIntended {
                serial: octets(serial.octets()),
                tbs_hash: octets(hash),
            }),
            certified: authority.certified.as_ref().map(|certified| v1::AuthorityCertified {
                serial: octets(certified.serial.octets()),
                not_before_millis: certified.not_before.millis(),
                not_after_millis: certified.not_after.millis(),
                certificate: octets(&certified.certificate),
            }),
        }
    }
}

impl TryFrom<v1::AuthorityRecord> for Authority {
    type Error = CodecError;

    fn try_from(authority: v1::AuthorityRecord) -> Result<Self, CodecError> {
        let intended = |intended: v1::AuthorityCertificateIntended| {
            Ok((serial("serial", &intended.serial)?, fixed("to-be-signed hash", &intended.tbs_hash)?))
        };
        let certified = |certified: v1::AuthorityCertified| {
            Ok(Certified {
                serial: serial("serial", &certified.serial)?,
                not_before: moment(certified.not_before_millis),
                not_after: moment(certified.not_after_millis),
                certificate: certified.certificate[..].into(),
            })
        };
        Ok(Self {
            uid: uid("authority's uid", authority.uid)?,
            revision: authority.revision,
            name: name("authority", AuthorityName::parse(&authority.name))?,
            spec: need("authority's specification", authority.spec)?.try_into()?,
            public_key: authority.public_key.to_vec(),
            sealed_key: need("sealed key", authority.sealed_key)?.into(),
            intended: authority.intended.map(intended).transpose()?,
            certified: authority.certified.map(certified).transpose()?,
        })
    }
}

impl From<&Certificate> for v1::CertificateRecord {
    /// The certificate without its instances, which have records of their own.
    fn from(certificate: &Certificate) -> Self {
        Self {
            uid: Some(certificate.uid.0.into()),
            revision: certificate.revision,
            namespace: certificate.name.namespace.to_string(),
            name: certificate.name.name.to_string(),
            spec: Some((&certificate.spec()).into()),
            spec_revision: certificate.spec_revision,
            created_at_millis: certificate.created_at.millis(),
            updated_at_millis: certificate.updated_at.millis(),
            next_instance: certificate.next_instance,
            instances: certificate.instances.len() as u32,
        }
    }
}

impl TryFrom<v1::CertificateRecord> for Certificate {
    type Error = CodecError;

    fn try_from(certificate: v1::CertificateRecord) -> Result<Self, CodecError> {
        let spec = CertificateSpec::try_from(need("specification", certificate.spec)?)?;
        Ok(Self {
            uid: uid("certificate's uid", certificate.uid)?,
            revision: certificate.revision,
            name: name("certificate", CertificateName::parse(&certificate.namespace, &certificate.name))?,
            spec: PackedSpec::pack(&spec),
            spec_revision: certificate.spec_revision,
            created_at: moment(certificate.created_at_millis),
            updated_at: moment(certificate.updated_at_millis),
            next_instance: certificate.next_instance,
            instances: Vec::new(),
        })
    }
}

impl From<&Instance> for v1::InstanceRecord {
    fn from(instance: &Instance) -> Self {
        let last_failure = instance.last_failure.as_deref();
        Self {
            id: Some(instance.id.into()),
            agent: instance.agent.to_string(),
            changed: Some(instance.changed.into()),
            current: instance.current.as_ref().map(Into::into),
            open: instance.open.as_ref().map(|open| v1::Open {
                generation: open.generation,
                opened_at_millis: open.opened_at.millis(),
                trigger: v1::Trigger::from(open.trigger).into(),
            }),
            failures: instance.failures,
            last_failure: last_failure.map(|(reason, message, at)| v1::LastFailure {
                reason: reason.clone(),
                message: message.clone(),
                at_millis: at.millis(),
            }),
            retry_at_millis: instance.retry_at.map(|at| at.millis()),
            deliveries: instance.deliveries.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<v1::InstanceRecord> for Instance {
    type Error = CodecError;

    fn try_from(record: v1::InstanceRecord) -> Result<Self, CodecError> {
        let open = |open: v1::Open| {
            Ok(Open {
                generation: open.generation,
                opened_at: moment(open.opened_at_millis),
                trigger: open.trigger().try_into()?,
            })
        };
        // As many places as there are deliveries: collected results leave some over.
        let mut deliveries = Vec::with_capacity(record.deliveries.len());
        for delivery in record.deliveries {
            deliveries.push(delivery.try_into()?);
        }
        Ok(Self {
            id: instance(record.id)?,
            agent: name("agent", AgentName::parse(&record.agent))?,
            changed: position("instance's position", record.changed)?,
            current: record.current.map(Generated::try_from).transpose()?,
            open: record.open.map(open).transpose()?,
            failures: record.failures,
            last_failure: record
                .last_failure
                .map(|failure| Box::new((failure.reason, failure.message, moment(failure.at_millis)))),
            retry_at: record.retry_at_millis.map(moment),
            deliveries,
        })
    }
}

impl From<&Generated> for v1::Generated {
    fn from(generated: &Generated) -> Self {
        Self {
            generation: generated.generation,
            serial: octets(generated.serial.octets()),
            spki_hash: octets(&generated.spki_hash),
            not_before_millis: generated.not_before.millis(),
            not_after_millis: generated.not_after.millis(),
            renew_at_millis: generated.renew_at.millis(),
            spec_revision: generated.spec_revision,
            position: Some(generated.position.into()),
        }
    }
}

impl TryFrom<v1::Generated> for Generated {
    type Error = CodecError;

    fn try_from(generated: v1::Generated) -> Result<Self, CodecError> {
        Ok(Self {
            generation: generated.generation,
            serial: serial("serial", &generated.serial)?,
            spki_hash: fixed("key hash", &generated.spki_hash)?,
            not_before: moment(generated.not_before_millis),
            not_after: moment(generated.not_after_millis),
            renew_at: moment(generated.renew_at_millis),
            spec_revision: generated.spec_revision,
            position: position("generation's position", generated.position)?,
        })
    }
}

impl From<&Delivery> for v1::Delivery {
    fn from(delivery: &Delivery) -> Self {
        Self {
            target: delivery.target.as_ref().map(ToString::to_string),
            generation: delivery.generation,
            stage: v1::Stage::from(delivery.stage).into(),
            failure: delivery.failure.as_deref().map(encode_failure),
            at_millis: delivery.at.millis(),
        }
    }
}

impl TryFrom<v1::Delivery> for Delivery {
    type Error = CodecError;

    fn try_from(delivery: v1::Delivery) -> Result<Self, CodecError> {
        Ok(Self {
            stage: delivery.stage().try_into()?,
            target: delivery.target.map(|target| name("target", TargetName::parse(&target))).transpose()?,
            generation: delivery.generation,
            failure: delivery.failure.map(|failure| Box::new((failure.reason, failure.message))),
            at: moment(delivery.at_millis),
        })
    }
}
