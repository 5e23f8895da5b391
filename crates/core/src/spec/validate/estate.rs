//! What is wrong with issuers, authorities and labels.
//!
//! It refuses to look at what they refer to; whether that exists is decided against state.

use super::{at_most, invalid, unsupported, validate_duration};
use crate::ids::ObjectName;
use crate::limits;
use crate::rejection::Rejection;
use crate::spec::{AuthoritySpec, IssuerKind, IssuerSpec, KeyAlgorithm, Labels};
use crate::x509::names;

impl IssuerSpec {
    /// Checks every rule that needs nothing but the specification itself. Rejects with INVALID_SPEC or
    /// NOT_YET_SUPPORTED.
    pub fn validate(&self) -> Result<(), Rejection> {
        if let IssuerKind::Reserved(kind) = &self.kind {
            return Err(unsupported(format!("spec.{kind}"), &format!("an issuer of kind {kind}")));
        }
        if let Some(duration) = self.max_duration {
            validate_duration("spec.maxDuration", duration, limits::DURATION_MIN)?;
        }
        at_most("spec.allowedDnsSuffixes", self.allowed_dns_suffixes.len(), limits::VALUES_MAX)?;
        for (i, suffix) in self.allowed_dns_suffixes.iter().enumerate() {
            let bare = suffix.strip_prefix('.').unwrap_or(suffix);
            let checked = names::check_dns(bare).map_err(|error| error.to_string());
            let plain = checked.and_then(|()| if bare.starts_with('*') { Err("is a wildcard".into()) } else { Ok(()) });
            plain.map_err(|cause| invalid(format!("spec.allowedDnsSuffixes[{i}]"), cause))?;
        }
        Ok(())
    }
}

impl AuthoritySpec {
    /// Checks every rule that needs nothing but the specification itself. Rejects with INVALID_SPEC.
    pub fn validate(&self) -> Result<(), Rejection> {
        names::check_common_name(&self.common_name).map_err(|error| invalid("commonName", error.to_string()))?;
        if !matches!(self.key_algorithm, KeyAlgorithm::EcdsaP256 | KeyAlgorithm::EcdsaP384 | KeyAlgorithm::Rsa2048) {
            return Err(invalid("keyAlgorithm", "must be ECDSA P-256, ECDSA P-384 or RSA of 2048 bits"));
        }
        validate_duration("duration", self.duration, limits::DURATION_MIN)
    }
}

/// Checks labels as Kubernetes does: at most `LABELS_MAX`; keys are a name of at most 63 characters, optionally behind a
/// DNS prefix and `/`; values are empty or such a name. Rejects with INVALID_SPEC, naming the label below `field`.
pub fn validate_labels(field: &str, labels: &Labels) -> Result<(), Rejection> {
    at_most(field, labels.len(), limits::LABELS_MAX)?;
    for (key, value) in labels {
        let (prefix, name) = key.split_once('/').map_or((None, key.as_str()), |(prefix, name)| (Some(prefix), name));
        if key.len() > limits::LABEL_OCTETS_MAX
            || !is_label_name(name)
            || prefix.is_some_and(|prefix| ObjectName::parse(prefix).is_err())
        {
            let shown: String = key.chars().take(80).collect();
            return Err(invalid(
                field,
                format!("{shown:?} is no label key: [prefix/]name, name at most 63 characters"),
            ));
        }
        if !value.is_empty() && !is_label_name(value) {
            let message = "is no label value: at most 63 letters, digits, '-', '_' and '.', alphanumeric at both ends";
            return Err(invalid(format!("{field}.{key}"), message));
        }
    }
    Ok(())
}

fn is_label_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    bytes.len() <= 63
        && bytes.iter().all(|octet| octet.is_ascii_alphanumeric() || b"-_.".contains(octet))
        && matches!((bytes.first(), bytes.last()), (Some(a), Some(z)) if a.is_ascii_alphanumeric() && z.is_ascii_alphanumeric())
}
