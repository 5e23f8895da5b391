//! The bounds of the doors, each exceeded by exactly one.
//!
//! It refuses to be content with a refusal: those who stay within a bound are served meanwhile.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs)]

#[path = "support/server.rs"]
mod server;

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use bytes::Bytes;
use certwright_agent::{Connector, Context};
use certwright_api::limits::{
    Bounds, HANDSHAKE_TIMEOUT, HANDSHAKES_PER_ADDRESS_MAX, MESSAGE_OCTETS_MAX, STREAM_IN_FLIGHT_MAX,
};
use certwright_api::node::{Listen, Node, NodeConfig};
use certwright_core::Reason;
use certwright_core::ids::NodeName;
use certwright_core::spec::KeyAlgorithm;
use certwright_core::x509::Names;
use certwright_custody::LeafKey;
use certwright_proto::agent::v1::agent_message::Kind as Up;
use certwright_proto::agent::v1::agent_service_client::AgentServiceClient;
use certwright_proto::agent::v1::server_message::Kind as Down;
use certwright_proto::agent::v1::{AgentMessage, CsrSubmission, Heartbeat, Hello, IdentityRenewal, ServerMessage};
use certwright_proto::manifest::{self, Resource};
use certwright_proto::status::from_status;
use certwright_proto::v1;
use certwright_proto::v1::authorities_client::AuthoritiesClient;
use certwright_proto::v1::certificates_client::CertificatesClient;
use certwright_proto::v1::cluster_client::ClusterClient;
use certwright_proto::v1::issuers_client::IssuersClient;
use certwright_proto::v1::tokens_client::TokensClient;
use certwright_seams::Seams;
use certwright_seams::net::draw_port;
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

/// Long enough for a slow machine in a debug build.
const PATIENCE: Duration = Duration::from_secs(30);
/// For what happens at once, and for what must not happen.
const SOON: Duration = Duration::from_secs(1);

async fn known(context: &Context, seams: &Seams) -> Channel {
    Connector::new(context, seams).unwrap().connect().await.unwrap().0
}

async fn try_list(channel: &Channel) -> Result<(), Status> {
    ClusterClient::new(channel.clone()).get_cluster(v1::GetClusterRequest::default()).await.map(drop)
}

async fn is_served(channel: &Channel) {
    try_list(channel).await.unwrap();
}

/// A token, and the secret that it stands for.
async fn token(channel: &Channel, role: &str, agent: &str) -> Result<String, Status> {
    let request = v1::CreateTokenRequest { role: role.into(), agent: agent.into(), ..Default::default() };
    Ok(TokensClient::new(channel.clone()).create_token(request).await?.into_inner().secret)
}

async fn agent(channel: &Channel, server: SocketAddr, name: &str, seams: &Seams) -> Context {
    let secret = token(channel, "agent", name).await.unwrap();
    certwright_agent::join::join(&server.to_string(), &secret, name, &Default::default(), seams).await.unwrap()
}

async fn demo(channel: &Channel) {
    let common_name = "Demo".to_owned();
    let authority = Some(v1::Authority { name: "authorities/demo".into(), common_name, ..Default::default() });
    let request = v1::CreateAuthorityRequest { authority, ..Default::default() };
    AuthoritiesClient::new(channel.clone()).create_authority(request).await.unwrap();
    let spec = v1::IssuerSpec { ca: Some(v1::CaIssuer { authority: "demo".into() }), ..Default::default() };
    let issuer = Some(v1::Issuer { name: "issuers/demo".into(), spec: Some(spec), ..Default::default() });
    let request = v1::CreateIssuerRequest { issuer, ..Default::default() };
    IssuersClient::new(channel.clone()).create_issuer(request).await.unwrap();
}

/// One agent's session, greeted.
struct Session {
    up: mpsc::Sender<AgentMessage>,
    down: Streaming<ServerMessage>,
}

impl Session {
    async fn open(channel: &Channel) -> Result<Self, Status> {
        let (up, said) = mpsc::channel(2 * STREAM_IN_FLIGHT_MAX);
        let mut client = AgentServiceClient::new(channel.clone());
        let down = client.session(ReceiverStream::new(said)).await?.into_inner();
        let mut session = Self { up, down };
        session.say(Up::Hello(Hello::default())).await;
        session.hears(|kind| matches!(kind, Down::Welcome(_))).await;
        Ok(session)
    }

    async fn say(&self, kind: Up) {
        self.up.send(AgentMessage { kind: Some(kind), ..Default::default() }).await.unwrap();
    }

    /// Waits for a message of that kind.
    async fn hears(&mut self, wanted: impl Fn(&Down) -> bool) {
        while !wanted(&self.down.message().await.unwrap().unwrap().kind.unwrap()) {}
    }

    /// Asks something that any server answers at once.
    async fn is_answered(&mut self) -> bool {
        self.say(Up::Heartbeat(Heartbeat::default())).await;
        timeout(SOON, self.hears(|kind| matches!(kind, Down::Heartbeat(_)))).await.is_ok()
    }
}

/// Something that is no message of any call, only large: octets under a number that none of them knows.
#[derive(Clone, PartialEq, Message)]
struct Large {
    #[prost(bytes = "bytes", tag = "9999")]
    octets: Bytes,
}

impl Large {
    /// That many octets when encoded.
    fn of(octets: usize) -> Self {
        let of = |len: usize| Self { octets: vec![0; len].into() };
        let overhead = of(octets / 2).encoded_len() - octets / 2;
        let large = of(octets - overhead);
        assert_eq!(large.encoded_len(), octets);
        large
    }
}

/// Sends a message to a path, whatever it is called there.
async fn send(channel: &Channel, path: &'static str, message: Large) -> Result<(), Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<Large, v1::Token>::default();
    let body = tokio_stream::once(message);
    client.client_streaming(Request::new(body), http::uri::PathAndQuery::from_static(path), codec).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_one_octet_too_large_is_refused_and_everything_else_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let seams = Seams::system();
    let (node, context) = server::found(server::config(&folder.path().join("data")), &seams).await;
    let channel = known(&context, &seams).await;
    let other = known(&context, &seams).await;
    for path in [
        "/certwright.v1.Certificates/CreateCertificate",
        "/certwright.v1.Issuers/CreateIssuer",
        "/certwright.v1.Authorities/CreateAuthority",
        "/certwright.v1.Agents/UpdateAgent",
        "/certwright.v1.Tokens/RevokeToken",
        "/certwright.v1.Cluster/RemoveNode",
    ] {
        let status = send(&channel, path, Large::of(MESSAGE_OCTETS_MAX)).await.unwrap_err();
        assert_ne!(from_status(&status).reason, Reason::TooLarge, "{path} reads what is not: {status:?}");
        let status = send(&channel, path, Large::of(MESSAGE_OCTETS_MAX + 1)).await.unwrap_err();
        assert_eq!(from_status(&status).reason, Reason::TooLarge, "{path}: {status:?}");
        assert!(status.message().contains(&MESSAGE_OCTETS_MAX.to_string()), "{path}: {status:?}");
        is_served(&channel).await;
    }

    // Streams end with the reason; others on the same connection do not notice.
    let large = Bytes::from(vec![0; MESSAGE_OCTETS_MAX]);
    let edge = agent(&channel, node.addresses().api, "edge", &seams).await;
    let agents = known(&edge, &seams).await;
    let (mut stays, mut ends) = (Session::open(&agents).await.unwrap(), Session::open(&agents).await.unwrap());
    ends.say(Up::Csr(CsrSubmission { csr: large.clone(), ..Default::default() })).await;
    let status = loop {
        match timeout(PATIENCE, ends.down.message()).await.unwrap() {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the session ended without a reason"),
            Err(status) => break status,
        }
    };
    assert_eq!(from_status(&status).reason, Reason::TooLarge, "{status:?}");
    assert!(stays.is_answered().await);
    let orders = tokio_stream::iter([v1::IssueRequest { csr: large, ..Default::default() }]);
    let mut answers = CertificatesClient::new(channel.clone()).issue_stream(orders).await.unwrap().into_inner();
    let status = timeout(PATIENCE, answers.message()).await.unwrap().unwrap_err();
    assert_eq!(from_status(&status).reason, Reason::TooLarge, "{status:?}");
    is_served(&channel).await;
    is_served(&other).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_connection_too_many_is_closed_until_another_one_ends() {
    let folder = tempfile::tempdir().unwrap();
    let seams = Seams::system();
    let bounds = Bounds { connections: 2, ..Bounds::default() };
    let config = NodeConfig { bounds, ..server::config(&folder.path().join("data")) };
    let (node, context) = server::found(config, &seams).await;
    let connector = Connector::new(&context, &seams).unwrap();
    let (first, second) = (known(&context, &seams).await, known(&context, &seams).await);
    is_served(&first).await;
    is_served(&second).await;
    let third = async || try_list(&connector.connect().await.ok()?.0).await.ok();
    assert!(third().await.is_none(), "there is room for more than two");
    is_served(&first).await;
    is_served(&second).await;

    drop(second);
    let end = Instant::now() + PATIENCE;
    while third().await.is_none() {
        assert!(Instant::now() < end, "a connection that ended still counts");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    is_served(&first).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_session_too_many_is_refused_until_another_one_ends() {
    let folder = tempfile::tempdir().unwrap();
    let seams = Seams::system();
    let bounds = Bounds { sessions: 2, ..Bounds::default() };
    let config = NodeConfig { bounds, ..server::config(&folder.path().join("data")) };
    let (node, context) = server::found(config, &seams).await;
    let channel = known(&context, &seams).await;
    let mut agents = Vec::new();
    for name in ["one", "two", "three"] {
        agents.push(known(&agent(&channel, node.addresses().api, name, &seams).await, &seams).await);
    }
    let (mut one, two) = (Session::open(&agents[0]).await.unwrap(), Session::open(&agents[1]).await.unwrap());
    let Err(refused) = Session::open(&agents[2]).await else { panic!("there is room for more than two") };
    assert_eq!(from_status(&refused).reason, Reason::Overloaded, "{refused:?}");
    assert!(from_status(&refused).retry_after.is_some(), "{refused:?}");
    Session::open(&agents[0]).await.map(drop).expect("an agent that has a session may reconnect");

    drop(two);
    let end = Instant::now() + PATIENCE;
    while Session::open(&agents[2]).await.is_err() {
        assert!(Instant::now() < end, "a session that ended still counts");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(one.is_answered().await);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_ends_after_so_many_items_were_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let seams = Seams::system();
    let bounds = Bounds { page_scan: 3, ..Bounds::default() };
    let config = NodeConfig { bounds, ..server::config(&folder.path().join("data")) };
    let (node, context) = server::found(config, &seams).await;
    let channel = known(&context, &seams).await;
    demo(&channel).await;
    let mut client = CertificatesClient::new(channel.clone());
    let mut list = async |page_token: &str| {
        let (filter, page_token) = ("label.wanted=yes".into(), page_token.into());
        let request = v1::ListCertificatesRequest { filter, page_token, ..Default::default() };
        let answer = client.list_certificates(request).await.unwrap().into_inner();
        (answer.certificates.into_iter().map(|it| it.name).collect::<Vec<_>>(), answer.next_page_token)
    };
    for name in ["a", "b", "c"] {
        declare(&channel, name, "no").await;
    }
    assert_eq!(list("").await, (vec![], String::new()), "as many as may be looked at");
    declare(&channel, "d", "yes").await;
    let (found, next) = list("").await;
    assert_eq!(found, Vec::<String>::new(), "one more is not");
    let (found, next) = list(&next).await;
    assert_eq!((found.len(), next.as_str()), (1, ""), "the next page goes on where this one ended");
    node.stop().await;
}

async fn declare(channel: &Channel, name: &str, wanted: &str) {
    let text = format!(
        "{{apiVersion: certwright.dev/v1, kind: Certificate, metadata: {{name: {name}, labels: {{wanted: '{wanted}'}}}}, \
         spec: {{dnsNames: [{name}.example.com], issuerRef: {{name: demo}}, \
         targets: [{{name: files, agent: nobody, files: {{directory: /tmp/{name}}}}}]}}}}"
    );
    for document in manifest::parse(&text, "default").unwrap() {
        let Resource::Certificate(certificate) = document.resource else { panic!("{text}") };
        let request = v1::CreateCertificateRequest { certificate: Some(*certificate), ..Default::default() };
        CertificatesClient::new(channel.clone()).create_certificate(request).await.unwrap();
    }
}

/// Connects from that address and says nothing.
async fn silent(from: &str, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
    socket.connect(to).await.unwrap()
}

async fn is_closed(stream: &mut TcpStream, limit: Duration) -> bool {
    timeout(limit, stream.read(&mut [0])).await.is_ok_and(|read| matches!(read, Ok(0) | Err(_)))
}

/// The value of a metric without labels.
async fn metric(node: &Node, name: &str) -> f64 {
    let mut stream = TcpStream::connect(node.addresses().http).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).await.unwrap();
    page.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_connections_of_one_address_leave_room_for_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let seams = Seams::system();
    let (node, context) = server::found(server::config(&folder.path().join("data")), &seams).await;
    let (address, begun) = (node.addresses().api, Instant::now());
    let mut waiting = Vec::new();
    for _ in 0..HANDSHAKES_PER_ADDRESS_MAX {
        waiting.push(silent("127.0.0.2", address).await);
    }
    assert!(is_closed(&mut silent("127.0.0.2", address).await, SOON).await, "one more than its share is let in");
    assert_eq!(metric(&node, "certwright_api_handshakes_refused_total").await, 1.0);
    let channel = timeout(SOON, known(&context, &seams)).await.expect("others need not wait");
    is_served(&channel).await;
    assert!(begun.elapsed() < HANDSHAKE_TIMEOUT, "all of this while they were silent");
    assert!(!is_closed(&mut waiting[0], Duration::from_millis(50)).await);

    // Whoever goes makes room.
    waiting.pop();
    let end = begun + HANDSHAKE_TIMEOUT;
    while is_closed(&mut silent("127.0.0.2", address).await, Duration::from_millis(50)).await {
        assert!(Instant::now() < end, "a connection that ended still counts");
    }
    node.stop().await;
}

/// On one thread, whose clock can be moved.
#[tokio::test]
async fn a_handshake_that_takes_too_long_is_cut() {
    let folder = tempfile::tempdir().unwrap();
    let seams = Seams::system();
    let (node, context) = server::found(server::config(&folder.path().join("data")), &seams).await;
    let mut waiting = silent("127.0.0.1", node.addresses().api).await;
    // Half a hello is no better than none.
    waiting.write_all(&[0x16, 0x03, 0x01]).await.unwrap();
    assert!(!is_closed(&mut waiting, Duration::from_millis(200)).await);
    tokio::time::pause();
    tokio::time::advance(HANDSHAKE_TIMEOUT - SOON).await;
    tokio::time::resume();
    assert!(!is_closed(&mut waiting, Duration::from_millis(200)).await, "cut before its time");
    assert!(is_closed(&mut waiting, PATIENCE).await, "a silent connection stays for ever");
    is_served(&known(&context, &seams).await).await;
    node.stop().await;
}

/// An address that no outgoing connection takes while its server is away.
fn kept() -> SocketAddr {
    let mut drawn = std::iter::repeat_with(|| draw_port(&*Seams::system().entropy));
    drawn.find_map(|port| TcpListener::bind(("127.0.0.1", port)).ok()?.local_addr().ok()).unwrap()
}

/// A cluster whose leader is left with one other server of four: what is asked for is not committed until more are back.
struct Stuck {
    leader: Node,
    follower: Node,
    context: Context,
    agent: Context,
    absent: NodeConfig,
}

impl Stuck {
    async fn new(folder: &std::path::Path, bounds: Bounds, seams: &Seams) -> Self {
        let config = |number: usize| {
            let name = Some(NodeName::parse(&format!("server-{number}")).unwrap());
            let listen = Listen { api: Some(kept()), raft: Some(kept()), http: Some(kept()) };
            NodeConfig { name, listen, bounds, ..server::config(&folder.join(number.to_string())) }
        };
        let (leader, context) = server::found(config(1), seams).await;
        let channel = known(&context, seams).await;
        demo(&channel).await;
        let address = leader.addresses().api;
        let agent = agent(&channel, address, "edge", seams).await;
        let mut joined = Vec::new();
        for number in 2..=4 {
            let (config, secret) = (config(number), token(&channel, "node", "").await.unwrap());
            certwright_api::join(&config, seams.clone(), &address.to_string(), &secret).await.unwrap();
            joined.push((Node::start(config.clone(), seams.clone()).await.unwrap(), config));
            voters(&channel, number).await;
        }
        let (last, absent) = joined.pop().unwrap();
        last.stop().await;
        joined.pop().unwrap().0.stop().await;
        let (follower, _) = joined.pop().unwrap();
        Self { leader, follower, context, agent, absent }
    }
}

async fn voters(channel: &Channel, wanted: usize) {
    let end = Instant::now() + PATIENCE;
    loop {
        let seen = ClusterClient::new(channel.clone()).get_cluster(v1::GetClusterRequest::default()).await.unwrap();
        let seen = seen.into_inner();
        if seen.nodes.iter().filter(|it| it.role == "leader" || it.role == "follower").count() == wanted {
            return assert_eq!(seen.leader, "server-1");
        }
        assert!(Instant::now() < end, "{seen:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn csr() -> Bytes {
    let names = Names { dns_names: vec!["a.example.com".into()], ..Names::default() };
    LeafKey::generate(KeyAlgorithm::EcdsaP256).unwrap().request(&names).unwrap().into()
}

/// Requests of one `IssueStream`, its first answers to what cannot be meant, which needs nobody's consent.
async fn a_stream_takes_so_many_requests(channel: &Channel) -> Streaming<v1::IssueStreamResponse> {
    let (orders, outgoing) = mpsc::channel(2 * STREAM_IN_FLIGHT_MAX);
    let mut client = CertificatesClient::new(channel.clone());
    let mut answers = client.issue_stream(ReceiverStream::new(outgoing)).await.unwrap().into_inner();
    let csr = csr();
    let good = || v1::IssueRequest { id: 1, issuer: "demo".into(), csr: csr.clone(), ..Default::default() };
    let bad = |id| v1::IssueRequest { id, request_id: "nonsense".into(), ..Default::default() };
    for _ in 1..STREAM_IN_FLIGHT_MAX {
        orders.send(good()).await.unwrap();
    }
    orders.send(bad(2)).await.unwrap();
    let answer = timeout(PATIENCE, answers.message()).await.expect("there is room for one more").unwrap().unwrap();
    assert_eq!(answer.id, 2);
    orders.send(good()).await.unwrap();
    orders.send(bad(3)).await.unwrap();
    let none = timeout(SOON, answers.message()).await;
    assert!(none.is_err(), "more than {STREAM_IN_FLIGHT_MAX} are under way: {none:?}");
    answers
}

/// The same of an agent's session.
async fn a_session_takes_so_many_requests(channel: &Channel) -> Session {
    let mut session = Session::open(channel).await.unwrap();
    let renewal = || {
        let csr = LeafKey::generate(KeyAlgorithm::EcdsaP256).unwrap().request(&Names::default()).unwrap();
        Up::Identity(IdentityRenewal { csr: csr.into() })
    };
    for _ in 1..STREAM_IN_FLIGHT_MAX {
        session.say(renewal()).await;
    }
    assert!(session.is_answered().await, "there is room for one more");
    session.say(renewal()).await;
    assert!(!session.is_answered().await, "more than {STREAM_IN_FLIGHT_MAX} are under way");
    session
}

/// Two commands of the follower's callers wait on the leader; a third one does not even get its refusal.
async fn so_many_forwarded_commands_are_taken(through: &Channel, leader: &Node) -> Vec<tokio::task::JoinHandle<()>> {
    let ask = |role: &'static str| {
        let through = through.clone();
        tokio::spawn(async move { drop(token(&through, role, "later").await) })
    };
    let taken = async |wanted: f64| {
        let end = Instant::now() + PATIENCE;
        while metric(leader, "certwright_sequencer_in_flight").await < wanted {
            assert!(Instant::now() < end, "the leader has not taken command {wanted}");
        }
    };
    let first = ask("agent");
    taken(1.0).await;
    timeout(PATIENCE, ask("nonsense")).await.expect("there is room for one more").unwrap();
    let second = ask("agent");
    taken(2.0).await;
    let mut refused = ask("nonsense");
    assert!(timeout(SOON, &mut refused).await.is_err(), "more than two are under way");
    vec![first, second, refused]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_under_way_is_bounded_and_the_rest_waits() {
    let folder = tempfile::tempdir().unwrap();
    let seams = Seams::system();
    let bounds = Bounds { forwarded: 2, ..Bounds::default() };
    let stuck = Stuck::new(folder.path(), bounds, &seams).await;
    let connect = async |context: &Context, node: &Node| {
        let connector = Connector::new(context, &seams).unwrap();
        connector.connect_to(&node.addresses().api.to_string()).await.unwrap()
    };
    let through = connect(&stuck.context, &stuck.follower).await;
    let commands = so_many_forwarded_commands_are_taken(&through, &stuck.leader).await;
    let mut answers = a_stream_takes_so_many_requests(&connect(&stuck.context, &stuck.leader).await).await;
    let mut session = a_session_takes_so_many_requests(&connect(&stuck.agent, &stuck.leader).await).await;

    // A majority is back: everything is answered, also what waited.
    let back = Node::start(stuck.absent, seams.clone()).await.unwrap();
    for command in commands {
        timeout(PATIENCE, command).await.unwrap().unwrap();
    }
    timeout(PATIENCE, async { while answers.message().await.unwrap().unwrap().id != 3 {} }).await.unwrap();
    timeout(PATIENCE, session.hears(|kind| matches!(kind, Down::Heartbeat(_)))).await.unwrap();
    for node in [stuck.follower, back, stuck.leader] {
        node.stop().await;
    }
}
