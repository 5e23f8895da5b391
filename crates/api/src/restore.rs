//! Restores a cluster offline: from a backup, or from what one survivor has. The log goes on, in a new epoch, with one new
//! server and nobody else.
//!
//! It refuses a directory that holds anything, and everything that does not verify: a directory in which it was cut short
//! is no server.

use std::path::Path;

use certwright_core::command::Command;
use certwright_core::event::{EpochCause, EpochOpened, Event};
use certwright_core::ids::{Actor, ClusterId};
use certwright_core::limits::EPOCHS_MAX;
use certwright_core::log::{Codec, RequestId, Trace, Transaction};
use certwright_core::policy::{self, Action, Resource};
use certwright_core::time::Timestamp;
use certwright_core::{Context, Reason, Rejection, State, decide};
use certwright_custody::backup::BackupKey;
use certwright_custody::{DataKey, LeafKey, NodeSeal, wrap};
use certwright_proto::storage::DomainCodec;
use certwright_raft::wal::{LogMark, Seen};
use certwright_raft::{Folded, Ground, LogOptions, Member, Refounding};
use certwright_seams::Seams;
use certwright_seams::disk::{File, Open};

use crate::backup::damaged;
use crate::backup::read::{Header, Part, Reader};
use crate::bootstrap::{Administrator, fresh_record, internal, node_record, settle};
use crate::data_dir::{DataDir, Phase, Record, file_failed};
use crate::limits::{CLOCK_AFTER_MAX, CLOCK_BEFORE_MAX};
use crate::log_check::tally::{Tally, UNTOLD};
use crate::node::{NodeConfig, open_seal};

mod survivor;

/// Where a cluster is restored from.
pub enum Origin<'a> {
    /// A backup and the key that opens it.
    Backup(&'a Path, &'a BackupKey),
    /// The data directory of a server that is left.
    Survivor(&'a Path),
}

/// What the operator says of a restore.
#[derive(Clone, Copy, Debug, Default)]
pub struct Terms {
    /// The new epoch; one more than the one before if absent. Whoever restores the same backup again needs a later one than
    /// the first time: agents remember that one.
    pub epoch: Option<u64>,
    /// This machine's clock is right although it is far from the end of the log.
    pub clock_is_right: bool,
}

/// What was restored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Restored {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// Its new epoch.
    pub epoch: u64,
    /// The new server's id.
    pub node_id: u64,
    /// The last entry of the epoch before.
    pub after_index: u64,
    /// Log time after it: what happened later is lost.
    pub after: Timestamp,
    /// Entries after the last one that the survivor knows to be committed: they are kept.
    pub uncommitted: u64,
    /// Events verified.
    pub events: u64,
    /// Signed checkpoints that say what the chain was.
    pub checkpoints: u64,
    /// Those of which it is not known here.
    pub checkpoints_unknown: u64,
}

/// Restores a cluster into the data directory of `config`, which must not exist or be empty. `keep` must store the
/// administrator's context for good.
pub async fn restore(
    config: &NodeConfig,
    seams: Seams,
    origin: Origin<'_>,
    terms: Terms,
    keep: impl FnOnce(&Administrator) -> Result<(), Rejection>,
) -> Result<Restored, Rejection> {
    match origin {
        Origin::Backup(file, key) => {
            // Before anything is made: a wrong key or a torn beginning leaves no trace.
            let reader = Reader::open(&*seams.disk, file, key)?;
            let header = reader.header().clone();
            let before = Before { cluster: header.cluster_id, epoch: header.epoch, last_node_id: header.last_node_id };
            let site = Site::begin(config, &seams, terms, before, header.at)?;
            let mut backup = Incoming { reader, key, header, keys: Vec::new() };
            let taken = backup.take(&site).await?;
            site.finish(taken, EpochCause::Restored, &backup.keys, keep).await
        }
        Origin::Survivor(data) => survivor::restore(config, seams, data, terms, keep).await,
    }
}

/// The epoch that ends.
struct Before {
    cluster: ClusterId,
    epoch: u64,
    last_node_id: u64,
}

/// Log time goes on with this machine's clock, and goes back only where an operator sets it back: a wrong one would poison it.
fn check_clock(seams: &Seams, end: Timestamp, terms: Terms) -> Result<(), Rejection> {
    let now = Timestamp::from_millis(seams.clock.wall_millis());
    if terms.clock_is_right || now <= end.plus(CLOCK_AFTER_MAX) && now.plus(CLOCK_BEFORE_MAX) >= end {
        return Ok(());
    }
    let then =
        if now < end { ", and have log time set back afterwards ('certwright operator clock rebase')" } else { "" };
    let message = format!(
        "this machine's clock says {now}, and the log ends at {end}: set the clock right, or say that it is \
         (--clock-is-right){then}"
    );
    Err(Rejection::new(Reason::NotReady, message))
}

/// The directory that becomes a server's.
struct Site<'a> {
    config: &'a NodeConfig,
    seams: Seams,
    data: DataDir,
    record: Record,
    key: LeafKey,
    seal: NodeSeal,
}

/// What came in and verified.
struct Taken {
    refounding: Refounding,
    folded: Folded<State>,
    tally: Tally,
    committed: Option<LogMark>,
}

impl<'a> Site<'a> {
    /// Claims the directory and writes down that it is being restored into. `end` is the log time that the old epoch came to.
    fn begin(
        config: &'a NodeConfig,
        seams: &Seams,
        terms: Terms,
        before: Before,
        end: Timestamp,
    ) -> Result<Self, Rejection> {
        let epoch = terms.epoch.unwrap_or(before.epoch + 1);
        if epoch <= before.epoch || epoch > EPOCHS_MAX {
            let message = format!("epoch {epoch} is not between {} and {EPOCHS_MAX}", before.epoch + 1);
            return Err(Rejection::field(Reason::InvalidSpec, "epoch", message));
        }
        check_clock(seams, end, terms)?;
        let mut record = fresh_record(config, before.cluster, before.last_node_id + 1, epoch, Phase::Restoring)?;
        record.log_created = true;
        let data = DataDir::create(&config.data, seams.disk.clone())?;
        data.write_record(&record)?;
        let (key, seal) = (data.node_key()?, open_seal(&data, seams)?);
        Ok(Self { config, seams: seams.clone(), data, record, key, seal })
    }

    /// Begins the log, behind what history begins with.
    async fn refound(&self, base: Option<&Folded<State>>) -> Result<Refounding, Rejection> {
        let ClusterId(cluster_id) = self.record.cluster()?;
        let node = node_record(self.config, &self.record, &self.key, &self.seal)?;
        let member = Member { node_id: node.id, address: node.raft_address, spki_hash: node.spki_hash };
        let (data, epoch) = (self.data.path().to_path_buf(), self.record.epoch);
        let usual = LogOptions::new(data.clone(), cluster_id, node.id, epoch).segment_octets;
        let segment_octets = self.config.segment_octets.unwrap_or(usual);
        let ground = Ground { data, cluster_id, epoch, member, segment_octets };
        let base = base.map(|base| (base, &DomainCodec as &dyn Codec<State>));
        Refounding::begin(&self.seams, ground, base).await.map_err(|error| self.failed(error))
    }

    fn failed(&self, error: std::io::Error) -> Rejection {
        match error.kind() {
            std::io::ErrorKind::InvalidData => damaged(error),
            _ => file_failed("write", self.data.path(), error),
        }
    }

    /// Opens the epoch, and has the new server make its certificates.
    async fn finish(
        mut self,
        taken: Taken,
        cause: EpochCause,
        keys: &[DataKey],
        keep: impl FnOnce(&Administrator) -> Result<(), Rejection>,
    ) -> Result<Restored, Rejection> {
        let Taken { refounding, folded, tally, committed } = taken;
        let last = folded.last().ok_or_else(|| damaged("it holds no entry"))?;
        let opened = EpochOpened {
            epoch: self.record.epoch,
            cause,
            after_index: last.index,
            after_chain: folded.chain(),
            after: folded.at(),
            at: folded.at().max(Timestamp::from_millis(self.seams.clock.wall_millis())),
        };
        let first = self.opening(folded.state(), opened, keys)?;
        refounding.open_epoch(&DomainCodec, &folded, &first, opened.at).await.map_err(|error| self.failed(error))?;
        drop(folded);
        settle(self.config, &self.data, &mut self.record, &self.seams, keep).await?;
        let (checkpoints, checkpoints_unknown) = tally.checkpoints();
        Ok(Restored {
            cluster_id: self.record.cluster()?,
            epoch: self.record.epoch,
            node_id: self.record.node_id,
            after_index: last.index,
            after: opened.after,
            uncommitted: committed.map_or(0, |committed| last.index.saturating_sub(committed.index)),
            events: tally.events(),
            checkpoints,
            checkpoints_unknown,
        })
    }

    /// The first transaction of the epoch.
    fn opening(&self, state: &State, opened: EpochOpened, keys: &[DataKey]) -> Result<Transaction<Event>, Rejection> {
        let node = node_record(self.config, &self.record, &self.key, &self.seal)?;
        let cluster = self.record.cluster()?;
        if state.cluster.id != Some(cluster) {
            return Err(damaged("its state is another cluster's than it says"));
        }
        let wrapped = keys.iter().map(|key| Ok((key.id(), wrap(key, cluster, node.id, &node.hpke_public)?)));
        let wrapped = wrapped.collect::<Result<_, certwright_custody::CustodyError>>();
        let wrapped = wrapped.map_err(|error| internal("a data key cannot be wrapped", &error))?;
        let actor = policy::authorize(&Actor::System, Action::Internal, &Resource::Cluster)?;
        let (mut draw, mut request_id) = ([0; 32], [0; 16]);
        self.seams.entropy.fill(&mut draw);
        self.seams.entropy.fill(&mut request_id);
        let now = opened.at;
        let command = Command::OpenEpoch { opened, node: Box::new(node), wrapped };
        let decision = decide(state, &actor, &command, &Context { now, draw })?;
        Ok(Transaction {
            request_id: RequestId(request_id),
            request_digest: [0; 16],
            actor: Actor::System.to_string().into(),
            trace: Trace::default(),
            guards: decision.guards,
            appends: decision.appends,
        })
    }
}

/// Two builds may also come to different states: whoever restores with the one that wrote it sees which it is.
const NOT_ITS_STATE: &str = "the state it holds is not what its entries come to: restore it with the build that wrote it, or take another backup";
/// What history begins with, while it is read.
const ARRIVING: &str = "base.part";

/// A backup on its way in.
struct Incoming<'a> {
    reader: Reader,
    key: &'a BackupKey,
    header: Header,
    keys: Vec<DataKey>,
}

impl Incoming<'_> {
    /// Verifies and writes down everything.
    async fn take(&mut self, site: &Site<'_>) -> Result<Taken, Rejection> {
        let (base, mut next) = self.beginning(site)?;
        let mut refounding = site.refound(base.as_ref()).await?;
        let mut tally = base.as_ref().map_or_else(Tally::default, Tally::after);
        let Header { cluster_id: ClusterId(cluster_id), epoch, last_node_id, .. } = self.header;
        let mut history = base.unwrap_or_else(|| Folded::genesis(&cluster_id));
        let (path, file) = refounding.snapshot_file().map_err(|error| site.failed(error))?;
        let mut octets = 0;
        while let Some(part) = next {
            match part {
                Part::DataKey(wrapped) => self.take_key(&wrapped)?,
                Part::Base(_) => return Err(damaged("a second beginning")),
                Part::Entry(record) => {
                    let chain = refounding.append(record.clone()).await.map_err(|error| site.failed(error))?;
                    tally.see(Seen::Entry(&record, Some(chain))).map_err(damaged)?;
                    history.apply(record, &DomainCodec).map_err(damaged)?;
                }
                Part::Snapshot(data) => {
                    file.write_at(octets, &data).map_err(|error| site.failed(error))?;
                    octets += data.len() as u64;
                }
            }
            next = self.reader.part()?;
        }
        if refounding.chain() != self.header.last_chain {
            return Err(damaged("its entries do not chain to its end"));
        }
        if !tally.is_told(None) {
            return Err(damaged(UNTOLD));
        }
        let folded = Folded::read(&*file, cluster_id, epoch, &DomainCodec).map_err(|error| site.failed(error))?;
        drop(file);
        refounding.discard(&path);
        if !history.equals(&folded, &DomainCodec) {
            return Err(damaged(NOT_ITS_STATE));
        }
        if folded.state().cluster.last_node_id != last_node_id {
            return Err(damaged("its header does not fit its state"));
        }
        Ok(Taken { refounding, folded, tally, committed: None })
    }

    /// What history begins with, if it is not the first entry of all, and the first part after it.
    fn beginning(&mut self, site: &Site<'_>) -> Result<(Option<Folded<State>>, Option<Part>), Rejection> {
        let (disk, path) = (&*site.seams.disk, site.data.path().join(ARRIVING));
        let mut arriving: Option<(Box<dyn File>, u64)> = None;
        let first = loop {
            match self.reader.part()? {
                Some(Part::DataKey(wrapped)) => self.take_key(&wrapped)?,
                Some(Part::Base(data)) => {
                    let (file, octets) = match arriving.take() {
                        Some(arriving) => arriving,
                        None => (disk.open(&path, Open::CreateNew(0o600)).map_err(|error| site.failed(error))?, 0),
                    };
                    file.write_at(octets, &data).map_err(|error| site.failed(error))?;
                    arriving = Some((file, octets + data.len() as u64));
                }
                part => break part,
            }
        };
        let Header { cluster_id: ClusterId(cluster_id), epoch, first_index, .. } = self.header;
        let Some((file, _)) = arriving else {
            return if first_index == 0 { Ok((None, first)) } else { Err(damaged("its beginning is missing")) };
        };
        let base = Folded::read(&*file, cluster_id, epoch, &DomainCodec).map_err(|error| site.failed(error))?;
        drop(file);
        disk.remove(&path).map_err(|error| site.failed(error))?;
        if base.floor().first_index != first_index {
            return Err(damaged("the snapshot that it begins with stands elsewhere than it says"));
        }
        Ok((Some(base), first))
    }

    fn take_key(&mut self, key: &certwright_proto::storage::v1::BackupDataKey) -> Result<(), Rejection> {
        let opened = self.key.unwrap(self.header.cluster_id, key.data_key_id, &key.wrapped);
        self.keys.push(opened.map_err(damaged)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use certwright_seams::sim::SimClock;

    use super::*;

    #[test]
    fn a_clock_that_is_far_from_the_end_of_the_log_needs_a_word() {
        const DAY: i64 = 24 * 3600 * 1000;
        let end = Timestamp::from_millis(1_800_000_000_000);
        for (ahead_millis, is_taken) in
            [(0, true), (60 * DAY, true), (-30_000, true), (100 * DAY, false), (-DAY, false)]
        {
            let clock = Arc::new(SimClock::new(end.millis().saturating_add_signed(ahead_millis)));
            let seams = Seams { clock, ..Seams::system() };
            let check = |clock_is_right| check_clock(&seams, end, Terms { clock_is_right, epoch: None });
            assert_eq!(check(false).is_ok(), is_taken, "{ahead_millis}");
            check(true).unwrap();
        }
    }
}
