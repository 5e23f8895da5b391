//! Letting history go: what the log would begin with, and the deletion itself, on every server for itself.
//!
//! It refuses on any doubt: nothing is deleted behind a snapshot that is not here, not whole, or not what the log says, nor
//! an entry that the caller does not let go.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use certwright_core::log::Fold;
use certwright_core::time::Timestamp;
use certwright_proto::internal::v1::BaseRequest;
use certwright_seams::disk::File;
use certwright_seams::exec::compute;
use tokio::time::timeout;

use super::Log;
use crate::base::{Bases, Beginning, Trimming, delete_below, floor_after};
use crate::consensus::store::entry;
use crate::error::{ReadError, TrimError};
use crate::fold::shared::Shared;
use crate::folded::Folded;
use crate::limits::{BACKFILL_TIMEOUT, BASE_TIMEOUT, READ_OCTETS_MAX, SNAPSHOT_CHUNK_OCTETS_MAX, SNAPSHOT_OCTETS_MAX};
use crate::peer::channels::{Channels, Lane};
use crate::peer::client::raft_client;
use crate::view::AppliedEntry;
use crate::wal::gaps::Gaps;
use crate::wal::{Floor, Trimmed, Wal};

/// The pool on which history is folded.
const POOL: &str = "retention";
/// How long a base that was read stays in memory for whoever asks next.
const KEPT_READ: Duration = Duration::from_secs(60);

/// Says of an applied entry whether it may go, and why not.
pub type Allow<E> = Arc<Judge<E>>;
type Judge<E> = dyn Fn(&AppliedEntry<E>) -> Result<(), String> + Send + Sync;

/// Where the history begins that is kept here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kept {
    /// The first entry.
    pub first_index: u64,
    /// Log time of the state before it; `None` while that state is not here.
    pub at: Option<Timestamp>,
}

/// A part of the history that could go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Prefix {
    /// The first entry after it.
    pub first_index: u64,
    /// Octets of the payloads in it.
    pub octets: u64,
}

/// What folding history takes.
pub(crate) struct History<F: Fold> {
    pub(crate) shared: Arc<Shared<F>>,
    pub(crate) wal: Wal,
    pub(crate) gaps: Arc<Gaps>,
    pub(crate) bases: Arc<Bases>,
    pub(crate) cluster_id: [u8; 16],
}

impl<F: Fold> Clone for History<F> {
    fn clone(&self) -> Self {
        let Self { shared, wal, gaps, bases, cluster_id } = self;
        let (shared, gaps, bases) = (Arc::clone(shared), Arc::clone(gaps), Arc::clone(bases));
        Self { shared, wal: wal.clone(), gaps, bases, cluster_id: *cluster_id }
    }
}

fn storage(error: io::Error) -> TrimError {
    match error.kind() {
        io::ErrorKind::StorageFull => TrimError::NoRoom(error.to_string()),
        _ => TrimError::Storage(error.to_string()),
    }
}

impl<F: Fold> Log<F> {
    /// Where history begins here; `None` while nothing was let go.
    pub fn kept(&self) -> Option<Kept> {
        let bases = &self.inner.history.bases;
        let base = bases.base().map(|base| base.at);
        bases.floor().map(|floor| Kept { first_index: floor.first_index, at: base })
    }

    /// The state that history begins with. `Gap` while it is not here. It is read from disk, and kept for a minute.
    pub async fn first_state(&self) -> Result<Arc<Folded<F>>, ReadError> {
        let mut kept = self.inner.first_state.lock().await;
        let floor = self.inner.history.bases.floor();
        if let Some(known) = kept.upgrade().filter(|known| floor.is_none_or(|floor| known.floor() == floor)) {
            return Ok(known);
        }
        let history = self.inner.history.clone();
        let reading = move || {
            let read = history.bases.read(&*history.shared.codec, &history.cluster_id);
            match read {
                Err(error) if error.kind() == io::ErrorKind::InvalidData && !history.bases.verify()? => {
                    Err(io::ErrorKind::NotFound.into())
                }
                read => read.map(Folded),
            }
        };
        let read = compute(&*self.inner.shared.seams.exec, POOL, reading).await;
        let read = Arc::new(read.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => ReadError::Gap,
            _ => ReadError::Storage(error.to_string()),
        })?);
        *kept = Arc::downgrade(&read);
        let (lasting, stopped) = (Arc::clone(&read), self.inner.stopped.clone());
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = stopped.cancelled() => {}
                () = tokio::time::sleep(KEPT_READ) => {}
            }
            drop(lasting);
        });
        Ok(read)
    }

    /// Reads the snapshot that history begins with from end to end. One that is damaged is set aside: it has to come from
    /// another server.
    pub async fn verify_base(&self) -> Result<(), TrimError> {
        let bases = Arc::clone(&self.inner.history.bases);
        let reading = bases.hold().ok_or(TrimError::Busy)?;
        let work = move || {
            let _reading = reading;
            bases.verify().map(drop).map_err(storage)
        };
        compute(&*self.inner.shared.seams.exec, POOL, work).await
    }

    /// Whether all of the history is here that is to be kept, as far as is known without reading it.
    pub fn has_history(&self) -> bool {
        let History { bases, gaps, .. } = &self.inner.history;
        (bases.floor().is_none() || bases.base().is_some()) && gaps.unfilled(0).is_none()
    }

    /// Whether nothing of what came before that entry was ever here: whoever joined has nothing that could go.
    pub fn lacks_all_before(&self, first_index: u64) -> bool {
        let History { bases, gaps, .. } = &self.inner.history;
        bases.floor().is_none() && gaps.lacks_all_before(first_index)
    }

    /// Fetches what lies above a floor that the log speaks of even while nobody gives what lies below.
    pub async fn divide_gap(&self, floor: Floor) -> Result<(), TrimError> {
        let gaps = Arc::clone(&self.inner.history.gaps);
        compute(&*self.inner.shared.seams.exec, POOL, move || gaps.divide(&floor)).await.map_err(storage)
    }

    /// How much of the history could go: reads it from its beginning, asks `allow` about every entry, and ends before the
    /// first that is to be kept, and where entries are live or missing.
    pub async fn prefix(&self, allow: Allow<F::Event>) -> Result<Prefix, TrimError> {
        let history = self.inner.history.clone();
        compute(&*self.inner.shared.seams.exec, POOL, move || history.prefix(&*allow)).await
    }

    /// Whether something lies below the floor that can be deleted.
    pub fn has_leftovers(&self) -> bool {
        let History { wal, bases, gaps, .. } = &self.inner.history;
        bases.base().is_some_and(|base| wal.has_below(base.floor.first_index) || gaps.has_below(base.floor.first_index))
    }

    /// What the log has to say for history to begin with that entry: folds everything before it. `allow` is asked about every
    /// entry that would go.
    pub async fn survey(&self, first_index: u64, allow: Allow<F::Event>) -> Result<Beginning, TrimError> {
        let history = self.inner.history.clone();
        self.applied_beyond(first_index)?;
        let work = move || {
            let folded = history.fold(first_index, &*allow)?;
            Ok(Beginning { floor: folded.floor(), digest: folded.digest(&*history.shared.codec) })
        };
        compute(&*self.inner.shared.seams.exec, POOL, work).await
    }

    /// Makes history begin where the log says: makes the snapshot of the state before durable, from what is here or from
    /// another server, and deletes what lies wholly below. `allow` is asked about every entry that is folded here.
    /// Harmless to repeat; to be repeated after an error and at every start, for what a power cut left.
    pub async fn trim(&self, wanted: Beginning, allow: Allow<F::Event>) -> Result<Trimmed, TrimError> {
        let history = self.inner.history.clone();
        self.applied_beyond(wanted.floor.first_index)?;
        if let Some(first) = history.bases.floor().map(|floor| floor.first_index)
            && first > wanted.floor.first_index
        {
            return Err(TrimError::Later { first });
        }
        // The entry that says so outlives what is done because of it.
        history.wal.barrier().await.map_err(storage)?;
        let guard = Arc::new(history.bases.begin().ok_or(TrimError::Busy)?);
        let (local, held) = (history.clone(), Arc::clone(&guard));
        let exec = &*self.inner.shared.seams.exec;
        let guard = match compute(exec, POOL, move || local.settle(&held, &wanted, &*allow)).await {
            Err(TrimError::Gap) => {
                // What comes from others takes as long as they like: nobody is kept from reading meanwhile.
                drop(guard);
                Arc::new(self.fetch_base(&wanted).await?)
            }
            settled => settled.map(|()| guard)?,
        };
        let work = move || {
            let _held = guard;
            delete_below(&history.bases, &history.gaps, &history.wal).map_err(storage)
        };
        let trimmed = compute(exec, POOL, work).await?;
        let metrics = &self.inner.shared.metrics;
        metrics.trimmed_octets.inc_by(trimmed.octets);
        metrics.history_first_index.set(i64::try_from(wanted.floor.first_index).unwrap_or(i64::MAX));
        Ok(trimmed)
    }

    fn applied_beyond(&self, wanted: u64) -> Result<(), TrimError> {
        let applied = self.inner.shared.mark().index;
        if applied >= wanted { Ok(()) } else { Err(TrimError::Behind { applied, wanted }) }
    }

    /// Asks every member for the base; what fits what the log says is taken, whoever gave it, with the right to delete.
    async fn fetch_base(&self, wanted: &Beginning) -> Result<Trimming, TrimError> {
        let (history, channels) = (&self.inner.history, &self.inner.channels);
        let mut last = "nobody else is a member".to_owned();
        for peer in self.applied_members().into_iter().filter(|peer| *peer != self.inner.node_id) {
            match history.fetch_base(channels, peer, wanted).await {
                Ok(guard) => return Ok(guard),
                Err(why) => last = format!("node {peer}: {why}"),
            }
        }
        Err(TrimError::NoBase(last))
    }
}

impl<F: Fold> History<F> {
    fn prefix(&self, allow: &Judge<F::Event>) -> Result<Prefix, TrimError> {
        let mut prefix = Prefix { first_index: self.bases.first_index(), octets: 0 };
        let end = self.wal.first_index();
        while prefix.first_index < end {
            let records =
                self.gaps.archive_read(&self.wal, prefix.first_index, end, READ_OCTETS_MAX).map_err(storage)?;
            if records.is_empty() {
                return Ok(prefix);
            }
            for record in records {
                let (index, octets) = (record.index, record.payload.len() as u64);
                let entry = entry(record).map_err(storage)?;
                let decoded = self.shared.decode(&entry).map_err(|error| TrimError::Storage(error.to_string()))?;
                let (at, transactions) = decoded.map_or_else(Default::default, |it| (it.at, it.transactions));
                let refused = vec![false; transactions.len()];
                if allow(&AppliedEntry { index, at, transactions, refused }).is_err() {
                    return Ok(prefix);
                }
                prefix = Prefix { first_index: index + 1, octets: prefix.octets + octets };
            }
        }
        Ok(prefix)
    }

    /// Everything before that entry, folded. Blocks.
    fn fold(&self, first_index: u64, allow: &Judge<F::Event>) -> Result<Folded<F>, TrimError> {
        let codec = &*self.shared.codec;
        let base = self.bases.read(codec, &self.cluster_id).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => TrimError::Gap,
            _ => storage(error),
        })?;
        let mut folded = Folded(base);
        let mut next = folded.floor().first_index;
        if next > first_index {
            return Err(TrimError::Later { first: next });
        }
        while next < first_index {
            let read = self.gaps.archive_read(&self.wal, next, first_index, READ_OCTETS_MAX);
            // What is damaged here others have.
            let is_damaged = |error: &io::Error| error.kind() == io::ErrorKind::InvalidData;
            let records = read.map_err(|error| if is_damaged(&error) { TrimError::Gap } else { storage(error) })?;
            if records.is_empty() {
                return Err(TrimError::Gap);
            }
            for record in records {
                next = record.index + 1;
                let entry = folded.apply_seeing(record, codec).map_err(storage)?;
                allow(&entry).map_err(|why| TrimError::Kept { index: entry.index, why })?;
            }
        }
        Ok(folded)
    }

    /// Makes the base durable from what is here; `Gap` when that is not enough. The base that is here already is read once
    /// more, from end to end: behind it something is about to be deleted. Blocks.
    fn settle(&self, _held: &Trimming, wanted: &Beginning, allow: &Judge<F::Event>) -> Result<(), TrimError> {
        self.wal.settle().map_err(storage)?;
        if self.bases.verify().map_err(storage)? && self.bases.floor() == Some(wanted.floor) {
            return Ok(());
        }
        let folded = self.fold(wanted.floor.first_index, allow)?;
        let codec = &*self.shared.codec;
        if floor_after(&folded.0) != wanted.floor || folded.digest(codec) != wanted.digest {
            return Err(TrimError::Differs(wanted.floor.first_index));
        }
        let path = self.bases.write(codec, &folded.0).map_err(storage)?;
        // What lies on the disk is read back before it counts; two of them in memory are not needed for that.
        drop(folded);
        self.bases.keep(codec, &path, wanted).map_err(storage)
    }

    /// One member's base, if it is what the log says; nobody reads from the one before any more.
    async fn fetch_base(&self, channels: &Channels, peer: u64, wanted: &Beginning) -> Result<Trimming, String> {
        let channel = channels.get(peer, Lane::Snapshot).ok_or("it is not reachable")?;
        let exec = &*self.shared.seams.exec;
        let bases = Arc::clone(&self.bases);
        let (path, file) = compute(exec, POOL, move || bases.create_temporary()).await.map_err(|it| it.to_string())?;
        let receiving = timeout(BASE_TIMEOUT, self.receive(raft_client(channel), file.into(), wanted.floor)).await;
        let arrived = receiving.unwrap_or_else(|_| Err("it takes too long".to_owned()));
        let (history, wanted) = (self.clone(), *wanted);
        let taking = move || {
            let taken = arrived.and_then(|()| history.take(&path, &wanted));
            taken.inspect_err(|_| history.bases.discard(&path))
        };
        compute(exec, POOL, taking).await
    }

    /// Takes a file that arrived as the base. Blocks.
    fn take(&self, path: &Path, wanted: &Beginning) -> Result<Trimming, String> {
        let guard = self.bases.begin().ok_or_else(|| TrimError::Busy.to_string())?;
        let first = self.bases.first_index();
        if first > wanted.floor.first_index {
            return Err(TrimError::Later { first }.to_string());
        }
        self.bases.keep(&*self.shared.codec, path, wanted).map_err(|error| error.to_string())?;
        Ok(guard)
    }

    async fn receive(
        &self,
        mut client: certwright_proto::internal::v1::raft_client::RaftClient<tonic::transport::Channel>,
        file: Arc<dyn File>,
        floor: Floor,
    ) -> Result<(), String> {
        let late = |_| "no answer in time".to_owned();
        let refused = |status: tonic::Status| status.message().to_owned();
        let request = BaseRequest { first_index: floor.first_index };
        let opening = timeout(BACKFILL_TIMEOUT, client.base(request)).await;
        let mut chunks = opening.map_err(late)?.map_err(refused)?.into_inner();
        let mut offset = 0;
        while let Some(chunk) = timeout(BACKFILL_TIMEOUT, chunks.message()).await.map_err(late)?.map_err(refused)? {
            let (at, to) = (offset, Arc::clone(&file));
            offset = end_of(chunk.data.len(), offset)?;
            self.bases.require_room(chunk.data.len() as u64).map_err(|error| error.to_string())?;
            let written = compute(&*self.shared.seams.exec, POOL, move || to.write_at(at, &chunk.data)).await;
            written.map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

/// Where a chunk ends that begins there. Every one brings something, or a stream of them would never end, and fits what a
/// snapshot may have.
fn end_of(octets: usize, offset: u64) -> Result<u64, String> {
    if octets == 0 || octets > SNAPSHOT_CHUNK_OCTETS_MAX {
        return Err(format!("a chunk of {octets} octets came"));
    }
    let end = offset + octets as u64;
    if end > SNAPSHOT_OCTETS_MAX {
        return Err("it is larger than any snapshot".to_owned());
    }
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_of_chunks_comes_to_an_end() {
        assert!(end_of(0, 7).is_err(), "it would never end");
        assert!(end_of(SNAPSHOT_CHUNK_OCTETS_MAX + 1, 0).is_err());
        assert!(end_of(2, SNAPSHOT_OCTETS_MAX - 1).is_err());
        assert_eq!(end_of(1, SNAPSHOT_OCTETS_MAX - 1), Ok(SNAPSHOT_OCTETS_MAX));
    }
}
