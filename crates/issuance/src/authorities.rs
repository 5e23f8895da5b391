//! Authorities: their keys made, their certificates intended, signed and recorded, in steps that any later leader can
//! take up where the last one stopped.
//!
//! It refuses to sign a CA certificate whose serial and bytes are not in the log first (an intent), and never draws
//! upon an intended serial for other bytes.

use std::sync::Arc;
use std::time::Duration;

use certwright_core::command::Command;
use certwright_core::ids::{AuthorityName, Serial};
use certwright_core::log::Trace;
use certwright_core::spec::AuthoritySpec;
use certwright_core::state::Authority;
use certwright_core::time::Timestamp;
use certwright_core::x509::{AuthorityPlan, Linted, Profile, compose, lint};
use certwright_core::{Reason, Rejection, renewal};
use certwright_custody::{Custody, KeyRef};

use crate::digest;
use crate::fault::{self, Point};
use crate::issuers::Signer;
use crate::order::{Call, Outcome};
use crate::sequencer::Refusal;
use crate::session::{Ask, Session, not_leader};
use crate::signing::{self, ATTEMPTS_MAX};

/// First and longest wait between attempts to finish what an earlier leader began.
const RESUME_WAIT: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// Before a key is sealed once more, when the data key was replaced meanwhile.
const MOVED_WAIT: Duration = Duration::from_millis(50);

/// Makes a key pair, declares the authority and certifies it. A repeat with the same request id finishes the first.
pub(crate) async fn create(
    session: &Session,
    call: Call,
    name: AuthorityName,
    spec: AuthoritySpec,
) -> Result<Outcome, Rejection> {
    let digest = if call.request_id.is_some() { digest::of(&(&name, &spec)) } else { [0; 16] };
    if session.earlier(&call, digest)?.is_none() {
        let outcome = declare(session, call.clone(), digest, &name, &spec).await?;
        if call.validate_only {
            return Ok(outcome);
        }
    }
    certify(session, call.trace, &name).await
}

async fn declare(
    session: &Session,
    call: Call,
    digest: [u8; 16],
    name: &AuthorityName,
    spec: &AuthoritySpec,
) -> Result<Outcome, Rejection> {
    let mut attempts = 1..;
    loop {
        let key = session.tools.custody.generate(spec.key_algorithm).await?;
        let command = Command::DeclareAuthority {
            name: name.clone(),
            spec: spec.clone(),
            public_key: key.public_key,
            sealed_key: key.sealed,
        };
        let settled = session.submit(Ask::standing_for(call.clone(), digest, command)).await;
        match settled.map_err(Refusal::into_rejection) {
            Ok(settled) => return Ok(settled.outcome),
            // The data key was replaced between sealing and deciding.
            Err(moved) if moved.reason == Reason::Moved && attempts.next() < Some(ATTEMPTS_MAX) => {
                tokio::time::sleep(MOVED_WAIT).await;
            }
            Err(rejection) => return Err(rejection),
        }
    }
}

/// An authority that is declared, and what its certificate will be composed of.
struct Draft {
    authority: Authority,
    /// From its declaration, so that every leader composes the same bytes.
    not_before: Timestamp,
    not_after: Timestamp,
    parent: Option<Arc<Signer>>,
}

/// Gives a declared authority its certificate; unchanged when it has one.
pub(crate) async fn certify(session: &Session, trace: Trace, name: &AuthorityName) -> Result<Outcome, Rejection> {
    let _alone = session.certifying.acquire().await.map_err(|_| not_leader())?;
    for _ in 0..ATTEMPTS_MAX {
        let authority = match declared(session, name)? {
            Ok(outcome) => return Ok(outcome),
            Err(authority) => *authority,
        };
        let draft = draft(session, authority).await?;
        let (linted, guarded) = intend(session, trace, &draft).await?;
        let parent_key = draft.parent.as_ref().map(|parent| parent.key.clone());
        let key = parent_key.unwrap_or_else(|| KeyRef::of(&draft.authority));
        let (signed, ()) = session.sign(key, move || Ok((linted, ()))).await?;
        let command = Command::RecordAuthorityCertificate {
            name: name.clone(),
            serial: signed.serial(),
            not_before: signed.not_before(),
            not_after: signed.not_after(),
            certificate: signed.der().clone(),
        };
        let call = Call { trace, ..Call::by(certwright_core::ids::Actor::System) };
        match session.submit(Ask::of(call, command).while_holds(guarded)).await {
            Ok(settled) => return Ok(settled.outcome),
            Err(Refusal::Moved) => {}
            Err(Refusal::Rejected(rejection)) => return Err(rejection),
        }
    }
    Err(Refusal::Moved.into_rejection())
}

/// The authority as declared, or where it stands when it is certified already.
fn declared(session: &Session, name: &AuthorityName) -> Result<Result<Outcome, Box<Authority>>, Rejection> {
    session.tools.log.read(|view| {
        let missing = || Rejection::new(Reason::NotFound, format!("there is no authority {name}"));
        let authority = view.state.authorities.get(name).ok_or_else(missing)?;
        Ok(match authority.certified {
            Some(_) => Ok(Outcome { position: view.position, at: view.at, unchanged: true }),
            None => Err(Box::new(authority.clone())),
        })
    })
}

async fn draft(session: &Session, authority: Authority) -> Result<Draft, Rejection> {
    let parent = authority.spec.parent.as_ref().map(|parent| session.signer(parent)).transpose()?;
    // The log time of the declaration; a server that joined by snapshot may not hold that entry, and then composes
    // other bytes under another serial.
    let declared = session.tools.transaction(authority.uid.0).await.ok().flatten();
    let (now, cluster) = session.tools.log.read(|view| (session.tools.now(view), view.state.cluster.clone()));
    // By the time that holds now: log time may have been set back since.
    let declared_at = declared.map_or(now, |declared| cluster.corrected(authority.uid.0.index, declared.at));
    let (mut not_before, mut not_after) = renewal::validity(declared_at, authority.spec.duration);
    if let Some(parent) = &parent {
        signing::validity(now, authority.spec.duration, parent)?;
        not_before = not_before.max(parent.certificate.not_before());
        not_after = not_after.min(parent.certificate.not_after());
    }
    Ok(Draft { authority, not_before, not_after, parent })
}

/// Composes the certificate and sees to it that its intent is in the log: the one that is there already when the bytes
/// are the same, else a new one with a new serial.
async fn intend(
    session: &Session,
    trace: Trace,
    draft: &Draft,
) -> Result<(Linted, crate::sequencer::Check), Rejection> {
    if let Some((serial, tbs_hash)) = draft.authority.intended {
        let linted = compose(draft, serial)?;
        if linted.tbs_hash() == tbs_hash {
            return Ok((linted, still_intended(&draft.authority.name, serial)));
        }
    }
    let serial = session.tools.draw_serial();
    let linted = compose(draft, serial)?;
    let command =
        Command::IntendAuthorityCertificate { name: draft.authority.name.clone(), serial, tbs_hash: linted.tbs_hash() };
    session.act(trace, command).await?;
    fault::point(Point::AfterIntent);
    Ok((linted, still_intended(&draft.authority.name, serial)))
}

fn still_intended(name: &AuthorityName, serial: Serial) -> crate::sequencer::Check {
    let name = name.clone();
    Box::new(move |state| {
        let authority = state.authorities.get(&name);
        authority.is_some_and(|authority| authority.intended.is_some_and(|(intended, _)| intended == serial))
    })
}

fn compose(draft: &Draft, serial: Serial) -> Result<Linted, Rejection> {
    let composed = compose::authority(&AuthorityPlan {
        serial,
        not_before: draft.not_before,
        not_after: draft.not_after,
        spec: &draft.authority.spec,
        spki_der: &draft.authority.public_key,
        issuer: draft.parent.as_ref().map(|parent| &parent.certificate),
    })?;
    lint::lint(composed, &Profile::Authority { spec: &draft.authority.spec })
}

/// Finishes what an earlier leader declared and did not certify, parents before their children, until nothing is left.
pub(crate) async fn resume(session: Arc<Session>) {
    let mut wait = RESUME_WAIT.0;
    loop {
        let pending: Vec<AuthorityName> = session.tools.log.read(|view| {
            let uncertified = view.state.authorities.iter().filter(|authority| authority.certified.is_none());
            uncertified.map(|authority| authority.name.clone()).collect()
        });
        let mut left = false;
        for name in pending {
            if let Err(rejection) = certify(&session, Trace::default(), &name).await {
                left = true;
                tracing::warn!(authority = %name, reason = rejection.reason.code(), "authority not certified yet: {rejection}");
            }
        }
        if !left || session.over.is_cancelled() {
            return;
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(RESUME_WAIT.1);
    }
}
