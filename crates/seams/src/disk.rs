//! Files: blocking calls, made from workers; the simulated disk loses what was not synced.
//!
//! It refuses paths outside what it was opened for only by convention: callers pass absolute paths they own.

use std::io;
use std::path::{Path, PathBuf};

mod os;
#[cfg(test)]
mod tests;

pub use os::OsDisk;

/// An open file. All calls block.
pub trait File: Send + Sync + 'static {
    /// Writes all of `data` at `offset`, growing the file as needed.
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()>;
    /// Fills `buffer` from `offset`; fewer octets only at the end of the file. An error is never the end.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// Makes data (and the size needed to read it) survive a power cut (fdatasync).
    fn sync_data(&self) -> io::Result<()>;
    /// Reserves zeroed space up to `len` and makes it part of the size.
    fn preallocate(&self, len: u64) -> io::Result<()>;
    /// Cuts or grows the file.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Its size.
    fn len(&self) -> io::Result<u64>;
    /// Whether it is empty.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Takes an exclusive advisory lock that ends with the handle; `WouldBlock` when another process has it.
    fn lock(&self) -> io::Result<()>;
}

/// How to open a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Open {
    /// It must exist; read only.
    Read,
    /// It must exist; read and write.
    Write,
    /// Created with these permission bits when absent; read and write.
    Create(u32),
    /// Must not exist; created with these permission bits.
    CreateNew(u32),
}

/// A file system.
pub trait Disk: Send + Sync + 'static {
    /// Opens a file.
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn File>>;
    /// Renames within a file system, replacing.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory with all in it.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Creates a directory and its parents with these permission bits; existing ones are left as they are.
    fn create_dir_all(&self, path: &Path, mode: u32) -> io::Result<()>;
    /// File names (without the directory) of what is in a directory, sorted.
    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>>;
    /// Whether the path exists, following links.
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// Makes directory entries survive a power cut.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Creates a symbolic link at `link` that holds `target`.
    fn symlink(&self, target: &Path, link: &Path) -> io::Result<()>;
    /// What a symbolic link holds.
    fn read_link(&self, link: &Path) -> io::Result<PathBuf>;
    /// Sets owner and group by number, not following links; `None` leaves as is.
    fn chown(&self, path: &Path, owner: Option<u32>, group: Option<u32>) -> io::Result<()>;
    /// Sets permission bits.
    fn chmod(&self, path: &Path, mode: u32) -> io::Result<()>;
    /// Owner, group and permission bits, not following links.
    fn stat(&self, path: &Path) -> io::Result<Stat>;

    /// Octets that an unprivileged process may still write to the file system that holds the path.
    fn available(&self, path: &Path) -> io::Result<u64>;

    /// The whole file, at most `limit` octets; `InvalidData` when it is larger.
    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let file = self.open(path, Open::Read)?;
        let len = file.len()?;
        if len > limit {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{len} octets, at most {limit}")));
        }
        let mut buffer = vec![0; len as usize];
        let read = file.read_at(0, &mut buffer)?;
        buffer.truncate(read);
        Ok(buffer)
    }

    /// Creates a directory and its missing parents, and makes every new name survive a power cut.
    fn create_dir_durable(&self, path: &Path, mode: u32) -> io::Result<()> {
        let mut fresh = Vec::new();
        for directory in path.ancestors().take_while(|it| !it.as_os_str().is_empty()) {
            if self.exists(directory)? {
                break;
            }
            fresh.push(directory);
        }
        self.create_dir_all(path, mode)?;
        for directory in fresh {
            let parent = directory.parent().filter(|it| !it.as_os_str().is_empty());
            self.sync_dir(parent.unwrap_or(Path::new(".")))?;
        }
        Ok(())
    }

    /// Replaces a file as a whole and for good: temporary file beside it, sync, rename, directory sync.
    fn write_atomic(&self, path: &Path, data: &[u8], mode: u32) -> io::Result<()> {
        let parent = path.parent().unwrap_or(Path::new("."));
        let mut name = std::ffi::OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(".new");
        let temporary = parent.join(name);
        if self.exists(&temporary)? {
            self.remove(&temporary)?;
        }
        let file = self.open(&temporary, Open::CreateNew(mode))?;
        file.write_at(0, data)?;
        file.sync_data()?;
        drop(file);
        self.rename(&temporary, path)?;
        self.sync_dir(parent)
    }
}

/// Owner, group, permission bits and kind of a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stat {
    /// User id.
    pub owner: u32,
    /// Group id.
    pub group: u32,
    /// Permission bits only.
    pub mode: u32,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Whether it is a symbolic link.
    pub is_symlink: bool,
}
