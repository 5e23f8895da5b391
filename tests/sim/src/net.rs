//! The network seam on turmoil's simulated hosts, so that the real servers and agents run in virtual time.
//!
//! It refuses real sockets: outside a turmoil host it panics.

use std::io;
use std::net::SocketAddr;

use certwright_seams::BoxFuture;
use certwright_seams::net::{BoxStream, Listener, Net};

/// turmoil's network.
#[derive(Clone, Copy, Default)]
pub(crate) struct SimNet;

struct SimListener(turmoil::net::TcpListener);

impl Listener for SimListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, SocketAddr)>> {
        Box::pin(async move {
            let (stream, peer) = self.0.accept().await?;
            Ok((Box::new(stream) as BoxStream, peer))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

impl Net for SimNet {
    fn listen(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let listener = turmoil::net::TcpListener::bind(address).await?;
            Ok(Box::new(SimListener(listener)) as Box<dyn Listener>)
        })
    }

    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<BoxStream>> {
        Box::pin(async move {
            let unreadable = || io::Error::new(io::ErrorKind::InvalidInput, format!("{address} is not host:port"));
            let (host, port) = address.rsplit_once(':').ok_or_else(unreadable)?;
            let port: u16 = port.parse().map_err(|_| unreadable())?;
            let stream = turmoil::net::TcpStream::connect((host, port)).await?;
            Ok(Box::new(stream) as BoxStream)
        })
    }
}
