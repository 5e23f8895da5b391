//! Strangers: what those may cost whom nobody knows, on the API port and on the HTTP port.
//!
//! It refuses to take their word for it: known callers are served meanwhile, on the same ports.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use certwright_agent::{Connector, Context};
use certwright_api::limits::{
    HTTP_CONNECTION_TIMEOUT, HTTP_CONNECTIONS_MAX, HTTP_HEADER_TIMEOUT, STRANGER_AGE_MAX, STRANGER_MESSAGE_OCTETS_MAX,
    STRANGERS_MAX, STRANGERS_PER_ADDRESS_MAX,
};
use certwright_core::Reason;
use certwright_proto::status::from_status;
use certwright_proto::v1;
use certwright_proto::v1::join_client::JoinClient;
use certwright_seams::net::{BoxStream, Listener, Net};
use certwright_seams::{BoxFuture, Seams};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::support::{Cluster, get, is_served, until};

/// Connects from that address.
struct From(IpAddr);

impl Net for From {
    fn listen(&self, _: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        Box::pin(std::future::ready(Err(io::ErrorKind::Unsupported.into())))
    }

    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<BoxStream>> {
        Box::pin(async move {
            let socket = TcpSocket::new_v4()?;
            socket.bind(SocketAddr::new(self.0, 0))?;
            Ok(Box::new(socket.connect(address.parse().unwrap()).await?) as BoxStream)
        })
    }
}

async fn stranger(context: &Context, seams: &Seams) -> Channel {
    let root = certwright_core::x509::key::sha256(&context.root().unwrap());
    let connector = Connector::pinned(root, context.cluster_id, context.servers.clone(), seams).unwrap();
    connector.connect().await.unwrap().0
}

async fn is_healthy(channel: &Channel) -> Result<(), Status> {
    HealthClient::new(channel.clone()).check(HealthCheckRequest::default()).await.map(drop)
}

/// Sends this to a path as the only message of a body that never ends.
async fn call(channel: &Channel, path: &'static str, message: v1::IssueStreamResponse) -> Status {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<v1::IssueStreamResponse, v1::Token>::default();
    let body = tokio_stream::StreamExt::chain(tokio_stream::once(message), tokio_stream::pending());
    client.client_streaming(Request::new(body), http::uri::PathAndQuery::from_static(path), codec).await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_do_not_crowd_out_those_who_are_known() {
    let cluster = Cluster::found().await;
    let (context, seams) = (&cluster.context, &cluster.seams);
    let root = certwright_core::x509::key::sha256(&context.root().unwrap());
    let arrive = async |from: u8| {
        let seams = Seams { net: Arc::new(From([127, 0, 0, from].into())), ..seams.clone() };
        let connector = Connector::pinned(root, context.cluster_id, context.servers.clone(), &seams).unwrap();
        let (channel, _) = connector.connect().await.ok()?;
        is_healthy(&channel).await.is_ok().then_some(channel)
    };
    let mut strangers = Vec::new();
    for _ in 0..STRANGERS_MAX / 2 {
        strangers.push(arrive(2).await.unwrap());
    }
    assert!(arrive(2).await.is_none(), "one address has more than half");
    for number in 0..STRANGERS_MAX / 2 {
        let from = 3 + u8::try_from(number / STRANGERS_PER_ADDRESS_MAX).unwrap();
        strangers.push(arrive(from).await.expect("others still come in"));
    }

    // One more is closed at the door, which a caller with a certificate passes all the same.
    assert!(arrive(1).await.is_none(), "there is room for more than {STRANGERS_MAX} strangers");
    is_served(&cluster.connector.connect().await.unwrap().0).await;

    // Whoever goes makes room.
    strangers.pop();
    let again = async || is_healthy(&stranger(context, seams).await).await.ok();
    until("a stranger that went away counts no more", Duration::from_secs(10), again).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_stranger_sends_elsewhere_is_not_read() {
    let cluster = Cluster::found().await;
    let (known, context, seams) = (cluster.channel(1), &cluster.context, &cluster.seams);
    let unknown = stranger(context, seams).await;

    // As any other message than its own it is no protobuf: whoever decodes it says so.
    let nonsense = v1::IssueStreamResponse { id: 7, result: None };
    for path in [
        "/certwright.v1.Certificates/Issue",
        "/certwright.v1.Certificates/UpdateCertificate",
        "/certwright.v1.Tokens/CreateToken",
        "/certwright.v1.Cluster/RemoveNode",
        "/certwright.agent.v1.AgentService/Session",
        "/certwright.internal.v1.Forward/Execute",
        "/no.such.Service/Method",
    ] {
        let answer = tokio::time::timeout(Duration::from_secs(5), call(&unknown, path, nonsense.clone())).await;
        let status = answer.unwrap_or_else(|_| panic!("{path} waits for the body"));
        assert_eq!(status.code(), Code::Unauthenticated, "{path}: {status:?}");
        let refusal = from_status(&status);
        assert_eq!((refusal.reason, refusal.code.as_str()), (Reason::Unauthenticated, "UNAUTHENTICATED"), "{path}");
    }
    let status = call(known, "/certwright.v1.Certificates/Issue", nonsense).await;
    assert_eq!(status.code(), Code::Internal, "those who are known are read: {status:?}");

    // What a stranger may send is small.
    let join = |octets| v1::JoinAgentRequest { csr: vec![0; octets].into(), ..Default::default() };
    let (small, large) = (STRANGER_MESSAGE_OCTETS_MAX / 2, STRANGER_MESSAGE_OCTETS_MAX + 1);
    let status = JoinClient::new(unknown.clone()).join_agent(join(small)).await.unwrap_err();
    assert_eq!(from_status(&status).reason, Reason::TokenForeign, "{status:?}");
    let status = JoinClient::new(unknown.clone()).join_agent(join(large)).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
    cluster.stop().await;
}

/// On one thread, whose clock can be moved.
#[tokio::test]
async fn a_stranger_that_stays_is_cut() {
    let cluster = Cluster::found().await;
    let (known, context, seams) = (cluster.channel(1), &cluster.context, &cluster.seams);
    let watch = async |channel: Channel| {
        let mut watch = HealthClient::new(channel).watch(HealthCheckRequest::default()).await.unwrap().into_inner();
        watch.message().await.unwrap().unwrap();
        watch
    };
    let mut stranger = watch(stranger(context, seams).await).await;
    let mut kept = watch(known.clone()).await;

    tokio::time::pause();
    tokio::time::advance(STRANGER_AGE_MAX - Duration::from_secs(2)).await;
    tokio::time::resume();
    let next = tokio::time::timeout(Duration::from_millis(200), stranger.message()).await;
    assert!(next.is_err(), "cut before its time: {next:?}");
    let cut = tokio::time::timeout(Duration::from_secs(10), stranger.message()).await;
    assert!(!matches!(cut.expect("a stranger stays for ever"), Ok(Some(_))));
    let next = tokio::time::timeout(Duration::from_millis(200), kept.message()).await;
    assert!(next.is_err(), "a known caller is cut: {next:?}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_callers_do_not_hold_the_http_port() {
    let cluster = Cluster::found().await;
    let address = cluster.node(1).addresses().http;
    assert!(get(address, "/livez").await.starts_with("HTTP/1.1 200"));

    // As many as there is room for, each halfway through its header.
    let begun = Instant::now();
    let mut slow = Vec::new();
    for _ in 0..HTTP_CONNECTIONS_MAX {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /livez HTTP/1.1\r\nhos").await.unwrap();
        slow.push(stream);
    }
    let answer = tokio::time::timeout(HTTP_CONNECTION_TIMEOUT, get(address, "/livez")).await;
    assert!(answer.expect("slow callers hold the port").starts_with("HTTP/1.1 200"));
    for mut stream in slow {
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(HTTP_CONNECTION_TIMEOUT, stream.read_to_end(&mut rest)).await;
        ended.expect("a slow caller stays connected").ok();
    }
    assert!(begun.elapsed() >= HTTP_HEADER_TIMEOUT / 2);
    cluster.stop().await;
}
