//! Issuers to and from messages.
//!
//! It refuses kinds that later work fills, by name.

use certwright_core::Rejection;
use certwright_core::command::Etag;
use certwright_core::ids::{AuthorityName, IssuerName};
use certwright_core::spec::{IssuerKind, IssuerSpec};
use certwright_core::state::Issuer;

use super::names;
use super::values::{
    about, etag, etag_from_message, invalid, moment_to_message, not_yet, span_from_optional, span_to_message,
};
use crate::v1;

/// Kinds of issuers that are known and not there yet.
pub const RESERVED_KINDS: &[&str] = &["selfSigned", "acme", "vault", "venafi"];

/// What a create or update wishes for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IssuerWish {
    /// Which issuer.
    pub name: IssuerName,
    /// A condition on its version.
    pub etag: Etag,
    /// The whole specification.
    pub spec: IssuerSpec,
}

/// The wish of a message.
pub fn issuer_from_message(issuer: Option<v1::Issuer>) -> Result<IssuerWish, Rejection> {
    let issuer = issuer.ok_or_else(|| invalid("issuer", "the request has no issuer"))?;
    let name = about("name", names::issuer(&issuer.name))?;
    let spec = issuer.spec.ok_or_else(|| invalid("spec", "the issuer has no specification"))?;
    Ok(IssuerWish { name, etag: etag_from_message(&issuer.etag), spec: spec_from_message(spec)? })
}

fn spec_from_message(spec: v1::IssuerSpec) -> Result<IssuerSpec, Rejection> {
    Ok(IssuerSpec {
        max_duration: span_from_optional("spec.maxDuration", spec.max_duration.as_ref())?,
        kind: kind(spec.ca, &spec.reserved_kind)?,
        allowed_dns_suffixes: spec.allowed_dns_suffixes,
    })
}

fn kind(ca: Option<v1::CaIssuer>, reserved: &str) -> Result<IssuerKind, Rejection> {
    match (ca, reserved) {
        (Some(ca), "") => {
            let name = ca.authority.strip_prefix("authorities/").unwrap_or(&ca.authority);
            let authority = about("spec.ca.authority", AuthorityName::parse(name))?;
            Ok(IssuerKind::Ca { authority })
        }
        (None, "") => Err(invalid("spec.ca", "an issuer needs a kind; ca is the one there is")),
        (None, kind) if RESERVED_KINDS.contains(&kind) => {
            Err(not_yet(format!("spec.{kind}"), &format!("an issuer of kind {kind}")))
        }
        (None, kind) => Err(invalid("spec.reserved_kind", format!("{kind:?} is not a kind of issuer"))),
        (Some(_), kind) => Err(invalid("spec.ca", format!("an issuer has one kind, not ca and {kind}"))),
    }
}

/// The issuer; `ready` says whether its authority can sign now.
pub fn issuer_to_message(issuer: &Issuer, ready: bool) -> v1::Issuer {
    v1::Issuer {
        name: names::issuer_to_message(&issuer.name),
        uid: issuer.uid.to_string(),
        etag: etag(issuer.uid, issuer.revision),
        spec: Some(issuer_spec_to_message(&issuer.spec)),
        create_time: Some(moment_to_message(issuer.created_at)),
        ready,
    }
}

/// The specification of an issuer.
pub fn issuer_spec_to_message(spec: &IssuerSpec) -> v1::IssuerSpec {
    let (ca, reserved_kind) = match &spec.kind {
        IssuerKind::Ca { authority } => (Some(v1::CaIssuer { authority: authority.to_string() }), String::new()),
        IssuerKind::Reserved(kind) => (None, kind.clone()),
    };
    v1::IssuerSpec {
        ca,
        max_duration: spec.max_duration.map(span_to_message),
        allowed_dns_suffixes: spec.allowed_dns_suffixes.clone(),
        reserved_kind,
    }
}
