//! What followers know and what they ask the leader for.
//!
//! It refuses sleeps as proof: it waits for conditions, each with a deadline.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs)]

#[path = "support/server.rs"]
mod server;

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use certwright_agent::{Connector, Context};
use certwright_api::node::{Listen, Node, NodeConfig};
use certwright_core::Reason;
use certwright_core::ids::NodeName;
use certwright_proto::agent::v1::agent_message::Kind;
use certwright_proto::agent::v1::agent_service_client::AgentServiceClient;
use certwright_proto::agent::v1::{AgentMessage, Hello, ServerMessage};
use certwright_proto::status::from_status;
use certwright_proto::v1;
use certwright_proto::v1::agents_client::AgentsClient;
use certwright_proto::v1::cluster_client::ClusterClient;
use certwright_proto::v1::tokens_client::TokensClient;
use certwright_seams::Seams;
use certwright_seams::net::draw_port;
use tokio::time::{Instant, timeout};
use tonic::transport::Channel;
use tonic::{Status, Streaming};

/// Long enough for a slow machine in a debug build.
const PATIENCE: Duration = Duration::from_secs(30);

/// An address that no outgoing connection takes while its server is away.
fn kept() -> SocketAddr {
    let mut drawn = std::iter::repeat_with(|| draw_port(&*Seams::system().entropy));
    drawn.find_map(|port| TcpListener::bind(("127.0.0.1", port)).ok()?.local_addr().ok()).unwrap()
}

fn config(folder: &Path, number: u64) -> NodeConfig {
    let listen = Listen { api: Some(kept()), raft: Some(kept()), http: Some(kept()) };
    let name = Some(NodeName::parse(&format!("server-{number}")).unwrap());
    NodeConfig { name, listen, ..server::config(&folder.join(number.to_string())) }
}

async fn token(channel: &Channel, role: &str, agent: &str) -> String {
    let request = v1::CreateTokenRequest { role: role.into(), agent: agent.into(), ..Default::default() };
    TokensClient::new(channel.clone()).create_token(request).await.unwrap().into_inner().secret
}

async fn connect(context: &Context, node: &Node, seams: &Seams) -> Channel {
    let connector = Connector::new(context, seams).unwrap();
    connector.connect_to(&node.addresses().api.to_string()).await.unwrap()
}

/// Waits until the call's answer is the one wanted.
async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Voters' names as the server at the other end knows them, once it knows a leader.
async fn voters(channel: &Channel) -> Option<Vec<String>> {
    let request = v1::GetClusterRequest::default();
    let seen = ClusterClient::new(channel.clone()).get_cluster(request).await.ok()?.into_inner();
    let votes = seen.nodes.into_iter().filter(|it| it.role != "learner");
    (!seen.leader.is_empty()).then(|| votes.map(|it| it.name).collect())
}

/// One more server that joins through the one at the other end and becomes a voter.
async fn grow(folder: &Path, number: u64, through: &Node, context: &Context, seams: &Seams) -> Node {
    let (config, channel) = (config(folder, number), connect(context, through, seams).await);
    let (secret, address) = (token(&channel, "node", "").await, through.addresses().api.to_string());
    certwright_api::join(&config, seams.clone(), &address, &secret).await.unwrap();
    let node = Node::start(config, seams.clone()).await.unwrap();
    let name = format!("server-{number}");
    until("a voter", async || voters(&channel).await?.contains(&name).then_some(())).await;
    node
}

async fn session(channel: &Channel) -> Result<Streaming<ServerMessage>, Status> {
    let hello = AgentMessage { kind: Some(Kind::Hello(Hello::default())), ..Default::default() };
    let up = tokio_stream::StreamExt::chain(tokio_stream::once(hello), tokio_stream::pending());
    Ok(AgentServiceClient::new(channel.clone()).session(up).await?.into_inner())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_agent_hears_so_from_every_server() {
    let folder = tempfile::tempdir().unwrap();
    let seams = Seams::system();
    let (first, context) = server::found(config(folder.path(), 1), &seams).await;
    let mut nodes = vec![first];
    for number in 2..=3 {
        let joined = grow(folder.path(), number, &nodes[0], &context, &seams).await;
        nodes.push(joined);
    }
    let channel = connect(&context, &nodes[1], &seams).await;
    let (secret, address) = (token(&channel, "agent", "edge").await, nodes[1].addresses().api.to_string());
    let edge = certwright_agent::join::join(&address, &secret, "edge", &Default::default(), &seams).await.unwrap();
    let mut sessions = Vec::new();
    for node in &nodes {
        let channel = connect(&edge, node, &seams).await;
        let mut session = session(&channel).await.expect("an agent that joined is known everywhere");
        session.message().await.unwrap().expect("and greeted");
        sessions.push((channel, session));
    }

    let request = v1::DeleteRequest { name: "agents/edge".into(), ..Default::default() };
    AgentsClient::new(channel).delete_agent(request).await.unwrap();
    for (number, (channel, mut open)) in sessions.into_iter().enumerate() {
        let ended = timeout(PATIENCE, async {
            loop {
                match open.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("server {number} gives no reason"),
                    Err(status) => return status,
                }
            }
        });
        assert_eq!(from_status(&ended.await.unwrap()).reason, Reason::Unauthenticated, "server {number}");
        let Err(refused) = session(&channel).await else { panic!("server {number} lets a removed agent in") };
        assert_eq!(from_status(&refused).reason, Reason::Unauthenticated, "server {number}: {refused:?}");
    }

    // Any server answers a linearizable read, none without a majority.
    let linearizable = async |node: &Node| {
        let request = v1::GetClusterRequest { linearizable: true, ..Default::default() };
        let mut client = ClusterClient::new(connect(&context, node, &seams).await);
        client.get_cluster(request).await.map(drop).map_err(|status| from_status(&status).reason)
    };
    for node in &nodes {
        assert_eq!(linearizable(node).await, Ok(()));
    }
    let last = nodes.pop().unwrap();
    for node in nodes {
        node.stop().await;
    }
    assert_eq!(linearizable(&last).await, Err(Reason::NoLeader));
    last.stop().await;
}
