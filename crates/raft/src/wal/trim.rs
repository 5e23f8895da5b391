//! Deleting the oldest segments of a log, one at a time, behind a floor that is written down first.
//!
//! It refuses what Raft may still need, and to leave a hole: after a power cut at any moment what is left is contiguous.

use std::io;
use std::path::PathBuf;
use std::sync::PoisonError;

use certwright_seams::disk::Open;

use super::floor::{self, Floor};
use super::{Inner, Wal};

/// What was deleted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Trimmed {
    /// Segments.
    pub segments: u64,
    /// Octets of them.
    pub octets: u64,
}

/// How far a log is trimmed.
#[derive(Debug, Default)]
pub(super) struct Trimming {
    /// Where the history begins that is kept, as the directory says.
    pub(super) floor: Option<Floor>,
    /// A segment could not be deleted for good: were the next one deleted, there might be a hole.
    halted: bool,
    /// The segment that was being written when the log was opened, until it was synced: what a process that died had written
    /// is read back at once, and may be lost with the power all the same.
    recovered: Option<PathBuf>,
}

impl Trimming {
    pub(super) fn at(floor: Option<Floor>, recovered: PathBuf) -> Self {
        Self { floor, halted: false, recovered: Some(recovered) }
    }

    /// Makes what was found when the log was opened durable, once.
    fn settle(&mut self, inner: &Inner) -> io::Result<()> {
        let Some(path) = &self.recovered else { return Ok(()) };
        let synced = inner.disk.open(path, Open::Read)?.sync_data();
        // As with every sync of the log, a second attempt could report success for what is lost.
        synced.inspect_err(|error| inner.shared.fail(error))?;
        self.recovered = None;
        Ok(())
    }
}

impl Wal {
    /// Where the history begins that is kept, once a log was trimmed.
    pub fn floor(&self) -> Option<Floor> {
        self.inner.trimming.lock().unwrap_or_else(PoisonError::into_inner).floor
    }

    /// Whether a segment lies wholly below an index and holds nothing that is live.
    pub(crate) fn has_below(&self, first_index: u64) -> bool {
        let live_from = self.inner.shared.live().durably_from();
        self.inner.shared.archive().droppable(first_index.min(live_from)).is_some()
    }

    /// Makes what was found when the log was opened durable, if nobody has yet. Blocks on the disk.
    pub(crate) fn settle(&self) -> io::Result<()> {
        self.inner.trimming.lock().unwrap_or_else(PoisonError::into_inner).settle(&self.inner)
    }

    /// Raises the floor, durably, then deletes every segment that lies wholly below it and holds nothing that is live, by the
    /// purge mark that is on the disk for good. The segment being written stays in any case. A floor that is not above the one there
    /// is deletes what may have been left when an earlier call died. After an error in deleting, nothing more is deleted before
    /// the log is opened again. Blocks on the disk; one call at a time.
    pub fn trim(&self, wanted: Floor) -> io::Result<Trimmed> {
        let inner = &*self.inner;
        let mut trimming = inner.trimming.lock().unwrap_or_else(PoisonError::into_inner);
        inner.shared.check()?;
        if trimming.halted {
            return Err(io::Error::other("a segment could not be deleted: nothing more is deleted before a restart"));
        }
        let (live_from, next_index) = {
            let live = inner.shared.live();
            (live.durably_from(), live.next_index())
        };
        trimming.settle(inner)?;
        if wanted.first_index > next_index {
            let text = format!("the log ends before entry {next_index}, and was to begin with {}", wanted.first_index);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let raised = match trimming.floor {
            Some(known) if known.first_index == wanted.first_index && known != wanted => {
                let text = format!("entry {} is the first one kept, after another chain", known.first_index);
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
            Some(known) if known.first_index >= wanted.first_index => {
                // An earlier run may have died after the first file, or one was damaged since: were a segment deleted now, the
                // log would depend on the other file alone.
                if !floor::is_written_twice(&*inner.disk, &inner.directory, &known) {
                    floor::write(&*inner.disk, &inner.directory, &known)?;
                }
                known
            }
            _ => {
                floor::write(&*inner.disk, &inner.directory, &wanted)?;
                *trimming.floor.insert(wanted)
            }
        };
        let deleted = delete(inner, raised.first_index.min(live_from));
        trimming.halted = deleted.is_err();
        deleted
    }
}

/// Deletes segments from the oldest on. Each is gone for good before the next one goes.
fn delete(inner: &Inner, before: u64) -> io::Result<Trimmed> {
    let mut trimmed = Trimmed::default();
    loop {
        let Some(segment) = inner.shared.archive().droppable(before) else { return Ok(trimmed) };
        let octets = inner.disk.open(&segment.path, Open::Read)?.len()?;
        inner.disk.remove(&segment.path)?;
        inner.shared.archive().drop_first();
        inner.disk.sync_dir(&inner.directory)?;
        tracing::info!(path = %segment.path.display(), "a segment of history that is not kept any more was deleted");
        (trimmed.segments, trimmed.octets) = (trimmed.segments + 1, trimmed.octets + octets);
    }
}
