//! The path of everything that is signed: verify, compose, lint, sign, assemble, in one piece of work on the signers.
//!
//! It refuses to release anything: what it returns leaves this server only after the log has it.

use std::sync::Arc;

use certwright_core::event::Issued;
use certwright_core::ids::{Generation, InstanceId, IssuerName};
use certwright_core::limits::BEGINS_AHEAD_MAX;
use certwright_core::time::Timestamp;
use certwright_core::x509::{Linted, SignedCertificate, VerifiedCsr, csr};
use certwright_core::{Reason, Rejection};
use certwright_custody::{Custody, CustodyError, KeyRef};
use tracing::Span;

use crate::issuers::{Prepared, Signer};
use crate::session::{Session, child_span};

/// Attempts to compose and append one certificate when what it is composed under keeps moving.
pub(crate) const ATTEMPTS_MAX: usize = 5;

enum Step<T> {
    Done(Box<SignedCertificate>, T),
    /// The key's custodian is elsewhere: its answer is awaited off the signers.
    Waiting(Box<Linted>, T),
}

impl Session {
    /// Parses a request and verifies that its sender holds the key, on the signers.
    pub(crate) async fn verify(&self, request: Vec<u8>) -> Result<Arc<VerifiedCsr>, Rejection> {
        let verified = self.tools.on_signers(move || csr::parse(&request)?.verify()).await;
        verified.ok_or_else(stopped)?.map(Arc::new)
    }

    /// Runs `make` on the signers and signs what it linted with that key, in the same piece of work where the key is
    /// here. The certificate is read again, compared and its signature verified before it is returned.
    pub(crate) async fn sign<T: Send + 'static>(
        &self,
        key: KeyRef,
        make: impl FnOnce() -> Result<(Linted, T), Rejection> + Send + 'static,
    ) -> Result<(SignedCertificate, T), Rejection> {
        let begun = self.tools.seams.clock.monotonic();
        let (custody, near_key) = (self.tools.custody.clone(), key.clone());
        let span = child_span!(Span::current(), "sign");
        let step = self.tools.on_signers(move || {
            let _inside = span.entered();
            let (linted, rest) = make()?;
            match custody.sign_here(&near_key, linted.tbs()) {
                Some(signature) => finish(linted, signature).map(|signed| Step::Done(Box::new(signed), rest)),
                None => Ok(Step::Waiting(Box::new(linted), rest)),
            }
        });
        let signed = match step.await.ok_or_else(stopped)?? {
            Step::Done(signed, rest) => Ok((*signed, rest)),
            Step::Waiting(linted, rest) => {
                let signature = self.tools.custody.sign(key, linted.tbs().to_vec()).await;
                let signed = self.tools.on_signers(move || finish(*linted, signature)).await;
                signed.ok_or_else(stopped)?.map(|signed| (signed, rest))
            }
        };
        let took = self.tools.seams.clock.monotonic().saturating_sub(begun);
        self.tools.metrics.sign_seconds.observe(took.as_secs_f64());
        signed
    }
}

fn finish(linted: Linted, signature: Result<Vec<u8>, CustodyError>) -> Result<SignedCertificate, Rejection> {
    linted.assemble(&signature?)
}

pub(crate) fn stopped() -> Rejection {
    Rejection::new(Reason::NotReady, "the signers have stopped")
}

/// The fact that a signed leaf amounts to.
pub(crate) fn issued(
    prepared: &Prepared,
    signed: &SignedCertificate,
    line: Option<(InstanceId, Generation, Timestamp)>,
) -> Issued {
    let Signer { authority, serial, .. } = &*prepared.signer;
    Issued {
        instance: line.map(|(instance, ..)| instance),
        generation: line.map_or(1, |(_, generation, _)| generation),
        serial: signed.serial(),
        issuer: prepared.name.clone(),
        authority: authority.clone(),
        authority_serial: *serial,
        not_before: signed.not_before(),
        not_after: signed.not_after(),
        renew_at: line.map(|(.., renew_at)| renew_at),
        spki_hash: signed.spki_hash(),
        certificate: signed.der().clone(),
    }
}

/// Validity of a leaf composed now, inside the authority's at its beginning; lint refuses one that outlives it. An authority
/// that begins in the future was made by a log time that was taken back: what it signs nobody would take.
pub(crate) fn validity(
    now: Timestamp,
    duration: std::time::Duration,
    signer: &Signer,
) -> Result<(Timestamp, Timestamp), Rejection> {
    let begins = signer.certificate.not_before();
    if begins > now.plus(BEGINS_AHEAD_MAX) {
        let message =
            format!("authority {} is not valid before {begins}: it was made while clocks were ahead", signer.authority);
        return Err(Rejection::new(Reason::AuthorityNotYetValid, message));
    }
    let (not_before, not_after) = certwright_core::renewal::validity(now, duration);
    Ok((not_before.max(begins), not_after))
}

/// Counts one issuance by its result.
pub(crate) fn count<T>(
    session: &Session,
    issuer: &IssuerName,
    trigger: &'static str,
    result: Result<T, Rejection>,
) -> Result<T, Rejection> {
    session.tools.metrics.count_issuance(issuer, trigger, result.as_ref().err().map(|rejection| rejection.reason));
    result
}

/// A prepared issuer as a piece of work takes it along.
pub(crate) type SharedIssuer = Arc<Prepared>;
