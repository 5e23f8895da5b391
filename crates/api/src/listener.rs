//! The accept loop of the API port: bounded handshakes with a deadline, then connections for the gRPC servers, those of
//! known callers and those of strangers apart.
//!
//! It refuses to let strangers crowd out those who proved who they are: each kind has room of its own, and what is over
//! a bound is closed unread. Nor does one address crowd out the others, at its handshakes or as a stranger. It refuses
//! servers that were removed, and cuts the connections they have.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use certwright_core::State;
use certwright_core::ids::{Actor, ClusterId, NodeId};
use certwright_core::mutant::{self, Mutant};
use certwright_raft::Log;
use certwright_seams::BoxFuture;
use certwright_seams::net::{BoxStream, Cut, Gate, Listener, Place, Places};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

use crate::doors::Doors;
use crate::limits::{
    HANDSHAKE_TIMEOUT, HANDSHAKES_MAX, HANDSHAKES_PER_ADDRESS_MAX, STRANGERS_MAX, STRANGERS_PER_ADDRESS_MAX,
};
use crate::tls;

/// Who is at the other end of a connection; in the extensions of every request on it.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// As its certificate, verified, names it.
    pub(crate) actor: Actor,
    /// SHA-256 of the SubjectPublicKeyInfo it proved to hold; `None` for strangers.
    pub(crate) spki_hash: Option<[u8; 32]>,
    /// An agent's certificate, DER.
    pub(crate) certificate: Option<Arc<[u8]>>,
}

/// A verified TLS connection.
pub(crate) struct Connection {
    stream: Cut<TlsStream<BoxStream>>,
    caller: Caller,
    /// Counts towards the bound for as long as the connection is open.
    _place: Place,
}

impl Connected for Connection {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
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

/// Connections as one gRPC server takes them.
pub(crate) type Incoming = ReceiverStream<io::Result<Connection>>;

/// Room for connections of one kind.
struct Pool {
    kind: &'static str,
    places: Places,
    accepted: mpsc::Sender<io::Result<Connection>>,
}

impl Pool {
    fn new(kind: &'static str, places: Places) -> (Self, Incoming) {
        let (accepted, connections) = mpsc::channel(HANDSHAKES_MAX);
        (Self { kind, places, accepted }, ReceiverStream::new(connections))
    }

    async fn take(&self, stream: Cut<TlsStream<BoxStream>>, caller: Caller, address: SocketAddr) {
        let Some(place) = self.places.take(address.ip()) else {
            return tracing::warn!(%address, limit = self.places.limit(), "too many connections of {}, one is closed", self.kind);
        };
        tracing::debug!(%address, actor = %caller.actor, "connected");
        // An ended server no longer takes connections; this one is then closed by being dropped.
        let _ = self.accepted.send(Ok(Connection { stream, caller, _place: place })).await;
    }
}

/// What every handshake needs.
struct Door {
    acceptor: TlsAcceptor,
    cluster: ClusterId,
    log: Log<State>,
    known: Pool,
    strangers: Pool,
}

/// Accepts until `shutdown`; connections come out of the returned streams, first those of callers whose certificate was
/// verified, then those of strangers.
pub(crate) fn accept(
    listener: Box<dyn Listener>,
    config: Arc<rustls::ServerConfig>,
    doors: &Doors,
    shutdown: CancellationToken,
) -> (Incoming, Incoming) {
    let (known, from_known) =
        Pool::new("known callers", Places::new(doors.bounds.connections, doors.bounds.connections));
    let (strangers, from_strangers) = Pool::new("strangers", Places::new(STRANGERS_MAX, STRANGERS_PER_ADDRESS_MAX));
    let refused = doors.metrics.handshakes_refused.clone();
    let (all, share) = match mutant::is(Mutant::HandshakesUnbounded) {
        true => (usize::from(u16::MAX), usize::from(u16::MAX)),
        false => (HANDSHAKES_MAX, HANDSHAKES_PER_ADDRESS_MAX),
    };
    let gate = Gate::new(all, share, move || refused.inc());
    let (cluster, log) = (doors.cluster, doors.log.clone());
    let door = Door { acceptor: config.into(), cluster, log, known, strangers };
    tokio::spawn(accept_loop(listener, gate, Arc::new(door), shutdown));
    (from_known, from_strangers)
}

async fn accept_loop(mut listener: Box<dyn Listener>, gate: Gate, door: Arc<Door>, shutdown: CancellationToken) {
    loop {
        let (place, stream, address) = tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            accepted = gate.next(&mut *listener) => accepted,
        };
        tokio::spawn(door.clone().admit(stream, address, place));
    }
}

impl Door {
    async fn admit(self: Arc<Self>, stream: BoxStream, address: SocketAddr, _place: Place) {
        let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, self.acceptor.accept(stream)).await;
        let stream = match handshake {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return tracing::debug!(%address, %error, "a handshake failed"),
            Err(_) => return tracing::debug!(%address, "a handshake took too long"),
        };
        let Some(caller) = self.caller(&stream) else {
            return tracing::warn!(%address, "a certificate of this cluster names nobody known");
        };
        let pool = if caller.spki_hash.is_some() { &self.known } else { &self.strangers };
        let Some(until) = self.until(&caller) else {
            return tracing::warn!(%address, actor = %caller.actor, "a server that is no member is refused");
        };
        pool.take(Cut::when(until, stream), caller, address).await;
    }

    /// How long the caller may stay connected, if at all. Rights are asked for with every call; a server has none here,
    /// but one that was removed is not even spoken with.
    fn until(&self, caller: &Caller) -> Option<BoxFuture<'static, ()>> {
        let Actor::Node(node_id) = caller.actor else { return Some(Box::pin(std::future::pending())) };
        let (log, key) = (self.log.clone(), caller.spki_hash?);
        is_member(&log, node_id, &key).then(|| -> BoxFuture<'static, ()> { Box::pin(removed(log, node_id, key)) })
    }

    fn caller(&self, stream: &TlsStream<BoxStream>) -> Option<Caller> {
        let certificates = stream.get_ref().1.peer_certificates();
        let actor = tls::actor(certificates, self.cluster)?;
        let spki_hash = match certificates.and_then(<[_]>::first) {
            Some(leaf) => Some(tls::spki_hash(leaf)?),
            None => None,
        };
        let is_agent = matches!(actor, Actor::Agent(_));
        let certificate = certificates.and_then(<[_]>::first).filter(|_| is_agent).map(|leaf| leaf.as_ref().into());
        Some(Caller { actor, spki_hash, certificate })
    }
}

/// Whether a server with that key is a member of the cluster, as far as this one has heard.
fn is_member(log: &Log<State>, node_id: NodeId, key: &[u8; 32]) -> bool {
    log.read(|view| {
        let node = view.state.cluster.nodes.get(&node_id).filter(|node| !node.removed);
        node.is_some_and(|node| {
            node.record.spki_hash == *key || node.identity.is_some_and(|identity| identity.spki_hash == *key)
        })
    })
}

/// Resolves when it is none any more.
async fn removed(log: Log<State>, node_id: NodeId, key: [u8; 32]) {
    let mut applied = log.applied();
    while is_member(&log, node_id, &key) && applied.changed().await.is_ok() {}
}
