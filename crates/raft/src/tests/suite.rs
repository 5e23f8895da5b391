//! openraft's own suite for storage, on this store.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use certwright_seams::Seams;
use certwright_seams::sim::SimDisk;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::type_config::TypeConfigExt;
use openraft::{LogState, StorageError};

use super::cluster::CLUSTER;
use crate::LogOptions;
use crate::consensus::store::LogStore;
use crate::consensus::{Entry, LogId, Types, Vote, log_id, term_of};
use crate::fold::machine::Machine;
use crate::fold::replica::Replica;
use crate::fold::shared::Shared;
use crate::fold::toy::{Toy, codec};
use crate::metrics::LogMetrics;
use crate::snapshot::Snapshots;
use crate::snapshot::content::Owner;
use crate::wal::gaps::Gaps;
use crate::wal::{Identity, Wal, WalOptions};

/// The suite's logs begin where it likes; ours begin at 0, as Raft's own initialisation makes them. What the suite
/// leaves out before its first entry is filled with blanks.
struct Filled(LogStore);

impl RaftLogStorage<Types> for Filled {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        self.0.get_log_state().await
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.0.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        self.0.save_vote(vote).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        self.0.save_committed(committed).await
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        self.0.read_committed().await
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let is_empty = self.0.get_log_state().await?.last_log_id.is_none();
        let (first, term) = entries.first().map_or((0, 0), |entry| (entry.log_id.index(), term_of(&entry.log_id)));
        let blanks = (0..if is_empty { first } else { 0 })
            .map(|index| Entry { log_id: log_id(term, index), payload: openraft::EntryPayload::Blank });
        self.0.append(blanks.chain(entries.clone()).collect::<Vec<_>>(), callback).await
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        self.0.truncate_after(last).await
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        self.0.purge(upto).await
    }
}

/// Stores on one disk: the suite hands a snapshot file of one to another.
struct Builder(AtomicU64, SimDisk);

impl Builder {
    fn new() -> Self {
        Self(AtomicU64::new(1), SimDisk::new(1))
    }
}

fn storage(error: impl std::fmt::Display) -> StorageError<Types> {
    StorageError::write(Types::err_from_string(error.to_string()))
}

impl StoreBuilder<Types, Filled, Machine<Toy>, ()> for Builder {
    async fn build(&self) -> Result<((), Filled, Machine<Toy>), StorageError<Types>> {
        let number = self.0.fetch_add(1, Ordering::Relaxed);
        let seams = Seams { disk: Arc::new(self.1.boot()), ..Seams::system() };
        let options =
            LogOptions { strict: true, ..LogOptions::new(PathBuf::from(format!("/data-{number}")), CLUSTER, 1, 1) };
        let identity = Identity { cluster_id: CLUSTER, node_id: 1, epoch: 1 };
        let wal_options = WalOptions::new(4 * 1024 * 1024);
        let (wal, _) = Wal::open(&seams, &options.data.join("log"), identity, wal_options).map_err(storage)?;
        let owner = Owner { cluster_id: CLUSTER, epoch: 1 };
        let snapshots = Snapshots::open(seams.disk.clone(), options.data.join("snapshots"), owner).map_err(storage)?;
        let metrics = LogMetrics::register(&options.registry).map_err(storage)?;
        let replica = Replica::genesis(&CLUSTER);
        let shared = Shared::new(replica, codec(), seams.clone(), metrics, Arc::default(), &options, 0);
        let shared = Arc::new(shared);
        let basis = Arc::clone(&shared);
        let gaps = Gaps::open(seams.disk.clone(), &*seams.entropy, &options.data.join("backfill"), identity)
            .map_err(storage)?;
        let store = LogStore::new(wal, Arc::new(gaps), Arc::new(move || basis.basis()));
        Ok(((), Filled(store), Machine { shared, snapshots: Arc::new(snapshots) }))
    }
}

#[test]
fn the_store_passes() {
    Types::run(Suite::test_all(Builder::new())).unwrap();
}

#[tokio::test]
async fn a_log_with_a_hole_is_refused() -> io::Result<()> {
    let ((), Filled(mut store), _) = Builder::new().build().await.unwrap();
    let entry = Entry { log_id: log_id(1, 3), payload: openraft::EntryPayload::Blank };
    let (sender, receiver) = Types::oneshot();
    store.append([entry], IOFlushed::signal(sender)).await?;
    assert!(receiver.await.unwrap().is_err());
    Ok(())
}
