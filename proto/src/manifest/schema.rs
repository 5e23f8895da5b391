//! The shape of documents: field names, nothing else.
//!
//! It refuses fields that are not here. Every field may be absent or null, as in Kubernetes.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What says which document it is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Head {
    pub(super) api_version: Option<String>,
    pub(super) kind: Option<String>,
}

/// A document of which `S` is the specification.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Document<S> {
    pub(super) api_version: String,
    pub(super) kind: String,
    pub(super) metadata: Metadata,
    #[serde(bound(deserialize = "S: Deserialize<'de>"))]
    pub(super) spec: Option<S>,
    pub(super) status: Option<Value>,
}

/// Kubernetes' object metadata: ours, and what its clients add, which is ignored.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[allow(dead_code, reason = "what Kubernetes' clients add is known, so that it is no error, and ignored")]
pub(super) struct Metadata {
    pub(super) name: Option<String>,
    pub(super) namespace: Option<String>,
    pub(super) labels: Option<BTreeMap<String, String>>,
    pub(super) uid: Option<String>,
    pub(super) etag: Option<String>,
    pub(super) creation_timestamp: Option<String>,
    pub(super) update_timestamp: Option<String>,
    #[serde(skip_serializing)]
    pub(super) annotations: Option<IgnoredAny>,
    #[serde(skip_serializing)]
    pub(super) deletion_grace_period_seconds: Option<IgnoredAny>,
    #[serde(skip_serializing)]
    pub(super) deletion_timestamp: Option<IgnoredAny>,
    #[serde(skip_serializing)]
    pub(super) finalizers: Option<IgnoredAny>,
    #[serde(skip_serializing)]
    pub(super) generate_name: Option<IgnoredAny>,
    #[serde(skip_serializing)]
    pub(super) generation: Option<IgnoredAny>,
    #[serde(skip_serializing)]
    pub(super) managed_fields: Option<IgnoredAny>,
    #[serde(skip_serializing)]
    pub(super) owner_references: Option<IgnoredAny>,
    #[serde(skip_serializing)]
    pub(super) resource_version: Option<IgnoredAny>,
    #[serde(skip_serializing)]
    pub(super) self_link: Option<IgnoredAny>,
}

/// `spec` of a Certificate: cert-manager's fields and ours.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct CertificateSpec {
    pub(super) common_name: Option<String>,
    pub(super) dns_names: Option<Vec<String>>,
    pub(super) ip_addresses: Option<Vec<String>>,
    pub(super) uris: Option<Vec<String>>,
    pub(super) email_addresses: Option<Vec<String>>,
    pub(super) subject: Option<Subject>,
    pub(super) duration: Option<String>,
    pub(super) renew_before: Option<String>,
    pub(super) renew_before_percentage: Option<u32>,
    pub(super) usages: Option<Vec<String>>,
    #[serde(rename = "isCA")]
    pub(super) is_ca: Option<bool>,
    pub(super) private_key: Option<PrivateKey>,
    pub(super) revision_history_limit: Option<u32>,
    pub(super) issuer_ref: Option<IssuerRef>,
    pub(super) secret_name: Option<String>,
    pub(super) targets: Option<Vec<Target>>,

    // Known to the server, which refuses them for now.
    pub(super) key_sharing: Option<String>,
    pub(super) renewal: Option<Renewal>,
    pub(super) fallback_issuer_refs: Option<Vec<IssuerRef>>,

    // cert-manager's, refused here by name for now.
    #[serde(skip_serializing)]
    pub(super) additional_output_formats: Option<IgnoredAny>,
    #[serde(skip_serializing)]
    pub(super) keystores: Option<IgnoredAny>,
    #[serde(skip_serializing)]
    pub(super) literal_subject: Option<IgnoredAny>,
    #[serde(skip_serializing)]
    pub(super) name_constraints: Option<IgnoredAny>,
    #[serde(skip_serializing)]
    pub(super) other_names: Option<IgnoredAny>,
    #[serde(skip_serializing)]
    pub(super) secret_template: Option<IgnoredAny>,
    #[serde(skip_serializing)]
    pub(super) signature_algorithm: Option<IgnoredAny>,
    // About the request that cert-manager makes; our certificates are composed from the specification itself.
    #[serde(skip_serializing, rename = "encodeUsagesInRequest")]
    pub(super) _encode_usages_in_request: Option<bool>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Subject {
    pub(super) organizations: Option<Vec<String>>,
    pub(super) organizational_units: Option<Vec<String>>,
    pub(super) countries: Option<Vec<String>>,
    pub(super) localities: Option<Vec<String>>,
    pub(super) provinces: Option<Vec<String>>,
    pub(super) street_addresses: Option<Vec<String>>,
    pub(super) postal_codes: Option<Vec<String>>,
    pub(super) serial_number: Option<String>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PrivateKey {
    pub(super) algorithm: Option<String>,
    pub(super) size: Option<u32>,
    pub(super) encoding: Option<String>,
    pub(super) rotation_policy: Option<String>,
}

/// Names an issuer; kind and group are cert-manager's way of saying which sort.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct IssuerRef {
    pub(super) name: Option<String>,
    pub(super) kind: Option<String>,
    pub(super) group: Option<String>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Renewal {
    pub(super) policy: Option<String>,
    pub(super) windows: Option<Vec<Window>>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Window {
    pub(super) cron: Option<String>,
    pub(super) window_duration: Option<String>,
    pub(super) timezone: Option<String>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Target {
    pub(super) name: Option<String>,
    pub(super) agent: Option<String>,
    pub(super) selector: Option<BTreeMap<String, String>>,
    pub(super) files: Option<Files>,
    pub(super) secret: Option<Secret>,
    pub(super) reload: Option<Reload>,
    pub(super) served_check: Option<ServedCheck>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Files {
    pub(super) directory: Option<String>,
    pub(super) names: Option<BTreeMap<String, String>>,
    pub(super) owner: Option<String>,
    pub(super) group: Option<String>,
    /// Octal digits as chmod takes them, quoted or not: `0640`.
    pub(super) mode: Option<String>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Secret {
    pub(super) namespace: Option<String>,
    pub(super) name: Option<String>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Reload {
    pub(super) exec: Option<Vec<String>>,
    pub(super) signal: Option<String>,
    pub(super) pid_file: Option<String>,
    pub(super) test_exec: Option<Vec<String>>,
    pub(super) timeout_seconds: Option<u32>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ServedCheck {
    pub(super) address: Option<String>,
    pub(super) server_name: Option<String>,
}

/// `spec` of an Issuer.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct IssuerSpec {
    pub(super) ca: Option<CaIssuer>,
    pub(super) max_duration: Option<String>,
    pub(super) allowed_dns_suffixes: Option<Vec<String>>,
    // Known to the server, which refuses them for now.
    #[serde(skip_serializing)]
    pub(super) self_signed: Option<IgnoredAny>,
    #[serde(skip_serializing)]
    pub(super) acme: Option<IgnoredAny>,
    #[serde(skip_serializing)]
    pub(super) vault: Option<IgnoredAny>,
    #[serde(skip_serializing)]
    pub(super) venafi: Option<IgnoredAny>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct CaIssuer {
    pub(super) authority: Option<String>,
}

/// `spec` of an Authority.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct AuthoritySpec {
    pub(super) common_name: Option<String>,
    pub(super) key_algorithm: Option<String>,
    pub(super) parent: Option<String>,
    pub(super) duration: Option<String>,
    pub(super) path_len: Option<u32>,
    pub(super) purpose: Option<String>,
}
