//! The three ports and what is served on each.
//!
//! It refuses to mix them: forwarding and consensus never answer on the API port, nothing writable on HTTP.

use std::sync::Arc;
use std::time::Duration;

use certwright_core::policy;
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
use tonic::transport::server::Router;

use super::Listeners;
use crate::doors::Doors;
use crate::forward::ForwardService;
use crate::limits::{
    CONNECTION_STREAMS_MAX, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, MESSAGE_OCTETS_MAX, STRANGER_AGE_MAX,
    STRANGER_HEADER_OCTETS_MAX, STRANGER_MESSAGE_OCTETS_MAX, STRANGER_STREAMS_MAX, STRANGER_WINDOW_OCTETS,
};
use crate::listener::Incoming;
use crate::services::Api;
use crate::{http, listener, refuse};

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

    let (known, strangers) = listener::accept(api, tls, doors, shutdown.clone());
    let open = open(doors);
    let server = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .initial_stream_window_size(WINDOW_OCTETS)
        .initial_connection_window_size(WINDOW_OCTETS * 4)
        .max_concurrent_streams(CONNECTION_STREAMS_MAX)
        .add_routes(to_known(doors, open.clone()));
    tasks.spawn(serve_api(server, known, "the API port", shutdown.clone()));

    // No pings: nothing here lives long enough to be found dead. A bound on age holds whatever the peer does or leaves.
    let server = Server::builder()
        .max_connection_age(STRANGER_AGE_MAX)
        .max_connection_age_grace(Duration::ZERO)
        .initial_stream_window_size(STRANGER_WINDOW_OCTETS)
        .initial_connection_window_size(STRANGER_WINDOW_OCTETS)
        .http2_max_header_list_size(STRANGER_HEADER_OCTETS_MAX)
        .max_concurrent_streams(STRANGER_STREAMS_MAX)
        .add_routes(to_strangers(open));
    tasks.spawn(serve_api(server, strangers, "the API port, for strangers", shutdown.clone()));

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
    let forward = ForwardServer::new(ForwardService::new(doors.clone()))
        .max_decoding_message_size(MESSAGE_OCTETS_MAX)
        .max_encoding_message_size(MESSAGE_OCTETS_MAX);
    Routes::new(forward).add_service(PeerService::new(doors.itself.clone()).into_server())
}

async fn serve_api(server: Router, incoming: Incoming, name: &'static str, stop: CancellationToken) -> &'static str {
    if let Err(error) = server.serve_with_incoming_shutdown(incoming, async move { stop.cancelled().await }).await {
        tracing::error!(%error, "{name} ended");
    }
    name
}

/// What may be called without a certificate: joining, and what tells nothing about the estate.
fn open(doors: &Arc<Doors>) -> Routes {
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(certwright_proto::FILE_DESCRIPTOR_SET)
        .build_v1()
        .expect("the descriptors were compiled with this crate");
    let health = crate::services::health(doors.clone());
    Routes::new(JoinServer::new(Api::new(doors.clone())).max_decoding_message_size(STRANGER_MESSAGE_OCTETS_MAX))
        .add_service(health.max_decoding_message_size(STRANGER_MESSAGE_OCTETS_MAX))
        .add_service(reflection.max_decoding_message_size(STRANGER_MESSAGE_OCTETS_MAX))
}

/// What clients and agents may call, besides what is open to all.
fn to_known(doors: &Arc<Doors>, open: Routes) -> Routes {
    let api = Api::new(doors.clone());
    open.add_service(CertificatesServer::new(api.clone()).max_decoding_message_size(MESSAGE_OCTETS_MAX))
        .add_service(IssuersServer::new(api.clone()))
        .add_service(AuthoritiesServer::new(api.clone()))
        .add_service(AgentsServer::new(api.clone()))
        .add_service(TokensServer::new(api.clone()))
        .add_service(EventsServer::new(api.clone()))
        .add_service(ClusterServer::new(api.clone()))
        .add_service(AgentServiceServer::new(api).max_decoding_message_size(MESSAGE_OCTETS_MAX))
}

/// What strangers may call. Everything else is not even mounted: it is refused by its path, its body is never read.
fn to_strangers(open: Routes) -> Routes {
    let refuse = async || refuse::status(policy::unproved()).into_http::<axum::body::Body>();
    open.into_axum_router().fallback(refuse).into()
}
