//! Authorities to and from messages.
//!
//! It refuses to show the sealed key, and key algorithms that no authority has.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use certwright_core::ids::AuthorityName;
use certwright_core::spec::{AuthorityPurpose, AuthoritySpec, KeyAlgorithm};
use certwright_core::state::Authority;
use certwright_core::{Reason, Rejection};

use super::names;
use super::values::{about, etag, invalid, moment_to_message, span_from_optional, span_to_message};
use crate::v1;

/// Life of a root that does not say.
const ROOT_DURATION_DEFAULT: Duration = Duration::from_secs(3650 * 24 * 3600);

/// Life of an intermediate that does not say.
const INTERMEDIATE_DURATION_DEFAULT: Duration = Duration::from_secs(1825 * 24 * 3600);

/// The name and specification that a create wishes for.
pub fn authority_from_message(authority: Option<v1::Authority>) -> Result<(AuthorityName, AuthoritySpec), Rejection> {
    let authority = authority.ok_or_else(|| invalid("authority", "the request has no authority"))?;
    let name = about("name", names::authority(&authority.name))?;
    let parent = match &*authority.parent {
        "" => None,
        parent => Some(about("spec.parent", names::authority(parent))?),
    };
    let default = if parent.is_some() { INTERMEDIATE_DURATION_DEFAULT } else { ROOT_DURATION_DEFAULT };
    let spec = AuthoritySpec {
        common_name: authority.common_name,
        key_algorithm: key_algorithm(&authority.key_algorithm)?,
        duration: span_from_optional("spec.duration", authority.duration.as_ref())?.unwrap_or(default),
        parent,
        path_len: authority.path_len.map(path_len).transpose()?,
        purpose: purpose(&authority.purpose)?,
    };
    Ok((name, spec))
}

fn key_algorithm(name: &str) -> Result<KeyAlgorithm, Rejection> {
    match name {
        "" | "ECDSA-P256" => Ok(KeyAlgorithm::EcdsaP256),
        "ECDSA-P384" => Ok(KeyAlgorithm::EcdsaP384),
        "RSA-2048" => Ok(KeyAlgorithm::Rsa2048),
        name => Err(Rejection::field(
            Reason::KeyNotAllowed,
            "spec.keyAlgorithm",
            format!("{name:?} is not one of ECDSA-P256, ECDSA-P384, RSA-2048"),
        )),
    }
}

/// A key algorithm as authorities print it.
pub const fn key_algorithm_name(algorithm: KeyAlgorithm) -> &'static str {
    match algorithm {
        KeyAlgorithm::EcdsaP256 => "ECDSA-P256",
        KeyAlgorithm::EcdsaP384 => "ECDSA-P384",
        KeyAlgorithm::Ed25519 => "Ed25519",
        KeyAlgorithm::Rsa2048 => "RSA-2048",
        KeyAlgorithm::Rsa3072 => "RSA-3072",
        KeyAlgorithm::Rsa4096 => "RSA-4096",
    }
}

fn path_len(len: u32) -> Result<u8, Rejection> {
    len.try_into().map_err(|_| invalid("spec.pathLen", format!("{len} is above 255")))
}

fn purpose(name: &str) -> Result<AuthorityPurpose, Rejection> {
    match name {
        "" | "issuing" => Ok(AuthorityPurpose::Issuing),
        "system" => Ok(AuthorityPurpose::System),
        name => Err(invalid("spec.purpose", format!("{name:?} is not one of issuing, system"))),
    }
}

/// A purpose as authorities print it.
pub const fn purpose_name(purpose: AuthorityPurpose) -> &'static str {
    match purpose {
        AuthorityPurpose::System => "system",
        AuthorityPurpose::Issuing => "issuing",
    }
}

/// The authority with its chain, from its issuer up to and including the root.
pub fn authority_to_message(authority: &Authority, chain: &[Arc<[u8]>]) -> v1::Authority {
    let spec = &authority.spec;
    let mut message = v1::Authority {
        name: names::authority_to_message(&authority.name),
        uid: authority.uid.to_string(),
        etag: etag(authority.uid, authority.revision),
        common_name: spec.common_name.clone(),
        key_algorithm: key_algorithm_name(spec.key_algorithm).to_owned(),
        parent: spec.parent.as_ref().map(ToString::to_string).unwrap_or_default(),
        duration: Some(span_to_message(spec.duration)),
        path_len: spec.path_len.map(u32::from),
        purpose: purpose_name(spec.purpose).to_owned(),
        chain: chain.iter().map(|der| Bytes::copy_from_slice(der)).collect(),
        ..v1::Authority::default()
    };
    if let Some(certified) = &authority.certified {
        message.serial = certified.serial.to_string();
        message.not_before = Some(moment_to_message(certified.not_before));
        message.not_after = Some(moment_to_message(certified.not_after));
        message.certificate = Bytes::copy_from_slice(&certified.certificate);
    }
    message
}
