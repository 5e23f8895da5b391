//! The internal port: mutual TLS with pinned peers, consensus and whatever else servers say to each other.
//!
//! It refuses everybody whose key is not pinned, before a request is read.

use std::io;
use std::sync::Arc;

use certwright_core::log::Fold;
use certwright_proto::internal::v1::raft_server::RaftServer;
use certwright_seams::net::Listener;
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::service::{InterceptorLayer, Routes};
use tonic::transport::Server;

use super::Log;
use crate::limits::{
    DRAIN_TIMEOUT, FRAME_OCTETS_MAX, KEEP_ALIVE_INTERVAL, KEEP_ALIVE_TIMEOUT, STREAMS_PER_CONNECTION_MAX, WINDOW_OCTETS,
};
use crate::peer::accept::accept_peers;
use crate::peer::service::{PeerService, admit};

impl<F: Fold> Log<F> {
    /// Serves consensus and the given routes to pinned peers until cancelled; requests carry a
    /// [`PeerNode`](crate::PeerNode) extension.
    pub async fn serve(
        &self,
        listener: Box<dyn Listener>,
        routes: Routes,
        shutdown: CancellationToken,
    ) -> io::Result<()> {
        let config = self.inner.channels.tls().server().map_err(io::Error::other)?;
        let metrics = self.inner.shared.metrics.clone();
        let pins = Arc::clone(self.inner.channels.pins());
        let deaths = Arc::clone(&self.inner.witness.deaths);
        let peers = accept_peers(listener, TlsAcceptor::from(config), pins, deaths, metrics, shutdown.clone());
        let service = PeerService {
            raft: self.inner.raft.clone(),
            store: self.inner.store.clone(),
            pins: Arc::clone(self.inner.channels.pins()),
            witness: Arc::clone(&self.inner.witness),
            snapshots: Arc::clone(&self.inner.snapshots),
            bases: Arc::clone(&self.inner.history.bases),
            exec: Arc::clone(&self.inner.shared.seams.exec),
            receiving: Arc::new(Semaphore::new(1)),
            clock: Arc::clone(&self.inner.shared.seams.clock),
            heard: Arc::clone(&self.inner.heard),
        };
        let service = RaftServer::new(service)
            .max_decoding_message_size(FRAME_OCTETS_MAX)
            .max_encoding_message_size(FRAME_OCTETS_MAX);
        let pins = Arc::clone(self.inner.channels.pins());
        let until = shutdown.clone();
        let serving = Server::builder()
            .layer(InterceptorLayer::new(move |request| admit(&pins, request)))
            .initial_stream_window_size(WINDOW_OCTETS)
            .initial_connection_window_size(WINDOW_OCTETS)
            .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
            .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
            .add_routes(routes.add_service(service))
            .serve_with_incoming_shutdown(ReceiverStream::new(peers), until.cancelled_owned());
        // Peers keep streams open for as long as they live: those are not waited for.
        let drained = async {
            shutdown.cancelled().await;
            sleep(DRAIN_TIMEOUT).await;
        };
        tokio::select! {
            biased;
            served = serving => served.map_err(io::Error::other),
            () = drained => Ok(()),
        }
    }
}
