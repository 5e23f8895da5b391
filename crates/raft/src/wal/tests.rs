//! Tests of the log on a simulated disk: stored formats, restarts, damage, faults, and power cuts at every step.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use certwright_seams::disk::OsDisk;
use certwright_seams::net::TcpNet;
use certwright_seams::sim::{InlineExec, SeededEntropy, SimClock, SimDisk};

use super::*;

mod archives;
mod crashes;
mod damage;
mod faults;
mod gaps;
mod golden;
mod kills;
mod model;
mod restarts;
mod trims;
mod verification;

const DIRECTORY: &str = "/data/log";
const SEGMENT_OCTETS: u64 = limits::WAL_SEGMENT_OCTETS_MIN;
const ME: Identity = Identity { cluster_id: [0xc1; 16], node_id: 3, epoch: 1 };

/// A simulated machine that can be started again.
struct Rig {
    disk: SimDisk,
    options: WalOptions,
}

impl Rig {
    fn new(seed: u64) -> Self {
        Self::on(SimDisk::new(seed))
    }

    fn on(disk: SimDisk) -> Self {
        disk.create_dir_all(Path::new("/data"), 0o700).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        Self { disk, options: WalOptions::new(SEGMENT_OCTETS) }
    }

    fn seams(&self) -> Seams {
        Seams {
            clock: Arc::new(SimClock::new(0)),
            entropy: Arc::new(SeededEntropy::new(self.disk.syncs())),
            net: Arc::new(TcpNet),
            disk: Arc::new(self.disk.boot()),
            exec: Arc::new(InlineExec::default()),
        }
    }

    fn try_open(&self) -> Result<(Wal, Recovered), WalError> {
        Wal::open(&self.seams(), Path::new(DIRECTORY), ME, self.options.clone())
    }

    fn open(&self) -> (Wal, Recovered) {
        self.try_open().unwrap_or_else(|error| panic!("{error}"))
    }

    /// Segment files in order.
    fn segments(&self) -> Vec<PathBuf> {
        let names = self.disk.list(Path::new(DIRECTORY)).unwrap();
        let segments = names.iter().filter(|name| segment::parse_name(name).is_some());
        segments.map(|name| Path::new(DIRECTORY).join(name)).collect()
    }

    fn verify(&self) -> Report {
        self.verify_seeing(&mut |_| Ok(()))
    }

    /// Verification as of a log that nobody has open, whoever has.
    fn verify_seeing(&self, see: &mut See<'_>) -> Report {
        let places = Places { log: Path::new(DIRECTORY), backfill: Some(Path::new("/data/backfill")) };
        verify::check(&self.disk, places, false, see).unwrap()
    }
}

/// Verification of a log on the machine itself.
fn verify_at(log: &Path) -> Report {
    verify(&OsDisk, log).unwrap()
}

/// Calls an operation with a callback and waits for that.
async fn done<F: Future<Output = ()>>(operation: impl FnOnce(Done) -> F) -> io::Result<()> {
    let (sender, receiver) = oneshot::channel();
    operation(Box::new(move |result| drop(sender.send(result)))).await;
    receiver.await.unwrap()
}

async fn append(wal: &Wal, records: &[Record]) {
    done(|done| wal.append(records.to_vec(), done)).await.unwrap();
}

/// Records from one index up to another (exclusive) of one term, with payloads of that size.
fn records(from: u64, to: u64, term: u64, octets: usize) -> Vec<Record> {
    (from..to).map(|index| record(index, term, octets)).collect()
}

fn record(index: u64, term: u64, octets: usize) -> Record {
    let fill = (index as u8).wrapping_mul(31).wrapping_add(term as u8) | 1;
    Record { index, term, node: 9, kind: 1, payload: Bytes::from(vec![fill; octets]) }
}

fn mark(index: u64, term: u64) -> LogMark {
    LogMark { index, term, node: 9 }
}

/// Every live entry.
fn live(wal: &Wal) -> Vec<Record> {
    wal.read(wal.first_index(), u64::MAX, usize::MAX).unwrap()
}
