//! Objects as manifests, for `get -o yaml` and `-o json`: what was declared, then what became of it.
//!
//! It refuses empty fields: what is not said is not printed.

use certwright_core::time::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::certificate::{list, print_span, spec_from_message, text};
use super::schema::{AuthoritySpec, CaIssuer, Document, IssuerSpec, Metadata};
use super::{API_VERSION, CERT_MANAGER_API_VERSION, Resource};
use crate::v1;

/// The object as JSON in the shape of its manifest; keys in alphabetical order.
pub fn to_json(resource: &Resource) -> Value {
    match resource {
        Resource::Certificate(certificate) => certificate_to_json(certificate),
        Resource::Issuer(issuer) => issuer_to_json(issuer),
        Resource::Authority(authority) => authority_to_json(authority),
        Resource::Agent(agent) => agent_to_json(agent),
    }
}

/// The object as one YAML document, without marker.
pub fn to_yaml(resource: &Resource) -> String {
    serde_saphyr::to_string(&to_json(resource)).expect("JSON values are always YAML")
}

/// A value without what is null, empty objects and lists included.
pub(super) fn value(shape: &impl Serialize) -> Value {
    let mut value = serde_json::to_value(shape).expect("the shapes of manifests have only strings for keys");
    prune(&mut value);
    value
}

fn prune(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(prune);
            fields.retain(|_, field| !is_empty(field));
        }
        Value::Array(items) => items.iter_mut().for_each(prune),
        _ => {}
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

fn document<S: Serialize>(api_version: &str, kind: &str, metadata: Metadata, spec: Option<S>, status: Value) -> Value {
    value(&Document {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        metadata,
        spec,
        status: Some(status),
    })
}

/// The last part of a resource name.
fn last(name: &str) -> Option<String> {
    name.rsplit('/').next().map(str::to_owned)
}

/// RFC 3339; `None` for a moment that no server of ours sent.
fn moment(moment: Option<&prost_types::Timestamp>) -> Option<String> {
    let moment = moment.and_then(|moment| crate::api::values::moment_from_message("", moment).ok());
    moment.map(|moment: Timestamp| moment.to_string())
}

fn certificate_to_json(certificate: &v1::Certificate) -> Value {
    let dialect = certificate.spec.as_ref().map(v1::CertificateSpec::dialect);
    let api_version = match dialect {
        Some(v1::certificate_spec::Dialect::CertManager) => CERT_MANAGER_API_VERSION,
        _ => API_VERSION,
    };
    let metadata = Metadata {
        name: last(&certificate.name),
        namespace: certificate.name.split('/').nth(1).map(str::to_owned),
        labels: Some(certificate.labels.clone()),
        uid: text(&certificate.uid),
        etag: text(&certificate.etag),
        creation_timestamp: moment(certificate.create_time.as_ref()),
        update_timestamp: moment(certificate.update_time.as_ref()),
        ..Metadata::default()
    };
    let status = certificate.status.as_ref().map_or(Value::Null, certificate_status);
    document(api_version, "Certificate", metadata, certificate.spec.as_ref().map(spec_from_message), status)
}

/// cert-manager's status, with the dates of the instance that expires first, and ours: instances and deliveries.
fn certificate_status(status: &v1::CertificateStatus) -> Value {
    let issued = status.instances.iter().filter(|instance| instance.generation > 0);
    let first = issued.min_by_key(|instance| instance.not_after.map(|at| (at.seconds, at.nanos)));
    let mut fields = Map::new();
    fields.insert("conditions".into(), status.conditions.iter().map(condition).collect());
    if let Some(first) = first {
        fields.insert("notBefore".into(), json!(moment(first.not_before.as_ref())));
        fields.insert("notAfter".into(), json!(moment(first.not_after.as_ref())));
        fields.insert("renewalTime".into(), json!(moment(first.renewal_time.as_ref())));
        fields.insert("revision".into(), json!(first.generation));
    }
    fields.insert("instances".into(), status.instances.iter().map(instance).collect());
    Value::Object(fields)
}

fn condition(condition: &v1::Condition) -> Value {
    json!({
        "type": condition.r#type,
        "status": condition.status,
        "reason": condition.reason,
        "message": condition.message,
        "lastTransitionTime": moment(condition.last_transition_time.as_ref()),
    })
}

fn instance(instance: &v1::InstanceStatus) -> Value {
    let positive = |number: u64| (number > 0).then_some(number);
    json!({
        "instance": instance.instance,
        "agent": instance.agent,
        "generation": positive(instance.generation),
        "serial": instance.serial,
        "notBefore": moment(instance.not_before.as_ref()),
        "notAfter": moment(instance.not_after.as_ref()),
        "renewalTime": moment(instance.renewal_time.as_ref()),
        "issuingGeneration": positive(instance.issuing_generation),
        "trigger": instance.trigger,
        "failedIssuanceAttempts": positive(instance.failed_attempts.into()),
        "lastFailureReason": instance.last_failure_reason,
        "lastFailureMessage": instance.last_failure_message,
        "lastFailureTime": moment(instance.last_failure_time.as_ref()),
        "nextAttemptTime": moment(instance.next_attempt_time.as_ref()),
        "deliveries": instance.deliveries.iter().map(delivery).collect::<Value>(),
    })
}

fn delivery(delivery: &v1::DeliveryStatus) -> Value {
    json!({
        "target": delivery.target,
        "generation": delivery.generation,
        "stage": delivery.stage,
        "failureReason": delivery.failure_reason,
        "failureMessage": delivery.failure_message,
        "time": moment(delivery.time.as_ref()),
    })
}

fn issuer_to_json(issuer: &v1::Issuer) -> Value {
    let metadata = Metadata {
        name: last(&issuer.name),
        uid: text(&issuer.uid),
        etag: text(&issuer.etag),
        creation_timestamp: moment(issuer.create_time.as_ref()),
        ..Metadata::default()
    };
    let spec = issuer.spec.as_ref().map(issuer_spec);
    document(API_VERSION, "Issuer", metadata, spec, json!({ "ready": issuer.ready }))
}

fn issuer_spec(spec: &v1::IssuerSpec) -> IssuerSpec {
    IssuerSpec {
        ca: spec.ca.as_ref().map(|ca| CaIssuer { authority: text(&ca.authority) }),
        max_duration: print_span(spec.max_duration.as_ref()),
        allowed_dns_suffixes: list(&spec.allowed_dns_suffixes),
        ..IssuerSpec::default()
    }
}

/// An issuer's specification in the shape of manifests.
pub fn issuer_spec_to_value(spec: &v1::IssuerSpec) -> Value {
    value(&issuer_spec(spec))
}

fn authority_to_json(authority: &v1::Authority) -> Value {
    let metadata = Metadata {
        name: last(&authority.name),
        uid: text(&authority.uid),
        etag: text(&authority.etag),
        ..Metadata::default()
    };
    let spec = AuthoritySpec {
        common_name: text(&authority.common_name),
        key_algorithm: text(&authority.key_algorithm),
        parent: text(&authority.parent),
        duration: print_span(authority.duration.as_ref()),
        path_len: authority.path_len,
        purpose: text(&authority.purpose),
    };
    let status = json!({
        "ready": !authority.serial.is_empty(),
        "serial": authority.serial,
        "notBefore": moment(authority.not_before.as_ref()),
        "notAfter": moment(authority.not_after.as_ref()),
    });
    document(API_VERSION, "Authority", metadata, Some(spec), status)
}

fn agent_to_json(agent: &v1::Agent) -> Value {
    let metadata = Metadata {
        name: last(&agent.name),
        labels: Some(agent.labels.clone()),
        uid: text(&agent.uid),
        etag: text(&agent.etag),
        creation_timestamp: moment(agent.register_time.as_ref()),
        ..Metadata::default()
    };
    let status = json!({
        "connectedHere": agent.connected_here,
        "instances": agent.instances,
        "identity": { "serial": agent.identity_serial, "notAfter": moment(agent.identity_not_after.as_ref()) },
    });
    document::<()>(API_VERSION, "Agent", metadata, None, status)
}
