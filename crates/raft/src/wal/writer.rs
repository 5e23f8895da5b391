//! The one writer of a log: takes operations in order, writes a batch, syncs it, then tells those who wait.
//!
//! It refuses to go on after any error: it latches the first, and fails all that is or will be queued.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use certwright_core::mutant::{self, Mutant};
use certwright_seams::clock::Clock;
use certwright_seams::disk::{Disk, File, Open};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::archive::Index;
use super::chains::Chains;
use super::frame::{self, Frame, Place, SEAL_FRAME_OCTETS, Seal};
use super::header::{ChainPoint, SegmentHeader};
use super::live::Location;
use super::salts::Salts;
use super::segment::Segment;
use super::shared::Shared;
use super::spare::Spare;
use super::{Done, Identity, LogMark, Record, SyncSample, WalOptions};
use crate::chain::Chain;

/// What the writer is asked to do.
pub(super) enum Work {
    Append {
        records: Vec<Record>,
        stamp: u64,
    },
    Truncate {
        next_index: u64,
    },
    Purge {
        mark: LogMark,
        chain: Option<Chain>,
    },
    Vote(Bytes),
    Committed(Option<LogMark>),
    /// Try again to prepare the spare segment.
    PrepareSpare,
}

/// Work with whom to tell, and the room it takes in the queue.
pub(super) struct Op {
    pub(super) work: Work,
    pub(super) done: Option<Done>,
    pub(super) room: Option<OwnedSemaphorePermit>,
}

/// An operation, or the wish that the writer end.
pub(super) enum Message {
    Op(Op),
    Close(oneshot::Sender<()>),
}

/// What the writer needs of the machine and of the one who opened the log.
pub(super) struct Surroundings {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) salts: Salts,
    pub(super) identity: Identity,
    pub(super) options: WalOptions,
    /// Held as long as the writer lives.
    pub(super) _lock: Box<dyn File>,
    pub(super) spare: Spare,
}

/// Where recovery or creation left the segment being written.
pub(super) struct Tail {
    pub(super) segment: Arc<Segment>,
    pub(super) offset: u64,
    pub(super) next_sequence: u64,
    pub(super) low: u64,
    pub(super) not_after: Option<u64>,
}

/// What repeats at the start of every segment.
#[derive(Default)]
pub(super) struct Current {
    pub(super) vote: Option<Bytes>,
    pub(super) purged: Option<(LogMark, Option<Chain>)>,
    pub(super) committed: Option<LogMark>,
}

/// What a frame changed, to be noted once it is durable.
enum Effect {
    Entry { index: u64, stamp: u64, offset: u32 },
    Truncate { next_index: u64 },
}

pub(super) struct Writer {
    around: Surroundings,
    shared: Arc<Shared>,
    file: Box<dyn File>,
    /// Usable length of the file.
    capacity: u64,
    tail: Tail,
    chains: Chains,
    current: Current,
    /// Sequence of the first frame that is not durable yet.
    batch: u64,
    /// Encoded, not written; begins at the tail's offset.
    buffer: Vec<u8>,
    /// Frames written or encoded since the last sync.
    frames: usize,
    /// Written since the last sync.
    unsynced_octets: usize,
    /// Whether somebody waits for the batch to be durable.
    sync_wanted: bool,
    effects: Vec<Effect>,
    waiting: Vec<(Done, Option<OwnedSemaphorePermit>)>,
    /// Entries came after the last frame that holds the chain's value.
    unanchored: bool,
}

impl Writer {
    pub(super) fn new(
        around: Surroundings,
        shared: Arc<Shared>,
        tail: Tail,
        chains: Chains,
        current: Current,
    ) -> io::Result<Self> {
        let file = around.disk.open(&tail.segment.path, Open::Write)?;
        let capacity = file.len()?;
        let batch = tail.next_sequence;
        Ok(Self {
            around,
            shared,
            file,
            capacity,
            tail,
            chains,
            current,
            batch,
            buffer: Vec::new(),
            frames: 0,
            unsynced_octets: 0,
            sync_wanted: false,
            effects: Vec::new(),
            waiting: Vec::new(),
            unanchored: false,
        })
    }

    /// Works until told to close or until every caller is gone.
    pub(super) async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Message>) {
        let mut closing = None;
        while closing.is_none() {
            let Some(message) = inbox.recv().await else { break };
            closing = self.batch(message, &mut inbox);
        }
        self.sync_wanted = true;
        if let Err(error) = self.anchor().and_then(|()| self.flush()) {
            self.fail(error);
        }
        inbox.close();
        drop(self);
        while let Ok(message) = inbox.try_recv() {
            refuse(message);
        }
        if let Some(closed) = closing {
            let _ = closed.send(());
        }
    }

    /// Takes one message and those behind it up to a batch's size, makes them durable and tells.
    fn batch(&mut self, first: Message, inbox: &mut mpsc::UnboundedReceiver<Message>) -> Option<oneshot::Sender<()>> {
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Message::Close(closed) => return Some(closed),
                Message::Op(op) => self.take(op),
            }
            next = if self.buffer.len() < self.around.options.batch_octets { inbox.try_recv().ok() } else { None };
        }
        if let Err(error) = self.flush() {
            self.fail(error);
        }
        None
    }

    fn take(&mut self, op: Op) {
        let outcome = self.shared.check().and_then(|()| self.encode_work(op.work));
        if let Some(done) = op.done {
            self.waiting.push((done, op.room));
        }
        if let Err(error) = outcome {
            self.fail(error);
        }
    }

    fn encode_work(&mut self, work: Work) -> io::Result<()> {
        match work {
            Work::Append { records, stamp } => records.into_iter().try_for_each(|record| self.append(record, stamp)),
            Work::Truncate { next_index } => {
                let point = self.chains.at(next_index);
                self.put(&Frame::Truncate(point))?;
                self.chains.truncate(point);
                self.tail.low = self.tail.low.min(next_index);
                self.effects.push(Effect::Truncate { next_index });
                (self.sync_wanted, self.unanchored) = (true, false);
                Ok(())
            }
            Work::Purge { mark, chain } => self.purge(mark, chain),
            Work::Vote(_) if mutant::is(Mutant::ForgetVotes) => Ok(()),
            Work::Vote(vote) => {
                self.put(&Frame::Vote(vote.clone()))?;
                self.current.vote = Some(vote);
                self.sync_wanted = true;
                Ok(())
            }
            Work::Committed(mark) => {
                self.put(&Frame::Committed(mark))?;
                self.current.committed = mark;
                Ok(())
            }
            Work::PrepareSpare => self.prepare_spare(),
        }
    }

    fn append(&mut self, record: Record, stamp: u64) -> io::Result<()> {
        let offset = self.put(&Frame::Entry(record.clone()))?;
        self.chains.push(&record);
        let expiry = self.around.options.not_after.as_ref().and_then(|not_after| not_after(&record));
        self.tail.not_after = self.tail.not_after.max(expiry);
        self.effects.push(Effect::Entry { index: record.index, stamp, offset });
        (self.sync_wanted, self.unanchored) = (true, true);
        Ok(())
    }

    /// Says where the chain stands as the log comes to rest, by a truncation that removes nothing: entries after the last
    /// such value could be altered together with their checksums. Nothing when it would need another segment.
    fn anchor(&mut self) -> io::Result<()> {
        let frame = Frame::Truncate(self.chains.end());
        if !self.unanchored || self.shared.check().is_err() || !self.fits(&frame) {
            return Ok(());
        }
        self.put(&frame)?;
        self.unanchored = false;
        Ok(())
    }

    /// Whether a frame and the seal after it fit the segment being written.
    fn fits(&self, frame: &Frame) -> bool {
        let needed = frame::octets(frame) + SEAL_FRAME_OCTETS;
        self.tail.offset + (self.buffer.len() + needed) as u64 <= self.capacity
    }

    fn purge(&mut self, mark: LogMark, chain: Option<Chain>) -> io::Result<()> {
        let next_index = mark.index + 1;
        let known = next_index <= self.chains.end().next_index;
        let chain = if known { self.chains.at(next_index).chain } else { chain };
        self.put(&Frame::Purge(mark, chain))?;
        self.chains.purge(ChainPoint { next_index, chain });
        self.current.purged = Some((mark, chain));
        self.sync_wanted = true;
        Ok(())
    }

    /// Encodes a frame at the end of the batch, going over to the next segment first when it does not fit. Answers
    /// with its offset. What the frame changes is folded in after this: a new segment begins before the change.
    fn put(&mut self, frame: &Frame) -> io::Result<u32> {
        if !self.fits(frame) {
            self.roll()?;
        }
        let offset = self.tail.offset + self.buffer.len() as u64;
        let place = Place { sequence: self.tail.next_sequence, batch: self.batch };
        frame::encode(frame, place, self.tail.segment.header.salt, &mut self.buffer);
        self.tail.next_sequence += 1;
        self.frames += 1;
        Ok(offset as u32)
    }

    /// Writes what is encoded; makes it durable when somebody waits for that; then tells those who wait.
    ///
    /// A committed mark alone is written but not synced: it survives the process at once and a power cut with the
    /// next batch. Until that sync it belongs to the batch that follows it.
    fn flush(&mut self) -> io::Result<()> {
        if !self.buffer.is_empty() {
            self.file.write_at(self.tail.offset, &self.buffer)?;
            self.tail.offset += self.buffer.len() as u64;
            self.unsynced_octets += self.buffer.len();
            self.buffer.clear();
        }
        if self.sync_wanted && self.frames > 0 {
            self.sync()?;
        }
        self.sync_wanted = false;
        for (done, _room) in self.waiting.drain(..) {
            done(Ok(()));
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let start = self.around.clock.monotonic();
        let skips = mutant::is(Mutant::FsyncEveryOther) && self.tail.next_sequence.is_multiple_of(2);
        if !mutant::is(Mutant::SkipFsync) && !skips {
            self.file.sync_data()?;
        }
        if let Some(observer) = &self.around.options.observer {
            let took = self.around.clock.monotonic().saturating_sub(start);
            observer(SyncSample { frames: self.frames, octets: self.unsynced_octets, took });
        }
        (self.frames, self.unsynced_octets) = (0, 0);
        self.batch = self.tail.next_sequence;
        self.publish();
        Ok(())
    }

    /// Lets readers find on disk what has become durable.
    fn publish(&mut self) {
        let segment = self.tail.segment.header.first_sequence;
        {
            let mut archive = self.shared.archive();
            for effect in &self.effects {
                match *effect {
                    Effect::Entry { index, offset, .. } => archive.note_entry(index, offset),
                    Effect::Truncate { next_index } => archive.note_truncate(next_index),
                }
            }
        }
        let mut live = self.shared.live();
        if let Some((mark, _)) = self.current.purged {
            live.purged_durably(mark.index + 1);
        }
        for effect in self.effects.drain(..) {
            if let Effect::Entry { index, stamp, offset } = effect {
                live.locate(index, stamp, Location { segment, offset });
            }
        }
        live.evict();
    }

    /// Goes over to the next segment: all before durable, the next one in use, then the old one sealed. The old one's
    /// end is known from the next one's header, so a crash in between leaves nothing to guess.
    fn roll(&mut self) -> io::Result<()> {
        self.sync_wanted = true;
        self.flush()?;
        let end = self.chains.end();
        let sequence = self.tail.next_sequence;
        let opening = self.current.frames();
        let header = SegmentHeader {
            identity: self.around.identity,
            first_sequence: sequence + 1,
            start: end,
            opening_frames: opening.len() as u32,
            salt: self.around.salts.next(),
        };
        let (segment, offset) = self.around.spare.activate(header, &opening)?;
        let seal = Seal { end, low: self.tail.low, not_after: self.tail.not_after };
        write_seal(&*self.file, &self.tail.segment.header, self.tail.offset, sequence, seal)?;
        let segment = Arc::new(segment);
        self.file = self.around.disk.open(&segment.path, Open::Write)?;
        self.capacity = self.file.len()?;
        {
            let mut archive = self.shared.archive();
            archive.seal(seal);
            archive.add(Arc::clone(&segment), end.next_index, None, Some(Index::new()));
        }
        let next_sequence = header.first_sequence + opening.len() as u64;
        self.tail = Tail { segment, offset, next_sequence, low: end.next_index, not_after: None };
        (self.batch, self.unanchored) = (next_sequence, false);
        self.prepare_spare()
    }

    /// Lack of space is no failure yet: the segment in use still has room, and callers are told to hold back.
    fn prepare_spare(&mut self) -> io::Result<()> {
        match self.around.spare.prepare() {
            Ok(()) => self.shared.set_short_of_space(false),
            Err(error) if is_lack_of_space(&error) => {
                tracing::warn!(%error, "no room for the log's next segment");
                self.shared.set_short_of_space(true);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Latches the failure and tells everybody; what was encoded is dropped.
    fn fail(&mut self, error: io::Error) {
        self.shared.fail(&error);
        self.buffer.clear();
        self.effects.clear();
        self.frames = 0;
        for (done, _room) in self.waiting.drain(..) {
            done(Err(io::Error::new(error.kind(), error.to_string())));
        }
    }
}

impl Drop for Writer {
    /// A writer that panicked (its own bug or a callback's) must not look like a log at rest.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.fail(io::Error::other("the log's writer panicked"));
        }
    }
}

impl Current {
    /// As the frames that a segment begins with.
    pub(super) fn frames(&self) -> Vec<Frame> {
        let vote = self.vote.clone().map(Frame::Vote);
        let purged = self.purged.map(|(mark, chain)| Frame::Purge(mark, chain));
        let committed = self.committed.map(|mark| Frame::Committed(Some(mark)));
        [vote, purged, committed].into_iter().flatten().collect()
    }
}

/// Ends a segment file with its seal, durably, and cuts off what was preallocated behind it.
pub(super) fn write_seal(
    file: &dyn File,
    header: &SegmentHeader,
    offset: u64,
    sequence: u64,
    seal: Seal,
) -> io::Result<()> {
    let mut octets = Vec::with_capacity(SEAL_FRAME_OCTETS);
    frame::encode(&Frame::Seal(seal), Place { sequence, batch: sequence }, header.salt, &mut octets);
    file.write_at(offset, &octets)?;
    file.sync_data()?;
    file.set_len(offset + octets.len() as u64)
}

pub(crate) fn is_lack_of_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Tells those whose operation came after the end.
fn refuse(message: Message) {
    if let Message::Op(Op { done: Some(done), .. }) = message {
        done(Err(closed()));
    }
}

/// The error of operations after the end.
pub(super) fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the log is closed")
}
