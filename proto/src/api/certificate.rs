//! Certificates to and from messages: the wish as written, the state as status, what was issued.
//!
//! It refuses output-only fields as input: they are ignored, except the etag.

use std::sync::Arc;

use bytes::Bytes;
use certwright_core::Rejection;
use certwright_core::command::Etag;
use certwright_core::event::Issued;
use certwright_core::ids::CertificateName;
use certwright_core::spec::CertificateSpec;
use certwright_core::state::{Certificate, Delivery, Instance};
use certwright_core::time::Timestamp;

use super::spec::{spec_from_message, spec_to_message};
use super::values::{etag, etag_from_message, invalid, moment_to_message};
use super::{names, readiness};
use crate::v1;

/// What a create or update wishes for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CertificateWish {
    /// Which certificate.
    pub name: CertificateName,
    /// A condition on its version.
    pub etag: Etag,
    /// The whole specification.
    pub spec: Arc<CertificateSpec>,
}

/// The wish of a message.
pub fn certificate_from_message(certificate: Option<v1::Certificate>) -> Result<CertificateWish, Rejection> {
    let certificate = certificate.ok_or_else(|| invalid("certificate", "the request has no certificate"))?;
    let name = names::certificate(&certificate.name)?;
    let spec = certificate.spec.ok_or_else(|| invalid("spec", "the certificate has no specification"))?;
    Ok(CertificateWish {
        name,
        etag: etag_from_message(&certificate.etag),
        spec: Arc::new(spec_from_message(spec, certificate.labels)?),
    })
}

/// The certificate as of log time `now`.
pub fn certificate_to_message(certificate: &Certificate, now: Timestamp) -> v1::Certificate {
    let spec = certificate.spec();
    v1::Certificate {
        name: names::certificate_to_message(&certificate.name),
        uid: certificate.uid.to_string(),
        etag: etag(certificate.uid, certificate.revision),
        labels: spec.labels.clone(),
        spec: Some(spec_to_message(&spec)),
        status: Some(status(certificate, now)),
        create_time: Some(moment_to_message(certificate.created_at)),
        update_time: Some(moment_to_message(certificate.updated_at)),
    }
}

fn status(certificate: &Certificate, now: Timestamp) -> v1::CertificateStatus {
    let mut conditions = vec![readiness::ready(certificate, now).to_message("Ready")];
    conditions.extend(readiness::issuing(certificate).map(|issuing| issuing.to_message("Issuing")));
    v1::CertificateStatus { conditions, instances: certificate.instances.iter().map(instance_to_message).collect() }
}

fn instance_to_message(instance: &Instance) -> v1::InstanceStatus {
    let mut message = v1::InstanceStatus {
        instance: instance.id.to_string(),
        agent: instance.agent.to_string(),
        failed_attempts: instance.failures,
        next_attempt_time: instance.retry_at.map(moment_to_message),
        deliveries: instance.deliveries.iter().map(delivery_to_message).collect(),
        ..v1::InstanceStatus::default()
    };
    if let Some(current) = &instance.current {
        message.generation = current.generation;
        message.serial = current.serial.to_string();
        message.not_before = Some(moment_to_message(current.not_before));
        message.not_after = Some(moment_to_message(current.not_after));
        message.renewal_time = Some(moment_to_message(current.renew_at));
    }
    if let Some(open) = &instance.open {
        message.issuing_generation = open.generation;
        message.trigger = open.trigger.name().to_owned();
    }
    if let Some((reason, text, at)) = instance.last_failure.as_deref() {
        message.last_failure_reason = reason.clone();
        message.last_failure_message = text.clone();
        message.last_failure_time = Some(moment_to_message(*at));
    }
    message
}

fn delivery_to_message(delivery: &Delivery) -> v1::DeliveryStatus {
    let (failure_reason, failure_message) = delivery.failure.as_deref().cloned().unwrap_or_default();
    v1::DeliveryStatus {
        target: delivery.target.as_ref().map(ToString::to_string).unwrap_or_default(),
        generation: delivery.generation,
        stage: delivery.stage.name().to_owned(),
        failure_reason,
        failure_message,
        time: Some(moment_to_message(delivery.at)),
    }
}

/// An issued certificate with its chain (intermediates then root) and the place where it is in the log.
pub fn issued_to_message(issued: &Issued, chain: &[Arc<[u8]>], token: v1::Token, index: u64) -> v1::IssueResponse {
    v1::IssueResponse {
        serial: issued.serial.to_string(),
        certificate: Bytes::copy_from_slice(&issued.certificate),
        chain: chain.iter().map(|der| Bytes::copy_from_slice(der)).collect(),
        not_before: Some(moment_to_message(issued.not_before)),
        not_after: Some(moment_to_message(issued.not_after)),
        token: Some(token),
        index,
    }
}

#[cfg(test)]
mod tests;
