//! Composes the bytes to be signed of leaf, authority and identity certificates from what was decided.
//!
//! It refuses keys to sign with, defaults for serial and validity, and anything of a request but names and public key.

mod tbs;

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

pub(crate) use self::tbs::encode;

use super::facts::FinalCertificate;
use super::issuer::IssuerCertificate;
use super::key::{PublicKey, SignatureAlgorithm};
use super::names::Names;
use super::subject;
use super::usage::{self, KeyUsages};
use crate::ids::Serial;
use crate::rejection::{Reason, Rejection};
use crate::spec::{AuthoritySpec, Subject, Usage};
use crate::time::Timestamp;

/// A leaf certificate as decided.
#[derive(Clone, Copy, Debug)]
pub struct LeafPlan<'a> {
    /// Drawn for this certificate alone.
    pub serial: Serial,
    /// Start of validity, cut to the second.
    pub not_before: Timestamp,
    /// End of validity, cut to the second.
    pub not_after: Timestamp,
    /// Common name and alternative names.
    pub names: &'a Names,
    /// The other subject attributes.
    pub subject: &'a Subject,
    /// Usages asked for; none means cert-manager's defaults.
    pub usages: &'a [Usage],
    /// Whether a CA certificate was asked for; policy denies it to leaves.
    pub is_ca: bool,
    /// SubjectPublicKeyInfo, DER, as it stood in the request.
    pub spki_der: &'a [u8],
    /// Who signs.
    pub issuer: &'a IssuerCertificate,
}

/// The certificate of an authority as decided.
#[derive(Clone, Copy, Debug)]
pub struct AuthorityPlan<'a> {
    /// Drawn for this certificate alone.
    pub serial: Serial,
    /// Start of validity, cut to the second.
    pub not_before: Timestamp,
    /// End of validity, cut to the second.
    pub not_after: Timestamp,
    /// Common name and path length.
    pub spec: &'a AuthoritySpec,
    /// SubjectPublicKeyInfo, DER.
    pub spki_der: &'a [u8],
    /// Who signs; itself when `None`.
    pub issuer: Option<&'a IssuerCertificate>,
}

/// The certificate of a node, agent or administrator as decided.
#[derive(Clone, Copy, Debug)]
pub struct IdentityPlan<'a> {
    /// Drawn for this certificate alone.
    pub serial: Serial,
    /// Start of validity, cut to the second.
    pub not_before: Timestamp,
    /// End of validity, cut to the second.
    pub not_after: Timestamp,
    /// The one name that counts, `certwright://...`.
    pub uri: &'a str,
    /// Hosts under which a node is reached, DNS names or IP addresses, for clients that verify host names; empty for others.
    pub hosts: &'a [String],
    /// A name for people.
    pub common_name: Option<&'a str>,
    /// Whether it also serves TLS: nodes do.
    pub serves: bool,
    /// SubjectPublicKeyInfo, DER.
    pub spki_der: &'a [u8],
    /// The system authority.
    pub issuer: &'a IssuerCertificate,
}

/// A composed certificate, not signed: the bytes and what was decided they should say.
#[derive(Clone)]
pub struct Composed {
    pub(crate) tbs_der: Vec<u8>,
    pub(crate) decided: FinalCertificate,
    pub(crate) issuer: Option<IssuerCertificate>,
}

impl fmt::Debug for Composed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Composed({})", self.decided.serial)
    }
}

impl Composed {
    /// The bytes to be signed. Only a signature over those of a `Linted` is of any use.
    pub fn tbs_der(&self) -> &[u8] {
        &self.tbs_der
    }

    /// SHA-256 of the bytes to be signed: what an intent commits to.
    pub fn tbs_hash(&self) -> [u8; 32] {
        super::key::sha256(&self.tbs_der)
    }

    /// Its serial.
    pub fn serial(&self) -> Serial {
        self.decided.serial
    }

    /// Start of validity.
    pub fn not_before(&self) -> Timestamp {
        self.decided.not_before
    }

    /// End of validity.
    pub fn not_after(&self) -> Timestamp {
        self.decided.not_after
    }

    /// SHA-256 of the certified SubjectPublicKeyInfo.
    pub fn spki_hash(&self) -> [u8; 32] {
        self.decided.key.hash()
    }

    /// What it is to be signed with.
    pub fn signature_algorithm(&self) -> SignatureAlgorithm {
        self.decided.signature_algorithm
    }
}

/// Composes a leaf. Rejects with KEY_NOT_ALLOWED, INVALID_SPEC.
pub fn leaf(plan: &LeafPlan<'_>) -> Result<Composed, Rejection> {
    let key = PublicKey::parse(plan.spki_der)?;
    let names = plan.names.clone().normalized();
    names.check().map_err(|error| Rejection::new(Reason::InvalidSpec, format!("the name {error}")))?;
    let (key_usages, extended_usages) = usage::map(plan.usages, key.algorithm(), plan.is_ca)?;
    Draft {
        serial: plan.serial,
        validity: (plan.not_before, plan.not_after),
        subject_der: subject::encode(names.common_name.as_deref(), plan.subject)?,
        names,
        ca: plan.is_ca.then_some(None),
        key_usages,
        extended_usages,
        key,
    }
    .compose(Some(plan.issuer))
}

/// Composes the certificate of an authority. Rejects with KEY_NOT_ALLOWED, INVALID_SPEC.
pub fn authority(plan: &AuthorityPlan<'_>) -> Result<Composed, Rejection> {
    let key = PublicKey::parse(plan.spki_der)?;
    SignatureAlgorithm::of_authority(key.algorithm())?;
    let common_name = Some(plan.spec.common_name.as_str());
    Draft {
        serial: plan.serial,
        validity: (plan.not_before, plan.not_after),
        subject_der: subject::encode(common_name, &Subject::default())?,
        names: Names { common_name: common_name.map(str::to_owned), ..Names::default() },
        ca: Some(plan.spec.path_len),
        key_usages: KeyUsages::of_authority(),
        extended_usages: BTreeSet::new(),
        key,
    }
    .compose(plan.issuer)
}

/// Composes an identity. Rejects with KEY_NOT_ALLOWED, INVALID_SPEC.
pub fn identity(plan: &IdentityPlan<'_>) -> Result<Composed, Rejection> {
    let key = PublicKey::parse(plan.spki_der)?;
    let common_name = plan.common_name.map(str::to_owned);
    let ip_addresses: Vec<IpAddr> = plan.hosts.iter().filter_map(|host| host.parse().ok()).collect();
    let dns_names =
        plan.hosts.iter().filter(|host| host.parse::<IpAddr>().is_err()).map(|host| host.to_lowercase()).collect();
    let mut extended_usages = BTreeSet::from([Usage::ClientAuth]);
    if plan.serves {
        extended_usages.insert(Usage::ServerAuth);
    }
    Draft {
        serial: plan.serial,
        validity: (plan.not_before, plan.not_after),
        subject_der: subject::encode(plan.common_name, &Subject::default())?,
        names: Names { common_name, uris: vec![plan.uri.to_owned()], dns_names, ip_addresses, ..Names::default() }
            .normalized(),
        ca: None,
        key_usages: KeyUsages::DIGITAL_SIGNATURE,
        extended_usages,
        key,
    }
    .compose(Some(plan.issuer))
}

/// What all three kinds come down to.
struct Draft {
    serial: Serial,
    validity: (Timestamp, Timestamp),
    subject_der: Vec<u8>,
    names: Names,
    /// `Some` for a CA, with its path length.
    ca: Option<Option<u8>>,
    key_usages: KeyUsages,
    extended_usages: BTreeSet<Usage>,
    key: PublicKey,
}

impl Draft {
    /// Composes for an issuer, or for the key itself when there is none.
    fn compose(self, issuer: Option<&IssuerCertificate>) -> Result<Composed, Rejection> {
        let signer = issuer.map_or(&self.key, IssuerCertificate::key);
        let own_id = self.key.key_identifier().to_vec();
        let decided = FinalCertificate {
            serial: self.serial,
            signature_algorithm: SignatureAlgorithm::of_authority(signer.algorithm())?,
            issuer_der: issuer.map_or(&self.subject_der[..], IssuerCertificate::subject_der).to_vec(),
            subject_der: self.subject_der,
            not_before: self.validity.0.whole_second(),
            not_after: self.validity.1.whole_second(),
            names: self.names,
            key: self.key,
            is_ca: self.ca.is_some(),
            path_len: self.ca.flatten(),
            key_usages: self.key_usages,
            extended_usages: self.extended_usages,
            authority_key_identifier: issuer.map_or(own_id.clone(), |issuer| issuer.key_identifier().to_vec()),
            subject_key_identifier: own_id,
        };
        let tbs_der = encode(&decided)?;
        Ok(Composed { tbs_der, decided, issuer: issuer.cloned() })
    }
}
