//! What a backup is made of: a snapshot at one index and the entries up to it, read without holding anything up.
//!
//! It refuses to encrypt and to format: who asks does that.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use certwright_core::log::Fold;
use certwright_core::time::Timestamp;
use certwright_seams::disk::{File, Open};
use certwright_seams::exec::compute;

use crate::base::{Bases, Reading};
use crate::chain::Chain;
use crate::consensus::store::mark_of;
use crate::error::ReadError;
use crate::handle::Log;
use crate::handle::retention::History;
use crate::limits::READ_OCTETS_MAX;
use crate::snapshot::{Snapshots, content};
use crate::wal::gaps::Gaps;
use crate::wal::{Floor, LogMark, Record, Wal};

/// The pool on which snapshots are written and read.
const POOL: &str = "backup";

/// A consistent copy: the entries from the first one that is kept to `last`, the snapshot that history begins with, and the
/// one that folding the entries onto it gives.
pub struct Source<F: Fold> {
    /// Where history begins, and the log time of the snapshot there; `None` when it begins with the first entry of all.
    pub begins: Option<(Floor, Timestamp)>,
    /// The state at `last`.
    pub state: Arc<F::Cut>,
    /// The last entry.
    pub last: LogMark,
    /// The chain's value after it.
    pub chain: Chain,
    /// Log time after it.
    pub at: Timestamp,
    history: History<F>,
    snapshots: Arc<Snapshots>,
    path: PathBuf,
    file: Box<dyn File>,
    base: Option<Box<dyn File>>,
    /// What is read stays in place.
    _reading: Reading,
}

impl<F: Fold> Log<F> {
    /// Cuts a copy of everything that is applied here, and of all the entries that it was folded from.
    pub async fn source(&self) -> Result<Source<F>, ReadError> {
        let (history, snapshots) = self.for_backup();
        let shared = Arc::clone(&history.shared);
        let failed = |error: io::Error| match error.get_ref() {
            Some(inner) if inner.is::<ReadError>() => ReadError::Gap,
            _ => ReadError::Storage(error.to_string()),
        };
        let reading = history.bases.hold().ok_or(ReadError::Gap)?;
        let cut = shared.replica().cut();
        let applied = cut.applied.as_ref().map(mark_of);
        let last = applied.ok_or_else(|| ReadError::Storage("nothing is applied here yet".to_owned()))?;
        let (chain, at) = (cut.chain, cut.at);
        let working = (history.clone(), Arc::clone(&snapshots));
        let exec = Arc::clone(&shared.seams.exec);
        let work = move || -> io::Result<_> {
            let (History { shared, wal, gaps, bases, .. }, snapshots) = working;
            require_whole(&wal, &gaps, &bases, last.index)?;
            let base = bases.base().map(|base| Ok::<_, io::Error>((bases.open_file(&base)?, base))).transpose()?;
            let (path, file) = snapshots.create_temporary()?;
            content::write(&*file, snapshots.owner(), &*shared.codec, &cut)?;
            drop(file);
            let file = shared.seams.disk.open(&path, Open::Read)?;
            Ok((path, file, base, cut.state))
        };
        let (path, file, base, state) = compute(&*exec, POOL, work).await.map_err(failed)?;
        let state = Arc::new(state);
        let (base, begins) = base.map(|(file, base)| (file, (base.floor, base.at))).unzip();
        Ok(Source { begins, state, last, chain, at, history, snapshots, path, file, base, _reading: reading })
    }
}

/// Refuses a log that lacks entries up to `last`, or what the kept ones begin with: agents are told certificates from the
/// entries that issued them, so that a cluster without some of them would serve nobody whom those concern.
pub(crate) fn require_whole(wal: &Wal, gaps: &Gaps, bases: &Bases, last: u64) -> io::Result<()> {
    // A copy of what is damaged would take the place of a good one.
    let begins = bases.floor().is_none() || bases.verify()?;
    if begins && gaps.is_whole(wal, bases.first_index(), last + 1)? {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::NotFound, ReadError::Gap))
}

impl<F: Fold> Source<F> {
    /// The entries from that index on, as many as fit about a mebioctet; none after the last. Blocks on the disk.
    pub fn entries(&self, from: u64) -> io::Result<Vec<Record>> {
        let History { wal, gaps, .. } = &self.history;
        let records = gaps.archive_read(wal, from, self.last.index + 1, READ_OCTETS_MAX)?;
        if records.is_empty() && from <= self.last.index {
            return Err(io::Error::other(format!("entry {from} is gone")));
        }
        Ok(records)
    }

    /// The first entry.
    pub fn first_index(&self) -> u64 {
        self.begins.map_or(0, |(floor, _)| floor.first_index)
    }

    /// Octets of the snapshot that history begins with, from there on; none when it begins with the first entry. Blocks on
    /// the disk.
    pub fn base(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.base.as_ref().map_or(Ok(0), |file| file.read_at(offset, buffer))
    }

    /// Octets of the snapshot.
    pub fn snapshot_octets(&self) -> io::Result<u64> {
        self.file.len()
    }

    /// Octets of the snapshot from there on. Blocks on the disk.
    pub fn snapshot(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(offset, buffer)
    }
}

impl<F: Fold> Drop for Source<F> {
    fn drop(&mut self) {
        self.snapshots.discard(&self.path);
    }
}
