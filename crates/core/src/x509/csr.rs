//! Signing requests (PKCS #10, RFC 2986): parsed within bounds, possession of the key proved, requested names read.
//!
//! It refuses what a request has no say in: CA:TRUE is an error, every other extension but the names is not even read.

use std::net::IpAddr;

use rustls_pki_types::pem::{PemObject as _, SectionKind};

use super::der;
use super::key::{PublicKey, SignatureAlgorithm};
use super::names::{self, NameError, Names};
use crate::limits::{CSR_OCTETS_MAX, NAMES_MAX};
use crate::rejection::{Reason, Rejection};
use crate::spec::KeyAlgorithm;

/// Attributes and extensions of one request: more than any generator writes.
const ELEMENTS_MAX: usize = 64;
/// extensionRequest (RFC 2985 section 5.4.2), 1.2.840.113549.1.9.14.
const EXTENSION_REQUEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x0e];
/// The same attribute under Microsoft's identifier, 1.3.6.1.4.1.311.2.1.14.
const EXTENSION_REQUEST_MICROSOFT: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x02, 0x01, 0x0e];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

fn malformed(what: impl Into<String>) -> Rejection {
    Rejection::new(Reason::InvalidCsr, what)
}

/// A parsed request whose signature was not looked at yet.
#[derive(Debug)]
pub struct Csr {
    signed: Vec<u8>,
    algorithm: Option<SignatureAlgorithm>,
    signature: Vec<u8>,
    key: PublicKey,
    names: Names,
}

/// A request whose sender holds the private key: only [`Csr::verify`] makes one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerifiedCsr {
    key: PublicKey,
    names: Names,
}

/// Parses a request in PEM (one `CERTIFICATE REQUEST` block, text around it ignored) or DER, at most `CSR_OCTETS_MAX`
/// octets. Rejects with TOO_LARGE, INVALID_CSR, KEY_NOT_ALLOWED or CSR_NOT_ALLOWED.
pub fn parse(bytes: &[u8]) -> Result<Csr, Rejection> {
    if bytes.len() > CSR_OCTETS_MAX {
        let message = format!("a signing request of {} octets; {CSR_OCTETS_MAX} are allowed", bytes.len());
        return Err(Rejection::new(Reason::TooLarge, message));
    }
    match der::only(der::SEQUENCE, bytes) {
        Some(content) => parse_content(content),
        None => {
            let decoded = from_pem(bytes)?;
            let content = der::only(der::SEQUENCE, &decoded);
            parse_content(content.ok_or_else(|| malformed("the PEM block holds no DER"))?)
        }
    }
}

/// The one request in a PEM text. OpenSSL's older label with `NEW` is the same thing.
fn from_pem(text: &[u8]) -> Result<Vec<u8>, Rejection> {
    let text = String::from_utf8_lossy(text).replace("NEW CERTIFICATE REQUEST-----", "CERTIFICATE REQUEST-----");
    let mut found = None;
    for block in <(SectionKind, Vec<u8>)>::pem_slice_iter(text.as_bytes()) {
        let (kind, der) = block.map_err(|error| malformed(format!("malformed PEM: {error}")))?;
        if kind == SectionKind::Csr && found.replace(der).is_some() {
            return Err(malformed("there is more than one signing request in the PEM text"));
        }
    }
    found.ok_or_else(|| malformed("neither DER nor PEM with a CERTIFICATE REQUEST block"))
}

fn parse_content(content: &[u8]) -> Result<Csr, Rejection> {
    let outer = der::elements(content, 3).unwrap_or_default();
    let [info, algorithm, signature] = outer[..] else {
        return Err(malformed("not a CertificationRequest"));
    };
    let inner = der::elements(info.content, 4).unwrap_or_default();
    let (version, subject, spki, attributes) = match inner[..] {
        [version, subject, spki] => (version, subject, spki, &[][..]),
        [version, subject, spki, attributes] if attributes.tag == 0xa0 => (version, subject, spki, attributes.content),
        _ => return Err(malformed("not a CertificationRequestInfo")),
    };
    if info.tag != der::SEQUENCE || subject.tag != der::SEQUENCE || version.raw != [der::INTEGER, 1, 0] {
        return Err(malformed("not a CertificationRequestInfo of version 1"));
    }
    let Some((0, signature_bits)) = signature.content.split_first().filter(|_| signature.tag == der::BIT_STRING) else {
        return Err(malformed("the signature is no string of octets"));
    };
    let key = PublicKey::parse(spki.raw)?;
    let names = read_names(subject.content, attributes)?;
    Ok(Csr {
        signed: info.raw.to_vec(),
        algorithm: SignatureAlgorithm::from_der(algorithm.raw),
        signature: signature_bits.to_vec(),
        key,
        names,
    })
}

impl Csr {
    /// The key in the request, possession not proved: good for look-ups only.
    pub fn claimed_key(&self) -> &PublicKey {
        &self.key
    }

    /// Proves possession: the request is signed by its own key with a SHA-2 algorithm that fits the key.
    /// Rejects with CSR_SIGNATURE_INVALID.
    pub fn verify(self) -> Result<VerifiedCsr, Rejection> {
        let refuse = |message: &str| Err(Rejection::new(Reason::CsrSignatureInvalid, message));
        let Some(algorithm) = self.algorithm else {
            return refuse("the request is signed with an algorithm other than ECDSA or RSA with SHA-2, or Ed25519");
        };
        if !self.key.verifies(algorithm, &self.signed, &self.signature) {
            return refuse("the request's signature was not made by the private half of its key");
        }
        Ok(VerifiedCsr { key: self.key, names: self.names })
    }
}

impl VerifiedCsr {
    /// The key.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// SubjectPublicKeyInfo, DER, byte for byte as it stood in the request.
    pub fn spki_der(&self) -> &[u8] {
        self.key.spki_der()
    }

    /// SHA-256 of the SubjectPublicKeyInfo.
    pub fn spki_hash(&self) -> [u8; 32] {
        self.key.hash()
    }

    /// The key's algorithm and size.
    pub fn key_algorithm(&self) -> KeyAlgorithm {
        self.key.algorithm()
    }

    /// The requested names, valid and without repetitions.
    pub fn names(&self) -> &Names {
        &self.names
    }
}

/// Reads common name and alternative names. A request with a common name and no alternative name asks for that DNS
/// name, as requests did before there were alternative names.
fn read_names(subject: &[u8], attributes: &[u8]) -> Result<Names, Rejection> {
    let mut names = Names { common_name: common_name(subject)?, ..Names::default() };
    let mut named = false;
    for extensions in extension_requests(attributes)? {
        for extension in read_extensions(extensions)? {
            match extension {
                (BASIC_CONSTRAINTS, value) => refuse_authority(value)?,
                (SUBJECT_ALT_NAME, _) if named => return Err(malformed("two lists of alternative names")),
                (SUBJECT_ALT_NAME, value) => {
                    named = true;
                    read_alternatives(value, &mut names)?;
                }
                _ => {}
            }
        }
    }
    if names.alternatives() == 0 {
        names.dns_names.extend(names.common_name.clone());
    }
    let names = names.normalized();
    names.check().map_err(|error| malformed_name(&error))?;
    Ok(names)
}

fn malformed_name(error: &NameError) -> Rejection {
    malformed(format!("the requested name {error}"))
}

/// The common name, if it is a DNS name. What looks like one (it has a dot or a star, and neither blank nor `@`) but
/// is none is an error; an address, a person's name or a mailbox is left out, for names are all that is read here.
fn common_name(subject: &[u8]) -> Result<Option<String>, Rejection> {
    let unreadable = || malformed("the subject is no distinguished name");
    let mut found = None;
    for relative in der::elements(subject, ELEMENTS_MAX).ok_or_else(unreadable)? {
        for attribute in der::elements(relative.content, ELEMENTS_MAX).ok_or_else(unreadable)? {
            let pair = der::elements(attribute.content, 2).ok_or_else(unreadable)?;
            let [oid, value] = pair[..] else {
                return Err(unreadable());
            };
            if oid.content == COMMON_NAME && found.replace(value).is_some() {
                return Err(malformed("the subject has more than one common name"));
            }
        }
    }
    let Some(text) = found.and_then(|value| std::str::from_utf8(value.content).ok()) else {
        return Ok(None);
    };
    if text.chars().any(char::is_control) {
        return Err(malformed("the common name contains a control character"));
    }
    let looks_like_dns = text.contains(['.', '*']) && !text.contains([' ', '@']) && text.parse::<IpAddr>().is_err();
    match names::check_dns(text).and_then(|()| names::check_common_name(text)) {
        Ok(()) => Ok(Some(text.to_ascii_lowercase())),
        Err(error) if looks_like_dns => Err(malformed_name(&error)),
        Err(_) => Ok(None),
    }
}

/// The extension lists of all attributes that carry one: a second attribute must not hide anything.
fn extension_requests(attributes: &[u8]) -> Result<Vec<&[u8]>, Rejection> {
    let unreadable = || malformed("the attributes cannot be read");
    let mut found = Vec::new();
    for attribute in der::elements(attributes, ELEMENTS_MAX).ok_or_else(unreadable)? {
        let pair = der::elements(attribute.content, 2).ok_or_else(unreadable)?;
        let [oid, values] = pair[..] else {
            return Err(unreadable());
        };
        if oid.content == EXTENSION_REQUEST || oid.content == EXTENSION_REQUEST_MICROSOFT {
            found.push(der::only(der::SEQUENCE, values.content).ok_or_else(unreadable)?);
        }
    }
    Ok(found)
}

/// Identifier and value of an extension.
type Extension<'a> = (&'a [u8], &'a [u8]);

/// Every extension of a list (RFC 5280 section 4.1).
fn read_extensions(extensions: &[u8]) -> Result<Vec<Extension<'_>>, Rejection> {
    let unreadable = || malformed("the requested extensions cannot be read");
    let list = der::elements(extensions, ELEMENTS_MAX).ok_or_else(unreadable)?;
    list.iter()
        .map(|extension| {
            let parts = der::elements(extension.content, 3)?;
            let (oid, value) = (parts.first()?, parts.last()?);
            (parts.len() >= 2 && oid.tag == der::OID && value.tag == der::OCTET_STRING)
                .then_some((oid.content, value.content))
        })
        .collect::<Option<_>>()
        .ok_or_else(unreadable)
}

fn refuse_authority(basic_constraints: &[u8]) -> Result<(), Rejection> {
    let unreadable = || malformed("the requested basic constraints cannot be read");
    let content = der::only(der::SEQUENCE, basic_constraints).ok_or_else(unreadable)?;
    let parts = der::elements(content, 2).ok_or_else(unreadable)?;
    match parts.first() {
        Some(first) if first.tag == der::BOOLEAN && first.content != [0] => Err(Rejection::field(
            Reason::CsrNotAllowed,
            "basicConstraints",
            "the request asks for a CA certificate (CA:TRUE)",
        )),
        Some(first) if first.tag != der::BOOLEAN && first.tag != der::INTEGER => Err(unreadable()),
        _ => Ok(()),
    }
}

/// Reads the alternative names (RFC 5280 section 4.2.1.6); kinds that certwright does not issue are CSR_NOT_ALLOWED.
fn read_alternatives(value: &[u8], names: &mut Names) -> Result<(), Rejection> {
    let unreadable = || malformed("the requested alternative names cannot be read");
    let content = der::only(der::SEQUENCE, value).ok_or_else(unreadable)?;
    let list = der::elements(content, CSR_OCTETS_MAX).ok_or_else(unreadable)?;
    if list.len() > NAMES_MAX {
        let message = format!("the request asks for {} names; {NAMES_MAX} are allowed", list.len());
        return Err(Rejection::new(Reason::TooLarge, message));
    }
    for name in list {
        let text = || std::str::from_utf8(name.content).map(str::to_owned).map_err(|_| unreadable());
        match name.tag {
            0x81 => names.email_addresses.push(text()?),
            0x82 => names.dns_names.push(text()?),
            0x86 => names.uris.push(text()?),
            0x87 => names.ip_addresses.push(read_address(name.content)?),
            other => {
                let kind = match other & 0x1f {
                    0 => "otherName",
                    4 => "directoryName",
                    8 => "registeredID",
                    _ => "of an unknown kind",
                };
                let message = format!("the request asks for an alternative name that is {kind}");
                return Err(Rejection::field(Reason::CsrNotAllowed, "subjectAltName", message));
            }
        }
    }
    Ok(())
}

fn read_address(octets: &[u8]) -> Result<IpAddr, Rejection> {
    if let Ok(v4) = <[u8; 4]>::try_from(octets) {
        return Ok(IpAddr::from(v4));
    }
    let v6 = <[u8; 16]>::try_from(octets).map_err(|_| malformed("an IP address of neither 4 nor 16 octets"))?;
    Ok(IpAddr::from(v6))
}
