//! The last look before a signature: what policy allows, what RFC 5280 demands, and that the bytes say what was decided.
//!
//! It refuses to hand out bytes to sign in any other way: [`Linted`] is made here and nowhere else.

use std::fmt;
use std::sync::Arc;

use super::compose::{self, Composed};
use super::der;
use super::facts::{self, FinalCertificate, unreadable};
use super::issuer::IssuerCertificate;
use super::key::{PublicKey, SignatureAlgorithm};
use super::usage::KeyUsages;
use crate::ids::Serial;
use crate::policy;
use crate::rejection::{Reason, Rejection};
use crate::spec::{AuthoritySpec, IssuerSpec, Usage};
use crate::time::Timestamp;

/// By which door a certificate came and what that door's configuration allows.
#[derive(Clone, Copy, Debug)]
pub enum Profile<'a> {
    /// A certificate of the estate, from an issuer.
    Leaf {
        /// The issuer asked.
        issuer: &'a IssuerSpec,
    },
    /// The certificate of an authority of this cluster.
    Authority {
        /// The wish for it.
        spec: &'a AuthoritySpec,
    },
    /// A node's, agent's or administrator's.
    Identity,
}

/// A certificate that may be signed.
pub struct Linted {
    tbs_der: Vec<u8>,
    facts: FinalCertificate,
    issuer: Option<IssuerCertificate>,
}

impl fmt::Debug for Linted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Linted({})", self.facts.serial)
    }
}

fn fail<T>(lint: &str, message: impl Into<String>) -> Result<T, Rejection> {
    Err(Rejection::field(Reason::LintFailed, lint, message))
}

/// Reads the composed bytes back, compares them with what was decided, asks policy about them and lints them.
/// Rejects with POLICY_DENIED, ISSUER_EXPIRES_FIRST or LINT_FAILED (the lint's name is the field).
pub fn lint(composed: Composed, profile: &Profile<'_>) -> Result<Linted, Rejection> {
    let Composed { tbs_der, decided, issuer } = composed;
    let facts = facts::read(&tbs_der)?;
    // Reading is lenient in places where DER is not: what was read must also encode to the very same bytes.
    if facts != decided || compose::encode(&facts)? != tbs_der {
        return fail("decided", "the composed certificate says something else than what was decided");
    }
    policy::evaluate(&facts, profile)?;
    lint_validity(&facts, issuer.as_ref())?;
    lint_names(&facts, profile)?;
    lint_usages(&facts)?;
    lint_identifiers(&facts)?;
    if let Some(issuer) = &issuer {
        lint_path(&facts, issuer)?;
    }
    Ok(Linted { tbs_der, facts, issuer })
}

fn lint_validity(facts: &FinalCertificate, issuer: Option<&IssuerCertificate>) -> Result<(), Rejection> {
    if facts.not_before >= facts.not_after {
        return fail("validity", format!("valid from {} to {}", facts.not_before, facts.not_after));
    }
    let Some(issuer) = issuer else {
        return Ok(());
    };
    if facts.not_after > issuer.not_after() {
        let message = format!("the authority's certificate ends at {}, before {}", issuer.not_after(), facts.not_after);
        return Err(Rejection::new(Reason::IssuerExpiresFirst, message));
    }
    if facts.not_before < issuer.not_before() {
        let (ours, theirs) = (facts.not_before, issuer.not_before());
        return fail("validity", format!("starts at {ours}, before the authority's certificate does at {theirs}"));
    }
    Ok(())
}

fn lint_names(facts: &FinalCertificate, profile: &Profile<'_>) -> Result<(), Rejection> {
    if let Err(error) = facts.names.check() {
        return fail("names", format!("the name {error}"));
    }
    if facts.names != facts.names.clone().normalized() {
        return fail("names", "a name is repeated, or a DNS name is not in lower case");
    }
    let nameless = facts.names.alternatives() == 0 && facts.names.common_name.is_none();
    match profile {
        Profile::Leaf { .. } if nameless => fail("names", "the certificate would name nobody"),
        Profile::Identity if facts.names.uris.len() != 1 || !facts.names.email_addresses.is_empty() => {
            fail("names", "an identity carries exactly one URI")
        }
        Profile::Identity if facts.names.alternatives() != 1 && !facts.extended_usages.contains(&Usage::ServerAuth) => {
            fail("names", "only an identity that serves names hosts")
        }
        _ => Ok(()),
    }
}

fn lint_usages(facts: &FinalCertificate) -> Result<(), Rejection> {
    let possible = KeyUsages::possible(facts.key.algorithm()).and(KeyUsages::of_authority());
    if facts.key_usages.is_empty() || !possible.contains(facts.key_usages) {
        return fail("usages", format!("key usages {:?} do not fit the key", facts.key_usages));
    }
    if facts.is_ca != facts.key_usages.contains(KeyUsages::CERT_SIGN) {
        return fail("usages", "the CA flag and the cert sign usage contradict each other (RFC 5280 section 4.2.1.9)");
    }
    if facts.path_len.is_some() && !facts.is_ca {
        return fail("usages", "a path length on a certificate that is no CA");
    }
    Ok(())
}

fn lint_identifiers(facts: &FinalCertificate) -> Result<(), Rejection> {
    if facts.subject_key_identifier != facts.key.key_identifier() || facts.authority_key_identifier.is_empty() {
        return fail("identifiers", "the key identifiers are not those of the keys");
    }
    Ok(())
}

fn lint_path(facts: &FinalCertificate, issuer: &IssuerCertificate) -> Result<(), Rejection> {
    if facts.is_ca {
        let below = facts.path_len.map_or(u16::MAX, u16::from);
        if issuer.path_len().is_some_and(|len| u16::from(len) <= below) {
            return fail("path", "the issuer's path length leaves no room for this CA, or for its own path length");
        }
    }
    match issuer.constraints().violated_by(&facts.names) {
        Some(name) => fail("constraints", format!("the issuer's name constraints do not allow {name:?}")),
        None => Ok(()),
    }
}

impl Linted {
    /// The bytes to sign.
    pub fn tbs(&self) -> &[u8] {
        &self.tbs_der
    }

    /// SHA-256 of the bytes to sign: what an intent commits to.
    pub fn tbs_hash(&self) -> [u8; 32] {
        super::key::sha256(&self.tbs_der)
    }

    /// What the certificate says.
    pub fn facts(&self) -> &FinalCertificate {
        &self.facts
    }

    /// What to sign with.
    pub fn signature_algorithm(&self) -> SignatureAlgorithm {
        self.facts.signature_algorithm
    }

    /// Key of the signer.
    pub fn signer(&self) -> &PublicKey {
        self.issuer.as_ref().map_or(&self.facts.key, IssuerCertificate::key)
    }

    /// Puts the certificate together, reads it again as a stranger would, compares it with what was decided and
    /// verifies the signature by the issuer's key: a faulty signer's output goes nowhere. Rejects with LINT_FAILED.
    pub fn assemble(self, signature: &[u8]) -> Result<SignedCertificate, Rejection> {
        let algorithm = self.facts.signature_algorithm;
        let bits = der::encode(der::BIT_STRING, &[&[0], signature]);
        let certificate = der::encode(der::SEQUENCE, &[&self.tbs_der, algorithm.identifier(), &bits]);
        let content = der::only(der::SEQUENCE, &certificate).ok_or_else(|| unreadable("not a sequence"))?;
        let (tbs, _) = der::next(content).ok_or_else(|| unreadable("no content"))?;
        if facts::read(tbs.raw)? != self.facts {
            return fail("decided", "the finished certificate says something else than what was decided");
        }
        if !self.signer().verifies(algorithm, tbs.raw, signature) {
            return fail("signature", "the signature does not verify by the issuer's key");
        }
        Ok(SignedCertificate { der: certificate.into(), facts: self.facts })
    }
}

/// A certificate, signed and checked.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedCertificate {
    der: Arc<[u8]>,
    facts: FinalCertificate,
}

impl fmt::Debug for SignedCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignedCertificate({})", self.facts.serial)
    }
}

impl SignedCertificate {
    /// DER.
    pub fn der(&self) -> &Arc<[u8]> {
        &self.der
    }

    /// What it says.
    pub fn facts(&self) -> &FinalCertificate {
        &self.facts
    }

    /// Its serial.
    pub fn serial(&self) -> Serial {
        self.facts.serial
    }

    /// Start of validity.
    pub fn not_before(&self) -> Timestamp {
        self.facts.not_before
    }

    /// End of validity.
    pub fn not_after(&self) -> Timestamp {
        self.facts.not_after
    }

    /// SHA-256 of the certified SubjectPublicKeyInfo.
    pub fn spki_hash(&self) -> [u8; 32] {
        self.facts.key.hash()
    }
}
