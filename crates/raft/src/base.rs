//! The snapshot that the kept history begins with: the state right before the first entry that is kept, and who reads from
//! there.
//!
//! It refuses a snapshot that is not octet by octet what the replicated log says of it, and to let go of one before the next
//! is on the disk.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use certwright_core::log::{Codec, Fold};
use certwright_core::time::Timestamp;
use certwright_seams::disk::{Disk, File, Open};

use crate::fold::replica::Replica;
use crate::folded::Folded;
use crate::limits::BASE_RESERVE_OCTETS;
use crate::snapshot::content::{self, Owner, essence};
use crate::snapshot::{SnapshotFile, Snapshots};
use crate::wal::gaps::Gaps;
use crate::wal::{Floor, Identity, Trimmed, Wal, read};

pub use crate::snapshot::content::DIGEST_VERSION;

/// Of the data directory; made when the first history is let go.
pub(crate) const DIRECTORY: &str = "base";
const DIRECTORY_MODE: u32 = 0o700;

/// What the log says of the history that is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Beginning {
    /// Where it begins.
    pub floor: Floor,
    /// SHA-256 of all that a snapshot of the moment before holds, the same on every server; in form [`DIGEST_VERSION`].
    pub digest: [u8; 32],
}

/// A snapshot that history begins with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Base {
    pub(crate) floor: Floor,
    /// Log time of the state in it.
    pub(crate) at: Timestamp,
    pub(crate) file: SnapshotFile,
}

#[derive(Default)]
struct Current {
    base: Option<Base>,
    /// Nobody reads below it, although older entries may still be here.
    floor: Option<Floor>,
    readers: usize,
    trimming: bool,
}

/// The directory of the base.
pub(crate) struct Bases {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    snapshots: Snapshots,
    current: Mutex<Current>,
}

/// What two servers with the same history have in common, wherever it is stored.
pub(crate) fn digest_of<F: Fold>(codec: &dyn Codec<F>, replica: &Replica<F>) -> [u8; 32] {
    essence(codec, &replica.cut())
}

fn is_snapshot(path: &Path) -> bool {
    path.extension().is_some_and(|it| it == "snapshot")
}

/// Where the history behind a replica begins.
pub(crate) fn floor_after<F: Fold>(replica: &Replica<F>) -> Floor {
    Floor { first_index: replica.applied.as_ref().map_or(0, |last| last.index() + 1), chain: replica.chain }
}

impl Bases {
    /// Opens the directory, if there is one; `below` is what the log itself says of its floor. Blocks.
    pub(crate) fn open(disk: Arc<dyn Disk>, data: &Path, owner: Owner, below: Option<Floor>) -> io::Result<Self> {
        let directory = data.join(DIRECTORY);
        let exists = disk.exists(&directory)?;
        let snapshots = match exists {
            true => Snapshots::open(Arc::clone(&disk), directory.clone(), owner)?,
            false => Snapshots::at(Arc::clone(&disk), directory.clone(), owner),
        };
        let bases = Self { disk, directory, snapshots: snapshots.keeping_one(), current: Mutex::default() };
        let base = if exists { bases.newest()? } else { None };
        // One below the log's own floor leads nowhere.
        let base = base.filter(|base| below.is_none_or(|below| base.floor.first_index >= below.first_index));
        let floor = base.as_ref().map(|base| base.floor).or(below);
        *bases.current() = Current { base, floor, ..Current::default() };
        Ok(bases)
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        // Each critical section replaces whole values.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As its header says; what is damaged behind that is found when it is read as a whole.
    fn newest(&self) -> io::Result<Option<Base>> {
        let Some((_, file)) = self.snapshots.newest()? else { return Ok(None) };
        let extent = content::read_extent(&*self.disk.open(&file.path, Open::Read)?, self.snapshots.owner())?;
        let floor = Floor { first_index: extent.next_index, chain: extent.chain };
        Ok(Some(Base { floor, at: extent.at, file }))
    }

    /// Below it nothing is told any more; `None` while history begins with the first entry.
    pub(crate) fn floor(&self) -> Option<Floor> {
        self.current().floor
    }

    /// The first entry that is told.
    pub(crate) fn first_index(&self) -> u64 {
        self.floor().map_or(0, |floor| floor.first_index)
    }

    /// The snapshot right before the floor, if it is here.
    pub(crate) fn base(&self) -> Option<Base> {
        let current = self.current();
        current.base.clone().filter(|base| Some(base.floor) == current.floor)
    }

    /// The state that history begins with: the base's, or none at all. `NotFound` when the base is not here. Blocks.
    pub(crate) fn read<F: Fold>(&self, codec: &dyn Codec<F>, cluster_id: &[u8; 16]) -> io::Result<Replica<F>> {
        if self.floor().is_none() {
            return Ok(Replica::genesis(cluster_id));
        }
        let base = self.base().ok_or(io::ErrorKind::NotFound)?;
        content::read(&*self.open_file(&base)?, self.snapshots.owner(), codec)
    }

    /// Opens the file of a base.
    pub(crate) fn open_file(&self, base: &Base) -> io::Result<Box<dyn File>> {
        self.disk.open(&base.file.path, Open::Read)
    }

    /// Keeps everything from the floor on in place while the guard lives; `None` while something is being deleted.
    pub(crate) fn hold(self: &Arc<Self>) -> Option<Reading> {
        let mut current = self.current();
        if current.trimming {
            return None;
        }
        current.readers += 1;
        Some(Reading(Arc::clone(self)))
    }

    /// The right to delete, for one at a time and while nobody holds anything in place.
    pub(crate) fn begin(self: &Arc<Self>) -> Option<Trimming> {
        let mut current = self.current();
        if current.trimming || current.readers > 0 {
            return None;
        }
        current.trimming = true;
        Some(Trimming(Arc::clone(self)))
    }

    /// An empty file for a base on its way, in the directory, which is made when absent. Blocks.
    pub(crate) fn create_temporary(&self) -> io::Result<(PathBuf, Box<dyn File>)> {
        self.disk.create_dir_durable(&self.directory, DIRECTORY_MODE)?;
        self.snapshots.create_temporary()
    }

    /// Throws such a file away.
    pub(crate) fn discard(&self, path: &Path) {
        self.snapshots.discard(path);
    }

    /// Refuses, with `StorageFull`, to write so many octets when that would take the last room from the log.
    pub(crate) fn require_room(&self, octets: u64) -> io::Result<()> {
        let free = self.disk.available(self.data())?;
        if free >= octets.saturating_add(BASE_RESERVE_OCTETS) {
            return Ok(());
        }
        let text = format!("{octets} octets and as much again as the log needs do not fit the {free} that are free");
        Err(io::Error::new(io::ErrorKind::StorageFull, text))
    }

    fn data(&self) -> &Path {
        self.directory.parent().unwrap_or(&self.directory)
    }

    /// How large the next base may be: the one before, or any snapshot of the state since, and an eighth.
    fn expected_octets(&self) -> io::Result<u64> {
        let mut largest = self.base().map_or(0, |base| base.file.octets);
        let snapshots = self.data().join("snapshots");
        if self.disk.exists(&snapshots)? {
            for path in self.disk.list(&snapshots)?.iter().filter(|path| is_snapshot(path)) {
                match self.disk.open(&snapshots.join(path), Open::Read) {
                    Ok(file) => largest = largest.max(file.len()?),
                    // A newer one has taken its place since.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(largest + largest / 8)
    }

    /// Writes the base that a replica is; nothing is known of it yet but that it is on the disk. Blocks.
    pub(crate) fn write<F: Fold>(&self, codec: &dyn Codec<F>, replica: &Replica<F>) -> io::Result<PathBuf> {
        self.require_room(self.expected_octets()?)?;
        let (path, file) = self.create_temporary()?;
        let written = content::write(&*file, self.snapshots.owner(), codec, &replica.cut());
        drop(file);
        written.map(|_| path.clone()).inspect_err(|_| self.discard(&path))
    }

    /// Takes a file as the base if all of it is what the log says, and removes the one before. `InvalidData` when it is
    /// something else: the file is gone then. Blocks.
    pub(crate) fn keep<F: Fold>(&self, codec: &dyn Codec<F>, path: &Path, wanted: &Beginning) -> io::Result<()> {
        let kept = self.judge(codec, path, wanted).and_then(|replica| {
            let file = self.disk.open(path, Open::Read)?;
            // One that arrived was written by others.
            file.sync_data()?;
            let octets = file.len()?;
            drop(file);
            let file = self.snapshots.publish(path, replica.applied.as_ref(), octets)?;
            Ok(Base { floor: wanted.floor, at: replica.at, file })
        });
        let base = kept.inspect_err(|_| self.discard(path))?;
        let mut current = self.current();
        (current.floor, current.base) = (Some(base.floor), Some(base));
        Ok(())
    }

    fn judge<F: Fold>(&self, codec: &dyn Codec<F>, path: &Path, wanted: &Beginning) -> io::Result<Replica<F>> {
        let replica = content::read(&*self.disk.open(path, Open::Read)?, self.snapshots.owner(), codec)?;
        if floor_after(&replica) == wanted.floor && digest_of(codec, &replica) == wanted.digest {
            return Ok(replica);
        }
        let text = format!("it is not the state before entry {} as the log says it", wanted.floor.first_index);
        Err(io::Error::new(io::ErrorKind::InvalidData, text))
    }

    /// Reads the base from end to end, and sets it aside when it is damaged: it has to come from elsewhere. Blocks.
    pub(crate) fn verify(&self) -> io::Result<bool> {
        let Some(base) = self.base() else { return Ok(false) };
        match self.snapshots.verify(&base.file) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                tracing::error!(%error, path = %base.file.path.display(), "the snapshot that history begins with is damaged");
                self.snapshots.set_aside(&base.file.path)?;
                self.current().base = None;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

/// The state that the history in a data directory begins with, read offline and verified; `None` when it begins with the
/// first entry of all, or there is none. Blocks.
pub fn kept_base<F: Fold>(disk: &dyn Disk, data: &Path, codec: &dyn Codec<F>) -> io::Result<Option<Folded<F>>> {
    let directory = data.join(DIRECTORY);
    if !disk.exists(&directory)? {
        return Ok(None);
    }
    let identity = read::identity(disk, &data.join("log")).map_err(io::Error::other)?;
    let names = disk.list(&directory)?;
    let newest = names.iter().rfind(|name| is_snapshot(name));
    let Some((newest, Identity { cluster_id, epoch, .. })) = newest.zip(identity) else { return Ok(None) };
    let file = disk.open(&directory.join(newest), Open::Read)?;
    content::read(&*file, Owner { cluster_id, epoch }, codec).map(|replica| Some(Folded(replica)))
}

/// Deletes what lies below the base: gaps first, then segments. The base is here. Blocks.
pub(crate) fn delete_below(bases: &Bases, gaps: &Gaps, wal: &Wal) -> io::Result<Trimmed> {
    let base =
        bases.base().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no snapshot is there to begin with"))?;
    bases.snapshots.remove_before(&base.file)?;
    gaps.raise(&base.floor)?;
    wal.trim(base.floor)
}

/// Whoever has it reads from the floor on.
pub(crate) struct Reading(Arc<Bases>);

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.current().readers -= 1;
    }
}

/// Whoever has it may delete.
pub(crate) struct Trimming(Arc<Bases>);

impl Drop for Trimming {
    fn drop(&mut self) {
        self.0.current().trimming = false;
    }
}

#[cfg(test)]
mod tests;
