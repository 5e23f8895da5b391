//! A server founded in an empty directory, two more that join it, and what every test asks of them.
//!
//! It refuses shortcuts: what is done to a server goes through its ports.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use certwright_agent::{Connector, Context};
use certwright_api::bootstrap::{Administrator, bootstrap};
use certwright_api::join;
use certwright_api::limits::Bounds;
use certwright_api::node::{Listen, Node, NodeConfig};
use certwright_core::Reason;
use certwright_core::ids::{Actor, NodeName};
use certwright_core::spec::{KeyAlgorithm, KeyEncoding};
use certwright_core::x509::Names;
use certwright_custody::LeafKey;
use certwright_proto::status::from_status;
use certwright_proto::v1;
use certwright_proto::v1::authorities_client::AuthoritiesClient;
use certwright_proto::v1::certificates_client::CertificatesClient;
use certwright_proto::v1::cluster_client::ClusterClient;
use certwright_proto::v1::issuers_client::IssuersClient;
use certwright_proto::v1::tokens_client::TokensClient;
use certwright_seams::Seams;
use certwright_seams::net::pick_port;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::Instant;
use tonic::Status;
use tonic::transport::Channel;

/// Long enough for a slow machine in a debug build.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// An address that no outgoing connection takes while its server is away.
fn free() -> SocketAddr {
    let mut drawn = std::iter::repeat_with(|| pick_port(&*Seams::system().entropy));
    drawn.find_map(|port| TcpListener::bind(("127.0.0.1", port)).ok()?.local_addr().ok()).unwrap()
}

fn config(folder: &Path, number: usize) -> NodeConfig {
    let name = format!("server-{number}");
    let listen = Listen { api: Some(free()), raft: Some(free()), http: Some(free()) };
    let data = folder.join(&name);
    NodeConfig { listen, name: Some(NodeName::parse(&name).unwrap()), strict: true, ..NodeConfig::new(data) }
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

/// A server and the administrator's way to it.
struct Server {
    node: Node,
    channel: Channel,
}

/// A cluster whose servers live in this process; the first one founded it.
pub struct Cluster {
    pub folder: TempDir,
    pub seams: Seams,
    /// The administrator's.
    pub context: Context,
    pub connector: Connector,
    bounds: Bounds,
    /// Of a file of the log.
    segment_octets: Option<u64>,
    /// Every server that runs, by the number in its name.
    running: BTreeMap<usize, Server>,
}

impl Cluster {
    /// The first server.
    pub async fn found() -> Self {
        Self::bounded(Bounds::default()).await
    }

    /// The first server of a cluster whose servers all have these bounds.
    pub async fn bounded(bounds: Bounds) -> Self {
        Self::with(bounds, Seams::system(), None).await
    }

    /// The first server of a cluster on this machine, or another one.
    pub async fn with(bounds: Bounds, seams: Seams, segment_octets: Option<u64>) -> Self {
        Self::found_on(seams, |config| async move { NodeConfig { bounds, segment_octets, ..config } }).await
    }

    /// The first server, so configured.
    pub async fn found_as<F: Future<Output = NodeConfig>>(configure: impl FnOnce(NodeConfig) -> F) -> Self {
        Self::found_on(Seams::system(), configure).await
    }

    /// The same on another machine.
    pub async fn found_on<F: Future<Output = NodeConfig>>(
        seams: Seams,
        configure: impl FnOnce(NodeConfig) -> F,
    ) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let config = configure(config(folder.path(), 1)).await;
        let (bounds, segment_octets) = (config.bounds, config.segment_octets);
        let mut context = None;
        let keep = |it: &Administrator| {
            context = Some(context_of(it));
            Ok(())
        };
        bootstrap(&config, seams.clone(), keep).await.unwrap();
        // A finished bootstrap changes nothing and hands out nothing.
        bootstrap(&config, seams.clone(), |_| panic!("a second administrator")).await.unwrap();
        let context = context.unwrap();
        let connector = Connector::new(&context, &seams).unwrap();
        let running = BTreeMap::new();
        let mut cluster = Self { folder, seams, context, connector, bounds, segment_octets, running };
        cluster.start(1, config).await;
        cluster.node(1).ready().await;
        cluster
    }

    /// The first server with an issuer, and as many more as make it that many voters.
    pub async fn of(servers: usize) -> Self {
        let mut cluster = Self::found().await;
        demo(cluster.channel(1)).await;
        for number in 2..=servers {
            cluster.grow(number, 1).await;
        }
        cluster
    }

    /// How `server-N` is configured that has yet to join.
    pub fn config(&self, number: usize) -> NodeConfig {
        let (bounds, segment_octets) = (self.bounds, self.segment_octets);
        NodeConfig { bounds, segment_octets, ..config(self.folder.path(), number) }
    }

    /// `server-N` joins through another one, which then knows it as a voter.
    pub async fn grow(&mut self, number: usize, through: usize) {
        self.grow_as(self.config(number), number, through).await;
    }

    /// The same, so configured.
    pub async fn grow_as(&mut self, config: NodeConfig, number: usize, through: usize) {
        let secret = token(self.channel(through), "node", "").await;
        join(&config, self.seams.clone(), &self.address(through), &secret).await.unwrap();
        self.start(number, config).await;
        is_voter(self.channel(through), number).await;
    }

    /// `server-N` joins to stay a learner.
    pub async fn grow_learner(&mut self, number: usize, through: usize) {
        let request = v1::CreateTokenRequest { role: "node".into(), learner: true, ..Default::default() };
        let secret = TokensClient::new(self.channel(through).clone()).create_token(request).await.unwrap();
        let config = self.config(number);
        join(&config, self.seams.clone(), &self.address(through), &secret.into_inner().secret).await.unwrap();
        self.start(number, config).await;
        has_role(self.channel(through), number, "learner").await;
    }

    /// Starts a server that has joined and connects to it.
    pub async fn start(&mut self, number: usize, config: NodeConfig) {
        let node = Node::start(config, self.seams.clone()).await.unwrap();
        let channel = self.connector.connect_to(&node.addresses().api.to_string()).await.unwrap();
        self.running.insert(number, Server { node, channel });
    }

    /// Starts a server that was halted, where it listened before.
    pub async fn restart(&mut self, number: usize) {
        let data = self.folder.path().join(format!("server-{number}"));
        let (bounds, segment_octets) = (self.bounds, self.segment_octets);
        let config = NodeConfig { bounds, segment_octets, strict: true, ..NodeConfig::new(data) };
        self.start(number, config).await;
    }

    /// Stops `server-N`.
    pub async fn halt(&mut self, number: usize) {
        let Server { node, channel } = self.running.remove(&number).unwrap();
        drop(channel);
        node.stop().await;
    }

    /// Stops all that run.
    pub async fn stop(mut self) {
        for number in self.numbers() {
            self.halt(number).await;
        }
    }

    /// The numbers of those that run.
    pub fn numbers(&self) -> Vec<usize> {
        self.running.keys().copied().collect()
    }

    pub fn node(&self, number: usize) -> &Node {
        &self.running[&number].node
    }

    /// The administrator's way to `server-N`.
    pub fn channel(&self, number: usize) -> &Channel {
        &self.running[&number].channel
    }

    /// The API address of `server-N`.
    pub fn address(&self, number: usize) -> String {
        self.node(number).addresses().api.to_string()
    }

    /// One more connection of the administrator.
    pub async fn connect(&self, number: usize) -> Channel {
        self.connector.connect_to(&self.address(number)).await.unwrap()
    }

    /// A connection of whom the context names.
    pub async fn connect_as(&self, context: &Context, number: usize) -> Channel {
        let connector = Connector::new(context, &self.seams).unwrap();
        connector.connect_to(&self.address(number)).await.unwrap()
    }

    /// An agent that joins through `server-N`.
    pub async fn agent(&self, number: usize, name: &str) -> Context {
        let secret = token(self.channel(number), "agent", name).await;
        let (server, extra) = (self.address(number), Default::default());
        certwright_agent::join::join(&server, &secret, name, &extra, &self.seams).await.unwrap()
    }
}

/// The secret of a new token, if there is to be one.
pub async fn try_token(channel: &Channel, role: &str, agent: &str) -> Result<String, Status> {
    let request = v1::CreateTokenRequest { role: role.into(), agent: agent.into(), ..Default::default() };
    Ok(TokensClient::new(channel.clone()).create_token(request).await?.into_inner().secret)
}

/// The secret of a new token.
pub async fn token(channel: &Channel, role: &str, agent: &str) -> String {
    try_token(channel, role, agent).await.unwrap()
}

/// Asks for something small that only those who are known may ask for.
pub async fn cluster(channel: &Channel) -> Result<v1::GetClusterResponse, Status> {
    let request = v1::GetClusterRequest::default();
    ClusterClient::new(channel.clone()).get_cluster(request).await.map(tonic::Response::into_inner)
}

pub async fn is_served(channel: &Channel) {
    cluster(channel).await.unwrap();
}

/// The names of the voters that the server at the other end reaches, once it knows a leader.
async fn voters(channel: &Channel) -> Option<Vec<String>> {
    let seen = cluster(channel).await.ok()?;
    let votes = seen.nodes.into_iter().filter(|it| it.role == "leader" || it.role == "follower");
    (!seen.leader.is_empty()).then(|| votes.map(|it| it.name).collect())
}

/// A way to a server on which everything takes that long in either direction; answers where it begins.
pub async fn far_away(server: SocketAddr, each_way: Duration) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            tokio::spawn(async move {
                let Ok(far) = TcpStream::connect(server).await else { return };
                let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
                tokio::join!(carry(from_near, to_far, each_way), carry(from_far, to_near, each_way));
            });
        }
    });
    address
}

/// Hands on what comes, in order, each piece that much later.
async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, later: Duration) {
    let (send, mut under_way) = tokio::sync::mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let reading = async move {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            let _ = send.send((Instant::now() + later, buffer[..count].to_vec()));
        }
    };
    let writing = async move {
        while let Some((at, octets)) = under_way.recv().await {
            tokio::time::sleep_until(at).await;
            if to.write_all(&octets).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(reading, writing);
}

/// Waits until `server-N` is a voter.
pub async fn is_voter(channel: &Channel, number: usize) {
    let name = format!("server-{number}");
    until(&format!("{name} is a voter"), PATIENCE, async || voters(channel).await?.contains(&name).then_some(())).await;
}

/// Waits until `server-N` is that.
pub async fn has_role(channel: &Channel, number: usize, role: &str) {
    let name = format!("server-{number}");
    until(&format!("{name} is a {role}"), PATIENCE, async || {
        let seen = cluster(channel).await.ok()?;
        seen.nodes.iter().any(|node| node.name == name && node.role == role).then_some(())
    })
    .await;
}

/// The leader's name as the server at the other end knows it, once it knows one.
pub async fn leader(channel: &Channel) -> String {
    until("a leader", PATIENCE, async || cluster(channel).await.ok().map(|it| it.leader).filter(|it| !it.is_empty()))
        .await
}

pub async fn demo(channel: &Channel) {
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

pub async fn create_issuer(channel: &Channel, name: &str) {
    let spec = v1::IssuerSpec { ca: Some(v1::CaIssuer { authority: "demo".into() }), ..Default::default() };
    let issuer = Some(v1::Issuer { name: name.into(), spec: Some(spec), ..Default::default() });
    let request = v1::CreateIssuerRequest { issuer, ..Default::default() };
    IssuersClient::new(channel.clone()).create_issuer(request).await.unwrap();
}

pub fn order(request_id: &str) -> v1::IssueRequest {
    let key = LeafKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let names = Names { dns_names: vec!["a.example.com".into()], ..Names::default() };
    v1::IssueRequest {
        issuer: "demo".into(),
        csr: key.request(&names).unwrap().into(),
        request_id: request_id.into(),
        ..Default::default()
    }
}

/// What the HTTP port answers.
pub async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Issues, repeating what may get better under the same request id, as clients do.
pub async fn issue(channel: &Channel, order: v1::IssueRequest) -> v1::IssueResponse {
    let end = Instant::now() + PATIENCE;
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

/// Waits until a call is answered so.
pub async fn until<T>(what: &str, limit: Duration, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < end, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
