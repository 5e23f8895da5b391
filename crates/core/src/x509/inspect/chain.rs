//! Chain verification (RFC 5280 section 6, the parts that matter for an estate's own CAs): from a leaf over
//! intermediates to a given root, at a given time.
//!
//! It refuses clocks (the time is an argument), the system's trust store, and long searches.

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;

use super::{names, parse, serial};
use crate::time::Timestamp;
use crate::x509::constraints::NameConstraints;
use crate::x509::der;
use crate::x509::issuer::moment;
use crate::x509::key::{PublicKey, SignatureAlgorithm};

/// Certificates above the leaf in one chain, at most.
const DEPTH_MAX: usize = 8;
/// Signatures verified in one search, at most: bounds what a crafted set of intermediates can cost.
const SIGNATURES_MAX: usize = 64;

/// Why no chain was found: of all dead ends the one that was nearest to a root.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ChainError {
    /// A certificate cannot be read.
    #[error("a certificate of the chain cannot be read: {0}")]
    Malformed(String),
    /// A certificate is over.
    #[error("{subject} ended at {not_after}")]
    Expired {
        /// Whose.
        subject: String,
        /// When.
        not_after: Timestamp,
    },
    /// A certificate has not begun.
    #[error("{subject} is not valid before {not_before}")]
    NotYetValid {
        /// Whose.
        subject: String,
        /// When.
        not_before: Timestamp,
    },
    /// A certificate that signs is no CA's, or may not sign certificates.
    #[error("{0} may not sign certificates")]
    NotAnAuthority(String),
    /// More CA certificates than one of them allows.
    #[error("the chain is longer than {0} allows")]
    PathTooLong(String),
    /// A signature does not verify.
    #[error("the signature on {0} does not verify")]
    SignatureInvalid(String),
    /// A name that a CA above may not certify.
    #[error("{subject} may not certify {name:?}")]
    NameNotAllowed {
        /// The CA.
        subject: String,
        /// The name.
        name: String,
    },
    /// A critical extension that is not understood.
    #[error("{0} has a critical extension that is not understood")]
    UnknownCriticalExtension(String),
    /// Nobody given signed it.
    #[error("the issuer of {0} is neither among the intermediates nor a root")]
    IssuerMissing(String),
    /// The search was cut off.
    #[error("too many certificates to search for a chain")]
    TooComplex,
}

/// One parsed certificate.
struct Link<'a> {
    certificate: X509Certificate<'a>,
    der: &'a [u8],
}

impl Link<'_> {
    fn parse(der: &[u8]) -> Result<Link<'_>, ChainError> {
        Ok(Link { certificate: parse(der).map_err(|error| ChainError::Malformed(error.message))?, der })
    }

    /// What it is called: its subject, or what stands for one where that is empty (RFC 5280 section 4.1.2.6).
    fn subject(&self) -> String {
        let subject = self.certificate.subject().to_string();
        if !subject.is_empty() {
            return subject;
        }
        let first = names(&self.certificate).first_alternative();
        first.unwrap_or_else(|| format!("serial {}", serial(&self.certificate)))
    }

    fn signed_by(&self, issuer: &Link<'_>) -> bool {
        let Ok(key) = PublicKey::parse(issuer.certificate.public_key().raw) else {
            return false;
        };
        let parts = der::only(der::SEQUENCE, self.der).and_then(|content| der::elements(content, 3));
        let Some([tbs, algorithm, signature]) = parts.as_deref() else {
            return false;
        };
        let Some(known) = SignatureAlgorithm::from_der(algorithm.raw).filter(|_| signature.tag == der::BIT_STRING)
        else {
            return false;
        };
        matches!(signature.content.split_first(), Some((0, bits)) if key.verifies(known, tbs.raw, bits))
    }
}

/// Verifies that `leaf` chains to one of `roots` over `intermediates` (in any order, unrelated ones allowed), all of
/// them valid at `at`: signatures, CA flags, key usages, path lengths, name constraints, critical extensions.
/// A leaf that is itself one of the roots is accepted. Returns the chain above the leaf, root last.
pub fn verify_chain<'a>(
    leaf: &'a [u8],
    intermediates: &'a [Vec<u8>],
    roots: &'a [Vec<u8>],
    at: Timestamp,
) -> Result<Vec<&'a [u8]>, ChainError> {
    let leaf = Link::parse(leaf)?;
    check_alone(&leaf, at)?;
    if roots.iter().any(|root| root == leaf.der) {
        return Ok(Vec::new());
    }
    let read = |list: &'a [Vec<u8>]| list.iter().map(|der| Link::parse(der)).collect::<Result<Vec<_>, _>>();
    let (intermediates, roots) = (read(intermediates)?, read(roots)?);
    let mut search = Search { intermediates: &intermediates, roots: &roots, at, signatures: 0, path: vec![&leaf] };
    search.climb(&leaf)?;
    let above: Vec<usize> = search.path.iter().skip(1).map(|link| link.der.as_ptr() as usize).collect();
    let given = |at: usize| intermediates.iter().chain(&roots).find(|link| link.der.as_ptr() as usize == at);
    Ok(above.into_iter().filter_map(given).map(|link| link.der).collect())
}

struct Search<'s> {
    intermediates: &'s [Link<'s>],
    roots: &'s [Link<'s>],
    at: Timestamp,
    signatures: usize,
    /// From the leaf to the newest candidate.
    path: Vec<&'s Link<'s>>,
}

impl<'s> Search<'s> {
    fn climb(&mut self, newest: &'s Link<'s>) -> Result<(), ChainError> {
        let mut failure = ChainError::IssuerMissing(newest.subject());
        let (roots, intermediates) = (self.roots, self.intermediates);
        let candidates = roots.iter().map(|link| (link, true)).chain(intermediates.iter().map(|link| (link, false)));
        for (candidate, is_root) in candidates {
            let named = candidate.certificate.subject().as_raw() == newest.certificate.issuer().as_raw();
            if !named || self.path.iter().any(|link| link.der == candidate.der) {
                continue;
            }
            match self.step(newest, candidate, is_root) {
                Ok(()) => return Ok(()),
                Err(ChainError::TooComplex) => return Err(ChainError::TooComplex),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// Goes over one candidate; leaves the path as it was when that leads nowhere.
    fn step(&mut self, newest: &Link<'s>, candidate: &'s Link<'s>, is_root: bool) -> Result<(), ChainError> {
        self.signatures += 1;
        if self.signatures > SIGNATURES_MAX || self.path.len() > DEPTH_MAX {
            return Err(ChainError::TooComplex);
        }
        if !newest.signed_by(candidate) {
            return Err(ChainError::SignatureInvalid(newest.subject()));
        }
        check_alone(candidate, self.at)?;
        self.check_authority(candidate)?;
        self.path.push(candidate);
        if is_root {
            return Ok(());
        }
        self.climb(candidate).inspect_err(|_| {
            self.path.pop();
        })
    }

    /// Whether `candidate` may stand above everything on the path.
    fn check_authority(&self, candidate: &Link<'_>) -> Result<(), ChainError> {
        let refuse = || ChainError::NotAnAuthority(candidate.subject());
        let basic = candidate.certificate.basic_constraints().map_err(|_| refuse())?;
        let basic = basic.filter(|basic| basic.value.ca).ok_or_else(refuse)?;
        let usage = candidate.certificate.key_usage().map_err(|_| refuse())?;
        if usage.is_some_and(|usage| !usage.value.key_cert_sign()) {
            return Err(refuse());
        }
        // Self-issued certificates, as in a key rollover, do not count (RFC 5280 section 4.2.1.9).
        let self_issued = |link: &&&Link<'_>| link.certificate.subject().as_raw() == link.certificate.issuer().as_raw();
        let below = self.path.iter().skip(1).filter(|link| !self_issued(link)).count();
        if basic.value.path_len_constraint.is_some_and(|len| below > len as usize) {
            return Err(ChainError::PathTooLong(candidate.subject()));
        }
        let constraints = NameConstraints::of(&candidate.certificate).map_err(|_| refuse())?;
        let violated = self.path.iter().find_map(|link| constraints.violated_by(&names(&link.certificate)));
        match violated {
            Some(name) => Err(ChainError::NameNotAllowed { subject: candidate.subject(), name }),
            None => Ok(()),
        }
    }
}

/// What can be said of one certificate without its neighbours.
fn check_alone(link: &Link<'_>, at: Timestamp) -> Result<(), ChainError> {
    let malformed = |error: crate::rejection::Rejection| ChainError::Malformed(error.message);
    let not_before = moment(link.certificate.validity().not_before).map_err(malformed)?;
    let not_after = moment(link.certificate.validity().not_after).map_err(malformed)?;
    if at < not_before {
        return Err(ChainError::NotYetValid { subject: link.subject(), not_before });
    }
    // The last second still counts (RFC 5280 section 4.1.2.5: the dates are inclusive).
    if at.whole_second() > not_after {
        return Err(ChainError::Expired { subject: link.subject(), not_after });
    }
    let unknown = |parsed: &ParsedExtension<'_>| {
        matches!(parsed, ParsedExtension::UnsupportedExtension { .. } | ParsedExtension::ParseError { .. })
            || parsed.unsupported()
    };
    if link.certificate.iter_extensions().any(|extension| extension.critical && unknown(extension.parsed_extension())) {
        return Err(ChainError::UnknownCriticalExtension(link.subject()));
    }
    Ok(())
}
