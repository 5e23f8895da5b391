//! The same code on virtual time, an inline executor, a simulated disk and connections in memory.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use certwright_seams::net::{BoxStream, Listener, Net};
use certwright_seams::sim::{InlineExec, SeededEntropy, SimClock, SimDisk};
use certwright_seams::{BoxFuture, Disk, Seams};
use rustls::sign::CertifiedKey;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::cluster::{CLUSTER, identity};
use crate::fold::toy::{Toy, ToyProjector, codec, say};
use crate::{Log, LogOptions, Member, MemoryStore};

type Accepted = (BoxStream, SocketAddr);

/// Connections in memory.
#[derive(Clone, Default)]
struct MemoryNet(Arc<Mutex<BTreeMap<SocketAddr, mpsc::Sender<Accepted>>>>);

struct MemoryListener(SocketAddr, mpsc::Receiver<Accepted>);

impl Listener for MemoryListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Accepted>> {
        Box::pin(async move { self.1.recv().await.ok_or_else(|| io::ErrorKind::BrokenPipe.into()) })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.0)
    }
}

impl Net for MemoryNet {
    fn listen(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        let (sender, receiver) = mpsc::channel(64);
        self.0.lock().unwrap().insert(address, sender);
        Box::pin(async move { Ok(Box::new(MemoryListener(address, receiver)) as Box<dyn Listener>) })
    }

    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<BoxStream>> {
        Box::pin(async move {
            let address: SocketAddr = address.parse().map_err(io::Error::other)?;
            let door = self.0.lock().unwrap().get(&address).cloned();
            let door = door.ok_or(io::ErrorKind::ConnectionRefused)?;
            let (near, far) = tokio::io::duplex(1 << 20);
            door.send((Box::new(far), address)).await.map_err(|_| io::ErrorKind::ConnectionRefused)?;
            Ok(Box::new(near) as BoxStream)
        })
    }
}

struct Node {
    member: Member,
    key: Arc<CertifiedKey>,
    disk: SimDisk,
    net: MemoryNet,
    running: Option<(Log<Toy>, CancellationToken, JoinHandle<()>)>,
}

impl Node {
    fn new(node_id: u64, net: &MemoryNet) -> Self {
        let (key, spki_hash) = identity(CLUSTER, node_id);
        let disk = SimDisk::new(node_id);
        disk.create_dir_all("/data".as_ref(), 0o700).unwrap();
        disk.sync_dir("/".as_ref()).unwrap();
        let address = format!("10.0.0.{node_id}:7300");
        Self { member: Member { node_id, address, spki_hash }, key, disk, net: net.clone(), running: None }
    }

    async fn start(&mut self, boot: u64) -> Log<Toy> {
        let seams = Seams {
            clock: Arc::new(SimClock::new(1_700_000_000_000)),
            entropy: Arc::new(SeededEntropy::new(self.member.node_id * 100 + boot)),
            net: Arc::new(self.net.clone()),
            disk: Arc::new(self.disk.boot()),
            exec: Arc::new(InlineExec::default()),
        };
        let options = LogOptions {
            strict: true,
            segment_octets: 4 * 1024 * 1024,
            ..LogOptions::new("/data".into(), CLUSTER, self.member.node_id, 1)
        };
        let listener = seams.net.listen(self.member.address.parse().unwrap()).await.unwrap();
        let projection = Box::new(MemoryStore::default());
        let log =
            Log::open(options, seams, codec(), Arc::new(ToyProjector), projection, self.key.clone()).await.unwrap();
        let shutdown = CancellationToken::new();
        let (serving, until) = (log.clone(), shutdown.clone());
        let handle = tokio::spawn(async move {
            drop(serving.serve(listener, tonic::service::Routes::default(), until).await);
        });
        self.running = Some((log.clone(), shutdown, handle));
        log
    }

    /// The power goes.
    async fn crash(&mut self) {
        let Some((log, shutdown, handle)) = self.running.take() else { return };
        self.disk.crash();
        self.net.0.lock().unwrap().remove(&self.member.address.parse().unwrap());
        handle.abort();
        shutdown.cancel();
        log.abandon().await;
    }
}

async fn leader(nodes: &[Node]) -> Log<Toy> {
    loop {
        let ready =
            nodes.iter().filter_map(|node| node.running.as_ref()).find(|(log, ..)| log.leadership().borrow().ready);
        if let Some((log, ..)) = ready {
            return log.clone();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_cluster_elects_loses_power_and_goes_on_in_virtual_time() {
    let net = MemoryNet::default();
    let mut nodes: Vec<Node> = (1..=3).map(|node_id| Node::new(node_id, &net)).collect();
    let members: Vec<Member> = nodes.iter().map(|node| node.member.clone()).collect();
    for node in &mut nodes {
        node.start(0).await.trust(members.clone());
    }
    leader_of_one(&nodes[0], &members).await;
    let mut said = 0_u64;
    for round in 1..=3_u64 {
        let log = leader(&nodes).await;
        for _ in 0..10 {
            log.propose(say(said, "loose", None, &format!("w{said}"))).await.unwrap();
            said += 1;
        }
        let down = log.status().node_id;
        let before = tokio::time::Instant::now();
        let node = nodes.iter_mut().find(|node| node.member.node_id == down).unwrap();
        node.crash().await;
        let next = leader(&nodes).await;
        // A leader's lease, an election timeout, a little of both again when votes split.
        assert!(before.elapsed() < Duration::from_secs(8), "{:?} without a leader", before.elapsed());
        next.propose(say(said, "loose", None, &format!("w{said}"))).await.unwrap();
        said += 1;
        nodes.iter_mut().find(|node| node.member.node_id == down).unwrap().start(round).await;
    }
    let index = leader(&nodes).await.status().applied_index;
    for node in &nodes {
        let (log, ..) = node.running.as_ref().unwrap();
        log.wait_applied(index, Duration::from_secs(30)).await.unwrap();
        let expected: Vec<String> = (0..said).map(|number| format!("w{number}")).collect();
        assert_eq!(log.read(|view| view.state.loose.clone()), expected);
    }
}

/// The first node bootstraps; the others become learners, then voters.
async fn leader_of_one(first: &Node, members: &[Member]) {
    let (log, ..) = first.running.as_ref().unwrap();
    log.initialize(members[0].clone()).await.unwrap();
    for member in &members[1..] {
        log.add_learner(member.clone()).await.unwrap();
        log.promote(member.node_id).await.unwrap();
    }
}
