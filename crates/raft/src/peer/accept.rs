//! The accepting side: connections become verified peers before a request is read.
//!
//! It refuses to let handshakes pile up: their number, also that of one address, and their time are bounded.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use certwright_seams::net::{BoxStream, Cut, Gate, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

use super::deaths::{Deaths, Link};
use super::pins::Pins;
use super::tls::claim;
use crate::limits::{HANDSHAKE_TIMEOUT, HANDSHAKES_MAX, HANDSHAKES_PER_ADDRESS_MAX};
use crate::member::PeerNode;
use crate::metrics::LogMetrics;

/// A verified peer's connection, as long as that peer is pinned.
pub(crate) struct PeerStream {
    stream: Cut<TlsStream<BoxStream>>,
    peer: PeerNode,
    _link: Link,
}

impl Connected for PeerStream {
    type ConnectInfo = PeerNode;

    fn connect_info(&self) -> PeerNode {
        self.peer
    }
}

impl AsyncRead for PeerStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for PeerStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Accepts until cancelled; verified peers come out of the receiver.
pub(crate) fn accept_peers(
    mut listener: Box<dyn Listener>,
    acceptor: TlsAcceptor,
    pins: Arc<Pins>,
    deaths: Arc<Deaths>,
    metrics: LogMetrics,
    shutdown: CancellationToken,
) -> mpsc::Receiver<io::Result<PeerStream>> {
    let (sender, receiver) = mpsc::channel(HANDSHAKES_MAX);
    let refused = metrics.handshakes_refused.clone();
    let gate = Gate::new(HANDSHAKES_MAX, HANDSHAKES_PER_ADDRESS_MAX, move || refused.inc());
    tokio::spawn(async move {
        loop {
            let (place, stream, address) = tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                accepted = gate.next(&mut *listener) => accepted,
            };
            let (acceptor, metrics, sender) = (acceptor.clone(), metrics.clone(), sender.clone());
            let (pins, deaths) = (Arc::clone(&pins), Arc::clone(&deaths));
            tokio::spawn(async move {
                let verified = handshake(&acceptor, pins, &deaths, stream).await;
                drop(place);
                match verified {
                    Ok(peer) => drop(sender.send(Ok(peer)).await),
                    Err(error) => {
                        metrics.handshakes_failed.inc();
                        tracing::warn!(%error, %address, "a connection on the internal port was refused");
                    }
                }
            });
        }
    });
    receiver
}

async fn handshake(
    acceptor: &TlsAcceptor,
    pins: Arc<Pins>,
    deaths: &Arc<Deaths>,
    stream: BoxStream,
) -> io::Result<PeerStream> {
    let stream = timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    // The verifier has compared key, cluster and pin; what remains is to read who it was.
    let peer = certificate.and_then(claim).ok_or_else(|| io::Error::other("a peer without an identity"))?;
    let stream = Cut::when(pins.unpinned(peer.node_id, peer.spki_hash), stream);
    Ok(PeerStream { stream, peer: PeerNode(peer.node_id), _link: deaths.link(peer.node_id) })
}
