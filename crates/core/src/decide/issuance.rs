//! Decisions about issuances: opened, failed, issued. One certificate for each generation of an instance, whatever
//! happens.
//!
//! It refuses what was composed under a specification, issuer or authority that changed since.

use super::certificates::find;
use super::draft::Draft;
use super::epochs;
use super::{cut, misdirected, not_found};
use crate::command::Command;
use crate::event::{Event, Issued, Trigger};
use crate::ids::{CertificateName, Generation, InstanceId, direct_stream};
use crate::limits;
use crate::log::{Guard, Revision};
use crate::mutant::{self, Mutant};
use crate::rejection::{Reason, Rejection};
use crate::renewal;
use crate::state::{Certificate, Instance};

pub(super) fn decide(draft: &mut Draft<'_>, command: &Command) -> Result<(), Rejection> {
    match command {
        Command::OpenIssuance { certificate, instance, generation, trigger } => {
            open(draft, certificate, *instance, *generation, *trigger)
        }
        Command::FailIssuance { certificate, instance, generation, reason, message } => {
            fail(draft, certificate, *instance, *generation, (reason, message))
        }
        Command::RecordIssued { certificate, issued, guards } => record(draft, certificate, issued, guards),
        Command::AdoptHeld { certificate, issued, spec_revision } => adopt(draft, certificate, issued, *spec_revision),
        Command::RecordDirect { issued, guards } => record_direct(draft, issued, guards),
        _ => Err(misdirected()),
    }
}

impl Instance {
    /// The generation that is issued next.
    pub fn next_generation(&self) -> Generation {
        self.current.map_or(1, |current| current.generation + 1)
    }
}

fn find_instance<'a>(
    draft: &Draft<'a>,
    name: &CertificateName,
    id: InstanceId,
) -> Result<(&'a Certificate, &'a Instance), Rejection> {
    let certificate = find(draft, name)?;
    let instance = certificate.instance(id).ok_or_else(|| not_found("instance", format!("{id} of {name}")))?;
    Ok((certificate, instance))
}

fn open(
    draft: &mut Draft<'_>,
    name: &CertificateName,
    id: InstanceId,
    generation: Generation,
    trigger: Trigger,
) -> Result<(), Rejection> {
    let (_, instance) = find_instance(draft, name, id)?;
    if instance.open.is_some_and(|open| open.generation == generation) {
        return Ok(());
    }
    let next = instance.next_generation();
    // Generations that were given out in an epoch whose end is lost are skipped.
    let skips = trigger == Trigger::Restored && generation > next && draft.state.cluster.opened().is_some();
    if generation != next && !skips {
        let message = format!("the next generation of {id} is {next}, not {generation}");
        return Err(Rejection::new(Reason::GenerationConflict, message));
    }
    epochs::within(next, generation)?;
    draft.push(name.stream(), Event::IssuanceOpened { instance: id, generation, trigger });
    Ok(())
}

fn fail(
    draft: &mut Draft<'_>,
    name: &CertificateName,
    id: InstanceId,
    generation: Generation,
    (reason, message): (&str, &str),
) -> Result<(), Rejection> {
    let (_, instance) = find_instance(draft, name, id)?;
    expect_open(instance, generation)?;
    let retry_at = draft.now.plus(renewal::backoff(id, instance.failures.saturating_add(1)));
    let failed = Event::IssuanceFailed {
        instance: id,
        generation,
        reason: cut(reason, limits::REASON_OCTETS_MAX),
        message: cut(message, limits::MESSAGE_OCTETS_MAX),
        retry_at,
    };
    draft.push(name.stream(), failed);
    Ok(())
}

fn expect_open(instance: &Instance, generation: Generation) -> Result<(), Rejection> {
    let is_open = instance.open.is_some_and(|open| open.generation == generation);
    if is_open || mutant::is(Mutant::GenerationUnchecked) {
        return Ok(());
    }
    let message = format!("no issuance of generation {generation} of {} is open", instance.id);
    Err(Rejection::new(Reason::IssuanceNotOpen, message))
}

fn record(draft: &mut Draft<'_>, name: &CertificateName, issued: &Issued, guards: &[Guard]) -> Result<(), Rejection> {
    let id =
        issued.instance.ok_or_else(|| Rejection::new(Reason::Internal, "an issued certificate names no instance"))?;
    let (certificate, instance) = find_instance(draft, name, id)?;
    if let Some(current) = instance.current.filter(|current| issued.generation <= current.generation)
        && !mutant::is(Mutant::GenerationUnchecked)
    {
        if current.generation == issued.generation && current.spki_hash == issued.spki_hash {
            return Ok(());
        }
        let message = format!(
            "generation {} of {id} was asked for, generation {} was issued for another key",
            issued.generation, current.generation
        );
        return Err(Rejection::new(Reason::GenerationConflict, message));
    }
    expect_open(instance, issued.generation)?;
    hold_all(draft, guards, Some((name, certificate)))?;
    let spec = certificate.spec();
    if spec.issuer != issued.issuer {
        let message = format!("{name} wants issuer {}, the certificate is from {}", spec.issuer, issued.issuer);
        return Err(Rejection::new(Reason::Moved, message));
    }
    let mut issued = issued.clone();
    if issued.renew_at.is_none() {
        let renew_at = renewal::renew_at(&spec, id, issued.generation, issued.not_before, issued.not_after);
        issued.renew_at = Some(renew_at);
    }
    draft.push(name.stream(), Event::CertificateIssued(Box::new(issued)));
    Ok(())
}

/// Takes back a generation that was issued in an epoch whose end is lost. Whatever is open is answered by it.
fn adopt(
    draft: &mut Draft<'_>,
    name: &CertificateName,
    issued: &Issued,
    spec_revision: Revision,
) -> Result<(), Rejection> {
    let id = issued.instance.ok_or_else(|| Rejection::new(Reason::Internal, "a held certificate names no instance"))?;
    let (certificate, instance) = find_instance(draft, name, id)?;
    if certificate.spec_revision != spec_revision {
        let message = format!("the specification of {name} changed while what {id} holds was compared with it");
        return Err(Rejection::new(Reason::Moved, message));
    }
    epochs::lost(draft, issued.not_before)?;
    // What is public can be shown by anybody, under any number: nobody takes over what an instance has.
    let has_it = |it: &&Instance| it.current.is_some_and(|current| current.serial == issued.serial);
    if let Some(owner) = certificate.instances.iter().find(has_it) {
        if owner.id == id && owner.current.is_some_and(|current| current.generation == issued.generation) {
            return Ok(());
        }
        let message = format!("{} is what {} has", issued.serial, owner.id);
        return Err(Rejection::new(Reason::AlreadyExists, message));
    }
    epochs::within(instance.next_generation(), issued.generation)?;
    if let Some(current) = instance.current.filter(|current| issued.generation <= current.generation) {
        let message = format!("generation {} of {id} is in the log", current.generation);
        return Err(Rejection::new(Reason::GenerationConflict, message));
    }
    draft.push(name.stream(), Event::CertificateIssued(Box::new(issued.clone())));
    Ok(())
}

fn record_direct(draft: &mut Draft<'_>, issued: &Issued, guards: &[Guard]) -> Result<(), Rejection> {
    if !draft.state.issuers.contains(&issued.issuer) {
        return Err(Rejection::new(Reason::IssuerNotFound, format!("issuer {} does not exist", issued.issuer)));
    }
    hold_all(draft, guards, None)?;
    draft.push_free(direct_stream(&issued.serial), Event::CertificateIssued(Box::new(issued.clone())));
    Ok(())
}

/// Carries the guards on if they still hold. The certificate's own stream moves with every instance's issuance; what
/// matters of it is that what the certificate must say has not changed since the guard was taken.
fn hold_all(
    draft: &mut Draft<'_>,
    guards: &[Guard],
    own: Option<(&CertificateName, &Certificate)>,
) -> Result<(), Rejection> {
    for guard in guards {
        match own.filter(|(name, _)| name.stream() == guard.stream) {
            Some((_, certificate)) if guard.revision >= certificate.spec_revision => {}
            Some((name, _)) => {
                let message = format!("the specification of {name} changed while its certificate was made");
                return Err(Rejection::new(Reason::Moved, message));
            }
            None => draft.hold(guard)?,
        }
    }
    Ok(())
}
