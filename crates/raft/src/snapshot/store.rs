//! The directory of snapshots: temporary files until they are whole, then named by what they cover, the newest two kept.
//!
//! It refuses to show a file that is not whole.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use certwright_core::log::{Codec, Fold};
use certwright_seams::disk::{Disk, File, Open};

use super::content::{self, Owner};
use crate::consensus::{LogId, SnapshotMeta, term_of};
use crate::fold::replica::{Replica, ReplicaCut};
use crate::limits::SNAPSHOTS_KEPT;

const SUFFIX: &str = ".snapshot";
const TEMPORARY_SUFFIX: &str = ".new";
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

/// A snapshot file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SnapshotFile {
    pub(crate) path: PathBuf,
    pub(crate) octets: u64,
}

/// The directory of snapshots.
pub(crate) struct Snapshots {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    owner: Owner,
    temporaries: AtomicU64,
}

impl Snapshots {
    /// Opens the directory and removes what never became whole. Blocks.
    pub(crate) fn open(disk: Arc<dyn Disk>, directory: PathBuf, owner: Owner) -> io::Result<Self> {
        disk.create_dir_all(&directory, DIRECTORY_MODE)?;
        if let Some(parent) = directory.parent() {
            disk.sync_dir(parent)?;
        }
        let snapshots = Self { disk, directory, owner, temporaries: AtomicU64::new(0) };
        for path in snapshots.list(TEMPORARY_SUFFIX)? {
            snapshots.disk.remove(&path)?;
        }
        Ok(snapshots)
    }

    fn list(&self, suffix: &str) -> io::Result<Vec<PathBuf>> {
        let names = self.disk.list(&self.directory)?;
        Ok(names
            .into_iter()
            .filter_map(|path| path.file_name().and_then(|name| name.to_str()).map(str::to_owned))
            .filter(|name| name.ends_with(suffix))
            .map(|name| self.directory.join(name))
            .collect())
    }

    /// Names sort as the snapshots do: by index, then by term.
    fn path(&self, last: Option<&LogId>) -> PathBuf {
        let (index, term) = last.map_or((0, 0), |id| (id.index(), term_of(id)));
        self.directory.join(format!("{index:020}-{term:020}{SUFFIX}"))
    }

    fn temporary(&self) -> PathBuf {
        let number = self.temporaries.fetch_add(1, Ordering::Relaxed);
        self.directory.join(format!("{number:06}{TEMPORARY_SUFFIX}"))
    }

    /// An empty temporary file, for a snapshot on its way. Blocks.
    pub(crate) fn create_temporary(&self) -> io::Result<(PathBuf, Box<dyn File>)> {
        let path = self.temporary();
        let file = self.disk.open(&path, Open::CreateNew(FILE_MODE))?;
        Ok((path, file))
    }

    /// Removes a temporary file that is not wanted; one that was given a name is no longer there. Blocks.
    pub(crate) fn discard(&self, path: &Path) {
        let removed = self.disk.exists(path).and_then(|exists| if exists { self.disk.remove(path) } else { Ok(()) });
        if let Err(error) = removed {
            tracing::warn!(%error, path = %path.display(), "a snapshot that is not wanted was not removed");
        }
    }

    /// Writes a cut as a new snapshot. Blocks.
    pub(crate) fn write<F: Fold>(&self, codec: &dyn Codec<F>, cut: &ReplicaCut<F::Cut>) -> io::Result<SnapshotFile> {
        let (temporary, file) = self.create_temporary()?;
        let octets = content::write(&*file, self.owner, codec, cut)?;
        drop(file);
        self.publish(&temporary, cut.applied.as_ref(), octets)
    }

    fn publish(&self, temporary: &Path, last: Option<&LogId>, octets: u64) -> io::Result<SnapshotFile> {
        let path = self.path(last);
        self.disk.rename(temporary, &path)?;
        self.disk.sync_dir(&self.directory)?;
        self.prune()?;
        Ok(SnapshotFile { path, octets })
    }

    fn prune(&self) -> io::Result<()> {
        let all = self.list(SUFFIX)?;
        for path in all.iter().rev().skip(SNAPSHOTS_KEPT) {
            self.disk.remove(path)?;
        }
        Ok(())
    }

    /// Reads and verifies a file; a received one is then given its name. Blocks.
    pub(crate) fn install<F: Fold>(&self, codec: &dyn Codec<F>, file: &SnapshotFile) -> io::Result<Replica<F>> {
        let handle = self.disk.open(&file.path, Open::Read)?;
        let replica = content::read(&*handle, self.owner, codec)?;
        if file.path != self.path(replica.applied.as_ref()) {
            handle.sync_data()?;
            drop(handle);
            self.publish(&file.path, replica.applied.as_ref(), file.octets)?;
        }
        Ok(replica)
    }

    /// Verifies a received file as a whole and says what it covers. Blocks.
    pub(crate) fn verify(&self, file: &SnapshotFile) -> io::Result<SnapshotMeta> {
        let handle = self.disk.open(&file.path, Open::Read)?;
        let meta = content::read_meta(&*handle, self.owner)?;
        let mut reader = super::format::Reader::new(&*handle)?;
        while reader.frame()?.is_some() {}
        Ok(meta)
    }

    /// The newest snapshot whose header reads. Blocks.
    pub(crate) fn newest(&self) -> io::Result<Option<(SnapshotMeta, SnapshotFile)>> {
        for path in self.list(SUFFIX)?.into_iter().rev() {
            match self.describe(&path) {
                Ok(found) => return Ok(Some(found)),
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    tracing::error!(%error, path = %path.display(), "a snapshot is damaged: looking for an older one");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    fn describe(&self, path: &Path) -> io::Result<(SnapshotMeta, SnapshotFile)> {
        let file = self.disk.open(path, Open::Read)?;
        let meta = content::read_meta(&*file, self.owner)?;
        Ok((meta, SnapshotFile { path: path.to_owned(), octets: file.len()? }))
    }

    /// The replica of the newest snapshot that is whole; damaged newer ones are set aside. Blocks.
    pub(crate) fn recover<F: Fold>(&self, codec: &dyn Codec<F>) -> io::Result<Option<Replica<F>>> {
        for path in self.list(SUFFIX)?.into_iter().rev() {
            let file = self.disk.open(&path, Open::Read)?;
            match content::read::<F>(&*file, self.owner, codec) {
                Ok(replica) => return Ok(Some(replica)),
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    drop(file);
                    let aside = path.with_extension("damaged");
                    tracing::error!(%error, path = %aside.display(), "a snapshot is damaged and was set aside");
                    self.disk.rename(&path, &aside)?;
                    self.disk.sync_dir(&self.directory)?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Opens a snapshot to send it. Blocks.
    pub(crate) fn open_file(&self, file: &SnapshotFile) -> io::Result<Box<dyn File>> {
        self.disk.open(&file.path, Open::Read)
    }
}
