//! Restarts, power cuts, damaged and foreign directories.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use certwright_core::log::{Append, Position, StreamId};
use certwright_seams::sim::SimDisk;
use certwright_seams::{Disk, Seams};

use super::cluster::{CLUSTER, Cluster, Node, PATIENCE, eventually, identity};
use crate::fold::toy::{Toy, ToyProjector, codec, say};
use crate::{
    Batch, Log, LogOptions, Member, MemoryStore, OpenError, ProjectionError, ProjectionStore, ProposeError, SledStore,
    WatchItem,
};

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
    let mut watch = log.watch(Position::START).await.unwrap();
    let Ok(WatchItem::Transaction { position, .. }) = watch.next().await else { panic!("nothing told") };
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
async fn a_snapshot_that_finds_no_room_waits_for_it_and_stops_nobody() {
    let disk = SimDisk::new(3);
    let node = Simulated::new(disk.clone());
    let registry = prometheus::Registry::new();
    let change = |options: &mut LogOptions| {
        options.snapshot_every_octets = 10_000;
        options.registry = registry.clone();
    };
    let log = node.open(change).await.unwrap();
    log.initialize(node.member.clone()).await.unwrap();
    log.leadership().wait_for(|leadership| leadership.ready).await.unwrap();
    let snapshots = || {
        let names = disk.boot().list(Path::new("/data/snapshots")).unwrap();
        names.into_iter().map(|name| name.extension().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let attempts = || {
        let families = registry.gather();
        let name = "certwright_raft_snapshots_without_room_total";
        families.iter().find(|family| family.name() == name).unwrap().get_metric()[0].get_counter().get_value()
    };
    let speak = async |from: u64| {
        for number in from..from + 30 {
            log.propose(say(number, "loose", None, &"x".repeat(1000))).await.unwrap();
        }
    };
    // Neither the first one, of which nobody knows how large it becomes, nor a later one.
    for round in 0..2 {
        disk.set_capacity(Some(1));
        let before = snapshots();
        speak(round * 100).await;
        eventually("an attempt", async || (attempts() > round as f64).then_some(())).await;
        assert_eq!(snapshots(), before, "nothing is left of it");
        speak(round * 100 + 50).await;
        disk.set_capacity(None);
        eventually("a snapshot", async || {
            let now = snapshots();
            (now.len() == before.len() + 1 && now.iter().all(|it| it == "snapshot")).then_some(())
        })
        .await;
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

/// Waits until nobody has the projection open any more, which is some time after a log has stopped or a store was dropped.
#[allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "sled works on the real file system only")]
async fn released(path: &Path) {
    let db = path.join("db");
    eventually("released projection", async || match std::fs::File::open(&db) {
        Ok(db) => db.try_lock().ok(),
        Err(_) => Some(()),
    })
    .await;
}

fn open(path: &Path) -> Box<SledStore> {
    Box::new(SledStore::open(path).unwrap())
}

/// A node that leads alone, and where its projection lies.
async fn led_in_sled() -> (Node, PathBuf, Log<Toy>) {
    let mut node = Node::new(1).await;
    let path = node.data().join("projection");
    let me = node.member.clone();
    let log = node.start_with(open(&path)).await.clone();
    log.initialize(me).await.unwrap();
    (node, path, log)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_projection_in_sled_is_kept_and_rebuilt_on_any_doubt() {
    let (mut node, path, log) = led_in_sled().await;
    let said = log.propose(say(1, "loose", None, "word")).await.unwrap().position.to_string().into_bytes();
    eventually("projection", async || log.lookup(b"w/word")).await;
    node.kill().await;
    drop(log);
    // Kept.
    let mut store = open(&path);
    assert_eq!(store.get(b"w/word").unwrap(), Some(said.clone()));
    // Ahead of the log: of another log.
    store.apply(vec![(b"w/alien".to_vec(), vec![])], 1_000_000).unwrap();
    drop(store);
    let log = node.start_with(open(&path)).await.clone();
    eventually("rebuilt projection", async || {
        (log.lookup(b"w/word") == Some(said.clone()) && log.lookup(b"w/alien").is_none()).then_some(())
    })
    .await;
    assert_eq!(node.metric("certwright_raft_projection_wipes_total"), 1.0);
    node.kill().await;
    drop(log);
    // It passed entries over because they were not here, and they have come since.
    let mut store = open(&path);
    let reached = store.applied_index().unwrap();
    store.wipe().unwrap();
    store.apply(vec![(b"\0skipped".to_vec(), vec![])], reached).unwrap();
    drop(store);
    let log = node.start_with(open(&path)).await.clone();
    log.wait_projected(reached, PATIENCE).await.unwrap();
    assert_eq!(log.lookup(b"w/word"), Some(said.clone()));
    assert_eq!(node.metric("certwright_raft_projection_wipes_total"), 1.0);
    node.kill().await;
    drop(log);
    // Damaged beyond opening.
    released(&path).await;
    let disk = Seams::system().disk;
    for (name, octets) in [("db", b"no database".as_slice()), ("conf", b"no configuration")] {
        disk.write_atomic(&path.join(name), octets, 0o600).unwrap();
    }
    let log = node.start_with(open(&path)).await.clone();
    eventually("rebuilt projection", async || (log.lookup(b"w/word") == Some(said.clone())).then_some(())).await;
}

/// A handle that lives for a moment longer is no damage.
#[test]
#[allow(clippy::disallowed_methods, reason = "somebody else has to hold the store meanwhile")]
fn a_projection_that_is_still_held_is_waited_for_and_not_wiped() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("projection");
    let mut before = open(&path);
    before.apply(vec![(b"w/word".to_vec(), b"1".to_vec())], 1).unwrap();
    let holder = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        drop(before);
    });
    let after = open(&path);
    holder.join().unwrap();
    assert_eq!(after.get(b"w/word").unwrap(), Some(b"1".to_vec()));
    assert_eq!(after.applied_index().unwrap(), 1);
}

/// Whatever happens to the projection's files while the node is away: it starts, answers, and finds everything again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[allow(clippy::disallowed_methods, reason = "sled bypasses the disk seam, and so does what damages its files")]
async fn every_damage_to_sled_ends_in_a_projection_built_anew() {
    use std::fs;
    type Damage = (&'static str, fn(&Path));
    let damages: [Damage; 8] = [
        ("the directory is gone", |path| fs::remove_dir_all(path).unwrap()),
        ("a file is in its place", |path| {
            fs::remove_dir_all(path).unwrap();
            fs::write(path, b"no directory").unwrap();
        }),
        ("the database is empty", |path| fs::write(path.join("db"), b"").unwrap()),
        ("the database is cut in half", |path| {
            let octets = fs::read(path.join("db")).unwrap();
            fs::write(path.join("db"), &octets[..octets.len() / 2]).unwrap();
        }),
        ("the database is garbage", |path| {
            let octets: Vec<u8> =
                (0..300_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
            fs::write(path.join("db"), octets).unwrap();
        }),
        ("every hundredth octet is flipped", |path| {
            let mut octets = fs::read(path.join("db")).unwrap();
            octets.iter_mut().step_by(100).for_each(|octet| *octet ^= 0x55);
            fs::write(path.join("db"), octets).unwrap();
        }),
        ("the database cannot be read", |path| {
            fs::remove_file(path.join("db")).unwrap();
            fs::create_dir(path.join("db")).unwrap();
        }),
        ("the configuration is garbage", |path| fs::write(path.join("conf"), b"no configuration").unwrap()),
    ];
    let (mut node, path, mut log) = led_in_sled().await;
    let mut said = Vec::new();
    let finds = async |log: &Log<Toy>, said: &[(String, Vec<u8>)], what: &str| {
        eventually(what, async || {
            let found = said.iter().all(|(word, at)| log.lookup(format!("w/{word}").as_bytes()).as_ref() == Some(at));
            found.then_some(())
        })
        .await;
    };
    for (number, (what, damage)) in damages.into_iter().enumerate() {
        for word in 0..40 {
            let word = format!("word-{number}-{word}");
            let at = log.propose(say(1 + said.len() as u64, "loose", None, &word)).await.unwrap().position;
            said.push((word, at.to_string().into_bytes()));
        }
        finds(&log, &said, what).await;
        node.kill().await;
        drop(log);
        released(&path).await;
        damage(&path);
        log = node.start_with(open(&path)).await.clone();
        // It serves meanwhile.
        let word = format!("meanwhile-{number}");
        eventually("leads", async || log.leadership().borrow().ready.then_some(())).await;
        let at = log.propose(say(1 + said.len() as u64, "loose", None, &word)).await.unwrap().position;
        said.push((word, at.to_string().into_bytes()));
        finds(&log, &said, what).await;
    }
    node.kill().await;
}

/// A store whose reads fail under the running node is built anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_projection_that_cannot_be_read_is_built_anew_under_the_running_node() {
    #[derive(Default)]
    struct Failing {
        store: MemoryStore,
        broken: Arc<std::sync::atomic::AtomicBool>,
    }

    impl Failing {
        fn check(&self) -> Result<(), ProjectionError> {
            let broken = self.broken.load(std::sync::atomic::Ordering::SeqCst);
            if broken { Err(ProjectionError("on purpose".into())) } else { Ok(()) }
        }
    }

    impl ProjectionStore for Failing {
        fn apply(&mut self, batch: Batch, applied_index: u64) -> Result<(), ProjectionError> {
            self.check()?;
            self.store.apply(batch, applied_index)
        }

        fn applied_index(&self) -> Result<u64, ProjectionError> {
            self.store.applied_index()
        }

        fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ProjectionError> {
            self.check()?;
            self.store.get(key)
        }

        fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Batch, ProjectionError> {
            self.store.scan(prefix, after, limit)
        }

        fn wipe(&mut self) -> Result<(), ProjectionError> {
            self.broken.store(false, std::sync::atomic::Ordering::SeqCst);
            self.store.wipe()
        }
    }

    let mut node = Node::new(1).await;
    let me = node.member.clone();
    let store = Failing::default();
    let broken = Arc::clone(&store.broken);
    let log = node.start_with(Box::new(store)).await.clone();
    log.initialize(me).await.unwrap();
    let said = log.propose(say(1, "loose", None, "word")).await.unwrap().position.to_string().into_bytes();
    eventually("projection", async || log.lookup(b"w/word")).await;
    broken.store(true, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(log.lookup(b"w/word"), None);
    eventually("rebuilt projection", async || (log.lookup(b"w/word") == Some(said.clone())).then_some(())).await;
    assert!(node.metric("certwright_raft_projection_wipes_total") >= 1.0);
    node.kill().await;
}
