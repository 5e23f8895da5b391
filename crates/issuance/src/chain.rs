//! The chain of an authority: its own certificate, then its parents' up to the root.
//!
//! It refuses authorities without a certificate, and chains longer than any that we make.

use std::sync::Arc;

use certwright_core::ids::{AuthorityName, Uid};
use certwright_core::log::Revision;
use certwright_core::state::{Authority, State};
use certwright_core::{Reason, Rejection};

/// Longest chain followed: RFC 5280 sets no bound, verifiers stop at about ten.
const LENGTH_MAX: usize = 8;

/// The authority and its parents, root last; `ISSUER_NOT_READY` when one of them has no certificate.
pub fn authorities<'a>(state: &'a State, authority: &AuthorityName) -> Result<Vec<&'a Authority>, Rejection> {
    let mut chain = Vec::new();
    let mut next = Some(authority);
    while let Some(name) = next {
        let authority = state.authorities.get(name).filter(|authority| authority.certified.is_some());
        let authority = authority.ok_or_else(|| not_ready(name))?;
        if chain.len() == LENGTH_MAX {
            return Err(Rejection::new(Reason::Internal, format!("the chain of authority {name} has no end")));
        }
        chain.push(authority);
        next = authority.spec.parent.as_ref();
    }
    Ok(chain)
}

/// The chain as DER, the authority's own certificate first and the root last.
pub fn of(state: &State, authority: &AuthorityName) -> Result<Vec<Arc<[u8]>>, Rejection> {
    let chain = authorities(state, authority)?;
    Ok(chain.iter().filter_map(|authority| Some(authority.certified.as_ref()?.certificate.clone())).collect())
}

/// What a cached chain depends on: the authorities in it and their revisions.
pub(crate) fn versions(chain: &[&Authority]) -> Vec<(AuthorityName, Uid, Revision)> {
    chain.iter().map(|authority| (authority.name.clone(), authority.uid, authority.revision)).collect()
}

fn not_ready(name: &AuthorityName) -> Rejection {
    Rejection::new(Reason::IssuerNotReady, format!("authority {name} has no certificate yet"))
}
