//! The three ports and what is served on each.
//!
//! It refuses to mix them: forwarding and consensus never answer on the API port, nothing writable on HTTP.

use std::sync::Arc;

use certwright_issuance::peer::PeerService;
use certwright_proto::agent::v1::agent_service_server::AgentServiceServer;
use certwright_proto::internal::v1::forward_server::ForwardServer;
use certwright_proto::v1::agents_server::AgentsServer;
use certwright_proto::v1::authorities_server::AuthoritiesServer;
use certwright_proto::v1::certificates_server::CertificatesServer;
use certwright_proto::v1::cluster_server::ClusterServer;
use certwright_proto::v1::events_server::EventsServer;
use certwright_proto::v1::issuers_server::IssuersServer;
use certwright_proto::v1::join_server::JoinServer;
use certwright_proto::v1::tokens_server::TokensServer;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Server;

use super::Listeners;
use crate::doors::Doors;
use crate::forward::ForwardService;
use crate::limits::{CONNECTION_STREAMS_MAX, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, MESSAGE_OCTETS_MAX};
use crate::services::Api;
use crate::{http, listener};

/// Octets in flight towards this server per stream and connection: messages are small, streams are many.
const WINDOW_OCTETS: u32 = 1024 * 1024;

/// Serves all three until `shutdown` and watches the log; each task yields its name when it ends.
pub(super) fn serve(
    doors: &Arc<Doors>,
    listeners: Listeners,
    tls: Arc<rustls::ServerConfig>,
    shutdown: &CancellationToken,
) -> JoinSet<&'static str> {
    let mut tasks = JoinSet::new();
    let Listeners { api, raft, http } = listeners;

    let (log, routes, stop) = (doors.log.clone(), internal(doors), shutdown.clone());
    tasks.spawn(async move {
        if let Err(error) = log.serve(raft, routes, stop).await {
            tracing::error!(%error, "the internal port ended");
        }
        "the internal port"
    });

    let connections = listener::accept(api, tls, doors.cluster, shutdown.clone());
    let (routes, stop) = (public(doors), shutdown.clone());
    tasks.spawn(async move {
        let server = Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .initial_stream_window_size(WINDOW_OCTETS)
            .initial_connection_window_size(WINDOW_OCTETS * 4)
            .max_concurrent_streams(CONNECTION_STREAMS_MAX)
            .add_routes(routes);
        let served = server.serve_with_incoming_shutdown(connections, async move { stop.cancelled().await }).await;
        if let Err(error) = served {
            tracing::error!(%error, "the API port ended");
        }
        "the API port"
    });

    // Without its log the process is of no use: whoever started it starts it again.
    let (log, stop) = (doors.log.clone(), shutdown.clone());
    tasks.spawn(async move {
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = log.stopped() => {}
        }
        "the log"
    });

    let (doors, stop) = (doors.clone(), shutdown.clone());
    tasks.spawn(async move {
        http::serve(http, doors, stop).await;
        "the HTTP port"
    });
    tasks
}

/// What peers may call, besides consensus itself.
fn internal(doors: &Arc<Doors>) -> Routes {
    let seal = doors.seal.clone();
    let forward = ForwardServer::new(ForwardService::new(doors.clone()))
        .max_decoding_message_size(MESSAGE_OCTETS_MAX)
        .max_encoding_message_size(MESSAGE_OCTETS_MAX);
    Routes::new(forward).add_service(PeerService::new(doors.log.clone(), seal, doors.name.clone()).into_server())
}

/// What clients and agents may call.
fn public(doors: &Arc<Doors>) -> Routes {
    let api = Api::new(doors.clone());
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(certwright_proto::FILE_DESCRIPTOR_SET)
        .build_v1()
        .expect("the descriptors were compiled with this crate");
    Routes::new(CertificatesServer::new(api.clone()).max_decoding_message_size(MESSAGE_OCTETS_MAX))
        .add_service(IssuersServer::new(api.clone()))
        .add_service(AuthoritiesServer::new(api.clone()))
        .add_service(AgentsServer::new(api.clone()))
        .add_service(TokensServer::new(api.clone()))
        .add_service(EventsServer::new(api.clone()))
        .add_service(ClusterServer::new(api.clone()))
        .add_service(JoinServer::new(api.clone()))
        .add_service(AgentServiceServer::new(api.clone()).max_decoding_message_size(MESSAGE_OCTETS_MAX))
        .add_service(crate::services::health(doors.clone()))
        .add_service(reflection)
}
