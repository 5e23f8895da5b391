//! A log that goes on as another epoch: the entries of the old one, a snapshot of what they fold to, one member that is
//! nobody who was a member before, and its first transaction.
//!
//! It refuses entries that do not chain to the snapshot, and a directory that holds a log already.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use certwright_core::log::{Codec, Fold, Transaction};
use certwright_core::time::Timestamp;
use certwright_proto::storage::{EntryBuilder, encode_transaction};
use certwright_seams::Seams;
use certwright_seams::disk::File;
use tokio::sync::oneshot;

use crate::base::{Bases, Beginning};
use crate::chain::{self, Chain, Link};
use crate::consensus::record::{KIND_MEMBERSHIP, KIND_NORMAL, MembershipForm, VoteForm, encode};
use crate::consensus::{Membership, Peer};
use crate::folded::Folded;
use crate::limits::READ_OCTETS_MAX;
use crate::member::Member;
use crate::snapshot::Snapshots;
use crate::snapshot::content::Owner;
use crate::wal::{Done, Identity, LogMark, Record, Wal, WalOptions};

/// Where and as whom the log goes on.
#[derive(Clone, Debug)]
pub struct Ground {
    /// The data directory: the log lies in `log`, snapshots in `snapshots`.
    pub data: PathBuf,
    /// The cluster.
    pub cluster_id: [u8; 16],
    /// The new epoch.
    pub epoch: u64,
    /// The only member.
    pub member: Member,
    /// Size of a segment of the log.
    pub segment_octets: u64,
}

/// A log on its way into a new epoch.
pub struct Refounding {
    ground: Ground,
    wal: Wal,
    snapshots: Snapshots,
    waiting: Vec<Record>,
    waiting_octets: usize,
    next_index: u64,
    term: u64,
    chain: Chain,
}

fn invalid(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

/// Waits for an operation that tells by callback.
async fn done<W: Future<Output = ()>>(operation: impl FnOnce(Done) -> W) -> io::Result<()> {
    let (sender, receiver) = oneshot::channel();
    operation(Box::new(move |result| drop(sender.send(result)))).await;
    receiver.await.unwrap_or_else(|_| Err(io::Error::other("the log has stopped")))
}

impl Refounding {
    /// Begins with an empty log, behind the state that history begins with, if that is not the first entry of all. Blocks on
    /// the disk.
    pub async fn begin<F: Fold>(
        seams: &Seams,
        ground: Ground,
        base: Option<(&Folded<F>, &dyn Codec<F>)>,
    ) -> io::Result<Self> {
        let Ground { cluster_id, epoch, .. } = ground;
        let snapshots =
            Snapshots::open(Arc::clone(&seams.disk), ground.data.join("snapshots"), Owner { cluster_id, epoch })?;
        let identity = Identity { cluster_id, node_id: ground.member.node_id, epoch };
        let mut options = WalOptions::new(ground.segment_octets);
        if let Some((base, codec)) = base {
            let bases = Bases::open(Arc::clone(&seams.disk), &ground.data, Owner { cluster_id, epoch }, None)?;
            let beginning = Beginning { floor: base.floor(), digest: base.digest(codec) };
            bases.keep(codec, &bases.write(codec, &base.0)?, &beginning)?;
            options.start = Some(beginning.floor);
        }
        let opened = Wal::open(seams, &ground.data.join("log"), identity, options);
        let (wal, recovered) = opened.map_err(io::Error::other)?;
        if !recovered.fresh {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a log already"));
        }
        Ok(Self {
            ground,
            wal,
            snapshots,
            waiting: Vec::new(),
            waiting_octets: 0,
            next_index: base.map_or(0, |(base, _)| base.floor().first_index),
            term: base.and_then(|(base, _)| base.last()).map_or(0, |last| last.term),
            chain: base.map_or_else(|| chain::genesis(&cluster_id), |(base, _)| base.chain()),
        })
    }

    /// The next entry; answers the chain's value after it.
    pub async fn append(&mut self, record: Record) -> io::Result<Chain> {
        if record.index != self.next_index || record.term < self.term || record.node != 0 {
            return Err(invalid(format!("entry {} came instead of {}", record.index, self.next_index)));
        }
        let link = Link { index: record.index, term: record.term, node: 0, kind: record.kind };
        self.chain = chain::next(&self.chain, link, &record.payload);
        (self.next_index, self.term) = (record.index + 1, record.term);
        self.waiting_octets += record.payload.len() + size_of::<Record>();
        self.waiting.push(record);
        if self.waiting_octets >= READ_OCTETS_MAX {
            self.write().await?;
        }
        Ok(self.chain)
    }

    /// Makes what waits durable and lets go of it: it stays in the archive.
    async fn write(&mut self) -> io::Result<()> {
        self.waiting_octets = 0;
        let Some(last) = self.waiting.last() else { return Ok(()) };
        let mark = LogMark { index: last.index, term: last.term, node: 0 };
        let records = std::mem::take(&mut self.waiting);
        done(|done| self.wal.append(records, done)).await?;
        done(|done| self.wal.purge(mark, None, done)).await
    }

    /// The chain's value after the last entry.
    pub fn chain(&self) -> Chain {
        self.chain
    }

    /// A file for the snapshot as it comes in.
    pub fn snapshot_file(&self) -> io::Result<(PathBuf, Box<dyn File>)> {
        self.snapshots.create_temporary()
    }

    /// Throws that file away.
    pub fn discard(&self, path: &std::path::Path) {
        self.snapshots.discard(path);
    }

    /// Takes the snapshot of what the entries fold to, changes the membership and appends the first transaction of the
    /// new epoch, stamped `at`. The directory is a server's once this has returned.
    pub async fn open_epoch<F: Fold>(
        mut self,
        codec: &dyn Codec<F>,
        folded: &Folded<F>,
        first: &Transaction<F::Event>,
        at: Timestamp,
    ) -> io::Result<()> {
        self.write().await?;
        let covers = folded.last().map(|last| (last.index + 1, last.term));
        if covers != Some((self.next_index, self.term)) || folded.chain() != self.chain {
            return Err(invalid("the entries do not chain to the snapshot"));
        }
        self.snapshots.write(codec, &folded.0.cut())?;
        let (index, term, node_id) = (self.next_index, self.term + 1, self.ground.member.node_id);
        let mut builder = EntryBuilder::new();
        builder.push(&encode_transaction(codec, first));
        let opening = builder.finish(folded.at().max(at));
        let membership = encode(&MembershipForm::from(&self.membership()?));
        let vote = encode(&VoteForm { term, node_id, committed: true });
        done(|done| self.wal.save_vote(vote, done)).await?;
        let record = |index, kind, payload| Record { index, term, node: 0, kind, payload };
        let records = vec![record(index, KIND_MEMBERSHIP, membership), record(index + 1, KIND_NORMAL, opening)];
        done(|done| self.wal.append(records, done)).await?;
        let mark = LogMark { index: index + 1, term, node: 0 };
        done(|done| self.wal.save_committed(Some(mark), done)).await?;
        self.wal.close().await;
        Ok(())
    }

    fn membership(&self) -> io::Result<Membership> {
        let member = &self.ground.member;
        let peers = BTreeMap::from([(member.node_id, Peer::of(member))]);
        let voters = vec![BTreeSet::from([member.node_id])];
        Membership::new(voters, peers).map_err(|error| invalid(error.to_string()))
    }
}
