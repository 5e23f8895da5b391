//! What a final certificate may say, by the door it came through.
//!
//! It refuses exceptions for anybody: what is denied here is signed by no door (the lint asks before every signature).

use std::time::Duration;

use crate::limits::{BACKDATE_MAX, IDENTITY_DURATION_MAX, ISSUER_DURATION_DEFAULT_MAX, NAMES_MAX};
use crate::rejection::{Reason, Rejection};
use crate::spec::{AuthoritySpec, IssuerSpec, Usage};
use crate::x509::facts::FinalCertificate;
use crate::x509::lint::Profile;
use crate::x509::names::{check_dns, uri_host};
use crate::x509::usage::KeyUsages;

/// The scheme of identities; no certificate of the estate may carry it.
const IDENTITY_SCHEME: &str = "certwright:";

fn deny<T>(field: &str, message: impl Into<String>) -> Result<T, Rejection> {
    Err(Rejection::field(Reason::PolicyDenied, field, message))
}

/// Judges a composed certificate. Rejects with POLICY_DENIED; the field says what it is about.
pub fn evaluate(certificate: &FinalCertificate, profile: &Profile<'_>) -> Result<(), Rejection> {
    if certificate.names.alternatives() > NAMES_MAX {
        return deny("names", format!("more than {NAMES_MAX} names"));
    }
    match profile {
        Profile::Leaf { issuer } => evaluate_leaf(certificate, issuer),
        Profile::Authority { spec } => evaluate_authority(certificate, spec),
        Profile::Identity => evaluate_identity(certificate),
    }
}

/// Lifetime at most `longest`; back-dating against slow clocks does not count.
fn evaluate_lifetime(certificate: &FinalCertificate, longest: Duration) -> Result<(), Rejection> {
    let lifetime = certificate.not_after.since(certificate.not_before);
    if lifetime <= longest + BACKDATE_MAX {
        return Ok(());
    }
    deny("duration", format!("{} s are asked for, at most {} s are granted", lifetime.as_secs(), longest.as_secs()))
}

fn evaluate_no_authority(certificate: &FinalCertificate) -> Result<(), Rejection> {
    let signs = certificate.key_usages.within(KeyUsages::of_authority());
    if certificate.is_ca || !signs.is_empty() {
        return deny("isCA", "CA certificates come from authorities, not from issuers: create an authority instead");
    }
    Ok(())
}

fn evaluate_leaf(certificate: &FinalCertificate, issuer: &IssuerSpec) -> Result<(), Rejection> {
    evaluate_no_authority(certificate)?;
    // `any` makes every limit on usages void; a responder's certificate could call revoked certificates good.
    for usage in [Usage::Any, Usage::OcspSigning] {
        if certificate.extended_usages.contains(&usage) {
            return deny("usages", format!("the usage {:?} is never granted", usage.name()));
        }
    }
    evaluate_lifetime(certificate, issuer.max_duration.unwrap_or(ISSUER_DURATION_DEFAULT_MAX))?;
    if certificate.names.uris.iter().any(|uri| uri.to_ascii_lowercase().starts_with(IDENTITY_SCHEME)) {
        return deny("uris", "URIs of that scheme name members of the cluster, which no issuer certifies");
    }
    evaluate_suffixes(certificate, &issuer.allowed_dns_suffixes)
}

/// Every DNS name, wherever it stands: alternative names, a common name that is one, hosts of URIs and mailboxes.
fn evaluate_suffixes(certificate: &FinalCertificate, suffixes: &[String]) -> Result<(), Rejection> {
    if suffixes.is_empty() {
        return Ok(());
    }
    let names = &certificate.names;
    let common = names.common_name.iter().map(String::as_str).filter(|name| check_dns(name).is_ok());
    let mailboxes = names.email_addresses.iter().filter_map(|address| Some(address.rsplit_once('@')?.1));
    let hosts = names.uris.iter().filter_map(|uri| uri_host(uri.split_once("://")?.1));
    let dns = names.dns_names.iter().map(String::as_str);
    let outside = dns.chain(common).chain(mailboxes).chain(hosts).find(|name| !within(name, suffixes));
    match outside {
        Some(name) => deny("dnsNames", format!("{name:?} is outside the suffixes that the issuer allows")),
        None => Ok(()),
    }
}

/// The suffix itself or anything below it, whole labels only.
fn within(name: &str, suffixes: &[String]) -> bool {
    let name = name.to_ascii_lowercase();
    suffixes.iter().any(|suffix| {
        let suffix = suffix.trim_start_matches("*.").trim_start_matches('.').to_ascii_lowercase();
        name == suffix || name.strip_suffix(&suffix).is_some_and(|left| left.ends_with('.'))
    })
}

fn evaluate_authority(certificate: &FinalCertificate, spec: &AuthoritySpec) -> Result<(), Rejection> {
    if !certificate.is_ca || certificate.path_len != spec.path_len {
        return deny("pathLen", "the CA certificate does not have the path length that was declared");
    }
    if certificate.key.algorithm() != spec.key_algorithm {
        return deny("keyAlgorithm", "the authority's key is not of the algorithm that was declared");
    }
    if certificate.names.alternatives() != 0 || certificate.names.common_name.as_ref() != Some(&spec.common_name) {
        return deny("names", "the CA certificate does not carry exactly the common name that was declared");
    }
    if !certificate.extended_usages.is_empty() || certificate.key_usages != KeyUsages::of_authority() {
        return deny("usages", "a CA certificate is for signing certificates and CRLs only");
    }
    evaluate_lifetime(certificate, spec.duration)
}

fn evaluate_identity(certificate: &FinalCertificate) -> Result<(), Rejection> {
    evaluate_no_authority(certificate)?;
    if !certificate.names.uris.iter().all(|uri| uri.starts_with(IDENTITY_SCHEME)) {
        return deny("uris", "an identity carries a certwright URI");
    }
    if !certificate.extended_usages.iter().all(|usage| matches!(usage, Usage::ClientAuth | Usage::ServerAuth)) {
        return deny("usages", "an identity is for TLS only");
    }
    evaluate_lifetime(certificate, IDENTITY_DURATION_MAX)
}
