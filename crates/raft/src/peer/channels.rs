//! Connections to peers: one for each kind of traffic, made when first needed, kept while the peer is pinned.
//!
//! It refuses to share a connection between kinds: a large append never delays a vote or a heartbeat.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use certwright_core::mutant::{self, Mutant};
use certwright_seams::Net;
use certwright_seams::net::{BoxStream, Cut};
use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use super::pins::Pins;
use super::tls::PeerTls;
use crate::limits::{
    HANDSHAKE_TIMEOUT, KEEP_ALIVE_INTERVAL, KEEP_ALIVE_TIMEOUT, PROBE_PAUSE, PROBE_TIMEOUT, PROBES_MAX, WINDOW_OCTETS,
};

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Lane {
    /// Votes and leadership transfers.
    Vote,
    /// Heartbeats and read indexes.
    Heartbeat,
    /// Entries.
    Append,
    /// Snapshots.
    Snapshot,
    /// Everything that other rooms say on the internal port.
    Forward,
}

/// Connections to peers.
pub(crate) struct Channels {
    net: Arc<dyn Net>,
    tls: PeerTls,
    pins: Arc<Pins>,
    open: Mutex<BTreeMap<(u64, Lane), Channel>>,
}

impl Channels {
    pub(crate) fn new(net: Arc<dyn Net>, tls: PeerTls, pins: Arc<Pins>) -> Self {
        Self { net, tls, pins, open: Mutex::default() }
    }

    /// Who may be spoken with.
    pub(crate) fn pins(&self) -> &Arc<Pins> {
        &self.pins
    }

    /// The accepting side's configuration.
    pub(crate) fn tls(&self) -> &PeerTls {
        &self.tls
    }

    /// The connection for that traffic; `None` when the peer is not pinned.
    pub(crate) fn get(&self, node_id: u64, lane: Lane) -> Option<Channel> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if self.pins.get(node_id).is_err() {
            open.retain(|(id, _), _| *id != node_id);
            return None;
        }
        if let Some(channel) = open.get(&(node_id, lane)) {
            return Some(channel.clone());
        }
        open.retain(|(id, _), _| self.pins.get(*id).is_ok());
        let channel = self.connect(node_id)?;
        open.insert((node_id, lane), channel.clone());
        Some(channel)
    }

    /// Whether nobody listens any more where that peer did: its machine says that the port is closed. Silence, or any other
    /// answer, proves nothing.
    pub(crate) async fn is_refused(&self, node_id: u64) -> bool {
        let (Ok(peer), Ok(config)) = (self.pins.get(node_id), self.tls.client(node_id)) else { return false };
        let connector = TlsConnector::from(config);
        for _ in 0..PROBES_MAX {
            match dial(&*self.net, &connector, &peer.address, PROBE_TIMEOUT).await.map_err(|error| error.kind()) {
                Err(io::ErrorKind::ConnectionRefused) => return true,
                // A process that is dying loses one socket after the other.
                Err(
                    io::ErrorKind::ConnectionReset
                    | io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::BrokenPipe
                    | io::ErrorKind::UnexpectedEof,
                ) => sleep(PROBE_PAUSE).await,
                Err(_) if mutant::is(Mutant::DeathBySilence) => return true,
                Ok(_) | Err(_) => return false,
            }
        }
        false
    }

    /// A channel that connects when it is used, and again after it broke.
    fn connect(&self, node_id: u64) -> Option<Channel> {
        let config = self
            .tls
            .client(node_id)
            .inspect_err(|error| tracing::error!(%error, "TLS between servers cannot be configured"))
            .ok()?;
        let connector = TlsConnector::from(config);
        let (net, pins) = (Arc::clone(&self.net), Arc::clone(&self.pins));
        let connect = service_fn(move |_: Uri| {
            let (net, pins, connector) = (Arc::clone(&net), Arc::clone(&pins), connector.clone());
            async move {
                let peer = pins.get(node_id).map_err(io::Error::other)?;
                let stream = dial(&*net, &connector, &peer.address, HANDSHAKE_TIMEOUT).await?;
                Ok::<_, io::Error>(TokioIo::new(Cut::when(pins.unpinned(node_id, peer.spki_hash), stream)))
            }
        });
        let endpoint = Endpoint::from_static("http://peer.certwright.internal")
            .initial_stream_window_size(WINDOW_OCTETS)
            .initial_connection_window_size(WINDOW_OCTETS)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true);
        Some(endpoint.connect_with_connector_lazy(connect))
    }
}

/// TCP, then TLS, within the limit.
async fn dial(
    net: &dyn Net,
    connector: &TlsConnector,
    address: &str,
    limit: Duration,
) -> io::Result<TlsStream<BoxStream>> {
    // Pinned peers are not looked up by name; TLS wants one all the same.
    let name = ServerName::try_from("peer.certwright.internal").map_err(io::Error::other)?;
    let handshake = async {
        let stream = net.connect(address).await?;
        connector.connect(name, stream).await
    };
    timeout(limit, handshake).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
