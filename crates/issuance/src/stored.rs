//! The next generation of a stored certificate: an agent's request for it, and the certificate that answers it.
//!
//! It refuses requests of anybody but the holder of the instance, and generations that are not open. A repeat of what
//! was issued for the same key is answered, not issued again.

use std::sync::Arc;

use certwright_core::command::Command;
use certwright_core::event::{Issued, Trigger};
use certwright_core::ids::Actor;
use certwright_core::log::Revision;
use certwright_core::mutant::{self, Mutant};
use certwright_core::policy::{Action, Resource};
use certwright_core::rejection::Class;
use certwright_core::renewal;
use certwright_core::spec::CertificateSpec;
use certwright_core::state::{Certificate, Instance, State};
use certwright_core::time::Timestamp;
use certwright_core::x509::{LeafPlan, Names, Profile, VerifiedCsr, compose, lint};
use certwright_core::{Reason, Rejection, limits};

use crate::order::{Call, CsrSubmission, Outcome};
use crate::sequencer::{Check, Refusal};
use crate::session::{Ask, Session, prove};
use crate::signing::{self, ATTEMPTS_MAX, SharedIssuer};

/// What state says of the generation asked for.
enum Standing {
    /// It is open, under this specification.
    Open { spec: Box<CertificateSpec>, spec_revision: Revision, trigger: Trigger },
    /// It was issued, for that key.
    Issued { spki_hash: [u8; 32], outcome: Outcome },
}

/// Issues the open generation for the request's key. Idempotent by instance, generation and key.
pub(crate) async fn submit(session: &Session, call: Call, submission: CsrSubmission) -> Result<Outcome, Rejection> {
    if let Actor::Agent(name) = &call.actor {
        session.allow(&call, Action::SubmitCsr, &Resource::Agent(name.clone()))?;
    }
    let verified = session.verify(submission.csr.clone()).await;
    for _ in 0..ATTEMPTS_MAX {
        let (spec, spec_revision, trigger) = match standing(session, &call, &submission)? {
            Standing::Issued { spki_hash, outcome } => return repeated(verified?, spki_hash, outcome),
            Standing::Open { spec, spec_revision, trigger } => (spec, spec_revision, trigger),
        };
        let issuer = spec.issuer.clone();
        let result = match &verified {
            Ok(csr) => issue(session, &call, &submission, csr, spec, spec_revision).await,
            Err(rejection) => Err(Refusal::Rejected(rejection.clone())),
        };
        match result {
            Ok(outcome) => return signing::count(session, &issuer, trigger.name(), Ok(outcome)),
            Err(Refusal::Moved) => {}
            Err(Refusal::Rejected(rejection)) => {
                record_failure(session, &call, &submission, &rejection).await;
                return signing::count(session, &issuer, trigger.name(), Err(rejection));
            }
        }
    }
    Err(Refusal::Moved.into_rejection())
}

/// The certificate and instance of a submission, if the caller holds it; to others it does not exist.
fn held<'a>(
    state: &'a State,
    call: &Call,
    submission: &CsrSubmission,
) -> Result<(&'a Certificate, &'a Instance), Rejection> {
    prove(state, &call.actor, call.key)?;
    let missing = || {
        let message = format!("certificate {} has no instance {} here", submission.certificate, submission.instance);
        Rejection::new(Reason::NotFound, message)
    };
    let certificate = state.certificates.get(&submission.certificate).ok_or_else(missing)?;
    let instance = certificate.instance(submission.instance).ok_or_else(missing)?;
    match &call.actor {
        Actor::Agent(name) if *name == instance.agent => Ok((certificate, instance)),
        Actor::Agent(_) => Err(missing()),
        _ => {
            Err(Rejection::new(Reason::PermissionDenied, "only the agent that holds the key asks for its certificate"))
        }
    }
}

fn standing(session: &Session, call: &Call, submission: &CsrSubmission) -> Result<Standing, Rejection> {
    session.tools.log.read(|view| {
        let (certificate, instance) = held(view.state, call, submission)?;
        if let Some(current) = instance.current.filter(|current| current.generation >= submission.generation)
            && !mutant::is(Mutant::GenerationUnchecked)
        {
            if current.generation > submission.generation {
                let message = format!("generation {} is the newest", current.generation);
                return Err(Rejection::new(Reason::GenerationConflict, message));
            }
            let outcome = Outcome { position: current.position, at: view.at, unchanged: true };
            return Ok(Standing::Issued { spki_hash: current.spki_hash, outcome });
        }
        let open = instance.open.filter(|open| open.generation == submission.generation).map(|open| open.trigger);
        match open.or_else(|| mutant::is(Mutant::GenerationUnchecked).then_some(Trigger::First)) {
            Some(trigger) => Ok(Standing::Open {
                spec: Box::new(certificate.spec()),
                spec_revision: certificate.spec_revision,
                trigger,
            }),
            None => {
                let message = format!("generation {} is not open", submission.generation);
                Err(Rejection::new(Reason::IssuanceNotOpen, message))
            }
        }
    })
}

fn repeated(csr: Arc<VerifiedCsr>, spki_hash: [u8; 32], outcome: Outcome) -> Result<Outcome, Rejection> {
    if csr.spki_hash() == spki_hash {
        return Ok(outcome);
    }
    Err(Rejection::new(Reason::GenerationConflict, "the generation was issued for another key"))
}

async fn issue(
    session: &Session,
    call: &Call,
    submission: &CsrSubmission,
    csr: &Arc<VerifiedCsr>,
    spec: Box<CertificateSpec>,
    spec_revision: Revision,
) -> Result<Outcome, Refusal> {
    let prepared = session.issuer(&spec.issuer)?;
    let issued = sign(session, &prepared, submission, csr.clone(), spec).await?;
    let command = Command::RecordIssued {
        certificate: submission.certificate.clone(),
        issued: Box::new(issued),
        guards: prepared.guards(),
    };
    let check = unmoved(&prepared, call.clone(), submission.clone(), spec_revision);
    // Recorded as the leader's own deed. The generation and the key are what a repeat is known by, not a request id.
    let own = Call { trace: call.trace, validate_only: call.validate_only, ..Call::by(Actor::System) };
    let settled = session.submit(Ask::of(own, command).while_holds(check)).await?;
    Ok(settled.outcome)
}

/// The issuer, the specification and the open generation are what they were; deliveries and other instances may move.
fn unmoved(prepared: &SharedIssuer, call: Call, submission: CsrSubmission, spec_revision: Revision) -> Check {
    let prepared = prepared.clone();
    Box::new(move |state| {
        let same = held(state, &call, &submission).is_ok_and(|(certificate, instance)| {
            certificate.spec_revision == spec_revision
                && (mutant::is(Mutant::GenerationUnchecked)
                    || instance.open.is_some_and(|open| open.generation == submission.generation))
        });
        same && prepared.is_current(state)
    })
}

async fn sign(
    session: &Session,
    prepared: &SharedIssuer,
    submission: &CsrSubmission,
    csr: Arc<VerifiedCsr>,
    spec: Box<CertificateSpec>,
) -> Result<Issued, Rejection> {
    if csr.key_algorithm() != spec.private_key.algorithm {
        let message =
            format!("the key is {:?}, the certificate asks for {:?}", csr.key_algorithm(), spec.private_key.algorithm);
        return Err(Rejection::new(Reason::KeyNotAllowed, message));
    }
    let serial = session.tools.draw_serial();
    let duration = spec.duration.unwrap_or(limits::DURATION_DEFAULT);
    let (not_before, not_after) = signing::validity(session.tools.now_here(), duration, &prepared.signer)?;
    let issuer = prepared.clone();
    let make = move || {
        let composed = compose::leaf(&LeafPlan {
            serial,
            not_before,
            not_after,
            names: &names(&spec),
            subject: &spec.subject,
            usages: &spec.usages,
            is_ca: spec.is_ca,
            spki_der: csr.spki_der(),
            issuer: &issuer.signer.certificate,
        })?;
        Ok((lint::lint(composed, &Profile::Leaf { issuer: &issuer.spec })?, spec))
    };
    let (signed, spec) = session.sign(prepared.signer.key.clone(), make).await?;
    let line = |from: Timestamp, to: Timestamp| {
        let renew_at = renewal::renew_at(&spec, submission.instance, submission.generation, from, to);
        (submission.instance, submission.generation, renew_at)
    };
    Ok(signing::issued(prepared, &signed, Some(line(signed.not_before(), signed.not_after()))))
}

/// The names of the intent; the request's own do not count.
fn names(spec: &CertificateSpec) -> Names {
    Names {
        common_name: spec.common_name.clone(),
        dns_names: spec.dns_names.clone(),
        ip_addresses: spec.ip_addresses.clone(),
        uris: spec.uris.clone(),
        email_addresses: spec.email_addresses.clone(),
    }
}

/// Whether trying again right away cannot help: then the failure is recorded and the next attempt waits.
fn is_lasting(reason: Reason) -> bool {
    match reason {
        Reason::IssuerNotFound | Reason::IssuerNotReady | Reason::IssuerExpiresFirst | Reason::NotYetSupported => true,
        Reason::RequestIdReused => false,
        reason => matches!(reason.class(), Class::Invalid) || reason == Reason::PolicyDenied,
    }
}

async fn record_failure(session: &Session, call: &Call, submission: &CsrSubmission, rejection: &Rejection) {
    if !is_lasting(rejection.reason) || call.validate_only {
        return;
    }
    let command = Command::FailIssuance {
        certificate: submission.certificate.clone(),
        instance: submission.instance,
        generation: submission.generation,
        reason: rejection.reason.code().to_owned(),
        message: cut(&rejection.to_string(), limits::MESSAGE_OCTETS_MAX),
    };
    if let Err(error) = session.act(call.trace, command).await {
        tracing::warn!(certificate = %submission.certificate, reason = error.reason.code(), "cannot record a failed issuance: {error}");
    }
}

/// The text, cut to so many octets at a character's edge.
fn cut(text: &str, octets_max: usize) -> String {
    let end = (0..=octets_max.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::{cut, is_lasting};
    use certwright_core::Reason;

    #[test]
    fn only_what_the_agent_cannot_cure_by_trying_again_is_recorded() {
        for (reason, lasting) in [
            (Reason::PolicyDenied, true),
            (Reason::LintFailed, true),
            (Reason::CsrSignatureInvalid, true),
            (Reason::KeyNotAllowed, true),
            (Reason::IssuerNotFound, true),
            (Reason::IssuerExpiresFirst, true),
            (Reason::NotLeader, false),
            (Reason::OutcomeUnknown, false),
            (Reason::Overloaded, false),
            (Reason::IssuanceNotOpen, false),
            (Reason::GenerationConflict, false),
            (Reason::PermissionDenied, false),
        ] {
            assert_eq!(is_lasting(reason), lasting, "{reason:?}");
        }
    }

    #[test]
    fn messages_are_cut_between_characters() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abc", 2), "ab");
        assert_eq!(cut("a\u{e9}c", 2), "a");
        assert_eq!(cut("\u{20ac}", 2), "");
    }
}
