//! Three servers that joined by token: any of them answers, followers forward, a lost leader is replaced.
//!
//! It refuses sleeps as proof: it waits for conditions, each with a deadline.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs)]

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use certwright_agent::{Connector, Context};
use certwright_api::bootstrap::{Administrator, bootstrap};
use certwright_api::join;
use certwright_api::node::{Listen, Node, NodeConfig};
use certwright_core::Reason;
use certwright_core::ids::{Actor, NodeName};
use certwright_core::spec::{KeyAlgorithm, KeyEncoding};
use certwright_core::x509::Names;
use certwright_custody::LeafKey;
use certwright_proto::agent::v1::agent_message::Kind;
use certwright_proto::agent::v1::agent_service_client::AgentServiceClient;
use certwright_proto::agent::v1::server_message::Kind as Answer;
use certwright_proto::agent::v1::{AgentMessage, Hello, IdentityRenewal};
use certwright_proto::status::from_status;
use certwright_proto::v1;
use certwright_proto::v1::authorities_client::AuthoritiesClient;
use certwright_proto::v1::certificates_client::CertificatesClient;
use certwright_proto::v1::cluster_client::ClusterClient;
use certwright_proto::v1::events_client::EventsClient;
use certwright_proto::v1::issuers_client::IssuersClient;
use certwright_proto::v1::tokens_client::TokensClient;
use certwright_seams::Seams;
use certwright_seams::net::draw_port;
use tokio::time::Instant;
use tonic::transport::Channel;

fn free() -> SocketAddr {
    let mut drawn = std::iter::repeat_with(|| draw_port(&*Seams::system().entropy));
    drawn.find_map(|port| TcpListener::bind(("127.0.0.1", port)).ok()?.local_addr().ok()).unwrap()
}

fn config(folder: &Path, name: &str) -> NodeConfig {
    let listen = Listen { api: Some(free()), raft: Some(free()), http: Some(free()) };
    let name_parsed = Some(NodeName::parse(name).unwrap());
    NodeConfig { listen, name: name_parsed, strict: true, ..NodeConfig::new(folder.join(name)) }
}

fn context_of(administrator: &Administrator) -> Context {
    Context {
        cluster_id: administrator.cluster_id,
        actor: Actor::parse(&administrator.name).unwrap(),
        servers: vec![administrator.server.clone()],
        ca_pem: administrator.ca_pem.clone(),
        certificate_pem: administrator.certificate_pem.clone(),
        key_pem: administrator.key.to_pem(KeyEncoding::Pkcs8).unwrap(),
    }
}

async fn node_token(channel: &Channel) -> String {
    let request = v1::CreateTokenRequest { role: "node".into(), ..Default::default() };
    TokensClient::new(channel.clone()).create_token(request).await.unwrap().into_inner().secret
}

async fn cluster(channel: &Channel) -> Option<v1::GetClusterResponse> {
    let request = v1::GetClusterRequest::default();
    ClusterClient::new(channel.clone()).get_cluster(request).await.ok().map(tonic::Response::into_inner)
}

/// Waits until the server at the other end sees so many voters and a leader.
async fn voters(channel: &Channel, wanted: usize) -> v1::GetClusterResponse {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let seen = cluster(channel).await;
        if let Some(seen) = seen.as_ref() {
            let votes = seen.nodes.iter().filter(|it| it.role == "leader" || it.role == "follower").count();
            if votes >= wanted && !seen.leader.is_empty() {
                return seen.clone();
            }
        }
        assert!(Instant::now() < end, "not {wanted} voters: {seen:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn demo(channel: &Channel) {
    for (name, parent) in [("demo-root", ""), ("demo", "demo-root")] {
        let authority = Some(v1::Authority {
            name: format!("authorities/{name}"),
            common_name: format!("Test {name}"),
            parent: parent.into(),
            ..Default::default()
        });
        let request = v1::CreateAuthorityRequest { authority, ..Default::default() };
        AuthoritiesClient::new(channel.clone()).create_authority(request).await.unwrap();
    }
    create_issuer(channel, "issuers/demo").await;
}

async fn create_issuer(channel: &Channel, name: &str) {
    let spec = v1::IssuerSpec { ca: Some(v1::CaIssuer { authority: "demo".into() }), ..Default::default() };
    let issuer = Some(v1::Issuer { name: name.into(), spec: Some(spec), ..Default::default() });
    let request = v1::CreateIssuerRequest { issuer, ..Default::default() };
    IssuersClient::new(channel.clone()).create_issuer(request).await.unwrap();
}

fn order(request_id: &str) -> v1::IssueRequest {
    let key = LeafKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let names = Names { dns_names: vec!["a.example.com".into()], ..Names::default() };
    v1::IssueRequest {
        issuer: "demo".into(),
        csr: key.request(&names).unwrap().into(),
        request_id: request_id.into(),
        ..Default::default()
    }
}

/// Issues, repeating what may get better under the same request id, as clients do.
async fn issue(channel: &Channel, order: v1::IssueRequest) -> v1::IssueResponse {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let refused = match CertificatesClient::new(channel.clone()).issue(order.clone()).await {
            Ok(answer) => return answer.into_inner(),
            Err(status) => from_status(&status),
        };
        let again = refused.retry_after.is_some() || refused.reason == Reason::OutcomeUnknown;
        assert!(again && Instant::now() < end, "{refused:?}");
        tokio::time::sleep(refused.retry_after.unwrap_or(Duration::from_millis(50))).await;
    }
}

/// A follower validates as the leader would issue, and nothing is issued.
async fn validates(channel: &Channel) {
    let request = v1::IssueRequest { validate_only: true, ..order("") };
    let answer = CertificatesClient::new(channel.clone()).issue(request).await.unwrap().into_inner();
    assert!(answer.serial.is_empty() && answer.certificate.is_empty() && answer.index == 0, "{answer:?}");
    assert!(answer.not_after.unwrap().seconds > answer.not_before.unwrap().seconds && !answer.chain.is_empty());
    let request = v1::IssueRequest { validate_only: true, csr: vec![0].into(), ..order("") };
    let refused = CertificatesClient::new(channel.clone()).issue(request).await.unwrap_err();
    assert_eq!(from_status(&refused).reason, Reason::InvalidCsr);
}

/// An agent's wish goes through a follower with the key it proved there, without which the leader would refuse it.
async fn renews_an_agent_through(server: &str, channel: &Channel, seams: &Seams) {
    let request = v1::CreateTokenRequest { role: "agent".into(), agent: "edge".into(), ..Default::default() };
    let token = TokensClient::new(channel.clone()).create_token(request).await.unwrap().into_inner().secret;
    let context = certwright_agent::join::join(server, &token, "edge", &Default::default(), seams).await.unwrap();
    let key = LeafKey::from_pem(&context.key_pem).unwrap();
    let agent = Connector::new(&context, seams).unwrap().connect_to(server).await.unwrap();
    let renewal = IdentityRenewal { csr: key.request(&Names::default()).unwrap().into() };
    let said = [Kind::Hello(Hello::default()), Kind::Identity(renewal)]
        .map(|kind| AgentMessage { kind: Some(kind), ..Default::default() });
    let up = tokio_stream::StreamExt::chain(tokio_stream::iter(said), tokio_stream::pending());
    let mut down = AgentServiceClient::new(agent).session(up).await.unwrap().into_inner();
    loop {
        let message = tokio::time::timeout(Duration::from_secs(30), down.message()).await.unwrap().unwrap().unwrap();
        if let Some(Answer::Identity(issued)) = message.kind {
            assert!(issued.reason.is_empty() && !issued.certificate.is_empty(), "{} {}", issued.reason, issued.message);
            return;
        }
    }
}

/// What a follower has answered to be done is to be seen there at once, without a token.
async fn reads_its_own_writes(channel: &Channel) {
    let mut issuers = IssuersClient::new(channel.clone());
    for number in 0..50 {
        let name = format!("issuers/own-{number}");
        create_issuer(channel, &name).await;
        issuers.get_issuer(v1::GetRequest { name, min_token: None }).await.unwrap();
    }
}

/// Every event so far that has something to do with data keys: type and data.
async fn key_events(channel: &Channel) -> Vec<(String, String)> {
    let request = v1::WatchRequest { from_index: 1, ..Default::default() };
    let mut told = EventsClient::new(channel.clone()).watch(request).await.unwrap().into_inner();
    let mut found = Vec::new();
    while let Some(answer) = told.message().await.unwrap() {
        let Some(event) = answer.event else { continue };
        if event.r#type.contains("Key") || event.r#type == "AuthorityDeclared" {
            found.push((event.r#type, event.data_json));
        }
    }
    found
}

/// The number of a data key as an event's data names it.
fn data_key_id(data: &str) -> &str {
    let (_, rest) = data.split_once("\"dataKeyId\":").unwrap();
    rest.split([',', '}']).next().unwrap()
}

/// A context that shows a server's own certificate.
fn context_of_server(context: &Context, folder: &Path, name: &str, node_id: u64) -> Context {
    let read = |file: &str| std::fs::read_to_string(folder.join(name).join(file)).unwrap();
    Context {
        cluster_id: context.cluster_id,
        actor: Actor::Node(node_id),
        servers: context.servers.clone(),
        ca_pem: context.ca_pem.clone(),
        certificate_pem: read("node.crt"),
        key_pem: read("node.key").into(),
    }
}

/// Waits until a call is answered so.
async fn until<T>(what: &str, limit: Duration, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < end, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Asks for something that everybody may ask for: only the connection decides.
async fn healthy(channel: &Channel) -> bool {
    let mut client = tonic_health::pb::health_client::HealthClient::new(channel.clone());
    client.check(tonic_health::pb::HealthCheckRequest::default()).await.is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_server_is_refused_and_its_data_key_replaced() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let folder = tempfile::tempdir().unwrap();
    let seams = Seams::system();
    let first = config(folder.path(), "server-1");
    let mut context = None;
    bootstrap(&first, seams.clone(), |it| {
        context = Some(context_of(it));
        Ok(())
    })
    .await
    .unwrap();
    let context = context.unwrap();
    let connector = Connector::new(&context, &seams).unwrap();
    let node = Node::start(first.clone(), seams.clone()).await.unwrap();
    node.ready().await;
    let address = node.addresses().api.to_string();
    let channel = connector.connect_to(&address).await.unwrap();
    demo(&channel).await;
    let mut joined = Vec::new();
    for number in 2..=3 {
        let token = node_token(&channel).await;
        let config = config(folder.path(), &format!("server-{number}"));
        join(&config, seams.clone(), &address, &token).await.unwrap();
        joined.push(Node::start(config, seams.clone()).await.unwrap());
        voters(&channel, number as usize).await;
    }
    let (third, second) = (joined.pop().unwrap(), joined.pop().unwrap());
    let through_second = connector.connect_to(&second.addresses().api.to_string()).await.unwrap();
    let through_third = connector.connect_to(&third.addresses().api.to_string()).await.unwrap();
    issue(&through_third, order(&"01".repeat(16))).await;
    let as_third = Connector::new(&context_of_server(&context, folder.path(), "server-3", 3), &seams).unwrap();
    let as_second = Connector::new(&context_of_server(&context, folder.path(), "server-2", 2), &seams).unwrap();
    let (of_third, of_second) =
        (as_third.connect_to(&address).await.unwrap(), as_second.connect_to(&address).await.unwrap());
    assert!(healthy(&of_third).await && healthy(&of_second).await);
    let first_key = data_key_id(&key_events(&channel).await[0].1).to_owned();

    let request = v1::RemoveNodeRequest { name: "server-3".into(), ..Default::default() };
    ClusterClient::new(through_second.clone()).remove_node(request).await.unwrap();

    // Its connections end, new ones do not come to be; the others' stay.
    let limit = Duration::from_secs(5);
    until("the removed server's connection ends", limit, async || (!healthy(&of_third).await).then_some(())).await;
    until("its certificate is refused", limit, async || {
        let refused = match as_third.connect_to(&address).await {
            Ok(channel) => !healthy(&channel).await,
            Err(_) => true,
        };
        refused.then_some(())
    })
    .await;
    assert!(healthy(&of_second).await);
    // Nothing goes through it any more.
    until("the removed server forwards nothing", limit, async || {
        let mut client = CertificatesClient::new(through_third.clone());
        let answer = tokio::time::timeout(limit, client.issue(order(&"02".repeat(16)))).await;
        matches!(answer, Ok(Err(_))).then_some(())
    })
    .await;

    // A new data key, wrapped to the two who stay; every CA key is sealed under it; the old one is forgotten.
    let events = until("the data key is retired", Duration::from_secs(20), async || {
        let events = key_events(&channel).await;
        events.iter().any(|(kind, _)| kind == "DataKeyRetired").then_some(events)
    })
    .await;
    let of = |kind: &str| events.iter().filter(|(it, _)| it == kind).map(|(_, data)| data.as_str()).collect::<Vec<_>>();
    let rotated = of("DataKeyRotated");
    assert_eq!(rotated.len(), 1, "{events:?}");
    assert!(rotated[0].contains("\"nodeIds\":[1,2]"), "{rotated:?}");
    let second_key = data_key_id(rotated[0]);
    assert_ne!(second_key, first_key);
    assert_eq!(of("AuthorityDeclared").len(), 3);
    assert_eq!(of("AuthorityKeyResealed").into_iter().map(data_key_id).collect::<Vec<_>>(), [second_key; 3]);
    assert_eq!(of("DataKeyRetired").into_iter().map(data_key_id).collect::<Vec<_>>(), [first_key.as_str()]);

    // Both can sign with what the log holds now: the leader goes, comes back, and the other one leads.
    issue(&channel, order(&"03".repeat(16))).await;
    let leader = cluster(&through_second).await.unwrap().leader;
    drop((channel, of_third, of_second));
    let (stays, goes, config) = match leader.as_str() {
        "server-1" => (second, node, first),
        _ => (node, second, NodeConfig::new(folder.path().join("server-2"))),
    };
    let other = connector.connect_to(&stays.addresses().api.to_string()).await.unwrap();
    goes.stop().await;
    let back = Node::start(config, seams.clone()).await.unwrap();
    issue(&other, order(&"04".repeat(16))).await;
    assert_ne!(voters(&other, 2).await.leader, leader);
    for node in [back, stays, third] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_server_answers_and_a_lost_leader_is_replaced() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let folder = tempfile::tempdir().unwrap();
    let seams = Seams::system();
    let first = config(folder.path(), "server-1");
    let mut context = None;
    bootstrap(&first, seams.clone(), |it| {
        context = Some(context_of(it));
        Ok(())
    })
    .await
    .unwrap();
    let context = context.unwrap();
    let connector = Connector::new(&context, &seams).unwrap();
    let node = Node::start(first, seams.clone()).await.unwrap();
    node.ready().await;
    let address = node.addresses().api.to_string();
    let channel = connector.connect_to(&address).await.unwrap();
    demo(&channel).await;

    // Two more join; a token admits one server only.
    let mut followers = Vec::new();
    for number in 2..=3 {
        let token = node_token(&channel).await;
        let config = config(folder.path(), &format!("server-{number}"));
        let record = join(&config, seams.clone(), &address, &token).await.unwrap();
        assert_eq!(record.node_id, number);
        // A finished join is left alone, also with a token that was used.
        assert_eq!(join(&config, seams.clone(), &address, &token).await.unwrap(), record);
        followers.push(Node::start(config, seams.clone()).await.unwrap());
        voters(&channel, number as usize).await;
        let thief = self::config(folder.path(), &format!("thief-{number}"));
        assert_eq!(join(&thief, seams.clone(), &address, &token).await.unwrap_err().reason, Reason::TokenUsed);
    }

    // A follower forwards, and a repeat under the same id is the same certificate on every server.
    let mut channels = Vec::new();
    for follower in &followers {
        channels.push(connector.connect_to(&follower.addresses().api.to_string()).await.unwrap());
    }
    let wanted = order(&"ab".repeat(16));
    let issued = issue(&channels[0], wanted.clone()).await;
    for channel in channels.iter().chain([&channel]) {
        assert_eq!(issue(channel, wanted.clone()).await.serial, issued.serial);
    }

    reads_its_own_writes(&channels[0]).await;
    validates(&channels[0]).await;
    renews_an_agent_through(&followers[0].addresses().api.to_string(), &channels[0], &seams).await;

    // A read that carries the token is never older than the write, wherever it is asked.
    let request = v1::GetClusterRequest { min_token: issued.token.clone(), ..Default::default() };
    let seen = ClusterClient::new(channels[1].clone()).get_cluster(request).await.unwrap().into_inner();
    assert_eq!(seen.answered_by, "server-3");

    // Every replica has the same state.
    let digests =
        ClusterClient::new(channels[0].clone()).get_digests(v1::GetDigestsRequest {}).await.unwrap().into_inner();
    assert_eq!(digests.digests.len(), 3, "{digests:?}");
    let mut values: Vec<_> = digests.digests.values().collect();
    values.dedup();
    assert_eq!(values.len(), 1, "{digests:?}");

    // The first server goes; what it answered is still there, and the others issue on.
    drop(channel);
    node.stop().await;
    let after = issue(&channels[0], order(&"cd".repeat(16))).await;
    assert_ne!(after.serial, issued.serial);
    assert_eq!(issue(&channels[1], wanted).await.serial, issued.serial);
    for follower in followers {
        follower.stop().await;
    }
}
