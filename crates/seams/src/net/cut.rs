//! A byte stream that somebody else may cut: nothing is read or written any more, the other end sees it closed.
//!
//! It refuses reasons: whoever cuts knows why.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::BoxFuture;

/// A stream that is cut when a future resolves.
pub struct Cut<S> {
    stream: S,
    /// `None` once it was cut.
    until: Option<BoxFuture<'static, ()>>,
}

impl<S> Cut<S> {
    /// The stream until then.
    pub fn when(until: impl Future<Output = ()> + Send + 'static, stream: S) -> Self {
        Self { stream, until: Some(Box::pin(until)) }
    }

    /// The stream inside.
    pub fn get_ref(&self) -> &S {
        &self.stream
    }

    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.until.as_mut().is_some_and(|until| until.as_mut().poll(cx).is_ready()) {
            self.until = None;
        }
        match self.until {
            Some(_) => Ok(()),
            None => Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the connection was cut on this side")),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Cut<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Cut<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn whoever_reads_when_it_is_cut_is_woken_and_writes_fail() {
        let (near, mut far) = tokio::io::duplex(64);
        let (cut, until) = oneshot::channel::<()>();
        let mut near = Cut::when(async { drop(until.await) }, near);
        far.write_all(b"one").await.unwrap();
        let mut octets = [0; 3];
        near.read_exact(&mut octets).await.unwrap();
        assert_eq!(&octets, b"one");
        let reading = tokio::spawn(async move {
            let error = near.read(&mut octets).await.unwrap_err();
            (near, error)
        });
        tokio::task::yield_now().await;
        cut.send(()).unwrap();
        let (mut near, error) = reading.await.unwrap();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
        assert!(near.write(b"two").await.is_err());
        assert!(near.read(&mut octets).await.is_err(), "for good");
    }
}
