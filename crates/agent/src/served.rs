//! Looking at what a TLS server serves: a handshake that accepts any certificate and tells which one it was.
//!
//! It refuses to judge: nothing is sent after the handshake, and no trust follows from it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use certwright_core::spec::ServedCheck;
use certwright_core::x509::inspect::inspect;
use certwright_seams::Seams;
use certwright_seams::tls::{Believe, Verifier};
use rustls::{ClientConfig, Error};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::TlsConnector;

use crate::failure::{Failure, FailureReason};

/// Connect and handshake.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a consumer may take to serve what it was told to load.
pub const SERVED_WITHIN: Duration = Duration::from_secs(10);
/// First wait between probes; doubles up to a second.
const RETRY_FIRST: Duration = Duration::from_millis(50);
/// Longest wait between probes.
const RETRY_MAX: Duration = Duration::from_secs(1);

/// What a server showed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Served {
    /// The chain as presented, leaf first, DER; never empty.
    pub chain: Vec<Vec<u8>>,
    /// The leaf's serial, upper-case hex.
    pub serial: String,
}

/// Shakes hands with `address` (`host:port`), sending `server_name` (the address's host when empty), and returns the
/// chain that was presented, whatever it is. The server has proved possession of the leaf's key.
pub async fn probe(seams: &Seams, address: &str, server_name: &str) -> io::Result<Served> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
    let name = if server_name.is_empty() { host } else { server_name };
    let name =
        ServerName::try_from(name.to_string()).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let connector = TlsConnector::from(Arc::new(config(seams).map_err(io::Error::other)?));
    let handshake = async {
        let stream = seams.net.connect(address).await?;
        connector.connect(name, stream).await
    };
    let stream = tokio::time::timeout(PROBE_TIMEOUT, handshake)
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, format!("no handshake in {PROBE_TIMEOUT:?}")))??;
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let chain: Vec<Vec<u8>> = chain.iter().map(|certificate| certificate.to_vec()).collect();
    let leaf = chain.first().ok_or_else(|| io::Error::other("the server presented no certificate"))?;
    let serial = inspect(leaf).map_err(io::Error::other)?.serial;
    Ok(Served { chain, serial })
}

/// Probes until `serial` is served or the time is over.
pub async fn check(seams: &Seams, check: &ServedCheck, serial: &str) -> Result<(), Failure> {
    let start = seams.clock.monotonic();
    let mut wait = RETRY_FIRST;
    loop {
        let outcome = probe(seams, &check.address, &check.server_name).await;
        let failure = match outcome {
            Ok(served) if served.serial == serial => return Ok(()),
            Ok(served) => Failure::new(
                FailureReason::ServedMismatch,
                format_args!("{} serves {}, not {serial}", check.address, served.serial),
            ),
            Err(error) => Failure::new(FailureReason::ServedUnreachable, format_args!("{}: {error}", check.address)),
        };
        if seams.clock.monotonic().saturating_sub(start) + wait > SERVED_WITHIN {
            return Err(failure);
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(RETRY_MAX);
    }
}

fn config(seams: &Seams) -> Result<ClientConfig, Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let time = certwright_seams::clock::TlsTime::shared(seams.clock.clone());
    let verifier = Verifier::shared(Anybody, provider.signature_verification_algorithms);
    let mut config = ClientConfig::builder_with_details(provider, time)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// Believes every certificate; the handshake still proves that the server has its key.
#[derive(Debug)]
struct Anybody;

impl Believe for Anybody {
    const TLS12: bool = true;

    fn believe(&self, _leaf: &CertificateDer<'_>, _others: &[CertificateDer<'_>], _now: UnixTime) -> Result<(), Error> {
        Ok(())
    }
}
