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
