//! State folded from entries offline: from a snapshot, or from the first entry on.
//!
//! It refuses entries out of order.

use std::io;
use std::sync::Arc;

use certwright_core::log::{Codec, Fold};
use certwright_core::time::Timestamp;
use certwright_proto::storage::decode_entry;
use certwright_seams::disk::File;

use crate::base::{digest_of, floor_after};
use crate::chain::Chain;
use crate::consensus::EntryPayload;
use crate::consensus::store::{entry, mark_of};
use crate::fold::replica::Replica;
use crate::snapshot::content::{self, Owner};
use crate::view::AppliedEntry;
use crate::wal::{Floor, LogMark, Record};

/// What a replica would hold after some entry.
pub struct Folded<F: Fold>(pub(crate) Replica<F>);

impl<F: Fold> Folded<F> {
    /// Before the first entry of a cluster.
    pub fn genesis(cluster_id: &[u8; 16]) -> Self {
        Self(Replica::genesis(cluster_id))
    }

    /// What a snapshot of that cluster and epoch holds, once all of it verified. Blocks on the disk.
    pub fn read(file: &dyn File, cluster_id: [u8; 16], epoch: u64, codec: &dyn Codec<F>) -> io::Result<Self> {
        content::read(file, Owner { cluster_id, epoch }, codec).map(Self)
    }

    /// Folds the next entry.
    pub fn apply(&mut self, record: Record, codec: &dyn Codec<F>) -> io::Result<()> {
        self.apply_seeing(record, codec).map(drop)
    }

    /// As [`apply`](Self::apply); answers with the entry as it took effect.
    pub(crate) fn apply_seeing(
        &mut self,
        record: Record,
        codec: &dyn Codec<F>,
    ) -> io::Result<Arc<AppliedEntry<F::Event>>> {
        let expected = self.0.applied.as_ref().map_or(0, |last| last.index() + 1);
        if record.index != expected {
            let text = format!("entry {} came instead of {expected}", record.index);
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let entry = entry(record)?;
        let broken = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        let decoded = match &entry.payload {
            EntryPayload::Normal(payload) => Some(decode_entry(codec, payload.0.clone()).map_err(broken)?),
            EntryPayload::Blank | EntryPayload::Membership(_) => None,
        };
        Ok(self.0.apply(&entry, decoded).entry)
    }

    /// The state.
    pub fn state(&self) -> &F {
        &self.0.state
    }

    /// The last entry folded; `None` before the first.
    pub fn last(&self) -> Option<LogMark> {
        self.0.applied.as_ref().map(mark_of)
    }

    /// Log time after it.
    pub fn at(&self) -> Timestamp {
        self.0.at
    }

    /// The chain's value after it.
    pub fn chain(&self) -> Chain {
        self.0.chain
    }

    /// Whether both hold the same, down to the octet.
    pub fn equals(&self, other: &Self, codec: &dyn Codec<F>) -> bool {
        self.digest(codec) == other.digest(codec)
    }

    /// SHA-256 of all that a snapshot of it would hold, wherever that is stored.
    pub fn digest(&self, codec: &dyn Codec<F>) -> [u8; 32] {
        digest_of(codec, &self.0)
    }

    /// Where the history after it begins.
    pub fn floor(&self) -> Floor {
        floor_after(&self.0)
    }
}
