//! What one server has, read offline: its newest snapshot and every entry of its log that is kept, committed or not.
//!
//! It refuses a directory that a server has open; what it repairs is what that server would repair when it starts.

use std::io;
use std::path::Path;
use std::sync::Arc;

use certwright_core::log::{Codec, Fold};
use certwright_seams::Seams;

use crate::base::Bases;
use crate::folded::Folded;
use crate::limits::READ_OCTETS_MAX;
use crate::snapshot::Snapshots;
use crate::snapshot::content::Owner;
use crate::wal::gaps::Gaps;
use crate::wal::{Identity, LogMark, Record, Wal, WalOptions};

/// One server's log, opened to be read.
pub struct Survivor<F: Fold> {
    wal: Wal,
    gaps: Gaps,
    bases: Bases,
    snapshot: Option<Folded<F>>,
    cluster_id: [u8; 16],
    /// The last entry that this server knows to be committed.
    pub committed: Option<LogMark>,
    /// Its last entry.
    pub last: Option<LogMark>,
}

impl<F: Fold> Survivor<F> {
    /// Opens the log in a data directory. Blocks on the disk.
    pub fn open(
        seams: &Seams,
        data: &Path,
        identity: Identity,
        segment_octets: u64,
        codec: &dyn Codec<F>,
    ) -> io::Result<Self> {
        let Identity { cluster_id, epoch, .. } = identity;
        let snapshots = Snapshots::open(Arc::clone(&seams.disk), data.join("snapshots"), Owner { cluster_id, epoch })?;
        let snapshot = snapshots.recover(codec)?.map(Folded);
        let (wal, recovered) = Wal::open(seams, &data.join("log"), identity, WalOptions::new(segment_octets))
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let gaps = Gaps::open(Arc::clone(&seams.disk), &*seams.entropy, &data.join("backfill"), identity)?;
        let bases = Bases::open(Arc::clone(&seams.disk), data, Owner { cluster_id, epoch }, wal.floor())?;
        let (committed, last) = (recovered.committed, recovered.last);
        Ok(Self { wal, gaps, bases, snapshot, cluster_id, committed, last })
    }

    /// Refuses a log that lacks entries, or the snapshot that the kept ones begin with.
    pub fn require_whole(&self) -> io::Result<()> {
        crate::backup::require_whole(&self.wal, &self.gaps, &self.bases, self.last.map_or(0, |last| last.index))
    }

    /// The entries from that index on, as many as fit about a mebioctet.
    pub fn entries(&self, from: u64) -> io::Result<Vec<Record>> {
        self.gaps.archive_read(&self.wal, from, u64::MAX, READ_OCTETS_MAX)
    }

    /// The state that history begins with; `None` when it begins with the first entry of all. All of it is verified.
    pub fn base(&self, codec: &dyn Codec<F>) -> io::Result<Option<Folded<F>>> {
        match self.bases.floor() {
            Some(_) => self.bases.read(codec, &self.cluster_id).map(Folded).map(Some),
            None => Ok(None),
        }
    }

    /// What all of it folds to.
    pub fn fold(&mut self, codec: &dyn Codec<F>) -> io::Result<Folded<F>> {
        let mut folded = match self.snapshot.take() {
            Some(newest) => newest,
            None => Folded(self.bases.read(codec, &self.cluster_id)?),
        };
        loop {
            let next = folded.last().map_or(0, |last| last.index + 1);
            let records = self.entries(next)?;
            if records.is_empty() {
                return Ok(folded);
            }
            records.into_iter().try_for_each(|record| folded.apply(record, codec))?;
        }
    }

    /// Gives the directory back.
    pub async fn close(self) {
        self.wal.close().await;
    }
}
