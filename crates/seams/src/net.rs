//! Listening and connecting; TCP in production with TCP_NODELAY on both ends, simulated hosts in simulation.
//!
//! It refuses TLS: identities are the business of those who hold them.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::BoxFuture;

/// A connected byte stream.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for T {}

/// A boxed byte stream.
pub type BoxStream = Box<dyn Stream>;

/// Accepts connections.
pub trait Listener: Send + 'static {
    /// The next connection and its peer's address.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, SocketAddr)>>;

    /// The address listened on, with the port the system chose when 0 was asked for.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// The network.
pub trait Net: Send + Sync + 'static {
    /// Listens on an address.
    fn listen(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>>;

    /// Connects to `host:port`.
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<BoxStream>>;
}
