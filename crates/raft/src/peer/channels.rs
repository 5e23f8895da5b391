//! Connections to peers: one for each kind of traffic, made when first needed, kept while the peer is pinned.
//!
//! It refuses to share a connection between kinds: a large append never delays a vote or a heartbeat.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use certwright_seams::Net;
use certwright_seams::net::Cut;
use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use super::pins::Pins;
use super::tls::PeerTls;
use crate::limits::{HANDSHAKE_TIMEOUT, KEEP_ALIVE_INTERVAL, KEEP_ALIVE_TIMEOUT, WINDOW_OCTETS};

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
                // Pinned peers are not looked up by name; TLS wants one all the same.
                let name = ServerName::try_from("peer.certwright.internal").map_err(io::Error::other)?;
                let handshake = async {
                    let stream = net.connect(&peer.address).await?;
                    connector.connect(name, stream).await
                };
                match timeout(HANDSHAKE_TIMEOUT, handshake).await {
                    Ok(connected) => {
                        let unpinned = pins.unpinned(node_id, peer.spki_hash);
                        connected.map(|stream| TokioIo::new(Cut::when(unpinned, stream)))
                    }
                    Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut)),
                }
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
