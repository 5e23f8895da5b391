//! Certificates: document to message and back.
//!
//! It refuses cert-manager's fields that later work fills; whatever else a specification says, the server judges.

use certwright_core::{Reason, Rejection};
use serde::de::IgnoredAny;
use serde_json::Value;

use super::schema::{
    self, CertificateSpec, Document, Files, IssuerRef, PrivateKey, Reload, Renewal, Secret, ServedCheck, Subject,
    Target,
};
use super::{Resource, duration};
use crate::api::values::{span_from_message, span_to_message};
use crate::v1;

pub(super) fn from_document(
    document: Document<CertificateSpec>,
    namespace: &str,
    dialect: v1::certificate_spec::Dialect,
) -> Result<Resource, Rejection> {
    let metadata = document.metadata;
    let name = needed("metadata.name", metadata.name)?;
    let namespace = metadata.namespace.filter(|it| !it.is_empty()).unwrap_or_else(|| namespace.to_owned());
    let spec = document.spec.ok_or_else(|| missing("spec"))?;
    Ok(Resource::Certificate(Box::new(v1::Certificate {
        name: format!("namespaces/{namespace}/certificates/{name}"),
        labels: metadata.labels.unwrap_or_default(),
        spec: Some(spec_to_message(spec, dialect)?),
        ..v1::Certificate::default()
    })))
}

/// A field that must be there.
pub(super) fn needed(field: &str, value: Option<String>) -> Result<String, Rejection> {
    value.filter(|value| !value.is_empty()).ok_or_else(|| missing(field))
}

pub(super) fn missing(field: &str) -> Rejection {
    Rejection::field(Reason::InvalidManifest, field, "the field is missing")
}

/// A length of time, as Go writes it.
pub(super) fn span(field: &str, text: Option<String>) -> Result<Option<prost_types::Duration>, Rejection> {
    let parse = |text: String| {
        let parsed = duration::parse(&text).map(span_to_message);
        parsed.map_err(|message| Rejection::field(Reason::InvalidManifest, field, message))
    };
    text.map(parse).transpose()
}

/// Prints a length of time; one that no server of ours sent prints as nothing.
pub(super) fn print_span(span: Option<&prost_types::Duration>) -> Option<String> {
    span.and_then(|span| span_from_message("", span).ok()).map(duration::format)
}

fn spec_to_message(
    spec: CertificateSpec,
    dialect: v1::certificate_spec::Dialect,
) -> Result<v1::CertificateSpec, Rejection> {
    refuse_planned(&spec)?;
    let targets = spec.targets.unwrap_or_default().into_iter().enumerate();
    Ok(v1::CertificateSpec {
        dialect: dialect.into(),
        common_name: spec.common_name.unwrap_or_default(),
        dns_names: spec.dns_names.unwrap_or_default(),
        ip_addresses: spec.ip_addresses.unwrap_or_default(),
        uris: spec.uris.unwrap_or_default(),
        email_addresses: spec.email_addresses.unwrap_or_default(),
        subject: spec.subject.map(subject_to_message),
        duration: span("spec.duration", spec.duration)?,
        renew_before: span("spec.renewBefore", spec.renew_before)?,
        renew_before_percentage: spec.renew_before_percentage,
        usages: spec.usages.unwrap_or_default(),
        is_ca: spec.is_ca.unwrap_or_default(),
        private_key: spec.private_key.map(|key| v1::PrivateKey {
            algorithm: key.algorithm.unwrap_or_default(),
            size: key.size.unwrap_or_default(),
            encoding: key.encoding.unwrap_or_default(),
            rotation_policy: key.rotation_policy.unwrap_or_default(),
        }),
        revision_history_limit: spec.revision_history_limit,
        issuer: issuer("spec.issuerRef", spec.issuer_ref.ok_or_else(|| missing("spec.issuerRef"))?)?,
        targets: targets.map(|(at, target)| target_to_message(at, target)).collect::<Result<_, _>>()?,
        secret_name: spec.secret_name.unwrap_or_default(),
        key_sharing: spec.key_sharing.unwrap_or_default(),
        renewal_windows: windows(spec.renewal)?,
        fallback_issuers: spec
            .fallback_issuer_refs
            .unwrap_or_default()
            .into_iter()
            .map(|reference| issuer("spec.fallbackIssuerRefs", reference))
            .collect::<Result<_, _>>()?,
    })
}

fn refuse_planned(spec: &CertificateSpec) -> Result<(), Rejection> {
    let planned: [(&str, &Option<IgnoredAny>); 7] = [
        ("additionalOutputFormats", &spec.additional_output_formats),
        ("keystores", &spec.keystores),
        ("literalSubject", &spec.literal_subject),
        ("nameConstraints", &spec.name_constraints),
        ("otherNames", &spec.other_names),
        ("secretTemplate", &spec.secret_template),
        ("signatureAlgorithm", &spec.signature_algorithm),
    ];
    match planned.iter().find(|(_, value)| value.is_some()) {
        Some((name, _)) => Err(not_yet(format!("spec.{name}"))),
        None => Ok(()),
    }
}

fn not_yet(field: String) -> Rejection {
    Rejection::field(Reason::NotYetSupported, field, "the field is planned and not there yet")
}

/// The issuer's name. Issuers are estate-wide here, so that both of cert-manager's kinds mean the same.
fn issuer(field: &str, reference: IssuerRef) -> Result<String, Rejection> {
    let name = needed(&format!("{field}.name"), reference.name)?;
    match reference.kind.as_deref() {
        None | Some("" | "Issuer" | "ClusterIssuer") => {}
        Some(_) => return Err(not_yet(format!("{field}.kind"))),
    }
    match reference.group.as_deref() {
        None | Some("" | "cert-manager.io" | "certwright.dev") => Ok(name),
        Some(_) => Err(not_yet(format!("{field}.group"))),
    }
}

fn windows(renewal: Option<Renewal>) -> Result<Vec<String>, Rejection> {
    let renewal = renewal.unwrap_or_default();
    match renewal.policy.as_deref() {
        None | Some("" | "RenewBefore") => {}
        Some(_) => return Err(not_yet("spec.renewal.policy".to_owned())),
    }
    let print = |window: schema::Window| {
        let parts = [window.cron, window.window_duration, window.timezone];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
    };
    Ok(renewal.windows.unwrap_or_default().into_iter().map(print).collect())
}

fn subject_to_message(subject: Subject) -> v1::Subject {
    v1::Subject {
        organizations: subject.organizations.unwrap_or_default(),
        organizational_units: subject.organizational_units.unwrap_or_default(),
        countries: subject.countries.unwrap_or_default(),
        localities: subject.localities.unwrap_or_default(),
        provinces: subject.provinces.unwrap_or_default(),
        street_addresses: subject.street_addresses.unwrap_or_default(),
        postal_codes: subject.postal_codes.unwrap_or_default(),
        serial_number: subject.serial_number.unwrap_or_default(),
    }
}

fn target_to_message(at: usize, target: Target) -> Result<v1::Target, Rejection> {
    let files = |files: Files| -> Result<_, Rejection> {
        Ok(v1::FilesSink {
            directory: files.directory.unwrap_or_default(),
            names: files.names.unwrap_or_default(),
            owner: files.owner.unwrap_or_default(),
            group: files.group.unwrap_or_default(),
            mode: files.mode.map(|text| mode(at, &text)).transpose()?,
        })
    };
    Ok(v1::Target {
        name: needed(&format!("spec.targets[{at}].name"), target.name)?,
        agent: target.agent.unwrap_or_default(),
        selector: target.selector.unwrap_or_default(),
        files: target.files.map(files).transpose()?,
        secret: target.secret.map(|secret| v1::SecretSink {
            namespace: secret.namespace.unwrap_or_default(),
            name: secret.name.unwrap_or_default(),
        }),
        reload: target.reload.map(|reload| v1::Reload {
            exec: reload.exec.unwrap_or_default(),
            signal: reload.signal.unwrap_or_default(),
            pid_file: reload.pid_file.unwrap_or_default(),
            test_exec: reload.test_exec.unwrap_or_default(),
            timeout_seconds: reload.timeout_seconds.unwrap_or_default(),
        }),
        served_check: target.served_check.map(|check| v1::ServedCheck {
            address: check.address.unwrap_or_default(),
            server_name: check.server_name.unwrap_or_default(),
        }),
    })
}

/// Permission bits from octal digits; YAML would read `0640` as six hundred and forty.
fn mode(at: usize, text: &str) -> Result<u32, Rejection> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let bits = u32::from_str_radix(digits, 8).ok().filter(|bits| *bits <= 0o7777 && !digits.starts_with('+'));
    bits.ok_or_else(|| {
        let field = format!("spec.targets[{at}].files.mode");
        Rejection::field(Reason::InvalidManifest, field, format!("{text:?} is not octal digits such as 0640"))
    })
}

/// A specification in the shape of manifests.
pub fn spec_to_value(spec: &v1::CertificateSpec) -> Value {
    super::print::value(&spec_from_message(spec))
}

pub(super) fn spec_from_message(spec: &v1::CertificateSpec) -> CertificateSpec {
    CertificateSpec {
        common_name: text(&spec.common_name),
        dns_names: list(&spec.dns_names),
        ip_addresses: list(&spec.ip_addresses),
        uris: list(&spec.uris),
        email_addresses: list(&spec.email_addresses),
        subject: spec.subject.as_ref().map(subject_from_message),
        duration: print_span(spec.duration.as_ref()),
        renew_before: print_span(spec.renew_before.as_ref()),
        renew_before_percentage: spec.renew_before_percentage,
        usages: list(&spec.usages),
        is_ca: spec.is_ca.then_some(true),
        private_key: spec.private_key.as_ref().map(|key| PrivateKey {
            algorithm: text(&key.algorithm),
            size: (key.size > 0).then_some(key.size),
            encoding: text(&key.encoding),
            rotation_policy: text(&key.rotation_policy),
        }),
        revision_history_limit: spec.revision_history_limit,
        issuer_ref: Some(IssuerRef { name: text(&spec.issuer), ..IssuerRef::default() }),
        secret_name: text(&spec.secret_name),
        targets: (!spec.targets.is_empty()).then(|| spec.targets.iter().map(target_from_message).collect()),
        ..CertificateSpec::default()
    }
}

pub(super) fn text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

pub(super) fn list(list: &[String]) -> Option<Vec<String>> {
    (!list.is_empty()).then(|| list.to_vec())
}

fn subject_from_message(subject: &v1::Subject) -> Subject {
    Subject {
        organizations: list(&subject.organizations),
        organizational_units: list(&subject.organizational_units),
        countries: list(&subject.countries),
        localities: list(&subject.localities),
        provinces: list(&subject.provinces),
        street_addresses: list(&subject.street_addresses),
        postal_codes: list(&subject.postal_codes),
        serial_number: text(&subject.serial_number),
    }
}

fn target_from_message(target: &v1::Target) -> Target {
    Target {
        name: text(&target.name),
        agent: text(&target.agent),
        selector: (!target.selector.is_empty()).then(|| target.selector.clone()),
        files: target.files.as_ref().map(|files| Files {
            directory: text(&files.directory),
            names: (!files.names.is_empty()).then(|| files.names.clone()),
            owner: text(&files.owner),
            group: text(&files.group),
            mode: files.mode.map(|mode| format!("{mode:04o}")),
        }),
        secret: target
            .secret
            .as_ref()
            .map(|secret| Secret { namespace: text(&secret.namespace), name: text(&secret.name) }),
        reload: target.reload.as_ref().map(|reload| Reload {
            exec: list(&reload.exec),
            signal: text(&reload.signal),
            pid_file: text(&reload.pid_file),
            test_exec: list(&reload.test_exec),
            timeout_seconds: (reload.timeout_seconds > 0).then_some(reload.timeout_seconds),
        }),
        served_check: target
            .served_check
            .as_ref()
            .map(|check| ServedCheck { address: text(&check.address), server_name: text(&check.server_name) }),
    }
}
