//! Who a server is: a node of this cluster, by a chain to the system authority.
//!
//! It refuses certificates of agents, administrators and other clusters, however well they chain.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use certwright_core::ids::{Actor, ClusterId};
use certwright_core::time::Timestamp;
use certwright_core::x509::inspect::inspect;
use certwright_core::x509::key::sha256;
use certwright_seams::tls::{Believe, Verifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, Error, RootCertStore};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::identity::IdentitySource;

/// Which authority is trusted.
pub(super) enum Root {
    /// This one.
    Known(CertificateDer<'static>),
    /// The one, among those the server presents, whose DER has this SHA-256.
    Pinned([u8; 32]),
}

/// Verifies that a server is a node of one cluster.
pub(super) struct NodeVerifier {
    root: Root,
    cluster_id: ClusterId,
    identity: Arc<IdentitySource>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl NodeVerifier {
    pub(super) fn shared(
        root: Root,
        cluster_id: ClusterId,
        identity: Arc<IdentitySource>,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Arc<Verifier<Self>> {
        Verifier::shared(Self { root, cluster_id, identity, algorithms }, algorithms)
    }

    /// The trusted root for what the server presented.
    fn root<'a>(&'a self, presented: &'a [CertificateDer<'a>]) -> Option<&'a CertificateDer<'a>> {
        match &self.root {
            Root::Known(root) => Some(root),
            Root::Pinned(hash) => presented.iter().find(|certificate| sha256(certificate) == *hash),
        }
    }

    /// The moment to verify at: not before the start of our own identity's life, for the same authority set that date,
    /// so that an agent whose clock is behind still connects and can say so.
    fn moment(&self, now: UnixTime) -> UnixTime {
        let floor = self.identity.dates().map_or(0, |(not_before, _)| not_before.seconds());
        UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs().max(floor)))
    }
}

impl fmt::Debug for NodeVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeVerifier({})", self.cluster_id)
    }
}

impl Believe for NodeVerifier {
    fn believe(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let root = self.root(intermediates).ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        let mut roots = RootCertStore::empty();
        roots.add(root.clone())?;
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &roots, intermediates, self.moment(now), algorithms)?;
        match uris(end_entity).iter().find_map(|uri| certwright_proto::identity::parse_uri(uri)) {
            Some((cluster_id, Actor::Node(_))) if cluster_id == self.cluster_id => Ok(()),
            Some((cluster_id, Actor::Node(_))) => {
                Err(Error::General(format!("the server belongs to cluster {cluster_id}, not to {}", self.cluster_id)))
            }
            _ => Err(Error::General("the certificate is not that of a server of a cluster".to_string())),
        }
    }
}

/// URI names of a certificate; none when it cannot be read.
fn uris(der: &[u8]) -> Vec<String> {
    inspect(der).map(|certificate| certificate.names.uris).unwrap_or_default()
}

/// Start and end of a certificate's life.
pub(super) fn dates(der: &[u8]) -> Result<(Timestamp, Timestamp), String> {
    let certificate = inspect(der).map_err(|rejection| rejection.to_string())?;
    Ok((certificate.not_before, certificate.not_after))
}
