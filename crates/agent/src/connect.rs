//! Connecting to a cluster: TLS 1.3 to any of its servers, verified by the cluster's own authority.
//!
//! It refuses host names as proof: a server is who its certificate says, whatever address it has.

mod backoff;
mod hedge;
mod identity;
mod verifier;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use certwright_core::ids::ClusterId;
use certwright_seams::Seams;
use certwright_seams::net::BoxStream;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};

pub use backoff::Backoff;
pub use identity::IdentitySource;

use crate::context::Context;
use verifier::{NodeVerifier, Root};

/// TCP connect plus TLS handshake; a server that takes longer is treated as absent.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// HTTP/2 pings, so that a dead server is noticed while nothing is said.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// How long an HTTP/2 ping may go unanswered.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// HTTP/2 receive windows: many agents and clients share a server, and messages are small.
const WINDOW_OCTETS: u32 = 256 * 1024;

/// Why no connection could be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The context's certificates or key cannot be used.
    #[error("the context cannot be used: {0}")]
    Context(String),
    /// No server answered; the text names each with its cause.
    #[error("no server could be reached: {0}")]
    Unreachable(String),
    /// A server answered and is not one of this cluster's.
    #[error("the server is not one of this cluster: {0}")]
    Untrusted(String),
}

/// Connects to any server of one cluster. Cheap to clone; all clones share the identity.
#[derive(Clone)]
pub struct Connector {
    servers: Arc<ArcSwap<Vec<String>>>,
    tls: TlsConnector,
    identity: Arc<IdentitySource>,
    seams: Seams,
}

impl Connector {
    /// A connector for a context: verifies servers by the context's authority, presents the context's certificate.
    pub fn new(context: &Context, seams: &Seams) -> Result<Self, ConnectError> {
        let identity = Arc::new(IdentitySource::new(context).map_err(ConnectError::Context)?);
        let root = Root::Known(context.root().map_err(ConnectError::Context)?);
        Self::build(root, context.cluster_id, context.servers.clone(), identity, seams)
    }

    /// A connector for joining: trusts the authority whose certificate has this SHA-256, and presents nothing.
    pub fn pinned(
        root_hash: [u8; 32],
        cluster_id: ClusterId,
        servers: Vec<String>,
        seams: &Seams,
    ) -> Result<Self, ConnectError> {
        let identity = Arc::new(IdentitySource::anonymous());
        Self::build(Root::Pinned(root_hash), cluster_id, servers, identity, seams)
    }

    fn build(
        root: Root,
        cluster_id: ClusterId,
        servers: Vec<String>,
        identity: Arc<IdentitySource>,
        seams: &Seams,
    ) -> Result<Self, ConnectError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier =
            NodeVerifier::shared(root, cluster_id, identity.clone(), provider.signature_verification_algorithms);
        let mut config =
            ClientConfig::builder_with_details(provider, certwright_seams::clock::TlsTime::shared(seams.clock.clone()))
                .with_protocol_versions(&[&rustls::version::TLS13])
                .map_err(|error| ConnectError::Context(error.to_string()))?
                .dangerous()
                .with_custom_certificate_verifier(verifier)
                .with_client_cert_resolver(identity.clone());
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        let tls = TlsConnector::from(Arc::new(config));
        Ok(Self { servers: Arc::new(ArcSwap::from_pointee(servers)), tls, identity, seams: seams.clone() })
    }

    /// The servers known.
    pub fn servers(&self) -> Arc<Vec<String>> {
        self.servers.load_full()
    }

    /// Connects to these from now on; all clones do.
    pub fn set_servers(&self, servers: Vec<String>) {
        self.servers.store(Arc::new(servers));
    }

    /// The identity presented; replace it there and the next connection presents the new one.
    pub fn identity(&self) -> &Arc<IdentitySource> {
        &self.identity
    }

    /// Connects to one server.
    pub async fn connect_to(&self, server: &str) -> Result<Channel, ConnectError> {
        let connector = self.clone();
        let address: Arc<str> = server.into();
        let connect = move |_: http::Uri| {
            let (connector, address) = (connector.clone(), address.clone());
            async move { connector.dial(&address).await.map(TokioIo::new) }
        };
        endpoint().connect_with_connector(tower::service_fn(connect)).await.map_err(|error| {
            let (text, untrusted) = causes(&error);
            let text = format!("{server}: {text}");
            if untrusted { ConnectError::Untrusted(text) } else { ConnectError::Unreachable(text) }
        })
    }

    /// Connects to any server: in random order, the next one as soon as one has failed or has not answered for a quarter
    /// of a second; returns the first channel that comes to stand, and the server's address.
    pub async fn connect(&self) -> Result<(Channel, String), ConnectError> {
        self.connect_avoiding(None).await
    }

    /// The same; `avoid` is tried last.
    pub async fn connect_avoiding(&self, avoid: Option<&str>) -> Result<(Channel, String), ConnectError> {
        let attempt = |server: String| async move { self.connect_to(&server).await.map(|channel| (channel, server)) };
        let failures = match hedge::first(self.shuffled(avoid), attempt).await {
            Ok(connected) => return Ok(connected),
            Err(failures) => failures,
        };
        let untrusted = failures.iter().any(|failure| matches!(failure, ConnectError::Untrusted(_)));
        let cause = |failure: ConnectError| match failure {
            ConnectError::Context(cause) | ConnectError::Unreachable(cause) | ConnectError::Untrusted(cause) => cause,
        };
        let causes = failures.into_iter().map(cause).collect::<Vec<_>>().join("; ");
        Err(if untrusted { ConnectError::Untrusted(causes) } else { ConnectError::Unreachable(causes) })
    }

    /// A channel that connects at its first use, and again after every loss, to whichever server answers.
    pub fn channel(&self) -> Channel {
        let connector = self.clone();
        let connect = move |_: http::Uri| {
            let connector = connector.clone();
            async move { connector.dial_any().await.map(TokioIo::new) }
        };
        endpoint().connect_with_connector_lazy(tower::service_fn(connect))
    }

    async fn dial_any(&self) -> io::Result<TlsStream<BoxStream>> {
        let attempt = |server: String| async move {
            self.dial(&server).await.map_err(|error| io::Error::new(error.kind(), format!("{server}: {error}")))
        };
        let mut failures = match hedge::first(self.shuffled(None), attempt).await {
            Ok(stream) => return Ok(stream),
            Err(failures) => failures,
        };
        Err(failures.pop().unwrap_or_else(|| io::Error::other("the context names no server")))
    }

    /// TCP, then TLS, within the timeout.
    async fn dial(&self, server: &str) -> io::Result<TlsStream<BoxStream>> {
        let handshake = async {
            let stream = self.seams.net.connect(server).await?;
            // The name is sent as SNI and consulted by nobody.
            let name = ServerName::try_from("certwright.internal").map_err(io::Error::other)?;
            self.tls.connect(name, stream).await
        };
        match tokio::time::timeout(CONNECT_TIMEOUT, handshake).await {
            Ok(outcome) => outcome,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("no handshake in {CONNECT_TIMEOUT:?}"))),
        }
    }

    /// The servers in random order, `avoid` last.
    fn shuffled(&self, avoid: Option<&str>) -> Vec<String> {
        let mut servers: Vec<String> = self.servers().to_vec();
        for place in (1..servers.len()).rev() {
            servers.swap(place, backoff::below(&*self.seams.entropy, place as u64 + 1) as usize);
        }
        servers.sort_by_key(|server| Some(server.as_str()) == avoid);
        servers
    }
}

/// HTTP/2 settings; the URI is only the `:authority` that servers see.
fn endpoint() -> Endpoint {
    Endpoint::from_static("https://certwright.internal")
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(WINDOW_OCTETS)
        .initial_connection_window_size(WINDOW_OCTETS)
}

/// An error with the chain of its causes (tonic's own text is only "transport error"), and whether one of them is that
/// the server's certificate was refused.
fn causes(error: &(dyn std::error::Error + 'static)) -> (String, bool) {
    let (mut texts, mut untrusted): (Vec<String>, bool) = (Vec::new(), false);
    let mut next = Some(error);
    while let Some(cause) = next {
        let text = cause.to_string();
        if texts.last() != Some(&text) && text != "transport error" {
            texts.push(text);
        }
        let inner = cause.downcast_ref::<io::Error>().and_then(|error| error.get_ref());
        let tls = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()).or_else(|| cause.downcast_ref());
        untrusted |= matches!(tls, Some(rustls::Error::InvalidCertificate(_) | rustls::Error::General(_)));
        next = cause.source();
    }
    (texts.join(": "), untrusted)
}
