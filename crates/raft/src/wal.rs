//! The write-ahead log: segment files of checksummed frames, one writer with group commit, entries readable as soon
//! as they are appended, an archive of everything purged.
//!
//! It refuses to guess: after the first write or sync error every operation fails, and a log that is damaged anywhere
//! but in its last, unacknowledged batch does not open.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use certwright_seams::Seams;
use certwright_seams::disk::{Disk, File, Open};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::chain::{self, Chain};
use crate::limits;

mod archive;
mod chains;
mod error;
mod floor;
mod fold;
mod frame;
pub(crate) mod gaps;
mod header;
mod live;
pub(crate) mod read;
mod recover;
mod salts;
mod segment;
mod shared;
mod spare;
mod trim;
mod types;
mod verify;
mod writer;

#[cfg(test)]
mod tests;

use archive::{Archive, Reader};
use chains::Chains;
use header::{ChainPoint, SegmentHeader};
use live::{Found, Live};
use recover::Opened;
use salts::Salts;
use shared::Shared;
use spare::Spare;
use trim::Trimming;
use writer::{Current, Message, Op, Surroundings, Tail, Work, Writer};

pub use archive::SegmentInfo;
pub use error::WalError;
pub use floor::Floor;
pub use trim::Trimmed;
pub use types::{Done, Identity, LogMark, NotAfter, Record, Recovered, SyncObserver, SyncSample, WalOptions};
pub use verify::{Finding, Places, Report, See, Seen, verify, verify_seeing};
pub(crate) use writer::is_lack_of_space;

/// Held while the log is open.
const LOCK_NAME: &str = "lock";
/// Only the owner reads the log.
const DIRECTORY_MODE: u32 = 0o700;

/// The log of one node. Clones share it; the writer ends when the last is dropped or [`close`](Self::close) is called.
#[derive(Clone)]
pub struct Wal {
    inner: Arc<Inner>,
}

struct Inner {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    /// Held while segments are deleted.
    trimming: Mutex<Trimming>,
    shared: Arc<Shared>,
    options: WalOptions,
    queue: mpsc::UnboundedSender<Message>,
    /// Octets free in the queue.
    room: Arc<Semaphore>,
    stamps: AtomicU64,
}

impl Wal {
    /// Opens the log in `directory`, or creates it there, and starts its writer. Blocks; holds the directory's lock
    /// until closed. [`Recovered::fresh`] tells a created log from an opened one: a node that has voted before must
    /// not go on with a fresh log.
    pub fn open(
        seams: &Seams,
        directory: &Path,
        identity: Identity,
        options: WalOptions,
    ) -> Result<(Self, Recovered), WalError> {
        options.check()?;
        let disk = Arc::clone(&seams.disk);
        let lock = lock(&*disk, directory)?;
        let floor = floor::read(&*disk, directory)?;
        let opened = recover::open(&*disk, directory, identity, &options, floor.as_ref())?;
        let mut spare = Spare::new(Arc::clone(&disk), directory, options.segment_octets);
        let (fresh, salts) = (opened.is_none(), Salts::new(&*seams.entropy));
        let opened = match opened {
            Some(opened) => opened,
            None => create(&*disk, &mut spare, &salts, (directory, floor.as_ref()), identity, &options)?,
        };
        let floor = if fresh { options.start } else { floor };
        let recovered = Recovered {
            fresh,
            vote: opened.live.vote.clone(),
            committed: opened.live.committed(),
            purged: opened.live.purged,
            last: opened.live.last(),
            cut_octets: opened.cut_octets,
        };
        let shared = Arc::new(Shared::new(opened.live, opened.archive));
        match spare.prepare() {
            Ok(()) => {}
            Err(error) if writer::is_lack_of_space(&error) => shared.set_short_of_space(true),
            Err(error) => return Err(WalError::io("preallocate in", directory)(error)),
        }
        let around = Surroundings {
            disk: Arc::clone(&disk),
            clock: Arc::clone(&seams.clock),
            salts,
            identity,
            options: options.clone(),
            _lock: lock,
            spare,
        };
        let path = opened.tail.segment.path.clone();
        let writer = Writer::new(around, Arc::clone(&shared), opened.tail, opened.chains, opened.current)
            .map_err(WalError::io("open", &path))?;
        let (queue, inbox) = mpsc::unbounded_channel();
        seams.exec.worker("wal", Box::new(move || Box::pin(writer.run(inbox))));
        let room = Arc::new(Semaphore::new(options.queue_octets));
        let (directory, trimming) = (directory.to_path_buf(), Mutex::new(Trimming::at(floor, path)));
        let inner = Inner { disk, directory, trimming, shared, options, queue, room, stamps: AtomicU64::new(1) };
        Ok((Self { inner: Arc::new(inner) }, recovered))
    }

    /// Appends entries that continue the log. They can be read when this returns; `done` is called once they are
    /// durable. Waits while the queue is full.
    pub async fn append(&self, records: Vec<Record>, done: Done) {
        let most = self.inner.options.payload_octets_max();
        if let Some(record) = records.iter().find(|record| record.payload.len() > most) {
            let text = format!("entry {} has {} octets, at most {most}", record.index, record.payload.len());
            return done(Err(io::Error::new(io::ErrorKind::InvalidInput, text)));
        }
        let octets = records.iter().map(|record| frame::entry_octets(record.payload.len())).sum();
        let stamp = self.inner.stamps.fetch_add(1, Ordering::Relaxed);
        let change = |live: &mut Live| live.append(&records, stamp);
        self.submit(octets, done, change, |()| Work::Append { records: records.clone(), stamp }).await;
    }

    /// Removes the entries after `keep`, or all that are not purged. Later appends come after it on disk as well.
    pub async fn truncate_after(&self, keep: Option<u64>, done: Done) {
        let next_index = keep.map_or(0, |index| index.saturating_add(1));
        let change = |live: &mut Live| {
            let first = live.first_index();
            if keep.is_some() && next_index < first {
                let text = format!("cannot go back to entry {next_index}: the log begins with {first}");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
            let next_index = next_index.max(first);
            let is_change = next_index < live.next_index();
            live.truncate(next_index);
            Ok(is_change.then_some(next_index))
        };
        self.submit(frame::HEAD_OCTETS, done, change, |change| match change {
            Some(next_index) => Work::Truncate { next_index },
            None => Work::Append { records: Vec::new(), stamp: 0 },
        })
        .await;
    }

    /// Forgets the entries up to the mark, itself included; they stay in the archive. A mark beyond the end (a snapshot
    /// was installed) lets the log go on after it: cut what is above the applied entries first, or the archive would
    /// keep entries that were never committed. `chain` is the chain's value at the mark, needed only in that case.
    pub async fn purge(&self, mark: LogMark, chain: Option<Chain>, done: Done) {
        let change = |live: &mut Live| {
            if mark.index == u64::MAX {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "a log has fewer entries"));
            }
            let is_change = live.purged.is_none_or(|purged| purged.index < mark.index);
            live.purge(mark);
            Ok(is_change)
        };
        self.submit(frame::HEAD_OCTETS, done, change, |is_change| match is_change {
            true => Work::Purge { mark, chain },
            false => Work::Append { records: Vec::new(), stamp: 0 },
        })
        .await;
    }

    /// Saves the vote; it counts only once `done` says that it is durable.
    pub async fn save_vote(&self, vote: Bytes, done: Done) {
        if vote.len() > limits::WAL_VOTE_OCTETS_MAX {
            let text = format!("a vote of {} octets, at most {}", vote.len(), limits::WAL_VOTE_OCTETS_MAX);
            return done(Err(io::Error::new(io::ErrorKind::InvalidInput, text)));
        }
        let change = |live: &mut Live| {
            live.vote = Some(vote.clone());
            Ok(())
        };
        self.submit(frame::HEAD_OCTETS + vote.len(), done, change, |()| Work::Vote(vote.clone())).await;
    }

    /// Saves how far the log is known to be committed. `done` says that it is written: it survives the process, and a
    /// power cut with the next operation that is synced.
    pub async fn save_committed(&self, mark: Option<LogMark>, done: Done) {
        let change = |live: &mut Live| {
            live.set_committed(mark);
            Ok(())
        };
        self.submit(frame::HEAD_OCTETS, done, change, |()| Work::Committed(mark)).await;
    }

    /// Waits for room, then changes the live range and queues the work as one step: the queue has the order in which
    /// callers see the changes.
    async fn submit<T>(
        &self,
        octets: usize,
        done: Done,
        change: impl FnOnce(&mut Live) -> io::Result<T>,
        work: impl FnOnce(T) -> Work,
    ) {
        let inner = &self.inner;
        // More than the whole queue waits for an empty one.
        let permits = octets.min(inner.options.queue_octets).min(u32::MAX as usize) as u32;
        let room = Arc::clone(&inner.room).acquire_many_owned(permits).await.ok();
        let mut live = inner.shared.live();
        match inner.shared.check().and_then(|()| change(&mut live)) {
            Ok(change) => {
                let op = Op { work: work(change), done: Some(done), room };
                if let Err(mpsc::error::SendError(Message::Op(Op { done: Some(done), .. }))) =
                    inner.queue.send(Message::Op(op))
                {
                    drop(live);
                    done(Err(writer::closed()));
                }
            }
            Err(error) => {
                drop(live);
                done(Err(error));
            }
        }
    }

    /// Waits until everything that was asked for before is durable, or has failed.
    pub(crate) async fn barrier(&self) -> io::Result<()> {
        let (sender, passed) = oneshot::channel();
        self.append(Vec::new(), Box::new(move |result| drop(sender.send(result)))).await;
        passed.await.unwrap_or_else(|_| Err(writer::closed()))
    }

    /// The live entries from `from` up to `to` (exclusive): as many as fit `octets_max`, at least one when there is
    /// one. Empty when the first is not live. Blocks on the disk for entries no longer in memory.
    pub fn read(&self, from: u64, to: u64, octets_max: usize) -> io::Result<Vec<Record>> {
        let found = self.inner.shared.live().find(from, to, octets_max);
        let mut reader: Option<Reader> = None;
        let mut records = Vec::with_capacity(found.len());
        for found in found {
            records.push(match found {
                Found::Here(record) => record,
                Found::OnDisk(mark, location, octets) => {
                    if !reader.as_ref().is_some_and(|reader| reader.is_of(location)) {
                        reader = Some(self.reader(location.segment)?);
                    }
                    let reader = reader.as_ref().expect("opened in the line above");
                    reader.record(mark.index, location.offset, Some(octets))?
                }
            });
        }
        Ok(records)
    }

    fn reader(&self, first_sequence: u64) -> io::Result<Reader> {
        let segment = self.inner.shared.archive().segment(first_sequence);
        let segment = segment.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the segment is gone"))?;
        Reader::open(&*self.inner.disk, segment)
    }

    /// As [`read`](Self::read), of every entry on disk, purged ones included. Empty when the first is not there:
    /// never here, or removed. Blocks on the disk.
    pub fn archive_read(&self, from: u64, to: u64, octets_max: usize) -> io::Result<Vec<Record>> {
        let records = self.read(from, to, octets_max)?;
        if !records.is_empty() || from >= to {
            return Ok(records);
        }
        let inner = &self.inner;
        archive::read(&*inner.disk, || inner.shared.archive(), (from, to), octets_max)
    }

    /// Points of the log at which the chain's value is on disk: the index of the next entry, and the value before it.
    pub(crate) fn anchors(&self) -> Vec<(u64, Chain)> {
        self.inner.shared.archive().anchors()
    }

    /// Index of the first live entry, or the one that the next entry gets.
    pub fn first_index(&self) -> u64 {
        self.inner.shared.live().first_index()
    }

    /// The least index that [`archive_read`](Self::archive_read) may know.
    pub fn archive_first_index(&self) -> u64 {
        self.inner.shared.archive().first_index()
    }

    /// The last entry, or the purge mark when there is none.
    pub fn last_mark(&self) -> Option<LogMark> {
        self.inner.shared.live().last()
    }

    /// Up to where the log was purged.
    pub fn purged_mark(&self) -> Option<LogMark> {
        self.inner.shared.live().purged
    }

    /// The vote last given to [`save_vote`](Self::save_vote).
    pub fn vote(&self) -> Option<Bytes> {
        self.inner.shared.live().vote.clone()
    }

    /// The committed mark last saved, never beyond the last entry.
    pub fn committed(&self) -> Option<LogMark> {
        self.inner.shared.live().committed()
    }

    /// The segments on disk in order; the last is being written.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        self.inner.shared.archive().infos()
    }

    /// To be called before an append that could be refused instead: an error (`StorageFull`) when the segment after
    /// this one could not be preallocated. What is under way still fits. Each call asks the writer to try again.
    pub fn check_space(&self) -> io::Result<()> {
        let shared = &self.inner.shared;
        shared.check()?;
        if !shared.is_short_of_space() {
            return Ok(());
        }
        if shared.ask_for_space() {
            let op = Op { work: Work::PrepareSpare, done: None, room: None };
            let _ = self.inner.queue.send(Message::Op(op));
        }
        Err(io::Error::new(io::ErrorKind::StorageFull, "no room for the log's next segment: free disk space"))
    }

    /// Becomes `Some` with the reason once the log has failed: the process must stop.
    pub fn fatal(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.inner.shared.subscribe()
    }

    /// Makes everything queued durable, ends the writer and gives the directory's lock back. Later operations fail.
    pub async fn close(&self) {
        let (sender, closed) = oneshot::channel();
        if self.inner.queue.send(Message::Close(sender)).is_ok() {
            let _ = closed.await;
        }
    }
}

/// Creates the directory when absent and takes its lock.
fn lock(disk: &dyn Disk, directory: &Path) -> Result<Box<dyn File>, WalError> {
    disk.create_dir_all(directory, DIRECTORY_MODE).map_err(WalError::io("create", directory))?;
    if let Some(parent) = directory.parent() {
        disk.sync_dir(parent).map_err(WalError::io("sync", parent))?;
    }
    let path = directory.join(LOCK_NAME);
    let file = disk.open(&path, Open::Create(spare::FILE_MODE)).map_err(WalError::io("open", &path))?;
    file.lock().map_err(|source| match source.kind() {
        io::ErrorKind::WouldBlock => WalError::Locked { path: directory.to_path_buf() },
        _ => WalError::io("lock", &path)(source),
    })?;
    Ok(file)
}

/// The first segment of a new log.
fn create(
    disk: &dyn Disk,
    spare: &mut Spare,
    salts: &Salts,
    (directory, floor): (&Path, Option<&Floor>),
    identity: Identity,
    options: &WalOptions,
) -> Result<Opened, WalError> {
    if floor.is_some() {
        // What it speaks of was here once.
        return Err(WalError::Missing { path: directory.to_path_buf(), sequence: 1 });
    }
    let genesis = ChainPoint { next_index: 0, chain: Some(chain::genesis(&identity.cluster_id)) };
    let start = options.start.map_or(genesis, |floor| floor.point());
    let failed = || WalError::io("create a segment in", directory);
    if let Some(floor) = &options.start {
        floor::write(disk, directory, floor).map_err(failed())?;
    }
    let header = SegmentHeader { identity, first_sequence: 1, start, opening_frames: 0, salt: salts.next() };
    let (segment, offset) = spare.activate(header, &[]).map_err(failed())?;
    let segment = Arc::new(segment);
    let mut archive = Archive::default();
    archive.add(Arc::clone(&segment), start.next_index, None, Some(Default::default()));
    Ok(Opened {
        live: Live::new(start.next_index, options.cache_octets),
        archive,
        tail: Tail { segment, offset, next_sequence: 1, low: start.next_index, not_after: None },
        chains: Chains::new(start),
        current: Current::default(),
        cut_octets: 0,
    })
}
