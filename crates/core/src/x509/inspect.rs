//! Any certificate, read for people and for agents, and chains verified up to a root.
//!
//! It refuses to be strict about what others issued: what it cannot name it prints, only chains are judged.

mod chain;

use std::net::IpAddr;

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

pub use chain::{ChainError, verify_chain};

use super::issuer::{moment, subject_key_identifier};
use super::key::{PublicKey, SignatureAlgorithm, sha256, spki_hash};
use super::names::Names;
use super::usage::{KeyUsages, extended_by_oid};
use crate::rejection::{Reason, Rejection};
use crate::spec::{KeyAlgorithm, Usage};
use crate::time::Timestamp;

/// What a certificate says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Inspected {
    /// Serial number, upper-case hex without colons.
    pub serial: String,
    /// Subject, as text.
    pub subject: String,
    /// Subject, as it stands there: a Name, DER.
    pub subject_der: Vec<u8>,
    /// Issuer, as text.
    pub issuer: String,
    /// Common name and alternative names of the kinds that certwright knows.
    pub names: Names,
    /// Start of validity.
    pub not_before: Timestamp,
    /// End of validity.
    pub not_after: Timestamp,
    /// Whether it is a CA certificate.
    pub is_ca: bool,
    /// Path length of a CA.
    pub path_len: Option<u32>,
    /// Key usages and extended key usages by cert-manager's names; unknown ones by identifier.
    pub usages: Vec<String>,
    /// The key's algorithm and size, when certwright knows it.
    pub key_algorithm: Option<KeyAlgorithm>,
    /// SHA-256 of the SubjectPublicKeyInfo.
    pub spki_hash: [u8; 32],
    /// SHA-256 of the whole certificate.
    pub fingerprint: [u8; 32],
    /// Signature algorithm by OpenSSL's name, or its identifier.
    pub signature_algorithm: String,
    /// Subject key identifier.
    pub subject_key_identifier: Option<Vec<u8>>,
    /// Whether subject and issuer are the same.
    pub self_issued: bool,
}

/// Reads a certificate. Rejects with INVALID_MANIFEST what is none.
pub fn inspect(der: &[u8]) -> Result<Inspected, Rejection> {
    let certificate = parse(der)?;
    let basic = certificate.basic_constraints().ok().flatten().map(|extension| extension.value);
    let algorithm = certificate.signature_algorithm.algorithm.to_id_string();
    Ok(Inspected {
        serial: serial(&certificate),
        subject: certificate.subject().to_string(),
        subject_der: certificate.subject().as_raw().to_vec(),
        issuer: certificate.issuer().to_string(),
        names: names(&certificate),
        not_before: moment(certificate.validity().not_before).unwrap_or(Timestamp::EPOCH),
        not_after: moment(certificate.validity().not_after).unwrap_or(Timestamp::EPOCH),
        is_ca: basic.is_some_and(|basic| basic.ca),
        path_len: basic.and_then(|basic| basic.path_len_constraint),
        usages: usages(&certificate),
        key_algorithm: PublicKey::parse(certificate.public_key().raw).ok().map(|key| key.algorithm()),
        spki_hash: spki_hash(certificate.public_key().raw),
        fingerprint: sha256(der),
        signature_algorithm: signature_algorithm(der).map_or(algorithm, |known| known.name().to_owned()),
        subject_key_identifier: subject_key_identifier(&certificate),
        self_issued: certificate.subject().as_raw() == certificate.issuer().as_raw(),
    })
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, Rejection> {
    let refuse = |message: String| Rejection::new(Reason::InvalidManifest, format!("not a certificate: {message}"));
    let (rest, certificate) = X509Certificate::from_der(der).map_err(|error| refuse(error.to_string()))?;
    if rest.is_empty() { Ok(certificate) } else { Err(refuse("octets behind its end".to_owned())) }
}

/// The signature algorithm of a certificate, if certwright verifies it.
fn signature_algorithm(der: &[u8]) -> Option<SignatureAlgorithm> {
    let parts = super::der::elements(super::der::only(super::der::SEQUENCE, der)?, 3)?;
    SignatureAlgorithm::from_der(parts.get(1)?.raw)
}

fn serial(certificate: &X509Certificate<'_>) -> String {
    hex(trim(certificate.raw_serial()))
}

fn trim(serial: &[u8]) -> &[u8] {
    match serial {
        [0, rest @ ..] if !rest.is_empty() => rest,
        serial => serial,
    }
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02X}")).collect()
}

fn names(certificate: &X509Certificate<'_>) -> Names {
    let common = certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
    let mut names = Names { common_name: common.map(str::to_owned), ..Names::default() };
    let alternatives = certificate.subject_alternative_name().ok().flatten();
    for name in alternatives.iter().flat_map(|extension| &extension.value.general_names) {
        match name {
            GeneralName::DNSName(name) => names.dns_names.push((*name).to_owned()),
            GeneralName::URI(uri) => names.uris.push((*uri).to_owned()),
            GeneralName::RFC822Name(address) => names.email_addresses.push((*address).to_owned()),
            GeneralName::IPAddress(octets) => {
                let v4 = <[u8; 4]>::try_from(*octets).map(IpAddr::from);
                names.ip_addresses.extend(v4.or_else(|_| <[u8; 16]>::try_from(*octets).map(IpAddr::from)));
            }
            _ => {}
        }
    }
    names
}

fn usages(certificate: &X509Certificate<'_>) -> Vec<String> {
    let bits = certificate.key_usage().ok().flatten().map(|usage| KeyUsages(usage.value.flags)).unwrap_or_default();
    let mut found: Vec<String> = bits.names().into_iter().map(str::to_owned).collect();
    let Some(extended) = certificate.extended_key_usage().ok().flatten().map(|extension| extension.value) else {
        return found;
    };
    let flags = [
        (extended.any, Usage::Any),
        (extended.server_auth, Usage::ServerAuth),
        (extended.client_auth, Usage::ClientAuth),
        (extended.code_signing, Usage::CodeSigning),
        (extended.email_protection, Usage::EmailProtection),
        (extended.time_stamping, Usage::Timestamping),
        (extended.ocsp_signing, Usage::OcspSigning),
    ];
    found.extend(flags.iter().filter(|(set, _)| *set).map(|(_, usage)| usage.name().to_owned()));
    for oid in &extended.other {
        let arcs: Option<Vec<u64>> = oid.iter().map(Iterator::collect);
        let known = arcs.and_then(|arcs| extended_by_oid(&arcs));
        found.push(known.map_or_else(|| oid.to_id_string(), |usage| usage.name().to_owned()));
    }
    found
}

#[cfg(test)]
mod tests;
