//! Mutual TLS 1.3 between servers, verified by pinned key, cluster id and node id.
//!
//! It refuses certificate chains, dates, host names, resumption and older protocol versions.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use certwright_seams::Clock;
use certwright_seams::clock::TlsTime;
use certwright_seams::tls::{Believe, Verifier};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, ClientConfig, Error, ServerConfig, SignatureScheme};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::pins::{Pins, Stranger};

/// What peers negotiate.
const PROTOCOL: &[u8] = b"h2";

/// Who a node's certificate says it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) cluster_id: [u8; 16],
    pub(crate) node_id: u64,
    pub(crate) spki_hash: [u8; 32],
}

/// Reads the claim of a certificate: its key, and its one URI name `certwright://{cluster}/node/{id}`.
pub(crate) fn claim(certificate: &CertificateDer<'_>) -> Option<Claim> {
    let (rest, parsed) = X509Certificate::from_der(certificate).ok()?;
    let names = parsed.subject_alternative_name().ok()??;
    let mut uris = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    let (uri, None) = (uris.next()?, uris.next()) else { return None };
    let (cluster, node) = uri.strip_prefix("certwright://")?.split_once("/node/")?;
    let cluster_id = hex::decode(cluster).ok()?.try_into().ok()?;
    let spki_hash = digest(&SHA256, parsed.public_key().raw).as_ref().try_into().ok()?;
    rest.is_empty().then_some(Claim { cluster_id, node_id: node.parse().ok()?, spki_hash })
}

/// Makes the two sides' configurations.
pub(crate) struct PeerTls {
    cluster_id: [u8; 16],
    pins: Arc<Pins>,
    provider: Arc<CryptoProvider>,
    clock: Arc<dyn Clock>,
    identity: Arc<Identity>,
}

struct Identity(Arc<CertifiedKey>);

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("identity")
    }
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

impl ResolvesClientCert for Identity {
    fn resolve(&self, _issuers: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl PeerTls {
    pub(crate) fn new(
        cluster_id: [u8; 16],
        pins: Arc<Pins>,
        clock: Arc<dyn Clock>,
        identity: Arc<CertifiedKey>,
    ) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        Self { cluster_id, pins, provider, clock, identity: Arc::new(Identity(identity)) }
    }

    fn verifier(&self, expected: Option<u64>) -> Arc<Verifier<PinVerifier>> {
        let pinned = PinVerifier { cluster_id: self.cluster_id, expected, pins: Arc::clone(&self.pins) };
        Verifier::shared(pinned, self.provider.signature_verification_algorithms)
    }

    /// Accepts any pinned peer.
    pub(crate) fn server(&self) -> Result<Arc<ServerConfig>, Error> {
        let time = TlsTime::shared(Arc::clone(&self.clock));
        let mut config = ServerConfig::builder_with_details(Arc::clone(&self.provider), time)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(self.verifier(None))
            .with_cert_resolver(Arc::clone(&self.identity) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    /// Speaks to one node only.
    pub(crate) fn client(&self, node_id: u64) -> Result<Arc<ClientConfig>, Error> {
        let time = TlsTime::shared(Arc::clone(&self.clock));
        let mut config = ClientConfig::builder_with_details(Arc::clone(&self.provider), time)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(self.verifier(Some(node_id)))
            .with_client_cert_resolver(Arc::clone(&self.identity) as Arc<dyn ResolvesClientCert>);
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        config.resumption = Resumption::disabled();
        config.enable_sni = false;
        Ok(Arc::new(config))
    }
}

/// Verifies either side by its pinned key.
struct PinVerifier {
    cluster_id: [u8; 16],
    /// The node dialled; the accepting side takes any.
    expected: Option<u64>,
    pins: Arc<Pins>,
}

impl fmt::Debug for PinVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pin of {:?}", self.expected)
    }
}

impl Believe for PinVerifier {
    fn believe(&self, certificate: &CertificateDer<'_>, _: &[CertificateDer<'_>], _: UnixTime) -> Result<(), Error> {
        let claim = claim(certificate).ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))?;
        if claim.cluster_id != self.cluster_id || self.expected.is_some_and(|expected| expected != claim.node_id) {
            return Err(Error::InvalidCertificate(CertificateError::NotValidForName));
        }
        self.pins.check(claim.node_id, &claim.spki_hash).map_err(|stranger| {
            tracing::warn!(%stranger, "a peer was refused");
            if matches!(stranger, Stranger::Unknown(_)) {
                self.pins.meet();
            }
            Error::InvalidCertificate(match stranger {
                Stranger::Removed(_) => CertificateError::Revoked,
                Stranger::Unknown(_) => CertificateError::UnknownIssuer,
                Stranger::OtherKey(_) => CertificateError::ApplicationVerificationFailure,
            })
        })
    }
}
