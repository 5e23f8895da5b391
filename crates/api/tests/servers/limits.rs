//! The bounds of the doors, each exceeded by exactly one.
//!
//! It refuses to be content with a refusal: those who stay within a bound are served meanwhile.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use certwright_agent::Context;
use certwright_api::limits::{Bounds, HANDSHAKE_TIMEOUT, HANDSHAKES_MAX, MESSAGE_OCTETS_MAX, STREAM_IN_FLIGHT_MAX};
use certwright_api::node::Node;
use certwright_core::Reason;
use certwright_core::spec::KeyAlgorithm;
use certwright_core::x509::Names;
use certwright_custody::LeafKey;
use certwright_proto::agent::v1::agent_message::Kind as Up;
use certwright_proto::agent::v1::server_message::Kind as Down;
use certwright_proto::agent::v1::{CsrSubmission, IdentityRenewal};
use certwright_proto::manifest::{self, Resource};
use certwright_proto::status::from_status;
use certwright_proto::v1;
use certwright_proto::v1::certificates_client::CertificatesClient;
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

use crate::session::{SOON, Session, until_it_ends};
use crate::support::{Cluster, PATIENCE, cluster, demo, get, is_served, leader, order, try_token, until};

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
    let cluster = Cluster::found().await;
    let (channel, other) = (cluster.channel(1), cluster.connect(1).await);
    for path in [
        "/certwright.v1.Certificates/CreateCertificate",
        "/certwright.v1.Issuers/CreateIssuer",
        "/certwright.v1.Authorities/CreateAuthority",
        "/certwright.v1.Agents/UpdateAgent",
        "/certwright.v1.Tokens/RevokeToken",
        "/certwright.v1.Cluster/RemoveNode",
    ] {
        let status = send(channel, path, Large::of(MESSAGE_OCTETS_MAX)).await.unwrap_err();
        assert_ne!(from_status(&status).reason, Reason::TooLarge, "{path} reads what is not: {status:?}");
        let status = send(channel, path, Large::of(MESSAGE_OCTETS_MAX + 1)).await.unwrap_err();
        assert_eq!(from_status(&status).reason, Reason::TooLarge, "{path}: {status:?}");
        assert!(status.message().contains(&MESSAGE_OCTETS_MAX.to_string()), "{path}: {status:?}");
        is_served(channel).await;
    }

    // Streams end with the reason; others on the same connection do not notice.
    let large = Bytes::from(vec![0; MESSAGE_OCTETS_MAX]);
    let agents = cluster.connect_as(&cluster.agent(1, "edge").await, 1).await;
    let (mut stays, mut ends) = (Session::open(&agents).await.unwrap(), Session::open(&agents).await.unwrap());
    ends.say(Up::Csr(CsrSubmission { csr: large.clone(), ..Default::default() })).await;
    let status = ends.ends().await;
    assert_eq!(from_status(&status).reason, Reason::TooLarge, "{status:?}");
    assert!(stays.is_answered().await);
    let orders = tokio_stream::iter([v1::IssueRequest { csr: large, ..Default::default() }]);
    let mut answers = CertificatesClient::new(channel.clone()).issue_stream(orders).await.unwrap().into_inner();
    let status = timeout(PATIENCE, answers.message()).await.unwrap().unwrap_err();
    assert_eq!(from_status(&status).reason, Reason::TooLarge, "{status:?}");
    is_served(channel).await;
    is_served(&other).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_asked_before_a_mistake_is_answered_before_the_stream_ends() {
    let cluster = Cluster::of(1).await;
    let (order, large) = (order(""), Bytes::from(vec![0; MESSAGE_OCTETS_MAX]));
    let mut orders: Vec<_> = (1..=200).map(|id| v1::IssueRequest { id, ..order.clone() }).collect();
    orders.push(v1::IssueRequest { csr: large.clone(), ..Default::default() });
    let mut client = CertificatesClient::new(cluster.channel(1).clone());
    let mut answers = client.issue_stream(tokio_stream::iter(orders)).await.unwrap().into_inner();
    let (answers, status) = until_it_ends(&mut answers).await;
    assert_eq!(from_status(&status).reason, Reason::TooLarge, "{status:?}");
    let issued = |it: &v1::IssueStreamResponse| matches!(it.result, Some(v1::issue_stream_response::Result::Issued(_)));
    let mut ids: Vec<_> = answers.iter().filter(|it| issued(it)).map(|it| it.id).collect();
    ids.sort_unstable();
    assert_eq!(ids, (1..=200).collect::<Vec<_>>(), "a certificate is in the log and its caller was not told");

    let edge = cluster.agent(1, "edge").await;
    let mut session = Session::open(&cluster.connect_as(&edge, 1).await).await.unwrap();
    let key = LeafKey::from_pem(&edge.key_pem).unwrap();
    for _ in 0..50 {
        let csr = key.request(&Names::default()).unwrap().into();
        session.say(Up::Identity(IdentityRenewal { csr })).await;
    }
    session.say(Up::Csr(CsrSubmission { csr: large, ..Default::default() })).await;
    let (messages, status) = session.until_it_ends().await;
    assert_eq!(from_status(&status).reason, Reason::TooLarge, "{status:?}");
    let answered = messages.iter().filter(|it| matches!(it.kind, Some(Down::Identity(_)))).count();
    assert_eq!(answered, 50);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_connection_too_many_is_closed_until_another_one_ends() {
    let servers = Cluster::bounded(Bounds { connections: 2, ..Bounds::default() }).await;
    let (first, second) = (servers.channel(1), servers.connect(1).await);
    is_served(first).await;
    is_served(&second).await;
    let third = async || cluster(&servers.connector.connect().await.ok()?.0).await.ok();
    assert!(third().await.is_none(), "there is room for more than two");
    is_served(first).await;
    is_served(&second).await;

    drop(second);
    until("a connection that ended counts no more", PATIENCE, third).await;
    is_served(first).await;
    servers.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_session_too_many_is_refused_until_another_one_ends() {
    let cluster = Cluster::bounded(Bounds { sessions: 2, ..Bounds::default() }).await;
    let mut agents = Vec::new();
    for name in ["one", "two", "three"] {
        agents.push(cluster.connect_as(&cluster.agent(1, name).await, 1).await);
    }
    let (mut one, two) = (Session::open(&agents[0]).await.unwrap(), Session::open(&agents[1]).await.unwrap());
    let Err(refused) = Session::open(&agents[2]).await else { panic!("there is room for more than two") };
    assert_eq!(from_status(&refused).reason, Reason::Overloaded, "{refused:?}");
    assert!(from_status(&refused).retry_after.is_some(), "{refused:?}");
    Session::open(&agents[0]).await.map(drop).expect("an agent that has a session may reconnect");

    drop(two);
    let again = async || Session::open(&agents[2]).await.ok();
    until("a session that ended counts no more", PATIENCE, again).await;
    assert!(one.is_answered().await);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_ends_after_so_many_items_were_looked_at() {
    let cluster = Cluster::bounded(Bounds { page_scan: 3, ..Bounds::default() }).await;
    let channel = cluster.channel(1);
    demo(channel).await;
    let mut client = CertificatesClient::new(channel.clone());
    let mut list = async |page_token: &str| {
        let (filter, page_token) = ("label.wanted=yes".into(), page_token.into());
        let request = v1::ListCertificatesRequest { filter, page_token, ..Default::default() };
        let answer = client.list_certificates(request).await.unwrap().into_inner();
        (answer.certificates.into_iter().map(|it| it.name).collect::<Vec<_>>(), answer.next_page_token)
    };
    for name in ["a", "b", "c"] {
        declare(channel, name, "no").await;
    }
    assert_eq!(list("").await, (vec![], String::new()), "as many as may be looked at");
    declare(channel, "d", "yes").await;
    let (found, next) = list("").await;
    assert_eq!(found, Vec::<String>::new(), "one more is not");
    let (found, next) = list(&next).await;
    assert_eq!((found.len(), next.as_str()), (1, ""), "the next page goes on where this one ended");
    cluster.stop().await;
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
    let page = get(node.addresses().http, "/metrics").await;
    page.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_connections_of_one_address_leave_room_for_the_others() {
    let cluster = Cluster::found().await;
    let (address, begun) = (cluster.node(1).addresses().api, Instant::now());
    let mut waiting = Vec::new();
    for _ in 0..HANDSHAKES_MAX / 2 {
        waiting.push(silent("127.0.0.2", address).await);
    }
    assert!(is_closed(&mut silent("127.0.0.2", address).await, PATIENCE).await, "one address has more than half");
    assert_eq!(metric(cluster.node(1), "certwright_api_handshakes_refused_total").await, 1.0);
    is_served(&cluster.connect(1).await).await;
    assert!(begun.elapsed() < HANDSHAKE_TIMEOUT, "others need not wait until they are cut");
    assert!(!is_closed(&mut waiting[0], Duration::from_millis(50)).await);

    // Whoever goes makes room.
    waiting.pop();
    let limit = HANDSHAKE_TIMEOUT.saturating_sub(begun.elapsed());
    until("a connection that ended counts no more", limit, async || {
        let closed = is_closed(&mut silent("127.0.0.2", address).await, Duration::from_millis(50)).await;
        (!closed).then_some(())
    })
    .await;
    cluster.stop().await;
}

/// On one thread, whose clock can be moved.
#[tokio::test]
async fn a_handshake_that_takes_too_long_is_cut() {
    let cluster = Cluster::found().await;
    let begun = tokio::time::Instant::now();
    let mut waiting = silent("127.0.0.1", cluster.node(1).addresses().api).await;
    // Half a hello is no better than none.
    waiting.write_all(&[0x16, 0x03, 0x01]).await.unwrap();
    assert!(!is_closed(&mut waiting, Duration::from_millis(200)).await);
    tokio::time::pause();
    tokio::time::advance(HANDSHAKE_TIMEOUT - SOON).await;
    tokio::time::resume();
    assert!(is_closed(&mut waiting, PATIENCE).await, "a silent connection stays for ever");
    assert!(begun.elapsed() >= HANDSHAKE_TIMEOUT, "cut before its time");
    is_served(&cluster.connect(1).await).await;
    cluster.stop().await;
}

/// A cluster of four, server-1 its leader, of whom only server-2 is left besides: what is asked for is not committed
/// until more are back. And an agent.
async fn stuck(bounds: Bounds) -> (Cluster, Context) {
    let mut cluster = Cluster::bounded(bounds).await;
    demo(cluster.channel(1)).await;
    let agent = cluster.agent(1, "edge").await;
    for number in 2..=4 {
        cluster.grow(number, 1).await;
        assert_eq!(leader(cluster.channel(1)).await, "server-1");
    }
    for number in [4, 3] {
        cluster.halt(number).await;
    }
    (cluster, agent)
}

/// Requests of one `IssueStream`, its first answers to what cannot be meant, which needs nobody's consent.
async fn a_stream_takes_so_many_requests(channel: &Channel) -> Streaming<v1::IssueStreamResponse> {
    let (orders, outgoing) = mpsc::channel(2 * STREAM_IN_FLIGHT_MAX);
    let mut client = CertificatesClient::new(channel.clone());
    let mut answers = client.issue_stream(ReceiverStream::new(outgoing)).await.unwrap().into_inner();
    let order = order("");
    let good = || v1::IssueRequest { id: 1, ..order.clone() };
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
    assert!(!session.is_answered_within(SOON).await, "more than {STREAM_IN_FLIGHT_MAX} are under way");
    session
}

/// Two commands of the follower's callers wait on the leader; a third one does not even get its refusal.
async fn so_many_forwarded_commands_are_taken(through: &Channel, leader: &Node) -> Vec<tokio::task::JoinHandle<()>> {
    let ask = |role: &'static str| {
        let through = through.clone();
        tokio::spawn(async move { drop(try_token(&through, role, "later").await) })
    };
    let taken = async |wanted: f64| {
        let in_flight = async || metric(leader, "certwright_sequencer_in_flight").await;
        until("the leader takes it", PATIENCE, async || (in_flight().await >= wanted).then_some(())).await;
    };
    let first = ask("agent");
    taken(1.0).await;
    timeout(PATIENCE, ask("nonsense")).await.expect("there is room for one more").unwrap();
    let second = ask("agent");
    taken(2.0).await;
    // What the leader does by itself counts there, too: the second one may still be on its way.
    let waiting = until("more than two are under way", PATIENCE, async || {
        let mut refused = ask("nonsense");
        timeout(SOON, &mut refused).await.is_err().then_some(refused)
    });
    vec![first, second, waiting.await]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_under_way_is_bounded_and_the_rest_waits() {
    let (mut cluster, agent) = stuck(Bounds { forwarded: 2, ..Bounds::default() }).await;
    let commands = so_many_forwarded_commands_are_taken(cluster.channel(2), cluster.node(1)).await;
    let mut answers = a_stream_takes_so_many_requests(&cluster.connect(1).await).await;
    let mut session = a_session_takes_so_many_requests(&cluster.connect_as(&agent, 1).await).await;

    // A majority is back: everything is answered, also what waited.
    cluster.restart(4).await;
    for command in commands {
        timeout(PATIENCE, command).await.unwrap().unwrap();
    }
    timeout(PATIENCE, async { while answers.message().await.unwrap().unwrap().id != 3 {} }).await.unwrap();
    timeout(PATIENCE, session.hears(|kind| matches!(kind, Down::Heartbeat(_)))).await.unwrap();
    cluster.stop().await;
}
