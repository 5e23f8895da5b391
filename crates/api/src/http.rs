//! The read-only HTTP port: liveness, readiness, metrics.
//!
//! It refuses everything that could change anything or show more than numbers.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use certwright_raft::Role;
use certwright_seams::net::{BoxStream, Listener};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::doors::Doors;
use crate::limits::HTTP_CONNECTIONS_MAX;

/// Serves until `shutdown`.
pub(crate) async fn serve(listener: Box<dyn Listener>, doors: Arc<Doors>, shutdown: CancellationToken) {
    let routes = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(doors);
    let door = Door { listener, connections: Arc::new(Semaphore::new(HTTP_CONNECTIONS_MAX)) };
    let served = axum::serve(door, routes).with_graceful_shutdown(async move { shutdown.cancelled().await }).await;
    if let Err(error) = served {
        tracing::error!(%error, "the HTTP port ended");
    }
}

/// Live: the log runs. A server whose log has stopped never recovers by itself.
async fn livez(State(doors): State<Arc<Doors>>) -> Response {
    match doors.log.status().role {
        Role::Stopped => (StatusCode::SERVICE_UNAVAILABLE, "the log has stopped\n").into_response(),
        _ => "ok\n".into_response(),
    }
}

/// Ready: not draining, and this server leads or follows a leader. A server that is not should get no new callers.
async fn readyz(State(doors): State<Arc<Doors>>) -> Response {
    match doors.readiness() {
        Ok(()) => "ok\n".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

async fn metrics(State(doors): State<Arc<Doors>>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], doors.metrics.text()).into_response()
}

/// The seam's listener as axum wants it.
struct Door {
    listener: Box<dyn Listener>,
    connections: Arc<Semaphore>,
}

impl axum::serve::Listener for Door {
    type Io = Counted;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Counted, SocketAddr) {
        loop {
            let Ok(permit) = self.connections.clone().acquire_owned().await else {
                std::future::pending::<()>().await;
                continue;
            };
            match self.listener.accept().await {
                Ok((stream, address)) => return (Counted { stream, _permit: permit }, address),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept HTTP connections");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that counts towards the bound while it is open.
struct Counted {
    stream: BoxStream,
    _permit: tokio::sync::OwnedSemaphorePermit,
}

impl tokio::io::AsyncRead for Counted {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl tokio::io::AsyncWrite for Counted {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        data: &[u8],
    ) -> std::task::Poll<io::Result<usize>> {
        std::pin::Pin::new(&mut self.stream).poll_write(cx, data)
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
