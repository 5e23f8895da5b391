//! The machine's file system: fdatasync, fallocate, flock, directory fsync; descriptors are closed on exec.
//!
//! It refuses caching and retrying: a failed sync is reported once and never tried again.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "the one module that touches files")]

use std::fs::{self, DirBuilder, File as StdFile, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, FlockOperation, OFlags, fallocate, flock};
use rustix::io::Errno;

use super::{Disk, File, Open, Stat};

/// Octets written at a time where the file system has no fallocate.
const ZEROS_OCTETS: usize = 64 * 1024;
/// Permission bits within a mode.
const MODE_BITS: u32 = 0o7777;
/// Opens directories only.
const OPEN_DIRECTORY: i32 = OFlags::DIRECTORY.bits() as i32;

/// The machine's files.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsDisk;

struct OsFile(StdFile);

impl File for OsFile {
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut read = 0;
        while read < buffer.len() {
            match self.0.read_at(&mut buffer[read..], offset + read as u64) {
                Ok(0) => break,
                Ok(count) => read += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }

    fn sync_data(&self) -> io::Result<()> {
        // Not the standard library's: that one retries after EINTR, and nothing about a sync is to be retried.
        Ok(rustix::fs::fdatasync(&self.0)?)
    }

    fn preallocate(&self, len: u64) -> io::Result<()> {
        if len == 0 {
            return Ok(());
        }
        match fallocate(&self.0, FallocateFlags::empty(), 0, len) {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => write_zeros(&self.0, self.len()?, len),
            Err(error) => Err(error.into()),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn lock(&self) -> io::Result<()> {
        Ok(flock(&self.0, FlockOperation::NonBlockingLockExclusive)?)
    }
}

fn write_zeros(file: &StdFile, from: u64, to: u64) -> io::Result<()> {
    let zeros = vec![0; ZEROS_OCTETS];
    let mut offset = from;
    while offset < to {
        let count = (to - offset).min(ZEROS_OCTETS as u64);
        file.write_all_at(&zeros[..count as usize], offset)?;
        offset += count;
    }
    Ok(())
}

impl Disk for OsDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn File>> {
        let mut options = OpenOptions::new();
        options.read(true);
        match how {
            Open::Read => &mut options,
            Open::Write => options.write(true),
            Open::Create(mode) => options.write(true).create(true).truncate(false).mode(mode),
            Open::CreateNew(mode) => options.write(true).create_new(true).mode(mode),
        };
        Ok(Box::new(OsFile(options.open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn create_dir_all(&self, path: &Path, mode: u32) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(mode).create(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let names: io::Result<Vec<PathBuf>> =
            fs::read_dir(path)?.map(|entry| Ok(PathBuf::from(entry?.file_name()))).collect();
        let mut names = names?;
        names.sort();
        Ok(names)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let directory = OpenOptions::new().read(true).custom_flags(OPEN_DIRECTORY).open(path)?;
        Ok(rustix::fs::fsync(&directory)?)
    }

    fn symlink(&self, target: &Path, link: &Path) -> io::Result<()> {
        std::os::unix::fs::symlink(target, link)
    }

    fn read_link(&self, link: &Path) -> io::Result<PathBuf> {
        fs::read_link(link)
    }

    fn chown(&self, path: &Path, owner: Option<u32>, group: Option<u32>) -> io::Result<()> {
        std::os::unix::fs::lchown(path, owner, group)
    }

    fn chmod(&self, path: &Path, mode: u32) -> io::Result<()> {
        fs::set_permissions(path, Permissions::from_mode(mode))
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        let data = fs::symlink_metadata(path)?;
        Ok(Stat {
            owner: data.uid(),
            group: data.gid(),
            mode: data.mode() & MODE_BITS,
            is_dir: data.is_dir(),
            is_symlink: data.file_type().is_symlink(),
        })
    }

    fn available(&self, path: &Path) -> io::Result<u64> {
        let figures = rustix::fs::statvfs(path)?;
        Ok(figures.f_bavail.saturating_mul(figures.f_frsize))
    }
}
