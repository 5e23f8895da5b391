//! After a restore: what agents hold and the restored log does not know.
//!
//! It refuses to take an agent's word: a certificate is taken back when an authority of ours signed it, and an identity
//! when the system authority did; everything else is issued anew.

use std::collections::BTreeSet;

use certwright_core::command::Command;
use certwright_core::event::{Identity, Issued, Trigger};
use certwright_core::ids::{Actor, AgentName, Serial};
use certwright_core::limits::LOST_SLACK;
use certwright_core::log::Revision;
use certwright_core::policy::{self, Action, Resource};
use certwright_core::spec::{CertificateSpec, IssuerKind};
use certwright_core::state::{Authority, State};
use certwright_core::time::Timestamp;
use certwright_core::x509::inspect::{Inspected, inspect, verify_chain};
use certwright_core::x509::{Names, subject, usage};
use certwright_core::{Reason, Rejection, renewal};
use certwright_proto::identity::format_uri;

use crate::identities::{cluster_id, system_authority};
use crate::order::{Call, Held};
use crate::projector::serial_key;
use crate::session::Session;

/// What became of a certificate that an agent holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Adopted {
    /// The log knows it from now on.
    Taken,
    /// It is nothing that an authority here signed for that certificate as it is wanted now, or nothing that the log lost: a
    /// later generation is open.
    Opened,
    /// The log knew it.
    Known,
}

impl Adopted {
    /// Lower-case name for metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Opened => "opened",
            Self::Known => "known",
        }
    }
}

/// Takes back a generation that an agent holds, or opens the one after it.
pub(crate) async fn adopt(session: &Session, call: Call, held: Held) -> Result<Adopted, Rejection> {
    let Actor::Agent(agent) = call.actor.clone() else {
        return Err(Rejection::new(Reason::PermissionDenied, format!("{} holds no certificate", call.actor)));
    };
    session.allow(&call, Action::SubmitCsr, &Resource::Agent(agent.clone()))?;
    let Some((spec, spec_revision)) = wanted(session, &agent, &held)? else { return Ok(Adopted::Known) };
    let log = &session.tools.log;
    let is_known = |serial: &Serial| log.lookup(&serial_key(serial)).is_some();
    let proved = log.read(|view| prove(view.state, &spec, &held, session.tools.now(view), is_known));
    let taken = match proved {
        Ok(issued) => {
            let (certificate, issued) = (held.certificate.clone(), Box::new(issued));
            session.act(call.trace, Command::AdoptHeld { certificate, issued, spec_revision }).await.map(drop)
        }
        Err(cause) => Err(cause),
    };
    let Err(cause) = taken else { return Ok(Adopted::Taken) };
    // Whatever else kept it from being taken may be over in a moment, and it may have been taken.
    const FINAL: [Reason; 5] = [
        Reason::VerificationFailed,
        Reason::InvalidManifest,
        Reason::OldEpoch,
        Reason::AlreadyExists,
        Reason::GenerationConflict,
    ];
    if !FINAL.contains(&cause.reason) {
        return Err(cause);
    }
    let (certificate, generation) = (&held.certificate, held.generation);
    tracing::warn!(%certificate, %agent, generation, %cause, "a certificate that an agent holds is issued anew");
    open(session, &call, &held).await?;
    Ok(Adopted::Opened)
}

/// The specification of what an agent says it holds, and its revision; `None` when the log knows that generation.
fn wanted(session: &Session, agent: &AgentName, held: &Held) -> Result<Option<(CertificateSpec, Revision)>, Rejection> {
    session.tools.log.read(|view| {
        let missing =
            || Rejection::new(Reason::NotFound, format!("certificate {} is not known here", held.certificate));
        if view.state.cluster.opened().is_none() {
            return Err(Rejection::new(Reason::GenerationConflict, "the cluster was never restored"));
        }
        let certificate = view.state.certificates.get(&held.certificate).ok_or_else(missing)?;
        let instance = certificate.instance(held.instance).filter(|instance| instance.agent == *agent);
        let instance = instance.ok_or_else(missing)?;
        let known = instance.current.is_some_and(|current| current.generation >= held.generation);
        Ok((!known).then(|| (certificate.spec(), certificate.spec_revision)))
    })
}

/// What the held certificate is in the log's terms. Only one that is what the specification asks for is taken: a
/// certificate is public, and an agent could show somebody else's.
fn prove(
    state: &State,
    spec: &CertificateSpec,
    held: &Held,
    now: Timestamp,
    is_known: impl Fn(&Serial) -> bool,
) -> Result<Issued, Rejection> {
    let unfit = |message: String| Rejection::new(Reason::VerificationFailed, message);
    let found = inspect(&held.der)?;
    let issuer = state.issuers.get(&spec.issuer);
    let issuer = issuer.ok_or_else(|| unfit(format!("issuer {} does not exist", spec.issuer)))?;
    let authority = match &issuer.spec.kind {
        IssuerKind::Ca { authority } => state.authorities.get(authority),
        IssuerKind::Reserved(_) => None,
    };
    let authority = authority.ok_or_else(|| unfit(format!("issuer {} has no authority here", spec.issuer)))?;
    let certified = signed_by(authority, &held.der, now).map_err(unfit)?;
    if !says(&found, spec) {
        return Err(unfit("it is not what the specification asks for".to_owned()));
    }
    let serial = Serial::parse(&found.serial).ok_or_else(|| unfit(format!("{} is no serial", found.serial)))?;
    if is_known(&serial) {
        return Err(unfit(format!("{serial} is in the log already")));
    }
    let (id, generation) = (held.instance, held.generation);
    Ok(Issued {
        instance: Some(id),
        generation,
        serial,
        issuer: spec.issuer.clone(),
        authority: authority.name.clone(),
        authority_serial: certified,
        not_before: found.not_before,
        not_after: found.not_after,
        renew_at: Some(renewal::renew_at(spec, id, generation, found.not_before, found.not_after)),
        spki_hash: found.spki_hash,
        certificate: held.der.as_slice().into(),
    })
}

/// The serial of the authority's own certificate, if that signed this one and both are valid now.
fn signed_by(authority: &Authority, der: &[u8], now: Timestamp) -> Result<Serial, String> {
    let certified = authority.certified.as_ref().ok_or_else(|| format!("{} has no certificate", authority.name))?;
    let roots = [certified.certificate.to_vec()];
    verify_chain(der, &[], &roots, now).map_err(|error| error.to_string())?;
    Ok(certified.serial)
}

/// Whether subject, names, usages and key are those of the specification, and it lives no longer.
fn says(found: &Inspected, spec: &CertificateSpec) -> bool {
    let names = Names {
        common_name: spec.common_name.clone(),
        dns_names: spec.dns_names.clone(),
        ip_addresses: spec.ip_addresses.clone(),
        uris: spec.uris.clone(),
        email_addresses: spec.email_addresses.clone(),
    };
    let wanted = sorted(names.normalized());
    let lifetime = found.not_after.since(found.not_before);
    sorted(found.names.clone()) == wanted
        && subject::encode(wanted.common_name.as_deref(), &spec.subject)
            .is_ok_and(|subject| subject == found.subject_der)
        && found.is_ca == spec.is_ca
        && found.key_algorithm == Some(spec.private_key.algorithm)
        && usages(spec).is_ok_and(|usages| usages == found.usages.iter().cloned().collect())
        && lifetime <= spec.effective_duration() + LOST_SLACK
}

fn sorted(mut names: Names) -> Names {
    names.dns_names.sort();
    names.ip_addresses.sort();
    names.uris.sort();
    names.email_addresses.sort();
    names
}

/// The usages that a certificate for it shows.
fn usages(spec: &CertificateSpec) -> Result<BTreeSet<String>, Rejection> {
    let (bits, extended) = usage::map(&spec.effective_usages(), spec.private_key.algorithm, spec.is_ca)?;
    Ok(bits.names().into_iter().chain(extended.iter().map(|usage| usage.name())).map(str::to_owned).collect())
}

async fn open(session: &Session, call: &Call, held: &Held) -> Result<(), Rejection> {
    let command = Command::OpenIssuance {
        certificate: held.certificate.clone(),
        instance: held.instance,
        generation: held.generation.saturating_add(1),
        trigger: Trigger::Restored,
    };
    session.act(call.trace, command).await.map(drop)
}

/// Lets an agent in under an identity that was issued after the backup: its key is the agent's from now on.
pub(crate) async fn readmit(session: &Session, call: Call, der: Vec<u8>) -> Result<(), Rejection> {
    let Actor::Agent(agent) = call.actor.clone() else {
        return Err(Rejection::new(Reason::PermissionDenied, format!("{} is no agent", call.actor)));
    };
    policy::authorize(&call.actor, Action::Session, &Resource::Agent(agent.clone()))?;
    let refused = |message: String| Rejection::new(Reason::Unauthenticated, message);
    let found = inspect(&der)?;
    let (cluster, uri) = session.tools.log.read(|view| {
        let cluster = cluster_id(view.state)?;
        let system = view.state.authorities.get(&system_authority()?);
        let system = system.ok_or_else(|| refused("there is no system authority".to_owned()))?;
        // It may have lapsed while the servers were away.
        signed_by(system, &der, session.tools.now(view).min(found.not_after)).map_err(refused)?;
        Ok::<_, Rejection>((cluster, format_uri(cluster, &call.actor)))
    })?;
    if call.key != Some(found.spki_hash) || found.names.uris.first() != uri.as_ref() {
        return Err(refused(format!("the certificate is not the one that {} proved in cluster {cluster}", call.actor)));
    }
    let serial = Serial::parse(&found.serial).ok_or_else(|| refused(format!("{} is no serial", found.serial)))?;
    let identity = Identity {
        serial,
        spki_hash: found.spki_hash,
        not_before: found.not_before,
        not_after: found.not_after,
        certificate: der.as_slice().into(),
    };
    tracing::warn!(%agent, "an agent is let in again under an identity that the restored log does not know");
    session.act(call.trace, Command::ReadmitAgent { agent, identity }).await.map(drop)
}
