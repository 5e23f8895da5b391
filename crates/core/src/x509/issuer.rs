//! The certificate of an authority that signs: parsed once, shared by all that it issues.
//!
//! It refuses certificates that may not sign certificates; it holds no private key.

use std::sync::Arc;

use x509_parser::prelude::FromDer as _;

use super::constraints::NameConstraints;
use super::key::{PublicKey, SignatureAlgorithm};
use crate::rejection::{Reason, Rejection};
use crate::time::Timestamp;

/// A CA certificate that may sign. Cheap to clone: parse it once for each authority and keep it.
#[derive(Clone, Debug)]
pub struct IssuerCertificate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    der: Vec<u8>,
    subject_der: Vec<u8>,
    key: PublicKey,
    key_identifier: Vec<u8>,
    not_before: Timestamp,
    not_after: Timestamp,
    path_len: Option<u8>,
    constraints: NameConstraints,
    algorithm: SignatureAlgorithm,
}

fn refuse(message: impl Into<String>) -> Rejection {
    Rejection::new(Reason::LintFailed, format!("the authority's certificate cannot sign: {}", message.into()))
}

impl IssuerCertificate {
    /// Parses the certificate of an authority. Rejects with LINT_FAILED what is no CA certificate with the right to
    /// sign certificates, and with KEY_NOT_ALLOWED keys that authorities may not have.
    pub fn parse(der: &[u8]) -> Result<Self, Rejection> {
        let (rest, certificate) =
            x509_parser::certificate::X509Certificate::from_der(der).map_err(|error| refuse(error.to_string()))?;
        if !rest.is_empty() {
            return Err(refuse("octets behind its end"));
        }
        let constraints = certificate.basic_constraints().map_err(|error| refuse(error.to_string()))?;
        let Some(basic) = constraints.map(|extension| extension.value).filter(|basic| basic.ca) else {
            return Err(refuse("it is no CA certificate"));
        };
        let usage = certificate.key_usage().map_err(|error| refuse(error.to_string()))?;
        if usage.is_some_and(|usage| !usage.value.key_cert_sign()) {
            return Err(refuse("its key usage does not include cert sign"));
        }
        let key = PublicKey::parse(certificate.public_key().raw)?;
        Ok(Self(Arc::new(Inner {
            subject_der: certificate.subject().as_raw().to_vec(),
            key_identifier: subject_key_identifier(&certificate).unwrap_or_else(|| key.key_identifier().to_vec()),
            not_before: moment(certificate.validity().not_before)?,
            not_after: moment(certificate.validity().not_after)?,
            path_len: basic.path_len_constraint.map(|len| u8::try_from(len).unwrap_or(u8::MAX)),
            constraints: NameConstraints::of(&certificate).map_err(refuse)?,
            algorithm: SignatureAlgorithm::of_authority(key.algorithm())?,
            der: der.to_vec(),
            key,
        })))
    }

    /// DER.
    pub fn der(&self) -> &[u8] {
        &self.0.der
    }

    /// Its subject, a Name in DER: the issuer of what it signs, byte for byte.
    pub fn subject_der(&self) -> &[u8] {
        &self.0.subject_der
    }

    /// Its key.
    pub fn key(&self) -> &PublicKey {
        &self.0.key
    }

    /// Its subject key identifier: the authority key identifier of what it signs.
    pub fn key_identifier(&self) -> &[u8] {
        &self.0.key_identifier
    }

    /// Start of validity.
    pub fn not_before(&self) -> Timestamp {
        self.0.not_before
    }

    /// End of validity.
    pub fn not_after(&self) -> Timestamp {
        self.0.not_after
    }

    /// How many CA certificates may follow below it (RFC 5280 section 4.2.1.9).
    pub fn path_len(&self) -> Option<u8> {
        self.0.path_len
    }

    /// Its name constraints.
    pub fn constraints(&self) -> &NameConstraints {
        &self.0.constraints
    }

    /// What it signs with.
    pub fn signature_algorithm(&self) -> SignatureAlgorithm {
        self.0.algorithm
    }
}

/// The subject key identifier of a certificate, if it has one.
pub(crate) fn subject_key_identifier(certificate: &x509_parser::certificate::TbsCertificate<'_>) -> Option<Vec<u8>> {
    certificate.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        x509_parser::extensions::ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
        _ => None,
    })
}

/// A certificate's date; before 1970 is an error.
pub(crate) fn moment(time: x509_parser::time::ASN1Time) -> Result<Timestamp, Rejection> {
    u64::try_from(time.timestamp())
        .map(Timestamp::from_seconds)
        .map_err(|_| Rejection::new(Reason::LintFailed, "a date before 1970 in a certificate"))
}
