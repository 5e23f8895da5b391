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

use crate::chain::Chain;
use crate::consensus::store::mark_of;
use crate::error::ReadError;
use crate::handle::Log;
use crate::limits::READ_OCTETS_MAX;
use crate::snapshot::{Snapshots, content};
use crate::wal::gaps::Gaps;
use crate::wal::{LogMark, Record, Wal};

/// The pool on which snapshots are written and read.
const POOL: &str = "backup";

/// A consistent copy: the entries from the first one to `last`, and the snapshot that folding them gives.
pub struct Source<F: Fold> {
    /// The state at `last`.
    pub state: Arc<F::Cut>,
    /// The last entry.
    pub last: LogMark,
    /// The chain's value after it.
    pub chain: Chain,
    /// Log time after it.
    pub at: Timestamp,
    wal: Wal,
    gaps: Arc<Gaps>,
    snapshots: Arc<Snapshots>,
    path: PathBuf,
    file: Box<dyn File>,
}

impl<F: Fold> Log<F> {
    /// Cuts a copy of everything that is applied here, and of all the entries that it was folded from.
    pub async fn source(&self) -> Result<Source<F>, ReadError> {
        let (shared, snapshots, wal, gaps) = self.for_backup();
        let failed = |error: io::Error| match error.get_ref() {
            Some(inner) if inner.is::<ReadError>() => ReadError::Gap,
            _ => ReadError::Storage(error.to_string()),
        };
        let cut = shared.replica().cut();
        let applied = cut.applied.as_ref().map(mark_of);
        let last = applied.ok_or_else(|| ReadError::Storage("nothing is applied here yet".to_owned()))?;
        let (chain, at) = (cut.chain, cut.at);
        let working = (Arc::clone(&shared), Arc::clone(&snapshots), wal.clone(), Arc::clone(&gaps));
        let exec = Arc::clone(&shared.seams.exec);
        let work = move || -> io::Result<_> {
            let (shared, snapshots, wal, gaps) = working;
            require_whole(&wal, &gaps, last.index)?;
            let (path, file) = snapshots.create_temporary()?;
            content::write(&*file, snapshots.owner(), &*shared.codec, &cut)?;
            drop(file);
            let file = shared.seams.disk.open(&path, Open::Read)?;
            Ok((path, file, cut.state))
        };
        let (path, file, state) = compute(&*exec, POOL, work).await.map_err(failed)?;
        let state = Arc::new(state);
        Ok(Source { state, last, chain, at, wal, gaps, snapshots, path, file })
    }
}

/// Refuses a log that lacks entries up to `last`: agents are told certificates from the entries that issued them, so that a
/// cluster without some of them would serve nobody whom those concern.
pub(crate) fn require_whole(wal: &Wal, gaps: &Gaps, last: u64) -> io::Result<()> {
    if gaps.is_whole(wal, 0, last + 1)? {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::NotFound, ReadError::Gap))
}

impl<F: Fold> Source<F> {
    /// The entries from that index on, as many as fit about a mebioctet; none after the last. Blocks on the disk.
    pub fn entries(&self, from: u64) -> io::Result<Vec<Record>> {
        let records = self.gaps.archive_read(&self.wal, from, self.last.index + 1, READ_OCTETS_MAX)?;
        if records.is_empty() && from <= self.last.index {
            return Err(io::Error::other(format!("entry {from} is gone")));
        }
        Ok(records)
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
