//! The bytes to be signed: rcgen writes them, then issuer, subject and key are put in byte for byte.
//!
//! It refuses rcgen's choices for those three: it knows keys by the algorithm of a signature (rcgen issue 448), holds
//! one value of each subject attribute, and writes an issuer's name anew instead of repeating it.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, IsCa, Issuer, KeyIdMethod, PublicKeyData, SanType,
    SigningKey,
};
use time::OffsetDateTime;

use crate::rejection::Rejection;
use crate::time::Timestamp;
use crate::x509::der;
use crate::x509::facts::{FinalCertificate, unreadable};
use crate::x509::usage::extended_purposes;

/// Stands where rcgen wants a key to sign with; there is none, the "signature" is one octet and thrown away.
struct NoKey(&'static rcgen::SignatureAlgorithm);

impl PublicKeyData for NoKey {
    fn der_bytes(&self) -> &[u8] {
        &[]
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        self.0
    }
}

impl SigningKey for NoKey {
    fn sign(&self, _message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(vec![0])
    }
}

/// Encodes a TBSCertificate that says what was decided.
pub(crate) fn encode(decided: &FinalCertificate) -> Result<Vec<u8>, Rejection> {
    let algorithm = decided.signature_algorithm.rcgen().ok_or_else(|| unreadable("an algorithm no authority has"))?;
    let certificate = params(decided)?
        .signed_by(&NoKey(algorithm), &Issuer::new(issuer_params(decided), NoKey(algorithm)))
        .map_err(unreadable)?;
    splice(certificate.der(), decided).ok_or_else(|| unreadable("not the ten elements that were expected"))
}

/// Everything explicit: rcgen's defaults are a serial that repeats with the key, validity from 1975 to 4096 and a
/// made-up common name.
fn params(decided: &FinalCertificate) -> Result<CertificateParams, Rejection> {
    let mut params = CertificateParams::default();
    params.not_before = date(decided.not_before)?;
    params.not_after = date(decided.not_after)?;
    params.serial_number = Some(rcgen::SerialNumber::from_slice(decided.serial.octets()));
    params.subject_alt_names = alternative_names(decided)?;
    params.distinguished_name = DistinguishedName::new();
    if decided.subject_der != der::encode(der::SEQUENCE, &[]) {
        // Any name will do: it is replaced. But rcgen marks alternative names critical when there is none.
        params.distinguished_name.push(rcgen::DnType::CommonName, "subject");
    }
    params.is_ca = match (decided.is_ca, decided.path_len) {
        (false, _) => IsCa::ExplicitNoCa,
        (true, None) => IsCa::Ca(BasicConstraints::Unconstrained),
        (true, Some(len)) => IsCa::Ca(BasicConstraints::Constrained(len)),
    };
    params.key_usages = decided.key_usages.purposes();
    params.extended_key_usages = extended_purposes(&decided.extended_usages);
    params.use_authority_key_identifier_extension = true;
    params.key_identifier_method = KeyIdMethod::PreSpecified(decided.subject_key_identifier.clone());
    Ok(params)
}

fn issuer_params(decided: &FinalCertificate) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.key_identifier_method = KeyIdMethod::PreSpecified(decided.authority_key_identifier.clone());
    params
}

fn date(moment: Timestamp) -> Result<OffsetDateTime, Rejection> {
    i64::try_from(moment.seconds())
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .ok_or_else(|| unreadable("a date after the year 9999"))
}

fn alternative_names(decided: &FinalCertificate) -> Result<Vec<SanType>, Rejection> {
    let names = &decided.names;
    let text = |name: &String| name.as_str().try_into().map_err(unreadable);
    let mut list = Vec::with_capacity(names.alternatives());
    for name in &names.dns_names {
        list.push(SanType::DnsName(text(name)?));
    }
    list.extend(names.ip_addresses.iter().copied().map(SanType::IpAddress));
    for uri in &names.uris {
        list.push(SanType::URI(text(uri)?));
    }
    for address in &names.email_addresses {
        list.push(SanType::Rfc822Name(text(address)?));
    }
    Ok(list)
}

/// version, serial, signature, ISSUER, validity, SUBJECT, KEY, extensions: the three in capitals replaced.
fn splice(certificate: &[u8], decided: &FinalCertificate) -> Option<Vec<u8>> {
    let (tbs, _) = der::next(der::only(der::SEQUENCE, certificate)?)?;
    let parts = der::elements(tbs.content, 8)?;
    let [version, serial, signature, _, validity, _, _, extensions] = parts[..] else {
        return None;
    };
    Some(der::encode(
        der::SEQUENCE,
        &[
            version.raw,
            serial.raw,
            signature.raw,
            &decided.issuer_der,
            validity.raw,
            &decided.subject_der,
            decided.key.spki_der(),
            extensions.raw,
        ],
    ))
}
