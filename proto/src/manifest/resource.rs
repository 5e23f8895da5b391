//! Issuers and authorities: documents to messages.
//!
//! It refuses two kinds in one issuer; the server judges the rest.

use certwright_core::{Reason, Rejection};

use super::Resource;
use super::certificate::{missing, needed, span};
use super::schema::{AuthoritySpec, Document, IssuerSpec};
use crate::v1;

pub(super) fn issuer(document: Document<IssuerSpec>) -> Result<Resource, Rejection> {
    let name = needed("metadata.name", document.metadata.name)?;
    let spec = document.spec.ok_or_else(|| missing("spec"))?;
    let kinds = [
        ("ca", spec.ca.is_some()),
        ("selfSigned", spec.self_signed.is_some()),
        ("acme", spec.acme.is_some()),
        ("vault", spec.vault.is_some()),
        ("venafi", spec.venafi.is_some()),
    ];
    let named: Vec<&str> = kinds.iter().filter(|(_, there)| *there).map(|(kind, _)| *kind).collect();
    if named.len() > 1 {
        let message = format!("an issuer has one kind, not {}", named.join(" and "));
        return Err(Rejection::field(Reason::InvalidManifest, "spec", message));
    }
    let reserved_kind = named.iter().find(|kind| **kind != "ca");
    Ok(Resource::Issuer(v1::Issuer {
        name: format!("issuers/{name}"),
        spec: Some(v1::IssuerSpec {
            max_duration: span("spec.maxDuration", spec.max_duration)?,
            allowed_dns_suffixes: spec.allowed_dns_suffixes.unwrap_or_default(),
            reserved_kind: reserved_kind.map_or_else(String::new, |kind| (*kind).to_owned()),
            ca: spec.ca.map(|ca| v1::CaIssuer { authority: ca.authority.unwrap_or_default() }),
        }),
        ..v1::Issuer::default()
    }))
}

pub(super) fn authority(document: Document<AuthoritySpec>) -> Result<Resource, Rejection> {
    let name = needed("metadata.name", document.metadata.name)?;
    let spec = document.spec.ok_or_else(|| missing("spec"))?;
    Ok(Resource::Authority(v1::Authority {
        name: format!("authorities/{name}"),
        common_name: spec.common_name.unwrap_or_default(),
        key_algorithm: spec.key_algorithm.unwrap_or_default(),
        parent: spec.parent.unwrap_or_default(),
        duration: span("spec.duration", spec.duration)?,
        path_len: spec.path_len,
        purpose: spec.purpose.unwrap_or_default(),
        ..v1::Authority::default()
    }))
}
