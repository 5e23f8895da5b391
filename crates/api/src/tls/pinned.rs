//! The joiner's side: a server is believed when the system authority in its chain has the hash that the token pins.
//!
//! It refuses host names and public roots: a token says which cluster, nothing else does.

use std::sync::Arc;

use certwright_core::x509::key::sha256;
use certwright_seams::Clock;
use certwright_seams::clock::TlsTime;
use certwright_seams::tls::{Believe, Verifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, Error, RootCertStore};

use super::provider;

/// Believes a chain that ends in the certificate with this SHA-256.
#[derive(Debug)]
struct Pinned {
    authority_sha256: [u8; 32],
    algorithms: WebPkiSupportedAlgorithms,
}

impl Believe for Pinned {
    fn believe(&self, leaf: &CertificateDer<'_>, others: &[CertificateDer<'_>], now: UnixTime) -> Result<(), Error> {
        let is_pinned = |der: &&CertificateDer<'_>| sha256(der) == self.authority_sha256;
        let Some(authority) = others.iter().find(is_pinned) else {
            return Err(Error::InvalidCertificate(CertificateError::UnknownIssuer));
        };
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let parsed = ParsedCertificate::try_from(leaf)?;
        verify_server_cert_signed_by_trust_anchor(&parsed, &roots, &[], now, self.algorithms.all)
    }
}

/// TLS towards any server of the cluster whose system authority has this hash, without a certificate of our own.
pub(crate) fn pinned_client(authority_sha256: [u8; 32], clock: Arc<dyn Clock>) -> Result<rustls::ClientConfig, Error> {
    let provider = provider();
    let algorithms = provider.signature_verification_algorithms;
    let verifier = Verifier::shared(Pinned { authority_sha256, algorithms }, algorithms);
    let mut config = rustls::ClientConfig::builder_with_details(provider, Arc::new(TlsTime::new(clock)))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}
