//! Manifests: YAML documents in the manner of Kubernetes, to API messages and back.
//!
//! It refuses unknown fields, by name and line, and documents of kinds that it does not know; what a specification may
//! say is judged by the server.
//!
//! Read are `certwright.dev/v1` Certificate, Issuer and Authority, and `cert-manager.io/v1` Certificate as it is. What is
//! output only (`status`, `metadata.uid`, `etag`, times) is ignored on the way in, so that what `get -o yaml` printed can
//! be edited and applied. A certificate of cert-manager may also have `targets`.

mod certificate;
pub mod duration;
mod print;
mod resource;
mod schema;
mod split;
#[cfg(test)]
mod tests;

use certwright_core::{Reason, Rejection};
use serde::de::DeserializeOwned;

pub use certificate::spec_to_value;
pub use print::{issuer_spec_to_value, to_json, to_yaml};

use crate::v1;

/// The API group and version of our own documents.
pub const API_VERSION: &str = "certwright.dev/v1";

/// The API group and version of cert-manager's documents.
pub const CERT_MANAGER_API_VERSION: &str = "cert-manager.io/v1";

/// Octets of one manifest, all documents together; a request may not be larger than this by much anyway.
pub const MANIFEST_OCTETS_MAX: usize = 1024 * 1024;

/// Documents of one manifest.
pub const DOCUMENTS_MAX: usize = 256;

/// How deep a document may nest: a target's reload command is at 6.
pub const DEPTH_MAX: usize = 32;

/// One object that a manifest declares.
#[derive(Clone, PartialEq, Debug)]
pub enum Resource {
    /// A certificate.
    Certificate(Box<v1::Certificate>),
    /// An issuer.
    Issuer(v1::Issuer),
    /// An authority.
    Authority(v1::Authority),
    /// An agent: printed, never declared.
    Agent(v1::Agent),
}

impl Resource {
    /// The kind as a document names it.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Certificate(_) => "Certificate",
            Self::Issuer(_) => "Issuer",
            Self::Authority(_) => "Authority",
            Self::Agent(_) => "Agent",
        }
    }

    /// The resource name: `namespaces/{ns}/certificates/{name}`, `issuers/{name}`, ...
    pub fn name(&self) -> &str {
        match self {
            Self::Certificate(certificate) => &certificate.name,
            Self::Issuer(issuer) => &issuer.name,
            Self::Authority(authority) => &authority.name,
            Self::Agent(agent) => &agent.name,
        }
    }
}

/// One document of a manifest.
#[derive(Clone, PartialEq, Debug)]
pub struct Document {
    /// Its number in the manifest, from 1, empty documents not counted.
    pub number: usize,
    /// The line it starts on, from 1.
    pub line: usize,
    /// What it declares.
    pub resource: Resource,
}

/// Reads every document; certificates without a namespace get `namespace`. All or nothing: the first fault rejects the
/// manifest, naming document, line and field.
pub fn parse(text: &str, namespace: &str) -> Result<Vec<Document>, Rejection> {
    if text.len() > MANIFEST_OCTETS_MAX {
        let message = format!("the manifest has {} octets; at most {MANIFEST_OCTETS_MAX} are read", text.len());
        return Err(Rejection::new(Reason::TooLarge, message));
    }
    let pieces = split::documents(text);
    if pieces.len() > DOCUMENTS_MAX {
        let message = format!("the manifest has {} documents; at most {DOCUMENTS_MAX} are read", pieces.len());
        return Err(Rejection::new(Reason::TooLarge, message));
    }
    if pieces.is_empty() {
        return Err(Rejection::new(Reason::InvalidManifest, "the manifest has no document"));
    }
    let numbered = pieces.into_iter().zip(1..);
    numbered.map(|(piece, number)| document(&piece, number, namespace)).collect()
}

fn document(piece: &split::Piece<'_>, number: usize, namespace: &str) -> Result<Document, Rejection> {
    let numbered =
        |rejection: Rejection| Rejection { message: format!("document {number}: {}", rejection.message), ..rejection };
    let resource = read(&piece.padded(), namespace).map_err(numbered)?;
    Ok(Document { number, line: piece.line, resource })
}

fn read(text: &str, namespace: &str) -> Result<Resource, Rejection> {
    let head: schema::Head = yaml(text)?;
    let (Some(api_version), Some(kind)) = (&head.api_version, &head.kind) else {
        return Err(invalid("it has no apiVersion and kind; it is not a manifest"));
    };
    match (&**api_version, &**kind) {
        (API_VERSION, "Certificate") => {
            certificate::from_document(yaml(text)?, namespace, v1::certificate_spec::Dialect::Certwright)
        }
        (CERT_MANAGER_API_VERSION, "Certificate") => {
            certificate::from_document(yaml(text)?, namespace, v1::certificate_spec::Dialect::CertManager)
        }
        (API_VERSION, "Issuer") => resource::issuer(yaml(text)?),
        (API_VERSION, "Authority") => resource::authority(yaml(text)?),
        (api_version, kind) => Err(unknown_kind(api_version, kind)),
    }
}

/// Documents that a cert-manager installation has besides its Certificates are planned; everything else is not ours.
fn unknown_kind(api_version: &str, kind: &str) -> Rejection {
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    let planned = match group {
        "cert-manager.io" => api_version == CERT_MANAGER_API_VERSION,
        "acme.cert-manager.io" | "trust.cert-manager.io" | "gateway.networking.k8s.io" => true,
        "networking.k8s.io" => kind == "Ingress",
        _ => false,
    };
    if planned {
        let message = format!("kind {kind} of {api_version} is planned and not there yet");
        return Rejection::new(Reason::NotYetSupported, message);
    }
    invalid(format!(
        "kind {kind} of {api_version} is unknown; known are Certificate, Issuer and Authority of {API_VERSION}, \
         and Certificate of {CERT_MANAGER_API_VERSION}"
    ))
}

fn invalid(message: impl Into<String>) -> Rejection {
    Rejection::new(Reason::InvalidManifest, message)
}

/// Reads one YAML document under a budget; faults name the line.
fn yaml<T: DeserializeOwned>(text: &str) -> Result<T, Rejection> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: DEPTH_MAX,
            flow_nesting_limit: DEPTH_MAX,
            max_documents: 1,
            max_anchors: 64,
            max_aliases: 256,
            max_nodes: 100_000,
        },
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| fault(&error))
}

/// The fault in one sentence, its line first.
fn fault(error: &serde_saphyr::Error) -> Rejection {
    let error = error.without_snippet();
    let rendered = error.render_with_formatter(&serde_saphyr::UserMessageFormatter);
    let sentence = rendered.lines().next().unwrap_or("it cannot be read");
    let message = match error {
        serde_saphyr::Error::SerdeUnknownField { field, .. } => format!("unknown field {field:?}"),
        _ => sentence.rsplit_once(" at line ").map_or(sentence, |(message, _)| message).to_owned(),
    };
    match error.location() {
        Some(location) => invalid(format!("line {}: {message}", location.line())),
        None => invalid(message),
    }
}
