//! The harness: nodes with keys, data directories and ports, started, killed and started again.
//!
//! It refuses shared state between nodes but the disk directory each owns.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use certwright_core::log::Position;
use certwright_seams::clock::SystemClock;
use certwright_seams::net::Listener;
use certwright_seams::sim::SimClock;
use certwright_seams::{Clock, Seams};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::fold::toy::{Toy, ToyProjector, codec, say};
use crate::peer::tls::claim;
use crate::{Committed, Log, LogOptions, Member, MemoryStore, ProjectionStore, ProposeError};

pub(super) const CLUSTER: [u8; 16] = [0xc1; 16];
/// Long enough for a slow machine in a debug build.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// A self-signed certificate that says to be that node of that cluster, and its pin.
pub(super) fn identity(cluster: [u8; 16], node_id: u64) -> (Arc<CertifiedKey>, [u8; 32]) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    let uri = format!("certwright://{}/node/{node_id}", hex::encode(cluster));
    params.subject_alt_names = vec![rcgen::SanType::URI(uri.try_into().unwrap())];
    // Long expired: dates are not consulted between servers.
    params.not_before = rcgen::date_time_ymd(2000, 1, 1);
    params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    let certificate = params.self_signed(&key).unwrap();
    let der = CertificateDer::from(certificate.der().to_vec());
    let spki_hash = claim(&der).unwrap().spki_hash;
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let signer = rustls::crypto::aws_lc_rs::sign::any_supported_type(&private).unwrap();
    (Arc::new(CertifiedKey::new(vec![der], signer)), spki_hash)
}

/// A node that runs.
pub(super) struct Running {
    pub(super) log: Log<Toy>,
    shutdown: CancellationToken,
    serving: JoinHandle<()>,
}

/// A node: its key, data and port outlive its process.
pub(super) struct Node {
    pub(super) member: Member,
    pub(super) identity: Arc<CertifiedKey>,
    /// Its machine's clock.
    pub(super) clock: Arc<SimClock>,
    data: TempDir,
    running: Option<Running>,
    pub(super) snapshot_every_octets: u64,
    pub(super) segment_octets: u64,
    pub(super) strict: bool,
    pub(super) election_millis: (u64, u64),
    registry: prometheus::Registry,
}

impl Node {
    /// A node with a key and a port, not running.
    pub(super) async fn new(node_id: u64) -> Self {
        // What nodes say belongs to the test that fails.
        let _ = tracing_subscriber::fmt().with_test_writer().with_env_filter("info").with_ansi(false).try_init();
        let (identity, spki_hash) = identity(CLUSTER, node_id);
        let listener = listen("127.0.0.1:0").await;
        let address = listener.local_addr().unwrap().to_string();
        let time = SystemClock::new();
        let clock = Arc::new(SimClock::driven_by(time.wall_millis(), Arc::new(move || time.monotonic())));
        Self {
            clock,
            member: Member { node_id, address, spki_hash },
            identity,
            data: tempfile::tempdir().unwrap(),
            running: None,
            snapshot_every_octets: 1 << 30,
            segment_octets: 4 * 1024 * 1024,
            strict: true,
            election_millis: (500, 1000),
            registry: prometheus::Registry::new(),
        }
    }

    pub(super) fn data(&self) -> PathBuf {
        self.data.path().to_owned()
    }

    fn options(&mut self) -> LogOptions {
        // Series are registered once; every start is a new process.
        self.registry = prometheus::Registry::new();
        LogOptions {
            registry: self.registry.clone(),
            segment_octets: self.segment_octets,
            snapshot_every_octets: self.snapshot_every_octets,
            strict: self.strict,
            election_millis: self.election_millis,
            ..LogOptions::new(self.data(), CLUSTER, self.member.node_id, 1)
        }
    }

    pub(super) async fn start(&mut self) -> &Log<Toy> {
        self.start_with(Box::new(MemoryStore::default())).await
    }

    pub(super) async fn start_with(&mut self, projection: Box<dyn ProjectionStore>) -> &Log<Toy> {
        assert!(self.running.is_none(), "node {} runs", self.member.node_id);
        let seams = Seams { clock: self.clock.clone(), ..Seams::system() };
        let options = self.options();
        let log = Log::open(options, seams, codec(), Arc::new(ToyProjector), projection, Arc::clone(&self.identity))
            .await
            .unwrap();
        let listener = listen(&self.member.address).await;
        let shutdown = CancellationToken::new();
        let (serving, until) = (log.clone(), shutdown.clone());
        let serving = tokio::spawn(async move {
            serving.serve(listener, tonic::service::Routes::default(), until).await.unwrap();
        });
        &self.running.insert(Running { log, shutdown, serving }).log
    }

    pub(super) fn log(&self) -> &Log<Toy> {
        &self.running.as_ref().expect("the node runs").log
    }

    /// The value of a counter or gauge without labels.
    pub(super) fn metric(&self, name: &str) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name).expect("the series is registered");
        let metric = &family.get_metric()[0];
        metric.get_counter().get_value() + metric.get_gauge().get_value()
    }

    pub(super) fn runs(&self) -> bool {
        self.running.is_some()
    }

    /// Stops serving at once and without handing anything over, then ends the process's tasks.
    pub(super) async fn kill(&mut self) {
        let Some(Running { log, shutdown, serving }) = self.running.take() else { return };
        serving.abort();
        shutdown.cancel();
        let _ = serving.await;
        log.abandon().await;
    }

    /// Stops in order.
    pub(super) async fn stop(&mut self) {
        let Some(Running { log, shutdown, serving }) = self.running.take() else { return };
        log.shutdown().await;
        shutdown.cancel();
        serving.await.unwrap();
    }
}

/// Listens, waiting for a port that a killed node still holds.
async fn listen(address: &str) -> Box<dyn Listener> {
    let net = Seams::system().net;
    let listening = async {
        loop {
            match net.listen(address.parse().unwrap()).await {
                Ok(listener) => return listener,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    timeout(PATIENCE, listening).await.expect("the port is free")
}

/// Nodes by place; ids start at 1.
pub(super) struct Cluster {
    pub(super) nodes: Vec<Node>,
}

impl Cluster {
    /// That many voters, the first of which bootstrapped.
    pub(super) async fn of(voters: u64) -> Self {
        Self::with_elections(voters, (500, 1000)).await
    }

    /// The same; they wait that long for a leader.
    pub(super) async fn with_elections(voters: u64, election_millis: (u64, u64)) -> Self {
        let mut nodes = vec![Node { election_millis, ..Node::new(1).await }];
        let me = nodes[0].member.clone();
        let first = nodes[0].start().await.clone();
        first.initialize(me).await.unwrap();
        let mut cluster = Self { nodes };
        for node_id in 2..=voters {
            cluster.join(node_id).await;
            cluster.leader().await.promote(node_id).await.unwrap();
        }
        cluster
    }

    /// Starts a new node and adds it as a learner.
    pub(super) async fn join(&mut self, node_id: u64) {
        let Node { election_millis, segment_octets, .. } = self.nodes[0];
        let mut node = Node { election_millis, segment_octets, ..Node::new(node_id).await };
        let peers = self.nodes.iter().map(|node| node.member.clone()).collect();
        node.start().await.trust(peers);
        let member = node.member.clone();
        self.nodes.push(node);
        self.leader().await.add_learner(member).await.unwrap();
    }

    pub(super) fn node(&mut self, node_id: u64) -> &mut Node {
        self.nodes.iter_mut().find(|node| node.member.node_id == node_id).unwrap()
    }

    /// The log of a node that is ready to lead, once there is one.
    pub(super) async fn leader(&self) -> Log<Toy> {
        self.leader_but(0).await
    }

    /// The same, but not that node.
    pub(super) async fn leader_but(&self, node_id: u64) -> Log<Toy> {
        eventually("a leader", async || {
            self.nodes
                .iter()
                .filter(|node| node.runs() && node.member.node_id != node_id)
                .find(|node| node.log().leadership().borrow().ready)
                .map(|node| node.log().clone())
        })
        .await
    }

    /// Every running node has applied what the leader has.
    pub(super) async fn agree(&self) {
        let index = self.leader().await.status().applied_index;
        for node in self.nodes.iter().filter(|node| node.runs()) {
            node.log().wait_applied(index, PATIENCE).await.unwrap();
        }
        let states: Vec<Toy> = self
            .nodes
            .iter()
            .filter(|node| node.runs())
            .map(|node| node.log().read(|view| view.state.clone()))
            .collect();
        assert!(states.windows(2).all(|pair| pair[0] == pair[1]), "{states:?}");
    }
}

/// Polls until there is an answer.
pub(super) async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("no {what} in {PATIENCE:?}"))
}

/// Says a word on whoever leads, until it is known to be said; a repeat counts.
pub(super) async fn say_somewhere(cluster: &Cluster, number: u64, word: &str) -> Position {
    eventually("commit", async || {
        let leader = cluster.leader().await;
        match leader.propose(say(number, "words", None, word)).await {
            Ok(Committed { position, .. }) | Err(ProposeError::Repeated(position)) => Some(position),
            Err(ProposeError::ReusedId | ProposeError::TooLarge) => panic!("{word} was refused"),
            Err(_) => None,
        }
    })
    .await
}
