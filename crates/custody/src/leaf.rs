//! Keys that agents and servers make for themselves: made, encoded for files, put into signing requests, used for TLS.
//!
//! It refuses the network: such a key leaves this process only as a file of its owner.

use std::sync::Arc;

use certwright_core::spec::{KeyAlgorithm, KeyEncoding};
use certwright_core::x509::{Names, PublicKey, der};
use rcgen::{CertificateParams, DistinguishedName, DnType, PublicKeyData, SanType, SigningKey};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

use crate::key_pair::KeyPair;
use crate::{CustodyError, pem};

/// A private key of an agent, server or administrator. Wiped when dropped; not to be copied or printed.
pub struct LeafKey(KeyPair);

impl LeafKey {
    /// Makes a key. RSA takes a good part of a second: call it on a worker.
    pub fn generate(algorithm: KeyAlgorithm) -> Result<Self, CustodyError> {
        KeyPair::generate(algorithm).map(Self)
    }

    /// Reads PKCS#8, PKCS#1 or SEC 1 in PEM; text around the block is ignored.
    pub fn from_pem(text: &str) -> Result<Self, CustodyError> {
        KeyPair::parse(&pem::decode(text)?).map(Self)
    }

    /// Reads PKCS#8 (or PKCS#1, SEC 1) in DER.
    pub fn from_der(der: &[u8]) -> Result<Self, CustodyError> {
        KeyPair::parse(der).map(Self)
    }

    /// PKCS#8 in DER.
    pub fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, CustodyError> {
        self.0.to_pkcs8()
    }

    /// PEM in the wanted encoding: PKCS#8, or with `Pkcs1` the key's traditional one, PKCS#1 for RSA and SEC 1 for
    /// elliptic curves. Ed25519 has none and stays PKCS#8.
    pub fn to_pem(&self, encoding: KeyEncoding) -> Result<Zeroizing<String>, CustodyError> {
        let pkcs8 = self.to_pkcs8()?;
        match (encoding, self.algorithm()) {
            (KeyEncoding::Pkcs8, _) | (_, KeyAlgorithm::Ed25519) => Ok(pem::encode("PRIVATE KEY", &pkcs8)),
            (KeyEncoding::Pkcs1, KeyAlgorithm::EcdsaP256 | KeyAlgorithm::EcdsaP384) => {
                let sec1 = sec1(&pkcs8).ok_or(CustodyError::Malformed("a PKCS#8 key"))?;
                Ok(pem::encode("EC PRIVATE KEY", &sec1))
            }
            (KeyEncoding::Pkcs1, _) => {
                let (_, key) = inner(&pkcs8).ok_or(CustodyError::Malformed("a PKCS#8 key"))?;
                Ok(pem::encode("RSA PRIVATE KEY", key))
            }
        }
    }

    /// Algorithm and size.
    pub fn algorithm(&self) -> KeyAlgorithm {
        self.0.public().algorithm()
    }

    /// The public half.
    pub fn public_key(&self) -> &PublicKey {
        self.0.public()
    }

    /// SHA-256 of the SubjectPublicKeyInfo.
    pub fn spki_hash(&self) -> [u8; 32] {
        self.0.public().hash()
    }

    /// Signs, as X.509 and TLS want it.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, CustodyError> {
        self.0.sign(message)
    }

    /// A signing request (PKCS #10, DER) for these names.
    pub fn request(&self, names: &Names) -> Result<Vec<u8>, CustodyError> {
        let failed = |_| CustodyError::Failed("composing a signing request");
        let text = |name: &String| name.as_str().try_into().map_err(failed);
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        if let Some(name) = &names.common_name {
            params.distinguished_name.push(DnType::CommonName, name.as_str());
        }
        for name in &names.dns_names {
            params.subject_alt_names.push(SanType::DnsName(text(name)?));
        }
        params.subject_alt_names.extend(names.ip_addresses.iter().copied().map(SanType::IpAddress));
        for uri in &names.uris {
            params.subject_alt_names.push(SanType::URI(text(uri)?));
        }
        for address in &names.email_addresses {
            params.subject_alt_names.push(SanType::Rfc822Name(text(address)?));
        }
        Ok(params.serialize_request(&Requester(&self.0)).map_err(failed)?.der().to_vec())
    }

    /// For rustls, with its certificate chain, leaf first. Fails when the leaf is not this key's.
    pub fn certified(&self, chain: Vec<CertificateDer<'static>>) -> Result<Arc<CertifiedKey>, CustodyError> {
        let pkcs8 = self.to_pkcs8()?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8.as_slice()));
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key)
            .map_err(|_| CustodyError::Unsupported("TLS with this key"))?;
        let certified = CertifiedKey::new(chain, key);
        certified.keys_match().map_err(|_| CustodyError::KeyMismatch)?;
        Ok(Arc::new(certified))
    }
}

/// A key as rcgen uses it, for requests only.
struct Requester<'a>(&'a KeyPair);

impl PublicKeyData for Requester<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0.public_bits()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        match self.0.public().algorithm() {
            KeyAlgorithm::EcdsaP256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            KeyAlgorithm::EcdsaP384 => &rcgen::PKCS_ECDSA_P384_SHA384,
            KeyAlgorithm::Ed25519 => &rcgen::PKCS_ED25519,
            KeyAlgorithm::Rsa2048 | KeyAlgorithm::Rsa3072 | KeyAlgorithm::Rsa4096 => &rcgen::PKCS_RSA_SHA256,
        }
    }
}

impl SigningKey for Requester<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0.sign(message).map_err(|_| rcgen::Error::RemoteKeyError)
    }
}

/// The algorithm parameters and the key inside a PKCS#8 PrivateKeyInfo (RFC 5958).
fn inner(pkcs8: &[u8]) -> Option<(&[u8], &[u8])> {
    let info = der::elements(der::only(der::SEQUENCE, pkcs8)?, 5)?;
    let [_version, algorithm, key, ..] = info[..] else {
        return None;
    };
    let parameters = der::elements(algorithm.content, 2)?.get(1)?.raw;
    (key.tag == der::OCTET_STRING).then_some((parameters, key.content))
}

/// ECPrivateKey (RFC 5915) with the curve that PKCS#8 keeps outside of it.
fn sec1(pkcs8: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (curve, key) = inner(pkcs8)?;
    let parts = der::elements(der::only(der::SEQUENCE, key)?, 4)?;
    let (version, secret) = (parts.first()?, parts.get(1)?);
    let public = parts.iter().find(|part| part.tag == 0xa1).map_or(&[][..], |part| part.raw);
    let parameters = der::encode(0xa0, &[curve]);
    Some(Zeroizing::new(der::encode(der::SEQUENCE, &[version.raw, secret.raw, &parameters, public])))
}

#[cfg(test)]
mod tests;
