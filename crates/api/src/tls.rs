//! TLS of the API port: 1.3 only, the caller's certificate optional and verified to the system authority, the server's
//! own certificate exchangeable while it serves.
//!
//! It refuses roles: a verified certificate names somebody, `auth` says what that somebody may do.

mod dates;
mod pinned;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use certwright_core::ids::{Actor, ClusterId};
use certwright_core::x509::key::sha256;
use certwright_core::{Reason, Rejection};
use certwright_custody::LeafKey;
use certwright_proto::identity;
use certwright_seams::Clock;
use certwright_seams::clock::TlsTime;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use x509_parser::certificate::X509Certificate;
use x509_parser::time::ASN1Time;

pub(crate) use pinned::pinned_client;

/// The certificate this server shows, exchangeable while it serves.
pub struct ServerIdentity(ArcSwap<CertifiedKey>);

impl ServerIdentity {
    /// Shows this one.
    pub fn new(certified: Arc<CertifiedKey>) -> Arc<Self> {
        Arc::new(Self(ArcSwap::new(certified)))
    }

    /// Shows another one from the next handshake on.
    pub fn replace(&self, certified: Arc<CertifiedKey>) {
        self.0.store(certified);
    }

    /// What it shows now.
    pub fn current(&self) -> Arc<CertifiedKey> {
        self.0.load_full()
    }
}

impl fmt::Debug for ServerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerIdentity")
    }
}

impl ResolvesServerCert for ServerIdentity {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

/// The provider that every TLS configuration names explicitly.
pub(crate) fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// TLS for the API port. Callers without a certificate are let in and may do next to nothing.
pub(crate) fn server_config(
    identity: Arc<ServerIdentity>,
    system_authority: CertificateDer<'static>,
    clock: Arc<dyn Clock>,
) -> Result<Arc<rustls::ServerConfig>, Rejection> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(system_authority).map_err(|error| broken("the system authority's certificate", &error))?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .allow_unauthenticated()
        .build()
        .map_err(|error| broken("the client verifier", &error))?;
    let verifier = Arc::new(dates::LenientDates::new(verifier));
    let mut config = rustls::ServerConfig::builder_with_details(provider(), Arc::new(TlsTime::new(clock)))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| broken("TLS 1.3", &error))?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(identity);
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    Ok(Arc::new(config))
}

/// Certificates (its own first) and key as rustls wants them.
pub(crate) fn certified_key(
    chain: Vec<CertificateDer<'static>>,
    key: &LeafKey,
) -> Result<Arc<CertifiedKey>, Rejection> {
    key.certified(chain).map_err(|error| broken("node.crt", &error))
}

/// Every certificate of a PEM text.
pub(crate) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Rejection> {
    CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|error| broken("node.crt", &error))
}

/// Who the verified certificate of a connection names; `Anonymous` without one. The chain was verified by rustls; a
/// certificate of another cluster cannot chain to this one's system authority, its id is compared all the same.
pub(crate) fn actor(certificates: Option<&[CertificateDer<'_>]>, cluster: ClusterId) -> Option<Actor> {
    let Some(leaf) = certificates.and_then(<[_]>::first) else { return Some(Actor::Anonymous) };
    let (_, parsed) = x509_parser::parse_x509_certificate(leaf).ok()?;
    let (found, actor) = identity::parse_uri(only_uri(&parsed)?)?;
    (found == cluster).then_some(actor)
}

/// The URI that a certificate names, if it names exactly one.
fn only_uri<'a>(certificate: &X509Certificate<'a>) -> Option<&'a str> {
    let names = certificate.subject_alternative_name().ok()??;
    let mut uris = names.value.general_names.iter().filter_map(|name| match name {
        x509_parser::extensions::GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    let (uri, None) = (uris.next()?, uris.next()) else { return None };
    Some(uri)
}

/// When a certificate begins; nothing when that cannot be read.
fn begin(certificate: &[u8]) -> Option<UnixTime> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    moment(parsed.validity().not_before)
}

/// A date of a certificate as rustls tells time; nothing for one before 1970.
fn moment(date: ASN1Time) -> Option<UnixTime> {
    u64::try_from(date.timestamp()).ok().map(|seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
}

/// SHA-256 of a certificate's SubjectPublicKeyInfo.
pub(crate) fn spki_hash(certificate: &[u8]) -> Option<[u8; 32]> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Some(sha256(parsed.public_key().raw))
}

fn broken(what: &str, why: &dyn fmt::Display) -> Rejection {
    Rejection::new(Reason::ForeignData, format!("{what} cannot be used: {why}"))
}
