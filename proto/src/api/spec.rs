//! Certificate specifications to and from messages.
//!
//! It refuses what a message can say and the domain cannot hold, and the fields that later work fills.

use std::net::IpAddr;

use certwright_core::Rejection;
use certwright_core::ids::IssuerName;
use certwright_core::spec::{CertificateSpec, Dialect, Labels, Subject, Usage};

use super::values::{about, invalid, not_yet, optional, span_from_optional, span_to_message};
use super::{private_key, target};
use crate::v1;

/// The specification that a message states, with its dialect's defaults filled in; field paths are those of manifests
/// (`spec.dnsNames[3]`).
pub fn spec_from_message(spec: v1::CertificateSpec, labels: Labels) -> Result<CertificateSpec, Rejection> {
    refuse_reserved(&spec)?;
    let dialect = dialect(&spec)?;
    Ok(CertificateSpec {
        dialect,
        common_name: optional(spec.common_name),
        ip_addresses: ip_addresses(&spec.ip_addresses)?,
        subject: spec.subject.map(subject_from_message).unwrap_or_default(),
        duration: span_from_optional("spec.duration", spec.duration.as_ref())?,
        renew_before: span_from_optional("spec.renewBefore", spec.renew_before.as_ref())?,
        renew_before_percentage: spec.renew_before_percentage.map(percentage).transpose()?,
        usages: usages("spec.usages", &spec.usages)?,
        is_ca: spec.is_ca,
        private_key: private_key::from_message(dialect, spec.private_key.unwrap_or_default())?,
        revision_history_limit: spec.revision_history_limit,
        issuer: issuer(&spec.issuer)?,
        targets: targets(spec.targets)?,
        labels,
        secret_name: optional(spec.secret_name),
        dns_names: spec.dns_names,
        uris: spec.uris,
        email_addresses: spec.email_addresses,
    })
}

fn refuse_reserved(spec: &v1::CertificateSpec) -> Result<(), Rejection> {
    if !spec.key_sharing.is_empty() {
        return Err(not_yet("spec.keySharing", "sharing a key between agents"));
    }
    if !spec.renewal_windows.is_empty() {
        return Err(not_yet("spec.renewal.windows", "renewing in windows only"));
    }
    if !spec.fallback_issuers.is_empty() {
        return Err(not_yet("spec.fallbackIssuerRefs", "an ordered list of issuers"));
    }
    Ok(())
}

fn dialect(spec: &v1::CertificateSpec) -> Result<Dialect, Rejection> {
    match v1::certificate_spec::Dialect::try_from(spec.dialect) {
        Ok(v1::certificate_spec::Dialect::Certwright) => Ok(Dialect::Certwright),
        Ok(v1::certificate_spec::Dialect::CertManager) => Ok(Dialect::CertManager),
        Err(_) => Err(invalid("spec.dialect", format!("{} is not a dialect", spec.dialect))),
    }
}

fn issuer(name: &str) -> Result<IssuerName, Rejection> {
    if name.is_empty() {
        return Err(invalid("spec.issuerRef.name", "a certificate needs an issuer"));
    }
    about("spec.issuerRef.name", IssuerName::parse(name))
}

fn ip_addresses(addresses: &[String]) -> Result<Vec<IpAddr>, Rejection> {
    let parse = |(at, address): (usize, &String)| {
        let parsed = address.parse();
        parsed.map_err(|_| invalid(format!("spec.ipAddresses[{at}]"), format!("{address:?} is not an IP address")))
    };
    addresses.iter().enumerate().map(parse).collect()
}

fn percentage(percentage: u32) -> Result<u8, Rejection> {
    let field = "spec.renewBeforePercentage";
    percentage.try_into().map_err(|_| invalid(field, format!("{percentage} is not a percentage of 1 to 99")))
}

/// Usages by cert-manager's names; rejects with the path of the first unknown one.
pub fn usages(field: &str, names: &[String]) -> Result<Vec<Usage>, Rejection> {
    let parse = |(at, name): (usize, &String)| {
        let known = Usage::ALL.iter().copied().find(|usage| usage.name() == name);
        known.ok_or_else(|| invalid(format!("{field}[{at}]"), format!("{name:?} is not a key usage")))
    };
    names.iter().enumerate().map(parse).collect()
}

fn targets(targets: Vec<v1::Target>) -> Result<Vec<certwright_core::spec::Target>, Rejection> {
    let numbered = targets.into_iter().enumerate();
    numbered.map(|(at, target)| target::from_message(&format!("spec.targets[{at}]"), target)).collect()
}

fn subject_from_message(subject: v1::Subject) -> Subject {
    Subject {
        organizations: subject.organizations,
        organizational_units: subject.organizational_units,
        countries: subject.countries,
        localities: subject.localities,
        provinces: subject.provinces,
        street_addresses: subject.street_addresses,
        postal_codes: subject.postal_codes,
        serial_number: optional(subject.serial_number),
    }
}

/// The specification as a message, every default spelled out; labels travel beside it.
pub fn spec_to_message(spec: &CertificateSpec) -> v1::CertificateSpec {
    v1::CertificateSpec {
        dialect: match spec.dialect {
            Dialect::Certwright => v1::certificate_spec::Dialect::Certwright,
            Dialect::CertManager => v1::certificate_spec::Dialect::CertManager,
        }
        .into(),
        common_name: spec.common_name.clone().unwrap_or_default(),
        dns_names: spec.dns_names.clone(),
        ip_addresses: spec.ip_addresses.iter().map(ToString::to_string).collect(),
        uris: spec.uris.clone(),
        email_addresses: spec.email_addresses.clone(),
        subject: (spec.subject != Subject::default()).then(|| subject_to_message(&spec.subject)),
        duration: spec.duration.map(span_to_message),
        renew_before: spec.renew_before.map(span_to_message),
        renew_before_percentage: spec.renew_before_percentage.map(u32::from),
        usages: spec.usages.iter().map(|usage| usage.name().to_owned()).collect(),
        is_ca: spec.is_ca,
        private_key: Some(private_key::to_message(&spec.private_key)),
        revision_history_limit: spec.revision_history_limit,
        issuer: spec.issuer.to_string(),
        targets: spec.targets.iter().map(target::target_to_message).collect(),
        secret_name: spec.secret_name.clone().unwrap_or_default(),
        key_sharing: String::new(),
        renewal_windows: Vec::new(),
        fallback_issuers: Vec::new(),
    }
}

fn subject_to_message(subject: &Subject) -> v1::Subject {
    v1::Subject {
        organizations: subject.organizations.clone(),
        organizational_units: subject.organizational_units.clone(),
        countries: subject.countries.clone(),
        localities: subject.localities.clone(),
        provinces: subject.provinces.clone(),
        street_addresses: subject.street_addresses.clone(),
        postal_codes: subject.postal_codes.clone(),
        serial_number: subject.serial_number.clone().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests;
