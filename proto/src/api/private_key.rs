//! `privateKey` of a specification, with the defaults of its dialect.
//!
//! It refuses algorithms and sizes that no policy allows (`KEY_NOT_ALLOWED`).

use certwright_core::spec::{Dialect, KeyAlgorithm, KeyEncoding, PrivateKeySpec, RotationPolicy};
use certwright_core::{Reason, Rejection};

use super::values::invalid;
use crate::v1;

/// The key that a message asks for. cert-manager's documents default to RSA 2048 in PKCS#1, ours to ECDSA P-256 in
/// PKCS#8; both make a new key for each generation (cert-manager since 1.18).
pub(super) fn from_message(dialect: Dialect, key: v1::PrivateKey) -> Result<PrivateKeySpec, Rejection> {
    let algorithm = algorithm(dialect, &key)?;
    Ok(PrivateKeySpec { algorithm, encoding: encoding(dialect, algorithm, &key)?, rotation_policy: rotation(&key)? })
}

fn algorithm(dialect: Dialect, key: &v1::PrivateKey) -> Result<KeyAlgorithm, Rejection> {
    let name = match (&*key.algorithm, dialect) {
        ("", Dialect::CertManager) => "RSA",
        // A size alone says which algorithm is meant.
        ("", Dialect::Certwright) if key.size >= 1024 => "RSA",
        ("", Dialect::Certwright) => "ECDSA",
        (name, _) => name,
    };
    let size_not_allowed = |allowed: &str| {
        let message = format!("{name} keys of {} bits are not allowed; {allowed} are", key.size);
        Rejection::field(Reason::KeyNotAllowed, "spec.privateKey.size", message)
    };
    match (name, key.size) {
        ("RSA", 0 | 2048) => Ok(KeyAlgorithm::Rsa2048),
        ("RSA", 3072) => Ok(KeyAlgorithm::Rsa3072),
        ("RSA", 4096) => Ok(KeyAlgorithm::Rsa4096),
        ("RSA", _) => Err(size_not_allowed("2048, 3072 and 4096")),
        ("ECDSA", 0 | 256) => Ok(KeyAlgorithm::EcdsaP256),
        ("ECDSA", 384) => Ok(KeyAlgorithm::EcdsaP384),
        ("ECDSA", _) => Err(size_not_allowed("256 and 384")),
        // Its size is fixed; cert-manager ignores the field.
        ("Ed25519", _) => Ok(KeyAlgorithm::Ed25519),
        _ => Err(Rejection::field(
            Reason::KeyNotAllowed,
            "spec.privateKey.algorithm",
            format!("{name:?} is not one of RSA, ECDSA, Ed25519"),
        )),
    }
}

fn encoding(dialect: Dialect, algorithm: KeyAlgorithm, key: &v1::PrivateKey) -> Result<KeyEncoding, Rejection> {
    match (&*key.encoding, dialect) {
        // Ed25519 has no other encoding; cert-manager overrides what the document says.
        ("" | "PKCS1" | "PKCS8", Dialect::CertManager) if algorithm == KeyAlgorithm::Ed25519 => Ok(KeyEncoding::Pkcs8),
        ("PKCS1", _) if algorithm == KeyAlgorithm::Ed25519 => {
            Err(invalid("spec.privateKey.encoding", "Ed25519 keys have no PKCS1 encoding; use PKCS8"))
        }
        ("PKCS1", _) | ("", Dialect::CertManager) => Ok(KeyEncoding::Pkcs1),
        ("PKCS8", _) | ("", Dialect::Certwright) => Ok(KeyEncoding::Pkcs8),
        (name, _) => Err(invalid("spec.privateKey.encoding", format!("{name:?} is not one of PKCS1, PKCS8"))),
    }
}

fn rotation(key: &v1::PrivateKey) -> Result<RotationPolicy, Rejection> {
    match &*key.rotation_policy {
        "" | "Always" => Ok(RotationPolicy::Always),
        "Never" => Ok(RotationPolicy::Never),
        name => Err(invalid("spec.privateKey.rotationPolicy", format!("{name:?} is not one of Always, Never"))),
    }
}

/// The key, every field spelled out.
pub(super) fn to_message(key: &PrivateKeySpec) -> v1::PrivateKey {
    let (algorithm, size) = match key.algorithm {
        KeyAlgorithm::Rsa2048 => ("RSA", 2048),
        KeyAlgorithm::Rsa3072 => ("RSA", 3072),
        KeyAlgorithm::Rsa4096 => ("RSA", 4096),
        KeyAlgorithm::EcdsaP256 => ("ECDSA", 256),
        KeyAlgorithm::EcdsaP384 => ("ECDSA", 384),
        KeyAlgorithm::Ed25519 => ("Ed25519", 0),
    };
    let encoding = match key.encoding {
        KeyEncoding::Pkcs1 => "PKCS1",
        KeyEncoding::Pkcs8 => "PKCS8",
    };
    let rotation_policy = match key.rotation_policy {
        RotationPolicy::Always => "Always",
        RotationPolicy::Never => "Never",
    };
    v1::PrivateKey {
        algorithm: algorithm.to_owned(),
        size,
        encoding: encoding.to_owned(),
        rotation_policy: rotation_policy.to_owned(),
    }
}
