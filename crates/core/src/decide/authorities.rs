//! Decisions about authorities: key declared, certificate intended, certificate recorded; in this order.
//!
//! It refuses a child of a parent that has no certificate, and a certificate other than the one intended.

use super::draft::Draft;
use super::{already_exists, misdirected, not_found};
use crate::command::Command;
use crate::event::{Event, SealedKey};
use crate::ids::{AuthorityName, Serial, cluster_stream};
use crate::rejection::{Reason, Rejection};
use crate::spec::AuthoritySpec;
use crate::state::Authority;

pub(super) fn decide(draft: &mut Draft<'_>, command: &Command) -> Result<(), Rejection> {
    match command {
        Command::DeclareAuthority { name, spec, public_key, sealed_key } => {
            declare(draft, name, spec, public_key, sealed_key)
        }
        Command::ResealAuthorityKey { name, sealed_key } => {
            let authority = find(draft, name)?;
            expect_current(draft, sealed_key)?;
            if authority.sealed_key.data_key_id != sealed_key.data_key_id {
                draft.push(name.stream(), Event::AuthorityKeyResealed { sealed_key: sealed_key.clone() });
            }
            Ok(())
        }
        Command::IntendAuthorityCertificate { name, serial, tbs_hash } => {
            let authority = find(draft, name)?;
            check_parent(draft, &authority.spec)?;
            if authority.intended != Some((*serial, *tbs_hash)) {
                let intended = Event::AuthorityCertificateIntended { serial: *serial, tbs_hash: *tbs_hash };
                draft.push(name.stream(), intended);
            }
            Ok(())
        }
        Command::RecordAuthorityCertificate { name, serial, not_before, not_after, certificate } => {
            let authority = find(draft, name)?;
            if authority.certified.as_ref().is_some_and(|certified| certified.certificate == *certificate) {
                return Ok(());
            }
            expect_intended(authority, serial)?;
            check_parent(draft, &authority.spec)?;
            let certified = Event::AuthorityCertified {
                serial: *serial,
                not_before: *not_before,
                not_after: *not_after,
                certificate: certificate.clone(),
            };
            draft.push(name.stream(), certified);
            Ok(())
        }
        _ => Err(misdirected()),
    }
}

fn find<'a>(draft: &Draft<'a>, name: &AuthorityName) -> Result<&'a Authority, Rejection> {
    draft.state.authorities.get(name).ok_or_else(|| not_found("authority", name))
}

fn declare(
    draft: &mut Draft<'_>,
    name: &AuthorityName,
    spec: &AuthoritySpec,
    public_key: &[u8],
    sealed_key: &SealedKey,
) -> Result<(), Rejection> {
    if let Some(authority) = draft.state.authorities.get(name) {
        if authority.spec == *spec && authority.public_key == public_key {
            return Ok(());
        }
        return Err(already_exists("authority", name));
    }
    spec.validate()?;
    expect_current(draft, sealed_key)?;
    check_parent(draft, spec)?;
    let declared = Event::AuthorityDeclared {
        name: name.clone(),
        spec: spec.clone(),
        public_key: public_key.to_vec(),
        sealed_key: sealed_key.clone(),
    };
    draft.push(name.stream(), declared);
    Ok(())
}

/// What is sealed is sealed under the data key in use: another may be forgotten any moment.
fn expect_current(draft: &mut Draft<'_>, sealed_key: &SealedKey) -> Result<(), Rejection> {
    draft.guard(cluster_stream());
    let (sealed_under, current) = (sealed_key.data_key_id, draft.state.cluster.data_key_id);
    if sealed_under == current {
        return Ok(());
    }
    let message = format!("the data key in use is {current}, the private key is sealed under {sealed_under}");
    Err(Rejection::new(Reason::Moved, message))
}

/// A parent must exist, be certified and be for the same purpose.
fn check_parent(draft: &mut Draft<'_>, spec: &AuthoritySpec) -> Result<(), Rejection> {
    let Some(parent) = &spec.parent else {
        return Ok(());
    };
    let rejection = |reason, cause: &str| Rejection::field(reason, "parent", format!("authority {parent} {cause}"));
    let found = draft.state.authorities.get(parent).ok_or_else(|| rejection(Reason::NotFound, "does not exist"))?;
    if found.spec.purpose != spec.purpose {
        return Err(rejection(Reason::InvalidSpec, "is for another purpose"));
    }
    if found.spec.path_len == Some(0) {
        return Err(rejection(Reason::InvalidSpec, "may have no authorities below it: its path length is 0"));
    }
    if found.certified.is_none() {
        return Err(rejection(Reason::IssuerNotReady, "has no certificate yet"));
    }
    draft.guard(parent.stream());
    Ok(())
}

fn expect_intended(authority: &Authority, serial: &Serial) -> Result<(), Rejection> {
    match &authority.intended {
        Some((intended, _)) if intended == serial => Ok(()),
        Some((intended, _)) => {
            let message = format!("authority {} intends serial {intended}, not {serial}", authority.name);
            Err(Rejection::new(Reason::Moved, message))
        }
        None => {
            let message = format!("authority {} intends no certificate", authority.name);
            Err(Rejection::new(Reason::IssuanceNotOpen, message))
        }
    }
}
