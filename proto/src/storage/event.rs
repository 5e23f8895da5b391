//! Events to and from their stored form, variant by variant.
//!
//! It refuses an event without a kind: that is one that a newer build wrote.

mod parts;

use certwright_core::event::Identity;
use certwright_core::ids::{
    AdministratorName, AgentName, AuthorityName, CertificateName, ClusterId, IssuerName, TokenId,
};
use certwright_core::log::CodecError;
use certwright_core::{Event, Format};
use prost::Message;

pub(super) use parts::encode_failure;

use super::v1::{self, event::Kind};
use super::wire::{broken, fixed, instance, map, moment, name, need, octets, pairs, read_as, serial};

/// Encodes one event with its version.
pub(super) fn encode(event: &Event) -> Vec<u8> {
    v1::Event { version: event.format().0, kind: Some(encode_kind(event)) }.encode_to_vec()
}

/// Decodes one event.
pub(super) fn decode(bytes: &[u8]) -> Result<Event, CodecError> {
    let (event, format) = read_as("event", bytes, |event: &v1::Event| event.version)?;
    let event = decode_kind(need("event's kind", event.kind)?)?;
    if event.format() != format {
        return Err(broken("event", format!("{} does not belong to format {format}", event.kind())));
    }
    Ok(event)
}

fn encode_kind(event: &Event) -> Kind {
    match event {
        Event::ClusterBootstrapped { .. }
        | Event::EpochOpened(_)
        | Event::NodeJoined(_)
        | Event::DataKeyWrapped { .. }
        | Event::DataKeyProved { .. }
        | Event::NodeRemoved { .. }
        | Event::NodeRoleSet { .. }
        | Event::RenewalsHeld { .. }
        | Event::RenewalsReleased
        | Event::TimeRebased { .. }
        | Event::FormatRaised { .. }
        | Event::RetentionSet { .. }
        | Event::HistoryTrimmed(_)
        | Event::DataKeyRotated { .. }
        | Event::DataKeyRetired { .. }
        | Event::NodeIdentityIssued { .. }
        | Event::AdministratorIdentityIssued { .. } => encode_cluster(event),
        Event::CheckpointKeyMade { public_key, sealed_key } => Kind::CheckpointKeyMade(v1::CheckpointKeyMade {
            public_key: octets(public_key),
            sealed_key: Some(sealed_key.into()),
        }),
        Event::CheckpointKeyResealed { sealed_key } => {
            Kind::CheckpointKeyResealed(v1::CheckpointKeyResealed { sealed_key: Some(sealed_key.into()) })
        }
        Event::CheckpointSigned(signed) => Kind::CheckpointSigned((&**signed).into()),
        Event::TokenCreated { .. }
        | Event::TokenConsumed { .. }
        | Event::TokenRevoked
        | Event::AgentRegistered { .. }
        | Event::AgentLabelsChanged { .. }
        | Event::AgentIdentityIssued { .. }
        | Event::AgentRemoved => encode_joining(event),
        Event::AuthorityDeclared { .. }
        | Event::AuthorityKeyResealed { .. }
        | Event::AuthorityCertificateIntended { .. }
        | Event::AuthorityCertified { .. }
        | Event::IssuerDeclared { .. }
        | Event::IssuerUpdated { .. }
        | Event::IssuerDeleted => encode_issuing(event),
        Event::CertificateDeclared { .. }
        | Event::CertificateUpdated { .. }
        | Event::CertificateDeleted
        | Event::InstanceAdded { .. }
        | Event::InstanceRemoved { .. }
        | Event::IssuanceOpened { .. }
        | Event::IssuanceFailed { .. }
        | Event::IssuanceAbandoned { .. }
        | Event::CertificateDelivered(_)
        | Event::CertificateIssued(_) => encode_certificate(event),
    }
}

fn encode_cluster(event: &Event) -> Kind {
    match event {
        Event::ClusterBootstrapped { cluster_id, epoch } => {
            Kind::ClusterBootstrapped(v1::ClusterBootstrapped { cluster_id: octets(&cluster_id.0), epoch: *epoch })
        }
        Event::EpochOpened(opened) => Kind::EpochOpened((&**opened).into()),
        Event::NodeJoined(node) => Kind::NodeJoined((&**node).into()),
        Event::DataKeyWrapped { node_id, data_key_id, wrapped } => Kind::DataKeyWrapped(v1::DataKeyWrapped {
            node_id: *node_id,
            data_key_id: *data_key_id,
            wrapped: octets(wrapped),
        }),
        Event::DataKeyProved { node_id, data_key_id } => {
            Kind::DataKeyProved(v1::DataKeyProved { node_id: *node_id, data_key_id: *data_key_id })
        }
        Event::NodeRemoved { node_id } => Kind::NodeRemoved(v1::NodeRemoved { node_id: *node_id }),
        Event::NodeRoleSet { node_id, learner } => {
            Kind::NodeRoleSet(v1::NodeRoleSet { node_id: *node_id, learner: *learner })
        }
        Event::RenewalsHeld { ahead_millis } => Kind::RenewalsHeld(v1::RenewalsHeld { ahead_millis: *ahead_millis }),
        Event::RenewalsReleased => Kind::RenewalsReleased(v1::RenewalsReleased {}),
        Event::TimeRebased { from, to } => {
            Kind::TimeRebased(v1::TimeRebased { from_millis: from.millis(), to_millis: to.millis() })
        }
        Event::FormatRaised { format } => Kind::FormatRaised(v1::FormatRaised { format: format.0 }),
        Event::RetentionSet { keep_seconds } => Kind::RetentionSet(v1::RetentionSet { keep_seconds: *keep_seconds }),
        Event::HistoryTrimmed(trimmed) => Kind::HistoryTrimmed((&**trimmed).into()),
        Event::DataKeyRotated { data_key_id, wrapped } => Kind::DataKeyRotated(v1::DataKeyRotated {
            data_key_id: *data_key_id,
            wrapped: wrapped.iter().map(|(id, key)| v1::NodeKey { node_id: *id, wrapped: octets(key) }).collect(),
        }),
        Event::DataKeyRetired { data_key_id } => Kind::DataKeyRetired(v1::DataKeyRetired { data_key_id: *data_key_id }),
        Event::NodeIdentityIssued { node_id, identity } => {
            Kind::NodeIdentityIssued(v1::NodeIdentityIssued { node_id: *node_id, identity: Some(identity.into()) })
        }
        Event::AdministratorIdentityIssued { name, identity } => {
            Kind::AdministratorIdentityIssued(v1::AdministratorIdentityIssued {
                name: name.to_string(),
                identity: Some(identity.into()),
            })
        }
        _ => unreachable!("encode_kind sends only events of the cluster here"),
    }
}

fn encode_joining(event: &Event) -> Kind {
    match event {
        Event::TokenCreated { id, secret_hash, grant, expires_at } => Kind::TokenCreated(v1::TokenCreated {
            id: id.to_string(),
            secret_hash: octets(secret_hash),
            grant: Some(grant.into()),
            expires_at_millis: expires_at.millis(),
        }),
        Event::TokenConsumed { spki_hash } => Kind::TokenConsumed(v1::TokenConsumed { spki_hash: octets(spki_hash) }),
        Event::TokenRevoked => Kind::TokenRevoked(v1::TokenRevoked {}),
        Event::AgentRegistered { name, labels, spki_hash } => Kind::AgentRegistered(v1::AgentRegistered {
            name: name.to_string(),
            labels: pairs(labels),
            spki_hash: octets(spki_hash),
        }),
        Event::AgentLabelsChanged { labels } => {
            Kind::AgentLabelsChanged(v1::AgentLabelsChanged { labels: pairs(labels) })
        }
        Event::AgentIdentityIssued { identity, readmitted } => {
            let (identity, readmitted) = (Some(identity.into()), *readmitted);
            Kind::AgentIdentityIssued(v1::AgentIdentityIssued { identity, readmitted })
        }
        Event::AgentRemoved => Kind::AgentRemoved(v1::AgentRemoved {}),
        _ => unreachable!("encode_kind sends only events of tokens and agents here"),
    }
}

fn encode_issuing(event: &Event) -> Kind {
    match event {
        Event::AuthorityDeclared { name, spec, public_key, sealed_key } => {
            Kind::AuthorityDeclared(v1::AuthorityDeclared {
                name: name.to_string(),
                spec: Some(spec.into()),
                public_key: octets(public_key),
                sealed_key: Some(sealed_key.into()),
            })
        }
        Event::AuthorityKeyResealed { sealed_key } => {
            Kind::AuthorityKeyResealed(v1::AuthorityKeyResealed { sealed_key: Some(sealed_key.into()) })
        }
        Event::AuthorityCertificateIntended { serial, tbs_hash } => {
            Kind::AuthorityCertificateIntended(v1::AuthorityCertificateIntended {
                serial: octets(serial.octets()),
                tbs_hash: octets(tbs_hash),
            })
        }
        Event::AuthorityCertified { serial, not_before, not_after, certificate } => {
            Kind::AuthorityCertified(v1::AuthorityCertified {
                serial: octets(serial.octets()),
                not_before_millis: not_before.millis(),
                not_after_millis: not_after.millis(),
                certificate: octets(certificate),
            })
        }
        Event::IssuerDeclared { name, spec } => {
            Kind::IssuerDeclared(v1::IssuerDeclared { name: name.to_string(), spec: Some(spec.into()) })
        }
        Event::IssuerUpdated { spec } => Kind::IssuerUpdated(v1::IssuerUpdated { spec: Some(spec.into()) }),
        Event::IssuerDeleted => Kind::IssuerDeleted(v1::IssuerDeleted {}),
        _ => unreachable!("encode_kind sends only events of authorities and issuers here"),
    }
}

fn encode_certificate(event: &Event) -> Kind {
    match event {
        Event::CertificateDeclared { name, spec } => Kind::CertificateDeclared(v1::CertificateDeclared {
            namespace: name.namespace.to_string(),
            name: name.name.to_string(),
            spec: Some((&**spec).into()),
        }),
        Event::CertificateUpdated { spec } => {
            Kind::CertificateUpdated(v1::CertificateUpdated { spec: Some((&**spec).into()) })
        }
        Event::CertificateDeleted => Kind::CertificateDeleted(v1::CertificateDeleted {}),
        Event::InstanceAdded { instance, agent } => {
            Kind::InstanceAdded(v1::InstanceAdded { instance: Some((*instance).into()), agent: agent.to_string() })
        }
        Event::InstanceRemoved { instance } => {
            Kind::InstanceRemoved(v1::InstanceRemoved { instance: Some((*instance).into()) })
        }
        Event::IssuanceOpened { instance, generation, trigger } => Kind::IssuanceOpened(v1::IssuanceOpened {
            instance: Some((*instance).into()),
            generation: *generation,
            trigger: v1::Trigger::from(*trigger).into(),
        }),
        Event::IssuanceFailed { instance, generation, reason, message, retry_at } => {
            Kind::IssuanceFailed(v1::IssuanceFailed {
                instance: Some((*instance).into()),
                generation: *generation,
                reason: reason.clone(),
                message: message.clone(),
                retry_at_millis: retry_at.millis(),
            })
        }
        Event::IssuanceAbandoned { instance, generation, reason } => Kind::IssuanceAbandoned(v1::IssuanceAbandoned {
            instance: Some((*instance).into()),
            generation: *generation,
            reason: reason.clone(),
        }),
        Event::CertificateDelivered(delivered) => Kind::CertificateDelivered(delivered.into()),
        Event::CertificateIssued(issued) => Kind::CertificateIssued((&**issued).into()),
        _ => unreachable!("encode_kind sends only events of certificates here"),
    }
}

fn decode_kind(kind: Kind) -> Result<Event, CodecError> {
    Ok(match kind {
        Kind::ClusterBootstrapped(event) => Event::ClusterBootstrapped {
            cluster_id: ClusterId(fixed("cluster id", &event.cluster_id)?),
            epoch: event.epoch,
        },
        Kind::EpochOpened(opened) => Event::EpochOpened(Box::new(opened.try_into()?)),
        Kind::NodeJoined(node) => Event::NodeJoined(Box::new(node.try_into()?)),
        Kind::DataKeyWrapped(event) => Event::DataKeyWrapped {
            node_id: event.node_id,
            data_key_id: event.data_key_id,
            wrapped: event.wrapped.to_vec(),
        },
        Kind::DataKeyProved(event) => Event::DataKeyProved { node_id: event.node_id, data_key_id: event.data_key_id },
        Kind::NodeRemoved(event) => Event::NodeRemoved { node_id: event.node_id },
        Kind::RenewalsHeld(event) => Event::RenewalsHeld { ahead_millis: event.ahead_millis },
        Kind::RenewalsReleased(_) => Event::RenewalsReleased,
        Kind::TimeRebased(event) => Event::TimeRebased { from: moment(event.from_millis), to: moment(event.to_millis) },
        Kind::FormatRaised(event) => Event::FormatRaised { format: Format(event.format) },
        Kind::RetentionSet(event) => Event::RetentionSet { keep_seconds: event.keep_seconds },
        Kind::HistoryTrimmed(event) => Event::HistoryTrimmed(Box::new(event.try_into()?)),
        Kind::NodeRoleSet(event) => Event::NodeRoleSet { node_id: event.node_id, learner: event.learner },
        Kind::DataKeyRotated(event) => Event::DataKeyRotated {
            data_key_id: event.data_key_id,
            wrapped: event.wrapped.into_iter().map(|key| (key.node_id, key.wrapped.to_vec())).collect(),
        },
        Kind::DataKeyRetired(event) => Event::DataKeyRetired { data_key_id: event.data_key_id },
        Kind::NodeIdentityIssued(event) => {
            Event::NodeIdentityIssued { node_id: event.node_id, identity: identity(event.identity)? }
        }
        Kind::AdministratorIdentityIssued(event) => Event::AdministratorIdentityIssued {
            name: name("administrator", AdministratorName::parse(&event.name))?,
            identity: identity(event.identity)?,
        },
        Kind::CheckpointKeyMade(event) => Event::CheckpointKeyMade {
            public_key: fixed("public key", &event.public_key)?,
            sealed_key: need("sealed key", event.sealed_key)?.into(),
        },
        Kind::CheckpointKeyResealed(event) => {
            Event::CheckpointKeyResealed { sealed_key: need("sealed key", event.sealed_key)?.into() }
        }
        Kind::CheckpointSigned(signed) => Event::CheckpointSigned(Box::new(signed.try_into()?)),
        Kind::TokenCreated(event) => Event::TokenCreated {
            id: name("token", TokenId::parse(&event.id))?,
            secret_hash: fixed("secret hash", &event.secret_hash)?,
            grant: need("grant", event.grant)?.try_into()?,
            expires_at: moment(event.expires_at_millis),
        },
        Kind::TokenConsumed(event) => Event::TokenConsumed { spki_hash: fixed("key hash", &event.spki_hash)? },
        Kind::TokenRevoked(_) => Event::TokenRevoked,
        Kind::AgentRegistered(event) => Event::AgentRegistered {
            name: name("agent", AgentName::parse(&event.name))?,
            labels: map("labels", event.labels)?,
            spki_hash: fixed("key hash", &event.spki_hash)?,
        },
        Kind::AgentLabelsChanged(event) => Event::AgentLabelsChanged { labels: map("labels", event.labels)? },
        Kind::AgentIdentityIssued(event) => {
            Event::AgentIdentityIssued { identity: identity(event.identity)?, readmitted: event.readmitted }
        }
        Kind::AgentRemoved(_) => Event::AgentRemoved,
        kind => decode_issuing(kind)?,
    })
}

fn decode_issuing(kind: Kind) -> Result<Event, CodecError> {
    Ok(match kind {
        Kind::AuthorityDeclared(event) => Event::AuthorityDeclared {
            name: name("authority", AuthorityName::parse(&event.name))?,
            spec: need("authority's specification", event.spec)?.try_into()?,
            public_key: event.public_key.to_vec(),
            sealed_key: need("sealed key", event.sealed_key)?.into(),
        },
        Kind::AuthorityKeyResealed(event) => {
            Event::AuthorityKeyResealed { sealed_key: need("sealed key", event.sealed_key)?.into() }
        }
        Kind::AuthorityCertificateIntended(event) => Event::AuthorityCertificateIntended {
            serial: serial("serial", &event.serial)?,
            tbs_hash: fixed("to-be-signed hash", &event.tbs_hash)?,
        },
        Kind::AuthorityCertified(event) => Event::AuthorityCertified {
            serial: serial("serial", &event.serial)?,
            not_before: moment(event.not_before_millis),
            not_after: moment(event.not_after_millis),
            certificate: event.certificate[..].into(),
        },
        Kind::IssuerDeclared(event) => Event::IssuerDeclared {
            name: name("issuer", IssuerName::parse(&event.name))?,
            spec: need("issuer's specification", event.spec)?.try_into()?,
        },
        Kind::IssuerUpdated(event) => {
            Event::IssuerUpdated { spec: need("issuer's specification", event.spec)?.try_into()? }
        }
        Kind::IssuerDeleted(_) => Event::IssuerDeleted,
        kind => decode_certificate(kind)?,
    })
}

fn decode_certificate(kind: Kind) -> Result<Event, CodecError> {
    Ok(match kind {
        Kind::CertificateDeclared(event) => Event::CertificateDeclared {
            name: name("certificate", CertificateName::parse(&event.namespace, &event.name))?,
            spec: std::sync::Arc::new(need("specification", event.spec)?.try_into()?),
        },
        Kind::CertificateUpdated(event) => {
            Event::CertificateUpdated { spec: std::sync::Arc::new(need("specification", event.spec)?.try_into()?) }
        }
        Kind::CertificateDeleted(_) => Event::CertificateDeleted,
        Kind::InstanceAdded(event) => Event::InstanceAdded {
            instance: instance(event.instance)?,
            agent: name("agent", AgentName::parse(&event.agent))?,
        },
        Kind::InstanceRemoved(event) => Event::InstanceRemoved { instance: instance(event.instance)? },
        Kind::IssuanceOpened(event) => Event::IssuanceOpened {
            trigger: event.trigger().try_into()?,
            instance: instance(event.instance)?,
            generation: event.generation,
        },
        Kind::IssuanceFailed(event) => Event::IssuanceFailed {
            instance: instance(event.instance)?,
            generation: event.generation,
            reason: event.reason,
            message: event.message,
            retry_at: moment(event.retry_at_millis),
        },
        Kind::IssuanceAbandoned(event) => Event::IssuanceAbandoned {
            instance: instance(event.instance)?,
            generation: event.generation,
            reason: event.reason,
        },
        Kind::CertificateDelivered(delivered) => Event::CertificateDelivered(delivered.try_into()?),
        Kind::CertificateIssued(issued) => Event::CertificateIssued(Box::new(issued.try_into()?)),
        _ => return Err(broken("event's kind", "not dispatched; a fault of this build")),
    })
}

fn identity(identity: Option<v1::Identity>) -> Result<Identity, CodecError> {
    need("identity", identity)?.try_into()
}
