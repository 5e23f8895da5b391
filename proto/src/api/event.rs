//! Events to messages: one fact with a JSON object of what it says.
//!
//! It refuses secrets and what opens them: no secret's hash, no sealed or wrapped key, no certificate of an authority's
//! key in any form but its public one.

use certwright_core::Event;
use certwright_core::event::{Delivered, EpochOpened, HistoryTrimmed, Identity, Issued, NodeRecord, TokenGrant};
use certwright_core::ids::InstanceId;
use certwright_core::log::{Position, Trace, Transaction};
use certwright_core::spec::{AuthoritySpec, CertificateSpec, IssuerSpec};
use certwright_core::time::Timestamp;
use serde_json::{Map, Value, json};

use super::authority::{key_algorithm_name, purpose_name};
use super::estate::role_of;
use super::names;
use super::spec::spec_to_message;
use super::values::moment_to_message;
use crate::{manifest, v1};

/// Every event of a transaction, in order, numbered from 0 through all its appends.
pub fn events_of(position: Position, at: Timestamp, transaction: &Transaction<Event>) -> Vec<v1::Event> {
    let appends = transaction.appends.iter();
    let events = appends.flat_map(|append| {
        append.events.iter().zip(1..).map(move |(event, nth)| {
            let revision = append.expected.map_or(0, |expected| expected + nth);
            (append.stream.as_str(), revision, event)
        })
    });
    let message = |(number, (stream, revision, event)): (u32, (&str, u64, &Event))| v1::Event {
        index: position.index,
        ordinal: position.ordinal,
        stream: stream.to_owned(),
        revision,
        r#type: event.kind().to_owned(),
        at: Some(moment_to_message(at)),
        actor: transaction.actor.to_string(),
        data_json: data(&event.resolved(position)).to_string(),
        trace_id: trace_id(&transaction.trace),
        number,
        // Known to those who have the state.
        epoch: 0,
    };
    (0..).zip(events).map(message).collect()
}

fn trace_id(trace: &Trace) -> String {
    if *trace == Trace::default() { String::new() } else { hex::encode(trace.trace_id) }
}

/// What the event says, as a JSON object.
pub fn data(event: &Event) -> Value {
    match event {
        Event::ClusterBootstrapped { cluster_id, epoch } => {
            json!({ "clusterId": cluster_id.to_string(), "epoch": epoch })
        }
        Event::EpochOpened(opened) => epoch_data(opened),
        Event::NodeJoined(node) => node_data(node),
        Event::DataKeyWrapped { node_id, data_key_id, wrapped: _ } | Event::DataKeyProved { node_id, data_key_id } => {
            json!({ "nodeId": node_id, "dataKeyId": data_key_id })
        }
        Event::NodeRemoved { node_id } => json!({ "nodeId": node_id }),
        Event::NodeRoleSet { node_id, learner } => json!({ "nodeId": node_id, "learner": learner }),
        Event::RenewalsHeld { ahead_millis } => json!({ "aheadMillis": ahead_millis }),
        Event::RenewalsReleased => json!({}),
        Event::TimeRebased { from, to } => json!({ "from": from.to_string(), "to": to.to_string() }),
        Event::FormatRaised { format } => json!({ "format": format.0 }),
        Event::RetentionSet { keep_seconds } => json!({ "keepSeconds": keep_seconds }),
        Event::HistoryTrimmed(trimmed) => trimmed_data(trimmed),
        Event::DataKeyRotated { data_key_id, wrapped } => {
            let node_ids: Vec<_> = wrapped.iter().map(|(node_id, _)| node_id).collect();
            json!({ "dataKeyId": data_key_id, "nodeIds": node_ids })
        }
        Event::DataKeyRetired { data_key_id } => json!({ "dataKeyId": data_key_id }),
        Event::NodeIdentityIssued { node_id, identity } => {
            json!({ "nodeId": node_id, "identity": identity_data(identity) })
        }
        Event::AdministratorIdentityIssued { name, identity } => {
            json!({ "name": name.as_str(), "identity": identity_data(identity) })
        }
        Event::CheckpointKeyMade { public_key, sealed_key } => {
            json!({ "publicKey": hex::encode(public_key), "dataKeyId": sealed_key.data_key_id })
        }
        Event::CheckpointKeyResealed { sealed_key } => json!({ "dataKeyId": sealed_key.data_key_id }),
        Event::CheckpointSigned(signed) => json!({
            "epoch": signed.epoch,
            "index": signed.index,
            "chain": hex::encode(signed.chain),
            "at": signed.at.to_string(),
            "signature": hex::encode(signed.signature),
        }),
        Event::TokenCreated { id, secret_hash: _, grant, expires_at } => {
            json!({ "id": id.as_str(), "grant": grant_data(grant), "expiresAt": expires_at.to_string() })
        }
        Event::TokenConsumed { spki_hash } => json!({ "keyHash": hex::encode(spki_hash) }),
        Event::AgentRegistered { name, labels, spki_hash } => {
            json!({ "name": name.as_str(), "labels": labels, "keyHash": hex::encode(spki_hash) })
        }
        Event::AgentLabelsChanged { labels } => json!({ "labels": labels }),
        Event::AgentIdentityIssued { identity, readmitted } => {
            json!({ "identity": identity_data(identity), "readmitted": readmitted })
        }
        Event::AuthorityDeclared { .. }
        | Event::AuthorityKeyResealed { .. }
        | Event::AuthorityCertificateIntended { .. }
        | Event::AuthorityCertified { .. }
        | Event::IssuerDeclared { .. }
        | Event::IssuerUpdated { .. } => issuing_data(event),
        Event::CertificateDeclared { .. }
        | Event::CertificateUpdated { .. }
        | Event::InstanceAdded { .. }
        | Event::InstanceRemoved { .. }
        | Event::IssuanceOpened { .. }
        | Event::IssuanceFailed { .. }
        | Event::IssuanceAbandoned { .. }
        | Event::CertificateDelivered(_)
        | Event::CertificateIssued(_) => certificate_data(event),
        Event::TokenRevoked | Event::AgentRemoved | Event::IssuerDeleted | Event::CertificateDeleted => json!({}),
    }
}

fn issuing_data(event: &Event) -> Value {
    match event {
        Event::AuthorityDeclared { name, spec, public_key: _, sealed_key } => {
            json!({ "name": name.as_str(), "spec": authority_spec(spec), "dataKeyId": sealed_key.data_key_id })
        }
        Event::AuthorityKeyResealed { sealed_key } => json!({ "dataKeyId": sealed_key.data_key_id }),
        Event::AuthorityCertificateIntended { serial, tbs_hash } => {
            json!({ "serial": serial.to_string(), "tbsHash": hex::encode(tbs_hash) })
        }
        Event::AuthorityCertified { serial, not_before, not_after, certificate: _ } => {
            json!({ "serial": serial.to_string(), "notBefore": not_before.to_string(), "notAfter": not_after.to_string() })
        }
        Event::IssuerDeclared { name, spec } => json!({ "name": name.as_str(), "spec": issuer_spec(spec) }),
        Event::IssuerUpdated { spec } => json!({ "spec": issuer_spec(spec) }),
        _ => json!({}),
    }
}

fn certificate_data(event: &Event) -> Value {
    let generation_data =
        |instance: &InstanceId, generation: &u64| json!({ "instance": instance.to_string(), "generation": generation });
    let with = |mut object: Value, key: &str, value: Value| {
        object[key] = value;
        object
    };
    match event {
        Event::CertificateDeclared { name, spec } => {
            json!({ "name": names::certificate_to_message(name), "labels": spec.labels, "spec": certificate_spec(spec) })
        }
        Event::CertificateUpdated { spec } => json!({ "labels": spec.labels, "spec": certificate_spec(spec) }),
        Event::InstanceAdded { instance, agent } => {
            json!({ "instance": instance.to_string(), "agent": agent.as_str() })
        }
        Event::InstanceRemoved { instance } => json!({ "instance": instance.to_string() }),
        Event::IssuanceOpened { instance, generation, trigger } => {
            with(generation_data(instance, generation), "trigger", trigger.name().into())
        }
        Event::IssuanceFailed { instance, generation, reason, message, retry_at } => {
            let object = with(generation_data(instance, generation), "reason", reason.as_str().into());
            let object = with(object, "message", message.as_str().into());
            with(object, "retryAt", retry_at.to_string().into())
        }
        Event::IssuanceAbandoned { instance, generation, reason } => {
            with(generation_data(instance, generation), "reason", reason.as_str().into())
        }
        Event::CertificateDelivered(delivered) => delivered_data(delivered),
        Event::CertificateIssued(issued) => issued_data(issued),
        _ => json!({}),
    }
}

fn epoch_data(opened: &EpochOpened) -> Value {
    json!({
        "epoch": opened.epoch,
        "cause": opened.cause.name(),
        "afterIndex": opened.after_index,
        "afterChain": hex::encode(opened.after_chain),
        "after": opened.after.to_string(),
        "at": opened.at.to_string(),
    })
}

fn trimmed_data(trimmed: &HistoryTrimmed) -> Value {
    json!({
        "firstIndex": trimmed.first_index,
        "chain": hex::encode(trimmed.chain),
        "digest": hex::encode(trimmed.digest),
        "digestVersion": trimmed.digest_version,
        "lastAt": trimmed.last_at.to_string(),
        "lastNotAfter": trimmed.last_not_after.to_string(),
    })
}

fn node_data(node: &NodeRecord) -> Value {
    json!({
        "nodeId": node.id,
        "name": node.name.as_str(),
        "raftAddress": node.raft_address,
        "apiAddress": node.api_address,
        "httpAddress": node.http_address,
        "keyHash": hex::encode(node.spki_hash),
    })
}

fn identity_data(identity: &Identity) -> Value {
    json!({
        "serial": identity.serial.to_string(),
        "keyHash": hex::encode(identity.spki_hash),
        "notBefore": identity.not_before.to_string(),
        "notAfter": identity.not_after.to_string(),
    })
}

fn grant_data(grant: &TokenGrant) -> Value {
    let role = role_of(grant).name();
    match grant {
        TokenGrant::Node => json!({ "role": role }),
        TokenGrant::Learner => json!({ "role": role, "learner": true }),
        TokenGrant::Agent { name, labels } => {
            json!({ "role": role, "agent": name.as_ref().map(|name| name.as_str()), "labels": labels })
        }
    }
}

fn delivered_data(delivered: &Delivered) -> Value {
    let mut object = json!({
        "instance": delivered.instance.to_string(),
        "generation": delivered.generation,
        "target": delivered.target.as_ref().map(|target| target.as_str()),
        "stage": delivered.stage.name(),
        "elapsedMs": delivered.elapsed.as_millis() as u64,
    });
    if let Some((reason, message)) = &delivered.failure {
        object["failure"] = json!({ "reason": reason, "message": message });
    }
    object
}

fn issued_data(issued: &Issued) -> Value {
    json!({
        // A direct issuance is an instance of its own, named by what is unique to it.
        "instance": issued.instance.map_or_else(|| issued.serial.to_string(), |instance| instance.to_string()),
        "generation": issued.generation,
        "serial": issued.serial.to_string(),
        "issuer": issued.issuer.as_str(),
        "authority": issued.authority.as_str(),
        "notBefore": issued.not_before.to_string(),
        "notAfter": issued.not_after.to_string(),
        "renewAt": issued.renew_at.map(|at| at.to_string()),
        "keyHash": hex::encode(issued.spki_hash),
    })
}

fn certificate_spec(spec: &CertificateSpec) -> Value {
    manifest::spec_to_value(&spec_to_message(spec))
}

fn issuer_spec(spec: &IssuerSpec) -> Value {
    manifest::issuer_spec_to_value(&super::issuer::issuer_spec_to_message(spec))
}

fn authority_spec(spec: &AuthoritySpec) -> Value {
    let mut fields = Map::new();
    fields.insert("commonName".into(), spec.common_name.as_str().into());
    fields.insert("keyAlgorithm".into(), key_algorithm_name(spec.key_algorithm).into());
    fields.insert("duration".into(), manifest::duration::format(spec.duration).into());
    fields.insert("purpose".into(), purpose_name(spec.purpose).into());
    if let Some(parent) = &spec.parent {
        fields.insert("parent".into(), parent.as_str().into());
    }
    if let Some(len) = spec.path_len {
        fields.insert("pathLen".into(), len.into());
    }
    Value::Object(fields)
}

#[cfg(test)]
mod tests;
