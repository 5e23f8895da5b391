//! Listening and connecting; TCP in production with TCP_NODELAY on both ends, simulated hosts in simulation.
//!
//! It refuses TLS: identities are the business of those who hold them.
#![allow(clippy::disallowed_methods, reason = "the one module that opens sockets")]

mod cut;
mod gate;
mod places;

use std::io;
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

use crate::BoxFuture;

pub use cut::Cut;
pub use gate::Gate;
pub use places::{Place, Places};

/// How long a connection is silent before the kernel probes it: a peer whose machine vanished is noticed even by
/// those who only wait.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);
/// Between probes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// Probes without an answer before the connection counts as dead.
const KEEPALIVE_PROBES: u32 = 3;

/// A connected byte stream.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for T {}

/// A boxed byte stream.
pub type BoxStream = Box<dyn Stream>;

/// Accepts connections.
pub trait Listener: Send + 'static {
    /// The next connection and its peer's address. An error concerns one connection or a shortage (descriptors): wait
    /// a moment, then accept again.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, SocketAddr)>>;

    /// The address listened on, with the port the system chose when 0 was asked for.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// The network.
pub trait Net: Send + Sync + 'static {
    /// Listens on an address.
    fn listen(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>>;

    /// Connects to `host:port`. Bounded only by the caller's timeout.
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<BoxStream>>;
}

/// TCP of the machine: no delay, kernel keep-alive.
#[derive(Debug, Clone, Copy, Default)]
pub struct TcpNet;

impl Net for TcpNet {
    fn listen(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let listener = TcpListener::bind(address).await?;
            Ok(Box::new(TcpDoor(listener)) as Box<dyn Listener>)
        })
    }

    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<BoxStream>> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            tune(&stream)?;
            Ok(Box::new(stream) as BoxStream)
        })
    }
}

struct TcpDoor(TcpListener);

impl Listener for TcpDoor {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, SocketAddr)>> {
        Box::pin(async move {
            let (stream, peer) = self.0.accept().await?;
            tune(&stream)?;
            Ok((Box::new(stream) as BoxStream, peer))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(stream, KEEPALIVE_PROBES)?;
    Ok(())
}

/// Ports that may be picked for servers that must keep theirs over a restart: not reserved, and below those from which
/// systems take ports for outgoing connections, so that nothing takes one between being found free and being used.
const PICKED_PORTS: std::ops::Range<u16> = 10_240..32_000;

/// A port number that a server may try to listen on: the first is drawn, those after it follow one by one, so that a
/// process that picks ports for several servers never picks one twice before the first of them listens.
pub fn pick_port(entropy: &dyn crate::Entropy) -> u16 {
    static PICKED: OnceLock<AtomicU16> = OnceLock::new();
    let width = PICKED_PORTS.end - PICKED_PORTS.start;
    let next = PICKED.get_or_init(|| {
        let mut octets = [0; 2];
        entropy.fill(&mut octets);
        AtomicU16::new(u16::from_be_bytes(octets))
    });
    PICKED_PORTS.start + next.fetch_add(1, Ordering::Relaxed) % width
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn both_ends_talk_without_delay() -> io::Result<()> {
        let mut listener = TcpNet.listen(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
        let address = listener.local_addr()?.to_string();
        let server = async {
            let (mut stream, _) = listener.accept().await?;
            stream.write_all(b"hello").await?;
            stream.shutdown().await
        };
        let client = async {
            let mut text = String::new();
            TcpNet.connect(&address).await?.read_to_string(&mut text).await?;
            Ok::<_, io::Error>(text)
        };
        let (_, text) = tokio::try_join!(server, client)?;
        assert_eq!(text, "hello");
        Ok(())
    }

    #[tokio::test]
    async fn sockets_are_tuned() -> io::Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let stream = TcpStream::connect(listener.local_addr()?).await?;
        tune(&stream)?;
        assert!(stream.nodelay()?);
        assert!(sockopt::socket_keepalive(&stream)?);
        assert_eq!(sockopt::tcp_keepidle(&stream)?, KEEPALIVE_IDLE);
        Ok(())
    }
}
