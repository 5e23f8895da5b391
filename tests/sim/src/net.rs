//! The network seam on turmoil's simulated hosts, so that the real servers and agents run in virtual time. It counts
//! whom each machine has let in.
//!
//! What is written goes on its way when it is flushed, all of it as one message: when messages arrive is drawn for each, and
//! into how many pieces libraries write depends on the lengths of signatures, which no seed decides.
//!
//! It refuses real sockets: outside a turmoil host it panics.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use certwright_seams::BoxFuture;
use certwright_seams::net::{BoxStream, Listener, Net};
use tokio::io::{AsyncRead, AsyncWrite, BufWriter, ReadBuf};
use turmoil::net::{TcpListener, TcpStream};

/// What is not flushed goes on its way all the same when it is longer.
const MESSAGE_OCTETS_MAX: usize = 256 << 10;

/// Connections that a machine has accepted and not closed, by port: now, and at most so far.
#[derive(Clone, Default)]
pub(crate) struct Guests(Arc<Mutex<BTreeMap<u16, (usize, usize)>>>);

impl Guests {
    fn table(&self) -> MutexGuard<'_, BTreeMap<u16, (usize, usize)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, port: u16) {
        let mut table = self.table();
        let (now, most) = table.entry(port).or_default();
        *now += 1;
        *most = (*most).max(*now);
    }

    fn leave(&self, port: u16) {
        if let Some((now, _)) = self.table().get_mut(&port) {
            *now -= 1;
        }
    }

    /// How many there were at a time at most.
    pub(crate) fn most(&self, port: u16) -> usize {
        self.table().get(&port).map_or(0, |(_, most)| *most)
    }
}

/// turmoil's network as one machine sees it.
#[derive(Clone)]
pub(crate) struct SimNet {
    pub(crate) guests: Guests,
}

struct SimListener {
    listener: TcpListener,
    guests: Guests,
    port: u16,
}

/// An accepted connection.
struct Guest {
    stream: BufWriter<TcpStream>,
    guests: Guests,
    port: u16,
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.guests.leave(self.port);
    }
}

impl AsyncRead for Guest {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Guest {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Listener for SimListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, SocketAddr)>> {
        Box::pin(async move {
            let (stream, peer) = self.listener.accept().await?;
            let (guests, port) = (self.guests.clone(), self.port);
            guests.enter(port);
            let stream = whole_messages(stream);
            Ok((Box::new(Guest { stream, guests, port }) as BoxStream, peer))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Net for SimNet {
    fn listen(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        let guests = self.guests.clone();
        Box::pin(async move {
            let listener = TcpListener::bind(address).await?;
            Ok(Box::new(SimListener { listener, guests, port: address.port() }) as Box<dyn Listener>)
        })
    }

    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<BoxStream>> {
        Box::pin(async move {
            let unreadable = || io::Error::new(io::ErrorKind::InvalidInput, format!("{address} is not host:port"));
            let (host, port) = address.rsplit_once(':').ok_or_else(unreadable)?;
            let port: u16 = port.parse().map_err(|_| unreadable())?;
            let stream = TcpStream::connect((host, port)).await?;
            Ok(Box::new(whole_messages(stream)) as BoxStream)
        })
    }
}

fn whole_messages(stream: TcpStream) -> BufWriter<TcpStream> {
    BufWriter::with_capacity(MESSAGE_OCTETS_MAX, stream)
}
