//! What a certificate says, read back from the bytes that are to be signed: the input of policy and lint.
//!
//! It refuses extensions that certwright does not write, wrong critical flags and repeated extensions.

use std::collections::BTreeSet;
use std::net::IpAddr;

use x509_parser::certificate::TbsCertificate;
use x509_parser::extensions::{ExtendedKeyUsage, GeneralName, ParsedExtension, X509Extension};
use x509_parser::prelude::FromDer as _;

use super::issuer::moment;
use super::key::{PublicKey, SignatureAlgorithm};
use super::names::Names;
use super::usage::{KeyUsages, extended_by_oid};
use crate::ids::Serial;
use crate::rejection::{Reason, Rejection};
use crate::spec::Usage;
use crate::time::Timestamp;

/// Everything that a composed certificate says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FinalCertificate {
    /// Serial number.
    pub serial: Serial,
    /// What it will be signed with.
    pub signature_algorithm: SignatureAlgorithm,
    /// Issuer, a Name in DER.
    pub issuer_der: Vec<u8>,
    /// Subject, a Name in DER.
    pub subject_der: Vec<u8>,
    /// Start of validity.
    pub not_before: Timestamp,
    /// End of validity.
    pub not_after: Timestamp,
    /// Common name and alternative names.
    pub names: Names,
    /// The certified key.
    pub key: PublicKey,
    /// basicConstraints CA flag.
    pub is_ca: bool,
    /// basicConstraints path length.
    pub path_len: Option<u8>,
    /// keyUsage.
    pub key_usages: KeyUsages,
    /// extendedKeyUsage.
    pub extended_usages: BTreeSet<Usage>,
    /// subjectKeyIdentifier.
    pub subject_key_identifier: Vec<u8>,
    /// authorityKeyIdentifier.
    pub authority_key_identifier: Vec<u8>,
}

pub(crate) fn unreadable(what: impl std::fmt::Display) -> Rejection {
    Rejection::field(Reason::LintFailed, "encoding", format!("the composed certificate is malformed: {what}"))
}

/// Reads the bytes that are to be signed. Rejects with LINT_FAILED.
pub(crate) fn read(tbs_der: &[u8]) -> Result<FinalCertificate, Rejection> {
    let (rest, tbs) = TbsCertificate::from_der(tbs_der).map_err(unreadable)?;
    if !rest.is_empty() || tbs.version.0 != 2 || tbs.issuer_uid.is_some() || tbs.subject_uid.is_some() {
        return Err(unreadable("not a certificate of version 3 without unique identifiers"));
    }
    let extensions = Extensions::read(&tbs)?;
    let serial = <[u8; 20]>::try_from(tbs.raw_serial()).ok().and_then(Serial::from_octets);
    Ok(FinalCertificate {
        serial: serial.ok_or_else(|| unreadable("a serial that is not 20 octets, positive, the first not zero"))?,
        signature_algorithm: signature_algorithm(&tbs)?,
        issuer_der: tbs.issuer.as_raw().to_vec(),
        subject_der: tbs.subject.as_raw().to_vec(),
        not_before: moment(tbs.validity.not_before)?,
        not_after: moment(tbs.validity.not_after)?,
        names: Names { common_name: common_name(&tbs)?, ..extensions.names },
        key: PublicKey::parse(tbs.subject_pki.raw)?,
        is_ca: extensions.is_ca,
        path_len: extensions.path_len,
        key_usages: extensions.key_usages,
        extended_usages: extensions.extended_usages,
        subject_key_identifier: extensions.subject_key_identifier,
        authority_key_identifier: extensions.authority_key_identifier,
    })
}

fn signature_algorithm(tbs: &TbsCertificate<'_>) -> Result<SignatureAlgorithm, Rejection> {
    let oid = super::der::encode(super::der::OID, &[tbs.signature.algorithm.as_bytes()]);
    let null: &[u8] = if tbs.signature.parameters.is_some() { &[5, 0] } else { &[] };
    SignatureAlgorithm::from_der(&super::der::encode(super::der::SEQUENCE, &[&oid, null]))
        .ok_or_else(|| unreadable("an unknown signature algorithm"))
}

fn common_name(tbs: &TbsCertificate<'_>) -> Result<Option<String>, Rejection> {
    let mut found = tbs.subject.iter_common_name();
    let name = found.next().map(|name| name.as_str().map(str::to_owned)).transpose().map_err(unreadable)?;
    match found.next() {
        None => Ok(name),
        Some(_) => Err(unreadable("two common names")),
    }
}

/// What the extensions say.
#[derive(Default)]
struct Extensions {
    names: Names,
    is_ca: bool,
    path_len: Option<u8>,
    key_usages: KeyUsages,
    extended_usages: BTreeSet<Usage>,
    subject_key_identifier: Vec<u8>,
    authority_key_identifier: Vec<u8>,
}

impl Extensions {
    fn read(tbs: &TbsCertificate<'_>) -> Result<Self, Rejection> {
        let empty_subject = tbs.subject.iter().next().is_none();
        let (mut found, mut seen) = (Self::default(), BTreeSet::new());
        for extension in tbs.extensions() {
            if !seen.insert(extension.oid.to_id_string()) {
                return Err(unreadable(format_args!("extension {} twice", extension.oid)));
            }
            found.take(extension, empty_subject)?;
        }
        Ok(found)
    }

    fn take(&mut self, extension: &X509Extension<'_>, empty_subject: bool) -> Result<(), Rejection> {
        // RFC 5280: keyUsage SHOULD and a CA's basicConstraints MUST be critical, a subjectAltName MUST be when the
        // subject is empty and SHOULD NOT be otherwise, the identifiers MUST NOT be.
        let critical = match extension.parsed_extension() {
            ParsedExtension::BasicConstraints(basic) => {
                self.is_ca = basic.ca;
                self.path_len = basic.path_len_constraint.map(u8::try_from).transpose().map_err(unreadable)?;
                true
            }
            ParsedExtension::KeyUsage(usage) => {
                self.key_usages = KeyUsages(usage.flags);
                true
            }
            ParsedExtension::ExtendedKeyUsage(usage) => {
                self.extended_usages = extended(usage)?;
                false
            }
            ParsedExtension::SubjectAlternativeName(names) => {
                names.general_names.iter().try_for_each(|name| take_name(&mut self.names, name))?;
                empty_subject
            }
            ParsedExtension::SubjectKeyIdentifier(id) => {
                self.subject_key_identifier = id.0.to_vec();
                false
            }
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                self.authority_key_identifier = id.key_identifier.as_ref().map(|id| id.0.to_vec()).unwrap_or_default();
                false
            }
            _ => return Err(unreadable(format_args!("extension {} that was not composed", extension.oid))),
        };
        if critical == extension.critical {
            return Ok(());
        }
        Err(unreadable(format_args!("extension {} with critical {}", extension.oid, extension.critical)))
    }
}

fn take_name(names: &mut Names, name: &GeneralName<'_>) -> Result<(), Rejection> {
    match name {
        GeneralName::DNSName(name) => names.dns_names.push((*name).to_owned()),
        GeneralName::URI(uri) => names.uris.push((*uri).to_owned()),
        GeneralName::RFC822Name(address) => names.email_addresses.push((*address).to_owned()),
        GeneralName::IPAddress(octets) => {
            let v4 = <[u8; 4]>::try_from(*octets).map(IpAddr::from);
            let address = v4.or_else(|_| <[u8; 16]>::try_from(*octets).map(IpAddr::from));
            names.ip_addresses.push(address.map_err(unreadable)?);
        }
        _ => return Err(unreadable("an alternative name of a kind that was not composed")),
    }
    Ok(())
}

fn extended(usage: &ExtendedKeyUsage<'_>) -> Result<BTreeSet<Usage>, Rejection> {
    let flags = [
        (usage.any, Usage::Any),
        (usage.server_auth, Usage::ServerAuth),
        (usage.client_auth, Usage::ClientAuth),
        (usage.code_signing, Usage::CodeSigning),
        (usage.email_protection, Usage::EmailProtection),
        (usage.time_stamping, Usage::Timestamping),
        (usage.ocsp_signing, Usage::OcspSigning),
    ];
    let mut found: BTreeSet<_> = flags.into_iter().filter(|(set, _)| *set).map(|(_, usage)| usage).collect();
    for oid in &usage.other {
        let arcs: Option<Vec<u64>> = oid.iter().map(Iterator::collect);
        found.insert(arcs.and_then(|arcs| extended_by_oid(&arcs)).ok_or_else(|| unreadable("an unknown usage"))?);
    }
    Ok(found)
}
