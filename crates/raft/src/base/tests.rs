//! A base and a log together on a simulated disk, with the process killed or the power cut at any operation: what history
//! begins with and the entries behind it always lead to the same state.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use certwright_core::time::Timestamp;
use certwright_proto::storage::{EntryBuilder, encode_transaction};
use certwright_seams::net::TcpNet;
use certwright_seams::sim::{InlineExec, SeededEntropy, SimClock, SimDisk};
use certwright_seams::{Entropy, Seams};

use super::*;
use crate::consensus::record::KIND_NORMAL;
use crate::fold::toy::{Toy, ToyCodec, say};
use crate::wal::{LogMark, Record, WalOptions};

const DATA: &str = "/data";
const CLUSTER: [u8; 16] = [0xc1; 16];
const COUNT: u64 = 80;
const ME: Identity = Identity { cluster_id: CLUSTER, node_id: 1, epoch: 1 };

fn record(index: u64) -> Record {
    let mut builder = EntryBuilder::new();
    builder.push(&encode_transaction(&ToyCodec, &say(index, "loose", None, &format!("{index}{}", "x".repeat(4000)))));
    let payload = builder.finish(Timestamp::from_millis(1000 * index));
    Record { index, term: 1, node: 0, kind: KIND_NORMAL, payload }
}

/// What the entries before that one fold to.
fn folded(before: u64) -> Folded<Toy> {
    let mut folded = Folded::genesis(&CLUSTER);
    (0..before).for_each(|index| folded.apply(record(index), &ToyCodec).unwrap());
    folded
}

fn beginning(before: u64) -> Beginning {
    let folded = folded(before);
    Beginning { floor: folded.floor(), digest: folded.digest(&ToyCodec) }
}

/// A server's log and what its history begins with.
struct Server {
    wal: Wal,
    gaps: Gaps,
    bases: Arc<Bases>,
}

impl Server {
    fn open(disk: &SimDisk) -> io::Result<Self> {
        let entropy: Arc<dyn Entropy> = Arc::new(SeededEntropy::new(disk.syncs()));
        let disk: Arc<dyn Disk> = Arc::new(disk.boot());
        let seams = Seams {
            clock: Arc::new(SimClock::new(0)),
            entropy: Arc::clone(&entropy),
            net: Arc::new(TcpNet),
            disk: Arc::clone(&disk),
            exec: Arc::new(InlineExec::default()),
        };
        let data = Path::new(DATA);
        let (wal, _) =
            Wal::open(&seams, &data.join("log"), ME, WalOptions::new(64 * 1024)).map_err(io::Error::other)?;
        let gaps = Gaps::open(Arc::clone(&disk), &*entropy, &data.join("backfill"), ME)?;
        let bases = Bases::open(disk, data, Owner { cluster_id: CLUSTER, epoch: 1 }, wal.floor())?;
        Ok(Self { wal, gaps, bases: Arc::new(bases) })
    }

    /// With a log of several segments, nearly all of it purged.
    async fn new(seed: u64) -> (SimDisk, Self) {
        let disk = SimDisk::new(seed);
        disk.create_dir_all(Path::new(DATA), 0o700).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        let server = Self::open(&disk).unwrap();
        let (sender, done) = tokio::sync::oneshot::channel();
        server.wal.append((0..COUNT).map(record).collect(), Box::new(move |result| drop(sender.send(result)))).await;
        done.await.unwrap().unwrap();
        let (sender, done) = tokio::sync::oneshot::channel();
        let mark = LogMark { index: COUNT - 5, term: 1, node: 0 };
        server.wal.purge(mark, None, Box::new(move |result| drop(sender.send(result)))).await;
        done.await.unwrap().unwrap();
        (disk, server)
    }

    fn trim(&self, before: u64) -> io::Result<()> {
        let mut folded = Folded(self.bases.read::<Toy>(&ToyCodec, &CLUSTER)?);
        let wanted = beginning(before);
        if self.bases.floor() != Some(wanted.floor) {
            let first = folded.floor().first_index;
            self.entries(first, before)?.into_iter().try_for_each(|record| folded.apply(record, &ToyCodec))?;
            let path = self.bases.write(&ToyCodec, &folded.0)?;
            self.bases.keep(&ToyCodec, &path, &wanted)?;
        }
        delete_below(&self.bases, &self.gaps, &self.wal).map(drop)
    }

    fn entries(&self, from: u64, to: u64) -> io::Result<Vec<Record>> {
        self.gaps.archive_read(&self.wal, from, to, usize::MAX)
    }

    /// What history begins with, and all entries behind it, lead to the newest state.
    fn assert_whole(&self, context: &str) {
        let mut history = Folded(self.bases.read::<Toy>(&ToyCodec, &CLUSTER).expect(context));
        let first = history.floor().first_index;
        assert_eq!(first, self.bases.first_index(), "{context}");
        let entries = self.entries(first, COUNT).unwrap();
        assert_eq!(entries.len() as u64, COUNT - first, "{context}");
        entries.into_iter().for_each(|record| history.apply(record, &ToyCodec).unwrap());
        assert!(history.equals(&folded(COUNT), &ToyCodec), "{context}");
    }
}

#[tokio::test]
async fn history_is_whole_after_kills_and_power_cuts_at_every_step() {
    for power in [false, true] {
        let mut steps = 0;
        for operations in 1.. {
            let context = format!("after {operations} operations, power cut: {power}");
            let (disk, server) = Server::new(operations).await;
            server.trim(20).unwrap();
            server.assert_whole(&context);
            disk.kill_after(operations);
            let outcome = server.trim(60);
            if power {
                disk.crash()
            } else {
                disk.kill()
            }
            server.wal.close().await;
            drop(server);
            let server = Server::open(&disk).expect(&context);
            server.assert_whole(&context);
            assert!([20, 60].contains(&server.bases.first_index()), "{context}");
            server.trim(60).unwrap();
            server.assert_whole(&context);
            assert_eq!((server.bases.first_index(), server.bases.verify().unwrap()), (60, true), "{context}");
            assert!(server.wal.archive_first_index() > 40, "{context}");
            server.wal.close().await;
            assert_eq!(crate::wal::verify(&disk, &Path::new(DATA).join("log")).unwrap().finding, None, "{context}");
            let bases = disk.list(&Path::new(DATA).join(DIRECTORY)).unwrap();
            assert_eq!(bases.len(), 1, "{context}: {bases:?}");
            if outcome.is_ok() {
                break;
            }
            steps += 1;
        }
        assert!(steps > 15, "{steps}");
    }
}

#[tokio::test]
async fn only_what_the_log_says_is_taken_as_a_base() {
    let (disk, server) = Server::new(1).await;
    let (right, bases) = (beginning(20), &server.bases);
    let offered = |before: u64, wanted: &Beginning| {
        let path = bases.write(&ToyCodec, &folded(before).0).unwrap();
        let kept = bases.keep::<Toy>(&ToyCodec, &path, wanted);
        assert!(!disk.exists(&path).unwrap());
        kept.map_err(|error| error.kind())
    };
    let other = |change: &dyn Fn(&mut Beginning)| {
        let mut wanted = right;
        change(&mut wanted);
        wanted
    };
    let refused = Err(io::ErrorKind::InvalidData);
    assert_eq!(offered(21, &right), refused, "of another moment");
    assert_eq!(offered(20, &other(&|it| it.floor.chain = [7; 32])), refused, "after another chain");
    assert_eq!(offered(20, &other(&|it| it.digest = [7; 32])), refused, "of another state");
    assert!(bases.floor().is_none() && delete_below(bases, &server.gaps, &server.wal).is_err(), "nothing goes");
    assert_eq!(offered(20, &right), Ok(()));
    assert_eq!(bases.base().unwrap().at, Timestamp::from_millis(19_000));
}

#[tokio::test]
async fn a_damaged_base_is_noticed_before_anything_goes() {
    let (disk, server) = Server::new(2).await;
    server.trim(20).unwrap();
    let path = server.bases.base().unwrap().file.path;
    let octets = disk.read(&path, u64::MAX).unwrap().len() as u64;
    disk.flip(&path, octets / 2, 1).unwrap();
    assert!(server.bases.read::<Toy>(&ToyCodec, &CLUSTER).is_err());
    assert!(!server.bases.verify().unwrap());
    assert!(server.bases.base().is_none() && server.bases.first_index() == 20);
    assert!(delete_below(&server.bases, &server.gaps, &server.wal).is_err());
    // It does not come back with the next start.
    server.wal.close().await;
    let server = Server::open(&disk).unwrap();
    assert!(server.bases.base().is_none() && server.bases.first_index() == 20);
}

#[tokio::test]
async fn who_reads_and_who_deletes_exclude_each_other() {
    let (_, server) = Server::new(3).await;
    let reading = (server.bases.hold().unwrap(), server.bases.hold().unwrap());
    assert!(server.bases.begin().is_none());
    drop(reading.0);
    assert!(server.bases.begin().is_none());
    drop(reading.1);
    let deleting = server.bases.begin().unwrap();
    assert!(server.bases.hold().is_none() && server.bases.begin().is_none());
    drop(deleting);
    assert!(server.bases.hold().is_some());
}

#[tokio::test]
async fn a_base_leaves_the_log_its_room() {
    let (disk, server) = Server::new(4).await;
    let free = |octets: u64| disk.set_capacity(Some(disk.used() + octets));
    let write = || server.bases.write(&ToyCodec, &folded(20).0);
    free(BASE_RESERVE_OCTETS - 1);
    assert_eq!(write().unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert!(server.bases.require_room(0).is_err(), "nor does one that is received");
    free(2 * BASE_RESERVE_OCTETS);
    let path = write().unwrap();
    server.bases.keep(&ToyCodec, &path, &beginning(20)).unwrap();
    let octets = server.bases.base().unwrap().file.octets;
    // The next one may be as large, and a little larger.
    free(BASE_RESERVE_OCTETS + octets);
    assert_eq!(write().unwrap_err().kind(), io::ErrorKind::StorageFull);
    free(BASE_RESERVE_OCTETS + 2 * octets);
    server.bases.discard(&write().unwrap());
}
