//! Taking over a directory that holds somebody's files: what they say becomes a version like any other, before anything
//! new is shown.
//!
//! It refuses to show half a pair: until the one link switches, every visible name reads as it did before.

use std::io;
use std::path::{Path, PathBuf};

use certwright_core::spec::FilesSink;
use certwright_seams::disk::Open;
use zeroize::Zeroizing;

use super::{CURRENT, FilesWriter, REPLACED, REPLACED_OCTETS_MAX, UNFINISHED, VERSIONS, unfinished_link, visible};
use crate::fault::WriteStep;
use crate::sink::FileKind;

/// The version that holds what was found.
const FOUND: &str = "0-found";
/// The same while the other one is current: a take-over that was interrupted.
const FOUND_AGAIN: &str = "0-found.2";
/// Links followed from a visible name to a file.
const LINKS_MAX: usize = 8;

/// What stands under a visible name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    /// Our link.
    Ours,
    /// Nothing that could be read.
    Absent,
    /// Somebody's file, or a link to one.
    Foreign,
}

impl FilesWriter {
    /// What stands under the visible name of a kind.
    pub(super) fn standing(&self, directory: &Path, sink: &FilesSink, kind: FileKind) -> io::Result<Standing> {
        let path = directory.join(visible(sink, kind));
        match self.disk.read_link(&path) {
            Ok(held) if held == Path::new(CURRENT).join(kind.name()) => Ok(Standing::Ours),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Standing::Absent),
            _ if self.disk.exists(&path)? => Ok(Standing::Foreign),
            _ => Ok(Standing::Absent),
        }
    }

    /// Turns visible names that are somebody's into links without changing what they read as; returns the version that
    /// the link leads to meanwhile, when it had to be moved.
    pub(super) fn adopt(
        &self,
        directory: &Path,
        sink: &FilesSink,
        current: Option<&str>,
    ) -> io::Result<Option<String>> {
        let mut foreign = Vec::new();
        for kind in FileKind::ALL {
            if self.standing(directory, sink, kind)? == Standing::Foreign {
                self.keep_replaced(directory, visible(sink, kind))?;
                foreign.push(kind);
            }
        }
        let ours = current.is_some_and(|current| current != FOUND && current != FOUND_AGAIN);
        let moved = if foreign.is_empty() || (ours && !is_pair(&foreign)) {
            // One file beside ours makes no pair: our own, whole pair is what the name had better lead to.
            None
        } else {
            let name = if current == Some(FOUND) { FOUND_AGAIN } else { FOUND };
            self.write_found(directory, sink, name)?;
            self.switch(directory, name)?;
            Some(name.to_string())
        };
        for &kind in &foreign {
            self.link(directory, sink, kind)?;
        }
        if !foreign.is_empty() {
            self.disk.sync_dir(directory)?;
        }
        self.fault.at(WriteStep::Adopted);
        Ok(moved)
    }

    /// Makes one visible name our link, by one rename.
    pub(super) fn link(&self, directory: &Path, sink: &FilesSink, kind: FileKind) -> io::Result<()> {
        let name = visible(sink, kind);
        let unfinished = unfinished_link(directory, name);
        self.remove_link(&unfinished)?;
        self.disk.symlink(&Path::new(CURRENT).join(kind.name()), &unfinished)?;
        self.disk.rename(&unfinished, &directory.join(name))
    }

    /// Writes what the visible names read as now into a version of that name, complete and durable.
    fn write_found(&self, directory: &Path, sink: &FilesSink, name: &str) -> io::Result<()> {
        let versions = directory.join(VERSIONS);
        let (unfinished, path) = (versions.join(format!("{UNFINISHED}{name}")), versions.join(name));
        for left in [&unfinished, &path] {
            if self.disk.exists(left)? {
                self.disk.remove_dir_all(left)?;
            }
        }
        self.disk.create_dir_all(&unfinished, 0o755)?;
        for kind in FileKind::ALL {
            let from = directory.join(visible(sink, kind));
            if self.disk.exists(&from)? {
                self.copy(&from, &unfinished.join(kind.name()))?;
            }
        }
        self.disk.sync_dir(&unfinished)?;
        self.disk.rename(&unfinished, &path)?;
        self.disk.sync_dir(&versions)
    }

    /// Copies a file with its owner and mode: whoever could read it still can, and nobody else.
    fn copy(&self, from: &Path, to: &Path) -> io::Result<()> {
        let from = self.resolve(from)?;
        let stat = self.disk.stat(&from)?;
        let contents = Zeroizing::new(self.disk.read(&from, REPLACED_OCTETS_MAX)?);
        let file = self.disk.open(to, Open::CreateNew(0o600))?;
        file.write_at(0, &contents)?;
        let mine = self.disk.stat(to)?;
        if (mine.owner, mine.group) != (stat.owner, stat.group) {
            self.disk.chown(to, Some(stat.owner), Some(stat.group)).map_err(|error| {
                let cause = format!(
                    "{} cannot keep its owner: {error}; move it away, or run the agent as that user",
                    from.display()
                );
                io::Error::new(error.kind(), cause)
            })?;
        }
        self.disk.chmod(to, stat.mode & 0o777)?;
        file.sync_data()
    }

    /// The file that a path leads to.
    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        let mut path = path.to_path_buf();
        for _ in 0..LINKS_MAX {
            match self.disk.read_link(&path) {
                Ok(held) => path = path.parent().unwrap_or(Path::new("/")).join(held),
                Err(_) => return Ok(path),
            }
        }
        Err(io::Error::other(format!("{} leads through more than {LINKS_MAX} links", path.display())))
    }

    /// Keeps a copy of a plain file that stands where a visible name will be: nothing of anybody's is lost.
    fn keep_replaced(&self, directory: &Path, name: &str) -> io::Result<()> {
        let path = directory.join(name);
        let stat = self.disk.stat(&path)?;
        if stat.is_dir {
            return Err(io::Error::new(io::ErrorKind::IsADirectory, format!("{} is in the way", path.display())));
        }
        if stat.is_symlink {
            return Ok(()); // What it leads to stays where it is.
        }
        let contents = Zeroizing::new(self.disk.read(&path, REPLACED_OCTETS_MAX)?);
        let replaced = directory.join(REPLACED);
        self.disk.create_dir_durable(&replaced, 0o700)?;
        self.disk.write_atomic(&replaced.join(name), &contents, stat.mode & 0o700)
    }
}

/// Whether a certificate and a key are among these.
fn is_pair(kinds: &[FileKind]) -> bool {
    let has = |kind| kinds.contains(&kind);
    has(FileKind::Combined) || (has(FileKind::Key) && (has(FileKind::Certificate) || has(FileKind::Fullchain)))
}

#[cfg(test)]
mod tests;
