//! Public keys: which ones certwright certifies, their exact encoding, and signatures verified by them.
//!
//! It refuses private keys, and every encoding of a public key but the canonical one.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::{digest, signature};

use super::der;
use crate::rejection::{Reason, Rejection};
use crate::spec::KeyAlgorithm;

/// SubjectPublicKeyInfo up to the point: id-ecPublicKey, prime256v1, 66 octets of bit string, uncompressed (RFC 5480).
const P256: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
];
/// The same for secp384r1.
const P384: &[u8] = &[
    0x30, 0x76, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81, 0x04, 0x00,
    0x22, 0x03, 0x62, 0x00, 0x04,
];
/// SubjectPublicKeyInfo up to the key: id-Ed25519 (RFC 8410 section 4).
const ED25519: &[u8] = &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// AlgorithmIdentifier of rsaEncryption with its NULL (RFC 3279 section 2.3.1).
const RSA: &[u8] = &[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];
/// INTEGER 65537.
const F4: &[u8] = &[0x01, 0x00, 0x01];

/// SHA-256 of a SubjectPublicKeyInfo: how keys are pinned and compared.
pub fn spki_hash(spki_der: &[u8]) -> [u8; 32] {
    sha256(spki_der)
}

/// SHA-256.
pub fn sha256(octets: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, octets).as_ref());
    hash
}

/// A public key that certwright certifies: ECDSA P-256 or P-384 with an uncompressed point, Ed25519, or RSA of 2048,
/// 3072 or 4096 bits with exponent 65537 (the sizes that public CAs accept).
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    algorithm: KeyAlgorithm,
    spki: Arc<[u8]>,
    /// Where the bit string's content starts in `spki`.
    bits_at: usize,
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({:?})", self.algorithm)
    }
}

impl PublicKey {
    /// Parses a SubjectPublicKeyInfo; rejects with KEY_NOT_ALLOWED, which says what kind of key it is.
    pub fn parse(spki_der: &[u8]) -> Result<Self, Rejection> {
        let (algorithm, bits_at) = classify(spki_der).map_err(|cause| {
            Rejection::new(Reason::KeyNotAllowed, format!("the public key is not one that can be certified: {cause}"))
        })?;
        Ok(Self { algorithm, spki: spki_der.into(), bits_at })
    }

    /// Its algorithm and size.
    pub fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    /// SubjectPublicKeyInfo, DER, as it came.
    pub fn spki_der(&self) -> &[u8] {
        &self.spki
    }

    /// SHA-256 of the SubjectPublicKeyInfo.
    pub fn hash(&self) -> [u8; 32] {
        spki_hash(&self.spki)
    }

    /// Key identifier: the leftmost 160 bits of SHA-256 of the key's bits (RFC 7093 section 2, method 1).
    pub fn key_identifier(&self) -> [u8; 20] {
        let mut id = [0; 20];
        id.copy_from_slice(&sha256(self.bits())[..20]);
        id
    }

    /// The bit string's content: a point, an Ed25519 key or an RSAPublicKey.
    pub(crate) fn bits(&self) -> &[u8] {
        &self.spki[self.bits_at..]
    }

    /// Whether `signature` over `message` was made by this key's private half. False as well when the algorithm does
    /// not fit the key.
    pub fn verifies(&self, algorithm: SignatureAlgorithm, message: &[u8], signature: &[u8]) -> bool {
        let Some(verification) = algorithm.verification(self.algorithm) else {
            return false;
        };
        signature::UnparsedPublicKey::new(verification, self.bits()).verify(message, signature).is_ok()
    }
}

fn classify(spki: &[u8]) -> Result<(KeyAlgorithm, usize), String> {
    if spki.starts_with(P256) && spki.len() == P256.len() + 64 {
        return Ok((KeyAlgorithm::EcdsaP256, P256.len() - 1));
    }
    if spki.starts_with(P384) && spki.len() == P384.len() + 96 {
        return Ok((KeyAlgorithm::EcdsaP384, P384.len() - 1));
    }
    if spki.starts_with(ED25519) && spki.len() == ED25519.len() + 32 {
        return Ok((KeyAlgorithm::Ed25519, ED25519.len()));
    }
    let [algorithm, bits] = parts(spki).ok_or("it is no SubjectPublicKeyInfo in DER")?;
    match (algorithm.raw == RSA, bits.content.split_first()) {
        (true, Some((0, key))) => Ok((classify_rsa(key)?, spki.len() - key.len())),
        _ => Err(describe(algorithm.content)),
    }
}

fn parts(spki: &[u8]) -> Option<[der::Element<'_>; 2]> {
    let both: [_; 2] = der::elements(der::only(der::SEQUENCE, spki)?, 2)?.try_into().ok()?;
    (both[0].tag == der::SEQUENCE && both[1].tag == der::BIT_STRING).then_some(both)
}

fn classify_rsa(key: &[u8]) -> Result<KeyAlgorithm, String> {
    let malformed = || "a malformed RSA key".to_owned();
    let content = der::only(der::SEQUENCE, key).ok_or_else(malformed)?;
    let numbers = der::elements(content, 2).ok_or_else(malformed)?;
    let [modulus, exponent] = numbers[..] else {
        return Err(malformed());
    };
    if modulus.tag != der::INTEGER || exponent.tag != der::INTEGER {
        return Err(malformed());
    }
    let bits = significant_bits(modulus.content).ok_or_else(malformed)?;
    if exponent.content != F4 {
        return Err("an RSA key whose public exponent is not 65537".to_owned());
    }
    if modulus.content.last().is_some_and(|octet| octet & 1 == 0) {
        return Err("an RSA key with an even modulus".to_owned());
    }
    match bits {
        2048 => Ok(KeyAlgorithm::Rsa2048),
        3072 => Ok(KeyAlgorithm::Rsa3072),
        4096 => Ok(KeyAlgorithm::Rsa4096),
        bits => Err(format!("an RSA key of {bits} bits")),
    }
}

/// Bits of a positive INTEGER in canonical form.
fn significant_bits(integer: &[u8]) -> Option<usize> {
    let magnitude = match integer {
        [0, next, ..] if *next >= 0x80 => &integer[1..],
        [first, ..] if (1..0x80).contains(first) => integer,
        _ => return None,
    };
    Some(magnitude.len() * 8 - magnitude.first()?.leading_zeros() as usize)
}

/// Names the algorithm of a key that is not allowed, for the message.
fn describe(algorithm: &[u8]) -> String {
    const KNOWN: [(&[u8], &str); 8] = [
        (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07], "a P-256 key in a form other than an uncompressed point"),
        (&[0x2b, 0x81, 0x04, 0x00, 0x22], "a P-384 key in a form other than an uncompressed point"),
        (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x01], "an elliptic curve key on P-192"),
        (&[0x2b, 0x81, 0x04, 0x00, 0x21], "an elliptic curve key on P-224"),
        (&[0x2b, 0x81, 0x04, 0x00, 0x23], "an elliptic curve key on P-521"),
        (&[0x2b, 0x81, 0x04, 0x00, 0x0a], "an elliptic curve key on secp256k1"),
        (&[0x2a, 0x86, 0x48, 0xce, 0x38, 0x04, 0x01], "a DSA key"),
        (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01], "an RSA key with malformed parameters"),
    ];
    let elements = der::elements(algorithm, 2).unwrap_or_default();
    let found =
        elements.iter().rev().find_map(|e| KNOWN.iter().find(|(oid, _)| e.tag == der::OID && *oid == e.content));
    found.map_or("a key of another algorithm or curve", |(_, name)| name).to_owned()
}

/// Signature algorithms that certwright verifies; no SHA-1 among them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SignatureAlgorithm {
    /// ecdsa-with-SHA256 (RFC 5758)
    EcdsaSha256,
    /// ecdsa-with-SHA384
    EcdsaSha384,
    /// ecdsa-with-SHA512
    EcdsaSha512,
    /// sha256WithRSAEncryption (RFC 4055)
    RsaSha256,
    /// sha384WithRSAEncryption
    RsaSha384,
    /// sha512WithRSAEncryption
    RsaSha512,
    /// Ed25519 (RFC 8410)
    Ed25519,
}

impl SignatureAlgorithm {
    const ALL: [Self; 7] = [
        Self::EcdsaSha256,
        Self::EcdsaSha384,
        Self::EcdsaSha512,
        Self::RsaSha256,
        Self::RsaSha384,
        Self::RsaSha512,
        Self::Ed25519,
    ];

    /// What an authority signs with: P-256 with SHA-256, P-384 with SHA-384, RSA with SHA-256 in PKCS #1 v1.5.
    /// Rejects Ed25519 with KEY_NOT_ALLOWED: too few clients verify chains with it.
    pub fn of_authority(key: KeyAlgorithm) -> Result<Self, Rejection> {
        match key {
            KeyAlgorithm::EcdsaP256 => Ok(Self::EcdsaSha256),
            KeyAlgorithm::EcdsaP384 => Ok(Self::EcdsaSha384),
            KeyAlgorithm::Rsa2048 | KeyAlgorithm::Rsa3072 | KeyAlgorithm::Rsa4096 => Ok(Self::RsaSha256),
            KeyAlgorithm::Ed25519 => {
                Err(Rejection::new(Reason::KeyNotAllowed, "an authority's key is ECDSA P-256 or P-384, or RSA"))
            }
        }
    }

    /// The algorithm of a DER AlgorithmIdentifier, parameters included.
    pub(crate) fn from_der(identifier: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.identifier() == identifier)
    }

    /// AlgorithmIdentifier, DER.
    pub(crate) fn identifier(self) -> &'static [u8] {
        match self {
            Self::EcdsaSha256 => &[0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2],
            Self::EcdsaSha384 => &[0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3],
            Self::EcdsaSha512 => &[0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 4],
            Self::RsaSha256 => &[0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11, 5, 0],
            Self::RsaSha384 => &[0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 12, 5, 0],
            Self::RsaSha512 => &[0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 13, 5, 0],
            Self::Ed25519 => &[0x30, 5, 6, 3, 0x2b, 0x65, 0x70],
        }
    }

    /// Its name as OpenSSL prints it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::EcdsaSha256 => "ecdsa-with-SHA256",
            Self::EcdsaSha384 => "ecdsa-with-SHA384",
            Self::EcdsaSha512 => "ecdsa-with-SHA512",
            Self::RsaSha256 => "sha256WithRSAEncryption",
            Self::RsaSha384 => "sha384WithRSAEncryption",
            Self::RsaSha512 => "sha512WithRSAEncryption",
            Self::Ed25519 => "ED25519",
        }
    }

    /// How rcgen names what an authority signs with.
    pub(crate) fn rcgen(self) -> Option<&'static rcgen::SignatureAlgorithm> {
        match self {
            Self::EcdsaSha256 => Some(&rcgen::PKCS_ECDSA_P256_SHA256),
            Self::EcdsaSha384 => Some(&rcgen::PKCS_ECDSA_P384_SHA384),
            Self::RsaSha256 => Some(&rcgen::PKCS_RSA_SHA256),
            _ => None,
        }
    }

    fn verification(self, key: KeyAlgorithm) -> Option<&'static dyn signature::VerificationAlgorithm> {
        use KeyAlgorithm::{EcdsaP256, EcdsaP384, Rsa2048, Rsa3072, Rsa4096};
        Some(match (self, key) {
            (Self::EcdsaSha256, EcdsaP256) => &signature::ECDSA_P256_SHA256_ASN1,
            (Self::EcdsaSha384, EcdsaP256) => &signature::ECDSA_P256_SHA384_ASN1,
            (Self::EcdsaSha512, EcdsaP256) => &signature::ECDSA_P256_SHA512_ASN1,
            (Self::EcdsaSha256, EcdsaP384) => &signature::ECDSA_P384_SHA256_ASN1,
            (Self::EcdsaSha384, EcdsaP384) => &signature::ECDSA_P384_SHA384_ASN1,
            (Self::EcdsaSha512, EcdsaP384) => &signature::ECDSA_P384_SHA512_ASN1,
            (Self::RsaSha256, Rsa2048 | Rsa3072 | Rsa4096) => &signature::RSA_PKCS1_2048_8192_SHA256,
            (Self::RsaSha384, Rsa2048 | Rsa3072 | Rsa4096) => &signature::RSA_PKCS1_2048_8192_SHA384,
            (Self::RsaSha512, Rsa2048 | Rsa3072 | Rsa4096) => &signature::RSA_PKCS1_2048_8192_SHA512,
            (Self::Ed25519, KeyAlgorithm::Ed25519) => &signature::ED25519,
            _ => return None,
        })
    }
}
