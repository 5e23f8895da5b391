//! The files sink: a directory whose whole set of files switches by one rename of one link.
//!
//! It refuses to touch a file that a reader may hold open: every generation has a directory of its own.
//!
//! ```text
//! DIR/.versions/7-0A12.../cert.pem ...   one directory a generation, complete before it has that name
//! DIR/.current -> .versions/7-0A12...    the one link that switches
//! DIR/cert.pem -> .current/cert.pem      visible names, made once; files that stood there are a version first
//! ```

mod adopt;
mod version;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use certwright_core::mutant::{self, Mutant};
use certwright_core::spec::FilesSink;
use certwright_core::x509::pem;
use certwright_seams::Disk;
use certwright_seams::disk::Open;

use crate::failure::{Failure, FailureReason};
use crate::fault::{Fault, WriteStep};
use crate::sink::{Bundle, FileKind, Version};
use adopt::Standing;

/// Directory of the versions.
const VERSIONS: &str = ".versions";
/// The link that switches.
const CURRENT: &str = ".current";
/// The link that will be the current one.
const NEXT: &str = ".next";
/// Where files that were in the way of a visible name are kept.
const REPLACED: &str = ".replaced";
/// Start of the name of a version that is being written.
const UNFINISHED: &str = ".new-";
/// Octets of a file in the way that is kept; a certificate with its chain is far smaller.
const REPLACED_OCTETS_MAX: u64 = 1024 * 1024;

/// Writes bundles into directories. All calls block: run them on a worker.
#[derive(Clone)]
pub struct FilesWriter {
    disk: Arc<dyn Disk>,
    fault: Fault,
}

/// What a write did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Written {
    /// Name of the version's directory.
    pub version: String,
    /// Name of the version that was current before; `None` when there was none, or when it was this one.
    pub previous: Option<String>,
}

impl FilesWriter {
    /// A writer that passes every step to `fault`.
    pub fn new(disk: Arc<dyn Disk>, fault: Fault) -> Self {
        Self { disk, fault }
    }

    /// Puts the bundle in place, durably. Repeating it after a crash at any step completes what was begun; an error
    /// leaves the current version as it was. With `inherit`, owner and mode that somebody gave the current key file
    /// are kept where the specification does not say otherwise.
    pub fn write(&self, sink: &FilesSink, bundle: &Bundle, inherit: bool) -> Result<Written, Failure> {
        let directory = directory(sink)?;
        check_names(sink)?;
        let at = |error: io::Error| Failure::target(directory, &error);
        self.create_directories(directory).map_err(at)?;
        self.recover(sink)?;
        let current = self.current(sink)?;
        let style = version::Style::of(&*self.disk, sink, inherit.then_some(current.as_deref()).flatten())?;
        let name = self.write_version(directory, bundle, &style).map_err(at)?;
        let current = self.adopt(directory, sink, current.as_deref()).map_err(at)?.or(current);
        if let Some(current) = current.as_deref().filter(|_| mutant::is(Mutant::FilesInPlace)) {
            self.overwrite(directory, current, bundle).map_err(at)?;
        } else if current.as_deref() != Some(&name) {
            self.switch(directory, &name).map_err(at)?;
        }
        self.link_names(directory, sink).map_err(at)?;
        Ok(Written { previous: current.filter(|current| *current != name), version: name })
    }

    /// The name of the current version, when the link is there and leads somewhere.
    pub fn current(&self, sink: &FilesSink) -> Result<Option<String>, Failure> {
        let directory = directory(sink)?;
        let link = directory.join(CURRENT);
        match self.disk.read_link(&link) {
            Ok(held) if self.disk.exists(&link).map_err(|error| Failure::target(&link, &error))? => {
                Ok(held.file_name().map(|name| name.to_string_lossy().to_string()))
            }
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Failure::target(&link, &error)),
        }
    }

    /// What the directory shows of ours: the generation and its certificate, DER. `None` when that is nothing that could
    /// be read, or what was found there.
    pub fn shown(&self, sink: &FilesSink) -> Option<(u64, Vec<u8>)> {
        let current = self.current(sink).ok()??;
        let generation = current.split_once('-')?.0.parse().ok().filter(|generation| *generation > 0)?;
        let path = directory(sink).ok()?.join(CURRENT).join(FileKind::Certificate.name());
        let text = self.disk.read(&path, REPLACED_OCTETS_MAX).ok()?;
        Some((generation, pem::certificates(&text).ok()?.into_iter().next()?))
    }

    /// Whether `version` is current and all its files can be reached by their visible names.
    pub fn is_intact(&self, sink: &FilesSink, version: &str) -> Result<bool, Failure> {
        if self.current(sink)?.as_deref() != Some(version) {
            return Ok(false);
        }
        let directory = directory(sink)?;
        let at = |error: io::Error| Failure::target(directory, &error);
        for kind in FileKind::ALL {
            let there = self.disk.exists(&directory.join(CURRENT).join(kind.name())).map_err(at)?;
            if !there || self.standing(directory, sink, kind).map_err(at)? != Standing::Ours {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Makes `version` the current one again, when it is still there; says whether it is.
    pub fn roll_back(&self, sink: &FilesSink, version: &str) -> Result<bool, Failure> {
        let directory = directory(sink)?;
        let at = |error: io::Error| Failure::target(directory, &error);
        if !self.disk.exists(&directory.join(VERSIONS).join(version)).map_err(at)? {
            return Ok(false);
        }
        self.switch(directory, version).map_err(at)?;
        Ok(true)
    }

    /// Removes every version but `keep` (the current one is always kept).
    pub fn prune(&self, sink: &FilesSink, keep: &[&str]) -> Result<(), Failure> {
        let directory = directory(sink)?;
        let versions = directory.join(VERSIONS);
        let at = |error: io::Error| Failure::target(directory, &error);
        let current = self.current(sink)?;
        let mut removed = false;
        for name in self.names(&versions).map_err(at)? {
            if current.as_deref() != Some(name.as_str()) && !keep.contains(&name.as_str()) {
                self.disk.remove_dir_all(&versions.join(&name)).map_err(at)?;
                removed = true;
            }
        }
        if removed {
            self.disk.sync_dir(&versions).map_err(at)?;
        }
        self.fault.at(WriteStep::Pruned);
        Ok(())
    }

    /// Discards what a crash left half done; a directory that does not exist is fine.
    pub fn recover(&self, sink: &FilesSink) -> Result<(), Failure> {
        let directory = directory(sink)?;
        let at = |error: io::Error| Failure::target(directory, &error);
        let versions = directory.join(VERSIONS);
        if !self.disk.exists(&versions).map_err(at)? {
            return Ok(());
        }
        for name in self.names(&versions).map_err(at)? {
            if name.starts_with(UNFINISHED) {
                self.disk.remove_dir_all(&versions.join(name)).map_err(at)?;
            }
        }
        for kind in FileKind::ALL {
            self.remove_link(&unfinished_link(directory, visible(sink, kind))).map_err(at)?;
        }
        self.remove_link(&directory.join(NEXT)).map_err(at)
    }

    /// The private key file of a version that this directory still holds, for an agent that lost its own copy.
    pub fn key_pem(&self, sink: &FilesSink, version: &Version) -> Option<zeroize::Zeroizing<Vec<u8>>> {
        let path = directory(sink).ok()?.join(VERSIONS).join(version.to_string()).join(FileKind::Key.name());
        self.disk.read(&path, REPLACED_OCTETS_MAX).ok().map(zeroize::Zeroizing::new)
    }

    fn create_directories(&self, directory: &Path) -> io::Result<()> {
        let versions = directory.join(VERSIONS);
        if self.disk.exists(&versions)? {
            return Ok(());
        }
        self.disk.create_dir_durable(&versions, 0o755)
    }

    /// Points the current link at `version`, by one rename, durably.
    fn switch(&self, directory: &Path, version: &str) -> io::Result<()> {
        let next = directory.join(NEXT);
        self.remove_link(&next)?;
        self.disk.symlink(&Path::new(VERSIONS).join(version), &next)?;
        self.fault.at(WriteStep::LinkPrepared);
        self.disk.rename(&next, &directory.join(CURRENT))?;
        self.fault.at(WriteStep::Switched);
        self.disk.sync_dir(directory)?;
        self.fault.at(WriteStep::SwitchSynced);
        Ok(())
    }

    /// What a planted bug does instead: the files that are shown, one by one, and nothing is synced.
    fn overwrite(&self, directory: &Path, version: &str, bundle: &Bundle) -> io::Result<()> {
        for kind in FileKind::ALL {
            let path = directory.join(VERSIONS).join(version).join(kind.name());
            let file = self.disk.open(&path, Open::Write)?;
            file.set_len(0)?;
            file.write_at(0, bundle.file(kind))?;
        }
        Ok(())
    }

    /// Makes the visible names that are not there yet.
    fn link_names(&self, directory: &Path, sink: &FilesSink) -> io::Result<()> {
        let mut linked = false;
        for kind in FileKind::ALL {
            if self.standing(directory, sink, kind)? != Standing::Ours {
                self.link(directory, sink, kind)?;
                linked = true;
            }
        }
        if linked {
            self.disk.sync_dir(directory)?;
        }
        self.fault.at(WriteStep::NamesLinked);
        Ok(())
    }

    fn remove_link(&self, path: &Path) -> io::Result<()> {
        match self.disk.remove(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Names in a directory, without the directory.
    fn names(&self, directory: &Path) -> io::Result<Vec<String>> {
        let names = self.disk.list(directory)?;
        Ok(names.iter().filter_map(|path| Some(path.file_name()?.to_string_lossy().to_string())).collect())
    }
}

/// The directory of a sink, which must be absolute.
fn directory(sink: &FilesSink) -> Result<&Path, Failure> {
    let directory = Path::new(&sink.directory);
    if directory.is_absolute() {
        return Ok(directory);
    }
    Err(Failure::new(FailureReason::TargetFailed, format_args!("{:?} is not an absolute directory", sink.directory)))
}

/// The visible name of a file.
fn visible(sink: &FilesSink, kind: FileKind) -> &str {
    sink.names.get(kind.name()).map_or(kind.name(), String::as_str)
}

/// Refuses names that would leave the directory, hide among our own, or stand for two files.
fn check_names(sink: &FilesSink) -> Result<(), Failure> {
    let refuse = |message: String| Err(Failure::new(FailureReason::TargetFailed, message));
    if let Some(unknown) = sink.names.keys().find(|name| FileKind::ALL.iter().all(|kind| kind.name() != name.as_str()))
    {
        return refuse(format!("names: {unknown:?} is no file of a certificate"));
    }
    let mut seen = std::collections::BTreeSet::new();
    for kind in FileKind::ALL {
        let name = visible(sink, kind);
        if name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']) {
            return refuse(format!("names: {name:?} is not a plain file name"));
        }
        if !seen.insert(name) {
            return refuse(format!("names: {name:?} stands for two files"));
        }
    }
    Ok(())
}

/// Where a visible name is prepared.
fn unfinished_link(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{UNFINISHED}{name}"))
}

#[cfg(test)]
mod tests;
