//! Direct issuance: a caller's request signed without stored intent.
//!
//! It refuses to remember anything but the fact: live state does not grow with what is issued here.

use std::time::Duration;

use certwright_core::command::Command;
use certwright_core::event::{Event, Issued, Trigger};
use certwright_core::log::Position;
use certwright_core::policy::{Action, Resource};
use certwright_core::spec::Subject;
use certwright_core::x509::{LeafPlan, Profile, compose, csr, lint};
use certwright_core::{Reason, Rejection, limits};

use crate::chain;
use crate::digest;
use crate::issuers::Prepared;
use crate::order::{Call, IssueOrder, IssuedAnswer};
use crate::sequencer::Refusal;
use crate::session::{self, Ask, Session};
use crate::signing::{self, ATTEMPTS_MAX};

/// Signs one request and answers when the certificate is applied here from the log of a majority.
pub(crate) async fn issue(session: &Session, call: Call, order: IssueOrder) -> Result<IssuedAnswer, Rejection> {
    let issuer = order.issuer.clone();
    let result = attempt(session, call, order).await;
    signing::count(session, &issuer, Trigger::Direct.name(), result)
}

async fn attempt(session: &Session, call: Call, order: IssueOrder) -> Result<IssuedAnswer, Rejection> {
    session::allow(&call.actor, Action::Issue, &Resource::Issuer(order.issuer.clone()))?;
    if call.validate_only {
        return Err(Rejection::new(Reason::NotYetSupported, "a direct issuance cannot be validated only"));
    }
    let digest = if call.request_id.is_some() { digest::of(&order) } else { [0; 16] };
    if let Some(position) = session.earlier(&call, digest)? {
        return recorded(session, position);
    }
    for _ in 0..ATTEMPTS_MAX {
        let prepared = session.issuer(&order.issuer)?;
        let issued = sign(session, &prepared, &order).await?;
        let command = Command::RecordDirect { issued: Box::new(issued.clone()), guards: prepared.guards() };
        let ask = Ask::standing_for(call.clone(), digest, command).while_holds(prepared.check());
        match session.submit(ask).await {
            Ok(settled) if settled.repeated => return recorded(session, settled.outcome.position),
            Ok(settled) => {
                let chain = prepared.signer.chain.clone();
                return Ok(IssuedAnswer { issued, chain, position: settled.outcome.position });
            }
            Err(Refusal::Moved) => {}
            Err(Refusal::Rejected(rejection)) => return Err(rejection),
        }
    }
    Err(Refusal::Moved.into_rejection())
}

/// Verifies, composes, lints and signs, with a serial of its own, in one piece of work.
async fn sign(session: &Session, prepared: &signing::SharedIssuer, order: &IssueOrder) -> Result<Issued, Rejection> {
    let serial = session.tools.draw_serial();
    let (not_before, not_after) =
        signing::validity(session.tools.now_here(), duration(prepared, order.duration), &prepared.signer);
    let (request, usages, issuer) = (order.csr.clone(), order.usages.clone(), prepared.clone());
    let make = move || {
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
    };
    let (signed, ()) = session.sign(prepared.signer.key.clone(), make).await?;
    Ok(signing::issued(prepared, &signed, None))
}

/// The lifetime asked for, or the issuer's maximum or 90 days, whichever is less.
fn duration(prepared: &Prepared, asked: Option<Duration>) -> Duration {
    let max = prepared.spec.max_duration.unwrap_or(limits::ISSUER_DURATION_DEFAULT_MAX);
    asked.unwrap_or_else(|| limits::DURATION_DEFAULT.min(max))
}

/// The answer of a request that was carried out before, read from the log.
fn recorded(session: &Session, position: Position) -> Result<IssuedAnswer, Rejection> {
    let issued = session.tools.find_event(position, |event| match event {
        Event::CertificateIssued(issued) => Some((**issued).clone()),
        _ => None,
    })?;
    let chain = session.tools.log.read(|view| chain::of(view.state, &issued.authority))?;
    Ok(IssuedAnswer { issued, chain, position })
}
