//! What a simulated file or directory holds: as processes see it, as the platters have it, and what is on its way.
//!
//! It refuses paths and handles.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use rand::RngExt;
use rand::rngs::StdRng;

use super::tree::Node;

/// What a disk writes as a whole or not at all.
const SECTOR_OCTETS: usize = 512;

/// A change to a file that is not durable yet.
#[derive(Clone)]
enum Change {
    Write { offset: usize, data: Vec<u8> },
    SetLen(usize),
}

/// A regular file.
#[derive(Clone, Default)]
pub(super) struct FileBody {
    pub(super) data: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
}

impl FileBody {
    pub(super) fn write(&mut self, offset: usize, data: &[u8]) {
        let change = Change::Write { offset, data: data.to_vec() };
        apply(&mut self.data, &change, data.len());
        self.pending.push(change);
    }

    pub(super) fn set_len(&mut self, len: usize) {
        self.data.resize(len, 0);
        self.pending.push(Change::SetLen(len));
    }

    pub(super) fn sync(&mut self) {
        for change in self.pending.drain(..) {
            apply(&mut self.durable, &change, usize::MAX);
        }
    }

    /// What is on the platters.
    pub(super) fn durable(&self) -> &[u8] {
        &self.durable
    }

    /// As kernels do when a write-back fails: the pages count as clean, and no later sync brings them to the disk.
    pub(super) fn fail_sync(&mut self) {
        self.pending.clear();
    }

    /// Flips bits both in memory and on the platters.
    pub(super) fn flip(&mut self, offset: usize, bits: u8) {
        for copy in [&mut self.data, &mut self.durable] {
            if let Some(octet) = copy.get_mut(offset) {
                *octet ^= bits;
            }
        }
    }

    /// The power goes: of what was on its way nothing, everything, the beginning, or any sectors have arrived.
    pub(super) fn crash(&mut self, rng: &mut StdRng) {
        let pending = std::mem::take(&mut self.pending);
        match rng.random_range(0..4) {
            0 => {}
            1 => pending.iter().for_each(|change| apply(&mut self.durable, change, usize::MAX)),
            2 => self.keep_prefix(&pending, rng),
            _ => self.keep_sectors(&pending, rng),
        }
        self.data = self.durable.clone();
    }

    fn keep_prefix(&mut self, pending: &[Change], rng: &mut StdRng) {
        let whole = rng.random_range(0..=pending.len());
        pending[..whole].iter().for_each(|change| apply(&mut self.durable, change, usize::MAX));
        if let Some(torn @ Change::Write { data, .. }) = pending.get(whole) {
            apply(&mut self.durable, torn, rng.random_range(0..=data.len()));
        }
    }

    /// Each sector has the content it had after some of the changes.
    fn keep_sectors(&mut self, pending: &[Change], rng: &mut StdRng) {
        let mut versions = vec![self.durable.clone()];
        let mut touched = BTreeSet::new();
        for change in pending {
            let mut next = versions[versions.len() - 1].clone();
            apply(&mut next, change, usize::MAX);
            versions.push(next);
            if let Change::Write { offset, data } = change {
                touched.extend(offset / SECTOR_OCTETS..(offset + data.len()).div_ceil(SECTOR_OCTETS));
            }
        }
        // The size is metadata and moves with the journal, in order.
        let size = versions[rng.random_range(0..versions.len())].len();
        self.durable.resize(size, 0);
        for sector in touched {
            let version = &versions[rng.random_range(0..versions.len())];
            for offset in sector * SECTOR_OCTETS..((sector + 1) * SECTOR_OCTETS).min(size) {
                self.durable[offset] = version.get(offset).copied().unwrap_or(0);
            }
        }
    }
}

/// Applies a change, of a write only the first `limit` octets.
fn apply(content: &mut Vec<u8>, change: &Change, limit: usize) {
    match change {
        Change::Write { offset, data } => {
            let data = &data[..data.len().min(limit)];
            if content.len() < offset + data.len() {
                content.resize(offset + data.len(), 0);
            }
            content[*offset..offset + data.len()].copy_from_slice(data);
        }
        Change::SetLen(len) => content.resize(*len, 0),
    }
}

/// What a directory has under each name.
pub(super) type Entries = BTreeMap<OsString, Arc<Node>>;
/// Names set or removed by one operation, which reaches the disk as a whole.
type DirChange = Vec<(OsString, Option<Arc<Node>>)>;

/// A directory.
#[derive(Clone, Default)]
pub(super) struct DirBody {
    pub(super) entries: Entries,
    pub(super) durable: Entries,
    pub(super) pending: Vec<DirChange>,
}

impl DirBody {
    pub(super) fn change(&mut self, change: DirChange) {
        apply_names(&mut self.entries, &change);
        self.pending.push(change);
    }

    pub(super) fn sync(&mut self) {
        for change in self.pending.drain(..) {
            apply_names(&mut self.durable, &change);
        }
    }

    /// The power goes: the first few of the operations on their way have arrived, as a journal does it.
    pub(super) fn crash(&mut self, rng: &mut StdRng) {
        let arrived = rng.random_range(0..=self.pending.len());
        for change in self.pending.drain(..).take(arrived) {
            apply_names(&mut self.durable, &change);
        }
        self.pending.clear();
        self.entries = self.durable.clone();
    }
}

fn apply_names(entries: &mut Entries, change: &DirChange) {
    for (name, node) in change {
        match node {
            Some(node) => drop(entries.insert(name.clone(), Arc::clone(node))),
            None => drop(entries.remove(name)),
        }
    }
}

/// What a node is.
#[derive(Clone)]
pub(super) enum Body {
    File(FileBody),
    Dir(DirBody),
    Link(PathBuf),
}
