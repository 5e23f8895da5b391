//! Decisions about issuers.
//!
//! It refuses to delete an issuer that certificates name, and to create one whose authority is missing.

use super::draft::Draft;
use super::{already_exists, misdirected, not_found};
use crate::command::Command;
use crate::event::Event;
use crate::ids::IssuerName;
use crate::rejection::{Reason, Rejection};
use crate::spec::{AuthorityPurpose, IssuerKind, IssuerSpec};
use crate::state::Issuer;

/// How many references an IN_USE rejection names.
const REFERENCES_NAMED: usize = 3;

pub(super) fn decide(draft: &mut Draft<'_>, command: &Command) -> Result<(), Rejection> {
    match command {
        Command::CreateIssuer { name, spec } => {
            if draft.state.issuers.contains(name) {
                return Err(already_exists("issuer", name));
            }
            check(draft, spec)?;
            draft.push(name.stream(), Event::IssuerDeclared { name: name.clone(), spec: spec.clone() });
        }
        Command::UpdateIssuer { name, etag, spec } => {
            let issuer = find(draft, name)?;
            etag.check(&issuer.etag())?;
            if issuer.spec != *spec {
                check(draft, spec)?;
                draft.push(name.stream(), Event::IssuerUpdated { spec: spec.clone() });
            }
        }
        Command::DeleteIssuer { name, etag } => {
            etag.check(&find(draft, name)?.etag())?;
            check_unused(draft, name)?;
            draft.push(name.stream(), Event::IssuerDeleted);
        }
        _ => return Err(misdirected()),
    }
    Ok(())
}

fn find<'a>(draft: &Draft<'a>, name: &IssuerName) -> Result<&'a Issuer, Rejection> {
    draft.state.issuers.get(name).ok_or_else(|| not_found("issuer", name))
}

fn check(draft: &mut Draft<'_>, spec: &IssuerSpec) -> Result<(), Rejection> {
    spec.validate()?;
    let IssuerKind::Ca { authority } = &spec.kind else {
        return Ok(());
    };
    let field = "spec.ca.authority";
    let found =
        draft.state.authorities.get(authority).ok_or_else(|| {
            Rejection::field(Reason::NotFound, field, format!("authority {authority} does not exist"))
        })?;
    if found.spec.purpose != AuthorityPurpose::Issuing {
        let message = format!("authority {authority} signs the cluster's own identities and nothing else");
        return Err(Rejection::field(Reason::InvalidSpec, field, message));
    }
    draft.guard(authority.stream());
    Ok(())
}

fn check_unused(draft: &Draft<'_>, name: &IssuerName) -> Result<(), Rejection> {
    let users = draft.state.certificates_of_issuer(name, None, REFERENCES_NAMED);
    if users.is_empty() {
        return Ok(());
    }
    let named: Vec<String> = users.iter().map(ToString::to_string).collect();
    let count = draft.state.certificates_of_issuer_count(name);
    let message = format!("issuer {name} is named by {count} certificates, among them {}", named.join(", "));
    Err(Rejection::new(Reason::InUse, message))
}
