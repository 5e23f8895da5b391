//! The directory of snapshots: temporary files until they are whole, then named by what they cover, the newest two kept,
//! and what arrived of one whose transfer broke off.
//!
//! It refuses to show a file that is not whole.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use certwright_core::log::{Codec, Fold};
use certwright_seams::disk::{Disk, File, Open};

use super::content::{self, Owner};
use super::format::{self, DIGEST_OCTETS};
use crate::consensus::{LogId, SnapshotMeta, term_of};
use crate::fold::replica::{Replica, ReplicaCut};
use crate::limits::SNAPSHOTS_KEPT;

const SUFFIX: &str = ".snapshot";
const TEMPORARY_SUFFIX: &str = ".new";
const PART_SUFFIX: &str = ".part";
const ASIDE_SUFFIX: &str = ".damaged";
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

/// A snapshot file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SnapshotFile {
    pub(crate) path: PathBuf,
    pub(crate) octets: u64,
}

/// A snapshot and what it holds.
pub(crate) type Held<F> = (SnapshotFile, Replica<F>);

/// The directory of snapshots.
pub(crate) struct Snapshots {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    owner: Owner,
    /// The newest so many stay.
    kept: usize,
    temporaries: AtomicU64,
    /// The part that began to arrive last.
    arriving: Mutex<Option<PathBuf>>,
}

impl SnapshotFile {
    /// The file of a snapshot that covers nothing; it is nowhere.
    pub(crate) fn none() -> Self {
        Self { path: PathBuf::new(), octets: 0 }
    }
}

impl Snapshots {
    /// Opens the directory and removes what never became whole. Blocks.
    pub(crate) fn open(disk: Arc<dyn Disk>, directory: PathBuf, owner: Owner) -> io::Result<Self> {
        disk.create_dir_all(&directory, DIRECTORY_MODE)?;
        if let Some(parent) = directory.parent() {
            disk.sync_dir(parent)?;
        }
        let snapshots = Self::at(disk, directory, owner);
        for path in snapshots.list(TEMPORARY_SUFFIX)? {
            snapshots.disk.remove(&path)?;
        }
        Ok(snapshots)
    }

    /// The directory as it is, to be read.
    pub(crate) fn at(disk: Arc<dyn Disk>, directory: PathBuf, owner: Owner) -> Self {
        let (kept, temporaries, arriving) = (SNAPSHOTS_KEPT, AtomicU64::new(0), Mutex::default());
        Self { disk, directory, owner, kept, temporaries, arriving }
    }

    /// The same, of which only the newest one stays.
    pub(crate) fn keeping_one(self) -> Self {
        Self { kept: 1, ..self }
    }

    /// Every snapshot that is whole, oldest first, with the replica that it holds; and those that are not. Blocks.
    pub(crate) fn all<F: Fold>(&self, codec: &dyn Codec<F>) -> io::Result<(Vec<Held<F>>, Vec<PathBuf>)> {
        let (mut whole, mut broken) = (Vec::new(), Vec::new());
        for path in self.list(SUFFIX)? {
            let file = self.disk.open(&path, Open::Read)?;
            match content::read(&*file, self.owner, codec) {
                Ok(replica) => whole.push((SnapshotFile { path, octets: file.len()? }, replica)),
                Err(error) if error.kind() == io::ErrorKind::InvalidData => broken.push(path),
                Err(error) => return Err(error),
            }
        }
        Ok((whole, broken))
    }

    /// Whose snapshots these are.
    pub(crate) fn owner(&self) -> Owner {
        self.owner
    }

    fn list(&self, suffix: &str) -> io::Result<Vec<PathBuf>> {
        if !self.disk.exists(&self.directory)? {
            return Ok(Vec::new());
        }
        let names = self.disk.list(&self.directory)?;
        Ok(names
            .into_iter()
            .filter_map(|path| path.file_name().and_then(|name| name.to_str()).map(str::to_owned))
            .filter(|name| name.ends_with(suffix))
            .map(|name| self.directory.join(name))
            .collect())
    }

    /// Up to which entry each snapshot reaches, oldest first, as its name says. Blocks.
    pub(crate) fn indexes(&self) -> io::Result<Vec<u64>> {
        let index = |path: &PathBuf| path.file_name()?.to_str()?.split('-').next()?.parse().ok();
        Ok(self.list(SUFFIX)?.iter().filter_map(index).collect())
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

    fn part(&self, digest: &[u8; DIGEST_OCTETS]) -> PathBuf {
        self.directory.join(format!("{}{PART_SUFFIX}", hex::encode(digest)))
    }

    /// How much of the snapshot that ends with this digest has arrived and verified; what cannot be read is removed.
    /// Blocks.
    pub(crate) fn kept(&self, digest: &[u8; DIGEST_OCTETS]) -> io::Result<u64> {
        let path = self.part(digest);
        if !self.disk.exists(&path)? {
            return Ok(0);
        }
        let whole = self.disk.open(&path, Open::Read).and_then(|file| format::whole_octets(&*file));
        whole.or_else(|error| {
            tracing::warn!(%error, path = %path.display(), "what has arrived of a snapshot cannot be read");
            self.disk.remove(&path).map(|()| 0)
        })
    }

    /// The file in which the snapshot that ends with this digest arrives, cut at `from`; parts of others are removed.
    /// Blocks.
    pub(crate) fn go_on(&self, digest: &[u8; DIGEST_OCTETS], from: u64) -> io::Result<(PathBuf, Box<dyn File>)> {
        let path = self.part(digest);
        *self.arriving.lock().unwrap_or_else(PoisonError::into_inner) = Some(path.clone());
        for other in self.list(PART_SUFFIX)?.iter().filter(|other| **other != path) {
            self.disk.remove(other)?;
        }
        let file = self.disk.open(&path, Open::Create(FILE_MODE))?;
        if file.len()? < from {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "less than that is kept"));
        }
        file.set_len(from)?;
        Ok((path, file))
    }

    /// Gives a part that arrived whole a name of its own: the part of another snapshot takes its place, or a cut its
    /// purpose, while it is being installed. Blocks.
    pub(crate) fn arrived(&self, file: SnapshotFile) -> io::Result<SnapshotFile> {
        let path = self.temporary();
        self.disk.rename(&file.path, &path)?;
        Ok(SnapshotFile { path, ..file })
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
        // What will hardly fit does not take the last room from the log.
        if let Some((_, newest)) = self.newest()?
            && self.disk.available(&self.directory)? < newest.octets + newest.octets / 8
        {
            let text = format!("the last snapshot has {} octets, and hardly more are free", newest.octets);
            return Err(io::Error::new(io::ErrorKind::StorageFull, text));
        }
        let (temporary, file) = self.create_temporary()?;
        let written = content::write(&*file, self.owner, codec, cut);
        drop(file);
        let published = written.and_then(|octets| self.publish(&temporary, cut.applied.as_ref(), octets));
        if published.is_err() {
            self.discard(&temporary);
        }
        published
    }

    /// Gives a whole, durable file its name, durably, and removes those that are too old. Blocks.
    pub(crate) fn publish(&self, temporary: &Path, last: Option<&LogId>, octets: u64) -> io::Result<SnapshotFile> {
        let path = self.path(last);
        self.disk.rename(temporary, &path)?;
        self.disk.sync_dir(&self.directory)?;
        self.prune()?;
        Ok(SnapshotFile { path, octets })
    }

    fn prune(&self) -> io::Result<()> {
        let all = self.list(SUFFIX)?;
        for path in all.iter().rev().skip(self.kept) {
            self.disk.remove(path)?;
        }
        // Whoever has a newer snapshot needs no more of an older one, unless that is just arriving.
        let arriving = self.arriving.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for path in self.list(PART_SUFFIX)?.iter().filter(|path| arriving.as_ref() != Some(*path)) {
            self.disk.remove(path)?;
        }
        Ok(())
    }

    /// Removes those before that one. Blocks.
    pub(crate) fn remove_before(&self, file: &SnapshotFile) -> io::Result<()> {
        let all = self.list(SUFFIX)?;
        all.iter().filter(|path| **path < file.path).try_for_each(|path| self.disk.remove(path))
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

    /// The replica of the newest snapshot that is whole; damaged newer ones are set aside. One that a newer build wrote
    /// is an error, and stays. Blocks.
    pub(crate) fn recover<F: Fold>(&self, codec: &dyn Codec<F>) -> io::Result<Option<Replica<F>>> {
        match self.recover_sound(codec)? {
            Some(replica) => Ok(Some(replica)),
            None => self.recover_aside(codec),
        }
    }

    /// The same of those that were set aside: builds of before took what they could not read for damaged.
    fn recover_aside<F: Fold>(&self, codec: &dyn Codec<F>) -> io::Result<Option<Replica<F>>> {
        for aside in self.list(ASIDE_SUFFIX)?.into_iter().rev() {
            if let Ok(replica) = content::read::<F>(&*self.disk.open(&aside, Open::Read)?, self.owner, codec) {
                tracing::warn!(path = %aside.display(), "a snapshot that was set aside is whole");
                self.disk.rename(&aside, &self.path(replica.applied.as_ref()))?;
                self.disk.sync_dir(&self.directory)?;
                return Ok(Some(replica));
            }
        }
        Ok(None)
    }

    fn recover_sound<F: Fold>(&self, codec: &dyn Codec<F>) -> io::Result<Option<Replica<F>>> {
        for path in self.list(SUFFIX)?.into_iter().rev() {
            let file = self.disk.open(&path, Open::Read)?;
            match content::read::<F>(&*file, self.owner, codec) {
                Ok(replica) => return Ok(Some(replica)),
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    drop(file);
                    tracing::error!(%error, path = %path.display(), "a snapshot is damaged");
                    self.set_aside(&path)?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Opens a snapshot to send it, with the digest that it ends with. Blocks.
    pub(crate) fn open_file(&self, file: &SnapshotFile) -> io::Result<(Box<dyn File>, [u8; DIGEST_OCTETS])> {
        let file = self.disk.open(&file.path, Open::Read)?;
        let digest = format::digest_at_end(&*file)?;
        Ok((file, digest))
    }

    /// Looks at a snapshot that a peer could not use: when it is damaged here and an older one is there, it is set aside.
    /// Says whether there is none and a cut is wanted. Blocks.
    pub(crate) fn doubt(&self, file: &SnapshotFile) -> io::Result<bool> {
        match self.verify(file) {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                tracing::error!(%error, path = %file.path.display(), "a snapshot is damaged");
                if self.list(SUFFIX)?.len() == 1 {
                    return Ok(true);
                }
                self.set_aside(&file.path).map(|()| false)
            }
            other => other.map(|_| false),
        }
    }

    /// Takes a damaged snapshot out of use; it stays for those who want to look at it. Blocks.
    pub(crate) fn set_aside(&self, path: &Path) -> io::Result<()> {
        let aside = path.with_extension(&ASIDE_SUFFIX[1..]);
        tracing::error!(path = %aside.display(), "a damaged snapshot was set aside");
        self.disk.rename(path, &aside)?;
        self.disk.sync_dir(&self.directory)
    }
}
