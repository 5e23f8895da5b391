//! Where traces go: the collector that the environment names, in clear or behind TLS.
//!
//! It refuses an address that it would have to guess at, and a collector whose certificate leads to no root it was given.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use certwright_core::x509::pem;
use certwright_seams::clock::TlsTime;
use certwright_seams::{Disk, Seams};
use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

use crate::trust::TRUST_OCTETS_MAX;

/// OpenTelemetry's name for the address of the collector.
pub(super) const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
/// OpenTelemetry's name for the roots that the collector's certificate may lead to.
const CERTIFICATE: &str = "OTEL_EXPORTER_OTLP_CERTIFICATE";
/// Where systems keep the roots that they trust.
const SYSTEM_ROOTS: [&str; 2] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];
/// The port of OTLP over gRPC.
const PORT: u16 = 4317;
/// TCP connect plus TLS handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no collector, with the variable to correct.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Unusable {
    /// The address cannot be one, and will not be: whoever wrote it should hear so.
    Address(String),
    /// The roots are not there, now: no reason to do without what is traced.
    Roots(String),
}

/// The channel to a collector, which connects when there is something to send. `certificate` names a PEM file of roots;
/// without it those of the system count.
pub(super) fn channel(endpoint: &str, certificate: Option<&Path>, seams: &Seams) -> Result<Channel, Unusable> {
    let refuse = |cause: &str| Unusable::Address(format!("{ENDPOINT}={}: {cause}", without_user(endpoint)));
    let not_an_address = "not http://HOST:PORT or https://HOST:PORT";
    let uri: Uri = endpoint.parse().map_err(|_| refuse(not_an_address))?;
    let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| refuse(not_an_address))?;
    let settings = Endpoint::from(uri.clone()).connect_timeout(CONNECT_TIMEOUT);
    match uri.scheme_str() {
        Some("http") => Ok(settings.connect_lazy()),
        Some("https") => {
            let bare = host.trim_start_matches('[').trim_end_matches(']').to_string();
            let name = ServerName::try_from(bare).map_err(|_| refuse(not_an_address))?;
            let address = format!("{host}:{}", uri.port_u16().unwrap_or(PORT));
            let tls = TlsConnector::from(Arc::new(client(certificate, seams).map_err(Unusable::Roots)?));
            Ok(behind_tls(settings, address, name, tls, seams.clone()))
        }
        _ => Err(refuse(not_an_address)),
    }
}

/// The address without a user's name and password, wherever in it they may be.
fn without_user(endpoint: &str) -> String {
    let (scheme, rest) = endpoint.split_once("://").map_or(("", endpoint), |(scheme, rest)| (scheme, rest));
    match rest.rsplit_once('@') {
        Some((_, host)) if scheme.is_empty() => host.to_string(),
        Some((_, host)) => format!("{scheme}://{host}"),
        None => endpoint.to_string(),
    }
}

fn behind_tls(
    settings: Endpoint,
    address: String,
    name: ServerName<'static>,
    tls: TlsConnector,
    seams: Seams,
) -> Channel {
    let connect = move |_: Uri| {
        let (address, name, tls, seams) = (address.clone(), name.clone(), tls.clone(), seams.clone());
        async move {
            let handshake = async { tls.connect(name, seams.net.connect(&address).await?).await };
            match tokio::time::timeout(CONNECT_TIMEOUT, handshake).await {
                Ok(outcome) => outcome.map(TokioIo::new),
                Err(_) => Err(std::io::ErrorKind::TimedOut.into()),
            }
        }
    };
    settings.connect_with_connector_lazy(tower::service_fn(connect))
}

fn client(certificate: Option<&Path>, seams: &Seams) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_details(provider, TlsTime::shared(seams.clock.clone()))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("{ENDPOINT}: {error}"))?
        .with_root_certificates(roots(certificate, &*seams.disk)?)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn roots(certificate: Option<&Path>, disk: &dyn Disk) -> Result<RootCertStore, String> {
    let systems = || SYSTEM_ROOTS.iter().map(Path::new).find(|path| disk.exists(path).unwrap_or(false));
    let path = certificate.or_else(systems);
    let path = path.ok_or_else(|| format!("this system has no file of roots: name one with {CERTIFICATE}"))?;
    let refuse = |cause: String| format!("{CERTIFICATE}={}: {cause}", path.display());
    let octets = disk.read(path, TRUST_OCTETS_MAX).map_err(|error| refuse(error.to_string()))?;
    let certificates = pem::certificates(&octets).map_err(|error| refuse(error.message))?;
    let mut roots = RootCertStore::empty();
    // A system may trust certificates that TLS cannot use; what counts is that there is one.
    let (added, _) = roots.add_parsable_certificates(certificates.into_iter().map(CertificateDer::from));
    if added == 0 { Err(refuse("no certificate in it can be a root".to_string())) } else { Ok(roots) }
}

/// The collector of the environment; `None` when it names none.
pub(super) fn of_environment(seams: &Seams) -> Result<Option<Channel>, Unusable> {
    let Some(endpoint) = std::env::var_os(ENDPOINT).filter(|endpoint| !endpoint.is_empty()) else { return Ok(None) };
    let certificate = std::env::var_os(CERTIFICATE).filter(|path| !path.is_empty());
    channel(&endpoint.to_string_lossy(), certificate.as_ref().map(Path::new), seams).map(Some)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[tokio::test]
    async fn what_cannot_be_a_collector_is_refused_with_what_to_correct() {
        let seams = Seams::system();
        let folder = tempfile::tempdir().unwrap();
        let empty = folder.path().join("empty.pem");
        seams.disk.write_atomic(&empty, b"", 0o644).unwrap();
        let missing = folder.path().join("missing.pem");
        for endpoint in ["collector:4317", "127.0.0.1:4317", "ftp://collector:21", "https://", "http:///x", "a b"] {
            let Unusable::Address(told) = channel(endpoint, None, &seams).err().unwrap() else { panic!("{endpoint}") };
            assert!(told.starts_with(&format!("{ENDPOINT}={endpoint}: not http://HOST:PORT")), "{told}");
        }
        for file in [&empty, &missing] {
            let unusable = channel("https://collector:4317", Some(file), &seams).err().unwrap();
            let Unusable::Roots(told) = unusable else { panic!("{unusable:?}") };
            assert!(told.starts_with(&format!("{CERTIFICATE}={}: ", file.display())), "{told}");
        }
        for endpoint in ["http://127.0.0.1:4317", "http://[::1]:4317", "http://collector"] {
            channel(endpoint, Some(&missing), &seams).unwrap();
        }
    }

    #[tokio::test]
    async fn a_password_in_the_address_is_not_said() {
        for (endpoint, shown) in [
            ("ftp://me:secret@collector:21", "ftp://collector:21"),
            ("https://me:secret@", "https://"),
            ("me:secret@collector:4317", "collector:4317"),
        ] {
            let Unusable::Address(told) = channel(endpoint, None, &Seams::system()).err().unwrap() else {
                panic!("{endpoint}")
            };
            assert!(told.starts_with(&format!("{ENDPOINT}={shown}: not")), "{told}");
        }
        assert_eq!(without_user("https://me:se/cret@collector:x"), "https://collector:x");
    }
}
