//! The read-only HTTP port: liveness, readiness, metrics.
//!
//! It refuses everything that could change anything or show more than numbers.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use certwright_raft::Role;
use certwright_seams::net::{BoxStream, Listener};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::doors::Doors;
use crate::limits::{HTTP_BUFFER_OCTETS_MAX, HTTP_CONNECTION_TIMEOUT, HTTP_CONNECTIONS_MAX, HTTP_HEADER_TIMEOUT};

/// Serves until `shutdown`; what is under way then is answered still.
pub(crate) async fn serve(mut listener: Box<dyn Listener>, doors: Arc<Doors>, shutdown: CancellationToken) {
    let routes = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(doors);
    let mut open = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(_) = open.join_next() => continue,
            accepted = listener.accept(), if open.len() < HTTP_CONNECTIONS_MAX => accepted,
        };
        match accepted {
            Ok((stream, _)) => drop(open.spawn(answer(stream, routes.clone()))),
            Err(error) => {
                tracing::warn!(%error, "cannot accept HTTP connections");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    while open.join_next().await.is_some() {}
}

/// One request and its answer. Connections are not kept: callers come every few seconds, and one that neither asks nor
/// reads would hold its place for nothing.
async fn answer(stream: BoxStream, routes: Router) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HTTP_HEADER_TIMEOUT)
        .max_buf_size(HTTP_BUFFER_OCTETS_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    match tokio::time::timeout(HTTP_CONNECTION_TIMEOUT, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "an HTTP connection failed"),
        Err(_) => tracing::debug!("an HTTP connection took too long"),
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
