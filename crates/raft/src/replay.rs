//! Replays a node's log from where the kept history begins, offline, and holds the snapshots beside it against what that
//! gives.
//!
//! It refuses to write and to judge a log whose beginning is not there: a node that joined by a snapshot may lack it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use certwright_core::log::{Codec, Fold};
use certwright_proto::storage::decode_entry;
use certwright_seams::Disk;

use crate::base::{self, floor_after};
use crate::consensus::EntryPayload;
use crate::consensus::store::entry;
use crate::fold::replica::Replica;
use crate::snapshot::content::{Owner, fingerprint};
use crate::snapshot::{SnapshotFile, Snapshots};
use crate::wal::{Identity, read};

/// What the comparison found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Replayed {
    /// Snapshots whose index the replay passed.
    pub compared: usize,
    /// Those of them that hold something else than the replay gives.
    pub differing: Vec<PathBuf>,
    /// Snapshots that are not whole, or another cluster's.
    pub unreadable: Vec<PathBuf>,
}

fn broken(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Folds the log in a data directory from the first entry that is kept on, onto the snapshot before it, and compares every snapshot there with the state at its
/// index, down to the octet. Nothing is compared when entries are missing; an error means that something cannot be read.
pub fn replay<F: Fold>(disk: Arc<dyn Disk>, data: &Path, codec: &dyn Codec<F>) -> io::Result<Replayed> {
    let Some((identity, mut entries)) = read::entries(&*disk, &data.join("log")).map_err(broken)? else {
        return Ok(Replayed::default());
    };
    if let Some((_, fetched)) = read::entries(&*disk, &data.join("backfill")).map_err(broken)? {
        for (index, record) in fetched {
            entries.entry(index).or_insert(record);
        }
    }
    let Identity { cluster_id, epoch, .. } = identity;
    let owner = Owner { cluster_id, epoch };
    let (base, damaged) = Snapshots::at(Arc::clone(&disk), data.join(base::DIRECTORY), owner).all::<F>(codec)?;
    let snapshots = Snapshots::at(disk, data.join("snapshots"), owner);
    let (whole, mut unreadable) = snapshots.all::<F>(codec)?;
    unreadable.extend(damaged);
    let mut replica =
        base.into_iter().next_back().map_or_else(|| Replica::genesis(&cluster_id), |(_, replica)| replica);
    let first = floor_after(&replica).first_index;
    let mut waiting = whole.into_iter().filter(|(_, held)| held.index() >= first).peekable();
    let mut replayed = Replayed { unreadable, ..Replayed::default() };
    for (expected, (index, record)) in (first..).zip(entries.split_off(&first)) {
        if index != expected {
            break;
        }
        let entry = entry(record)?;
        let decoded = match &entry.payload {
            EntryPayload::Normal(payload) => Some(decode_entry(codec, payload.0.clone()).map_err(broken)?),
            EntryPayload::Blank | EntryPayload::Membership(_) => None,
        };
        replica.apply(&entry, decoded);
        while let Some((SnapshotFile { path, .. }, held)) = waiting.next_if(|(_, held)| held.index() == index) {
            replayed.compared += 1;
            if fingerprint(owner, codec, &held.cut()) != fingerprint(owner, codec, &replica.cut()) {
                replayed.differing.push(path);
            }
        }
    }
    Ok(replayed)
}
