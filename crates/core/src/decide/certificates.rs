//! Decisions about intents: create, update, delete, renew, and reconcile with the agents that are there.
//!
//! It refuses a certificate without an issuer that exists, and more instances than a certificate may have.

use std::sync::Arc;

use super::draft::Draft;
use super::{already_exists, instances, misdirected, not_found};
use crate::command::{Command, Etag};
use crate::event::{Event, Trigger};
use crate::ids::{CertificateName, Uid};
use crate::limits;
use crate::rejection::{Reason, Rejection};
use crate::spec::{CertificateSpec, PackedSpec};
use crate::state::Certificate;

pub(super) fn decide(draft: &mut Draft<'_>, command: &Command) -> Result<(), Rejection> {
    match command {
        Command::CreateCertificate { name, spec } => create(draft, name, spec),
        Command::UpdateCertificate { name, etag, spec } => update(draft, name, etag, spec),
        Command::DeleteCertificate { name, etag } => {
            find(draft, name)?.etag_holds(etag)?;
            draft.push(name.stream(), Event::CertificateDeleted);
            Ok(())
        }
        Command::RenewCertificate { name } => renew(draft, name),
        Command::ReconcileCertificate { name } => {
            let certificate = find(draft, name)?;
            instances::pair(draft, name, certificate, &certificate.spec());
            Ok(())
        }
        _ => Err(misdirected()),
    }
}

/// The certificate of this name; rejects with NOT_FOUND.
pub(super) fn find<'a>(draft: &Draft<'a>, name: &CertificateName) -> Result<&'a Certificate, Rejection> {
    draft.state.certificates.get(name).ok_or_else(|| not_found("certificate", name))
}

impl Certificate {
    fn etag_holds(&self, etag: &Etag) -> Result<(), Rejection> {
        etag.check(&self.etag())
    }
}

fn check(draft: &mut Draft<'_>, spec: &CertificateSpec) -> Result<(), Rejection> {
    spec.validate()?;
    if !draft.state.issuers.contains(&spec.issuer) {
        let message = format!("issuer {} does not exist", spec.issuer);
        return Err(Rejection::field(Reason::IssuerNotFound, "spec.issuerRef.name", message));
    }
    let holders = draft.state.holders_of(spec).len();
    if holders > limits::INSTANCES_MAX {
        let max = limits::INSTANCES_MAX;
        let message = format!("select {holders} agents, at most {max} may hold one certificate");
        return Err(Rejection::field(Reason::InvalidSpec, "spec.targets", message));
    }
    draft.guard(spec.issuer.stream());
    Ok(())
}

fn create(draft: &mut Draft<'_>, name: &CertificateName, spec: &Arc<CertificateSpec>) -> Result<(), Rejection> {
    if draft.state.certificates.contains(name) {
        return Err(already_exists("certificate", name));
    }
    check(draft, spec)?;
    draft.push(name.stream(), Event::CertificateDeclared { name: name.clone(), spec: spec.clone() });
    // Its uid is the position at which this decision will be appended.
    let uid = Uid::here(draft.state.cluster.epoch);
    for (agent, number) in draft.state.holders_of(spec).into_iter().zip(1..).take(limits::RECONCILE_MAX) {
        instances::add(draft, name, uid, number, agent);
    }
    Ok(())
}

fn update(
    draft: &mut Draft<'_>,
    name: &CertificateName,
    etag: &Etag,
    spec: &Arc<CertificateSpec>,
) -> Result<(), Rejection> {
    let certificate = find(draft, name)?;
    certificate.etag_holds(etag)?;
    if certificate.spec == PackedSpec::pack(spec) {
        return Ok(());
    }
    check(draft, spec)?;
    draft.push(name.stream(), Event::CertificateUpdated { spec: spec.clone() });
    instances::pair(draft, name, certificate, spec);
    Ok(())
}

fn renew(draft: &mut Draft<'_>, name: &CertificateName) -> Result<(), Rejection> {
    for instance in find(draft, name)?.instances.iter().filter(|instance| instance.open.is_none()) {
        let opened = Event::IssuanceOpened {
            instance: instance.id,
            generation: instance.next_generation(),
            trigger: Trigger::Requested,
        };
        draft.push(name.stream(), opened);
    }
    Ok(())
}
