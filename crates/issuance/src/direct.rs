//! Direct issuance: a caller's request signed without stored intent.
//!
//! It refuses to remember anything but the fact: live state does not grow with what is issued here.

use std::time::Duration;

use certwright_core::command::Command;
use certwright_core::event::{Event, Issued, Trigger};
use certwright_core::log::Position;
use certwright_core::mutant::{self, Mutant};
use certwright_core::policy::{Action, Resource};
use certwright_core::spec::Subject;
use certwright_core::time::Timestamp;
use certwright_core::x509::{LeafPlan, Linted, Profile, compose, csr, lint};
use certwright_core::{Rejection, limits};

use crate::chain;
use crate::digest;
use crate::issuers::Prepared;
use crate::order::{Call, IssueOrder, IssuedAnswer, ValidatedAnswer};
use crate::sequencer::Refusal;
use crate::session::{self, Ask, Session};
use crate::signing::{self, ATTEMPTS_MAX};

/// Verifies one request, composes its certificate and has it judged by policy and lints, all but signed: the serial is
/// thrown away.
pub(crate) async fn validate(session: &Session, call: Call, order: IssueOrder) -> Result<ValidatedAnswer, Rejection> {
    session.allow(&call, Action::Issue, &Resource::Issuer(order.issuer.clone()))?;
    let prepared = session.issuer(&order.issuer)?;
    let (not_before, not_after) = validity(session, &prepared, &order)?;
    let make = plan(session, &prepared, &order, (not_before, not_after));
    session.tools.on_signers(make).await.ok_or_else(signing::stopped)??;
    // An answer about state is true only if this is still the leader.
    session.tools.log.read_index().await.map_err(|_| session::not_leader())?;
    let position = session.tools.log.read(|view| view.position);
    Ok(ValidatedAnswer { not_before, not_after, chain: prepared.signer.chain.clone(), position })
}

/// Signs one request and answers when the certificate is applied here from the log of a majority.
pub(crate) async fn issue(session: &Session, call: Call, order: IssueOrder) -> Result<IssuedAnswer, Rejection> {
    let issuer = order.issuer.clone();
    // What is signed is appended; `validate` is for those who want neither.
    let call = Call { validate_only: false, ..call };
    let result = attempt(session, call, order).await;
    signing::count(session, &issuer, Trigger::Direct.name(), result)
}

async fn attempt(session: &Session, call: Call, order: IssueOrder) -> Result<IssuedAnswer, Rejection> {
    session.allow(&call, Action::Issue, &Resource::Issuer(order.issuer.clone()))?;
    let digest = if call.request_id.is_some() { digest_of(&order) } else { [0; 16] };
    if let Some(position) = session.earlier(&call, digest)? {
        return recorded(session, position).await;
    }
    for _ in 0..ATTEMPTS_MAX {
        let prepared = session.issuer(&order.issuer)?;
        let issued = sign(session, &prepared, &order).await?;
        let command = Command::RecordDirect { issued: Box::new(issued.clone()), guards: prepared.guards() };
        let ask = Ask::standing_for(call.clone(), digest, command).while_holds(prepared.check());
        let submitted = session.submit(ask);
        let settled = if mutant::is(Mutant::ReplyBeforeCommit) {
            let impatient = tokio::time::timeout(Duration::from_millis(1), submitted);
            let Ok(settled) = impatient.await else { return Ok(unconfirmed(&prepared, issued)) };
            settled
        } else {
            submitted.await
        };
        match settled {
            Ok(settled) if settled.repeated => return recorded(session, settled.outcome.position).await,
            Ok(settled) => {
                let chain = prepared.signer.chain.clone();
                return Ok(IssuedAnswer { issued, chain, position: settled.outcome.position });
            }
            Err(Refusal::Moved) => {}
            Err(Refusal::Rejected(_)) if mutant::is(Mutant::LeadershipOnlyBeforeSigning) => {
                return Ok(unconfirmed(&prepared, issued));
            }
            Err(Refusal::Rejected(rejection)) => return Err(rejection),
        }
    }
    Err(Refusal::Moved.into_rejection())
}

/// What a planted bug answers before it may.
fn unconfirmed(prepared: &Prepared, issued: Issued) -> IssuedAnswer {
    IssuedAnswer { issued, chain: prepared.signer.chain.clone(), position: Position::START }
}

/// The request itself goes in by its hash: printing its octets one by one would cost more than composing a certificate.
fn digest_of(order: &IssueOrder) -> [u8; 16] {
    digest::of(&(&order.issuer, digest::sha256(&order.csr), order.duration, &order.usages))
}

/// Validity of a certificate that is composed now.
fn validity(session: &Session, prepared: &Prepared, order: &IssueOrder) -> Result<(Timestamp, Timestamp), Rejection> {
    signing::validity(session.tools.now_here(), duration(prepared, order.duration), &prepared.signer)
}

/// What verifies the request, composes the certificate with a serial of its own and lints it, in one piece of work.
fn plan(
    session: &Session,
    prepared: &signing::SharedIssuer,
    order: &IssueOrder,
    (not_before, not_after): (Timestamp, Timestamp),
) -> impl FnOnce() -> Result<(Linted, ()), Rejection> + Send + use<> {
    let serial = session.tools.draw_serial();
    let (request, usages, issuer) = (order.csr.clone(), order.usages.clone(), prepared.clone());
    move || {
        let verified = csr::parse(&request)?.verify()?;
        let composed = compose::leaf(&LeafPlan {
            serial,
            not_before,
            not_after,
            names: verified.names(),
            subject: &Subject::default(),
            usages: &usages,
            is_ca: false,
            spki_der: verified.spki_der(),
            issuer: &issuer.signer.certificate,
        })?;
        Ok((lint::lint(composed, &Profile::Leaf { issuer: &issuer.spec })?, ()))
    }
}

/// Carries a plan out and signs, in the same piece of work.
async fn sign(session: &Session, prepared: &signing::SharedIssuer, order: &IssueOrder) -> Result<Issued, Rejection> {
    let make = plan(session, prepared, order, validity(session, prepared, order)?);
    let (signed, ()) = session.sign(prepared.signer.key.clone(), make).await?;
    Ok(signing::issued(prepared, &signed, None))
}

/// The lifetime asked for, or the issuer's maximum or 90 days, whichever is less.
fn duration(prepared: &Prepared, asked: Option<Duration>) -> Duration {
    let max = prepared.spec.max_duration.unwrap_or(limits::ISSUER_DURATION_DEFAULT_MAX);
    asked.unwrap_or_else(|| limits::DURATION_DEFAULT.min(max))
}

/// The answer of a request that was carried out before, read from the log.
async fn recorded(session: &Session, position: Position) -> Result<IssuedAnswer, Rejection> {
    let issued = session.tools.find_event(position, |event| match event {
        Event::CertificateIssued(issued) => Some((**issued).clone()),
        _ => None,
    });
    let issued = issued.await?;
    let chain = session.tools.log.read(|view| chain::of(view.state, &issued.authority))?;
    Ok(IssuedAnswer { issued, chain, position })
}
