//! Restarts, power cuts, damaged and foreign directories.

use std::path::Path;
use std::sync::Arc;

use certwright_core::log::{Append, Position, StreamId};
use certwright_seams::sim::SimDisk;
use certwright_seams::{Disk, Seams};

use super::cluster::{CLUSTER, Cluster, Node, PATIENCE, eventually, identity};
use crate::fold::toy::{Toy, ToyProjector, codec, say};
use crate::{Log, LogOptions, Member, MemoryStore, OpenError, ProjectionStore, ProposeError, SledStore, WatchItem};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_node_has_everything_and_decides_only_in_a_new_term() {
    let mut cluster = Cluster::of(1).await;
    let log = cluster.leader().await;
    let first = log.propose(say(1, "a", Some(0), "one")).await.unwrap();
    let term = log.status().term;
    cluster.nodes[0].kill().await;
    let log = cluster.nodes[0].start().await.clone();
    // Before any leader: what was committed is applied, and time goes on from there.
    assert_eq!(log.read(|view| view.state.streams["a"].clone()), ["one"]);
    let log = {
        let leader = cluster.leader().await;
        assert!(leader.status().term > term);
        drop(log);
        leader
    };
    assert!(log.recovered(PATIENCE).await);
    assert_eq!(log.propose(say(1, "a", Some(0), "one")).await, Err(ProposeError::Repeated(first.position)));
    let second = log.propose(say(2, "a", Some(1), "two")).await.unwrap();
    assert!(second.at >= first.at && second.position > first.position);
    let me = cluster.nodes[0].member.clone();
    log.initialize(me).await.unwrap();
    let mut watch = log.watch(Position::START).unwrap();
    let Some(WatchItem::Transaction { position, .. }) = watch.next().await else { panic!("nothing told") };
    assert_eq!(position, first.position);
}

/// One node on a simulated disk.
struct Simulated {
    disk: SimDisk,
    member: Member,
    key: Arc<rustls::sign::CertifiedKey>,
}

impl Simulated {
    fn new(disk: SimDisk) -> Self {
        let (key, spki_hash) = identity(CLUSTER, 1);
        let member = Member { node_id: 1, address: "127.0.0.1:1".into(), spki_hash };
        // Whoever makes the data directory makes it durable.
        disk.create_dir_all(Path::new("/data"), 0o700).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        Self { disk, member, key }
    }

    async fn open(&self, change: impl FnOnce(&mut LogOptions)) -> Result<Log<Toy>, OpenError> {
        let mut options = LogOptions { strict: true, ..LogOptions::new("/data".into(), CLUSTER, 1, 1) };
        options.segment_octets = 4 * 1024 * 1024;
        change(&mut options);
        let projection: Box<dyn ProjectionStore> = Box::new(MemoryStore::default());
        let seams = Seams { disk: Arc::new(self.disk.boot()), ..Seams::system() };
        Log::open(options, seams, codec(), Arc::new(ToyProjector), projection, self.key.clone()).await
    }

    async fn lead(&self) -> Log<Toy> {
        let log = self.open(|_| {}).await.unwrap();
        log.initialize(self.member.clone()).await.unwrap();
        log.leadership().wait_for(|leadership| leadership.ready).await.unwrap();
        log
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_power_cuts() {
    let disk = SimDisk::new(7);
    let node = Simulated::new(disk.clone());
    let mut said = 0_u64;
    for round in 0..4_u64 {
        let log = node.lead().await;
        assert_eq!(log.read(|view| view.state.loose.len() as u64), said, "round {round}");
        for _ in 0..10 {
            log.propose(say(said, "loose", None, &format!("w{said}"))).await.unwrap();
            said += 1;
        }
        disk.crash();
        log.abandon().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_directories_are_refused_and_left_alone() {
    let node = Simulated::new(SimDisk::new(1));
    let log = node.lead().await;
    log.propose(say(1, "loose", None, "w")).await.unwrap();
    log.shutdown().await;
    drop(log);
    for change in [
        (|options: &mut LogOptions| options.cluster_id = [1; 16]) as fn(&mut LogOptions),
        |options| options.node_id = 2,
        |options| options.epoch = 2,
    ] {
        let error = node.open(change).await.err().expect("another's directory");
        assert!(matches!(error, OpenError::Foreign(_)), "{error}");
    }
    let error = node.open(|options| options.heartbeat_millis = 400).await.err().expect("timers");
    assert!(matches!(error, OpenError::Options(_)), "{error}");
    assert_eq!(node.lead().await.read(|view| view.state.loose.clone()), ["w"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_this_build_cannot_read_stops_the_node() {
    let cluster = Cluster::of(1).await;
    let log = cluster.leader().await;
    let mut transaction = say(1, "loose", None, "readable");
    transaction.appends.push(Append { stream: StreamId::new("loose"), expected: None, events: vec!["!".into()] });
    let outcome = log.propose(transaction).await;
    assert!(matches!(outcome, Err(ProposeError::Stopped | ProposeError::Unknown)), "{outcome:?}");
    log.stopped().await;
    assert!(log.read(|view| view.state.loose.is_empty()), "an entry is all or nothing");
}

/// The projection in that directory, once nobody has it open any more: the worker and sled's own threads let go some
/// time after a log has stopped or a store was dropped, and what cannot be locked would be taken for damaged.
#[allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "sled works on the real file system only")]
async fn released(path: &Path) {
    let db = path.join("db");
    eventually("released projection", async || match std::fs::File::open(&db) {
        Ok(db) => db.try_lock().ok(),
        Err(_) => Some(()),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_projection_in_sled_is_kept_and_rebuilt_on_any_doubt() {
    let mut node = Node::new(1).await;
    let path = node.data().join("projection");
    let open = async |path: &Path| {
        released(path).await;
        Box::new(SledStore::open(path).unwrap())
    };
    let me = node.member.clone();
    let log = node.start_with(open(&path).await).await.clone();
    log.initialize(me).await.unwrap();
    let said = log.propose(say(1, "loose", None, "word")).await.unwrap().position.to_string().into_bytes();
    eventually("projection", async || log.lookup(b"w/word")).await;
    node.kill().await;
    drop(log);
    // Kept.
    let mut store = open(&path).await;
    assert_eq!(store.get(b"w/word").unwrap(), Some(said.clone()));
    // Ahead of the log: of another log.
    store.apply(vec![(b"w/alien".to_vec(), vec![])], 1_000_000).unwrap();
    drop(store);
    let log = node.start_with(open(&path).await).await.clone();
    eventually("rebuilt projection", async || {
        (log.lookup(b"w/word") == Some(said.clone()) && log.lookup(b"w/alien").is_none()).then_some(())
    })
    .await;
    assert_eq!(node.metric("certwright_raft_projection_wipes_total"), 1.0);
    node.kill().await;
    drop(log);
    // Damaged beyond opening.
    released(&path).await;
    let disk = Seams::system().disk;
    for (name, octets) in [("db", b"no database".as_slice()), ("conf", b"no configuration")] {
        disk.write_atomic(&path.join(name), octets, 0o600).unwrap();
    }
    let log = node.start_with(open(&path).await).await.clone();
    eventually("rebuilt projection", async || (log.lookup(b"w/word") == Some(said.clone())).then_some(())).await;
}
