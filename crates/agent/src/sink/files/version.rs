//! One version of a files sink: six files in a directory that has its final name only once it is complete and durable.
//!
//! It refuses to change a version that has its final name.

use std::io;
use std::path::Path;

use certwright_core::mutant::{self, Mutant};
use certwright_core::spec::FilesSink;
use certwright_seams::Disk;
use certwright_seams::disk::Open;

use super::{CURRENT, FilesWriter, UNFINISHED, VERSIONS};
use crate::failure::Failure;
use crate::fault::WriteStep;
use crate::sink::{Bundle, FileKind, owner};

/// Permission bits of the private key files when nobody says otherwise.
const SECRET_MODE: u32 = 0o600;
/// How often one generation may be written anew for another owner, mode or encoding before the oldest is reused.
const REWRITES_MAX: u32 = 100;

/// Owner, group and permission bits of the files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Style {
    owner: Option<u32>,
    group: Option<u32>,
    secret_mode: u32,
}

impl Style {
    /// What the specification says; what it leaves open is taken from the key file of the version to inherit from.
    pub(super) fn of(disk: &dyn Disk, sink: &FilesSink, inherit_from: Option<&str>) -> Result<Self, Failure> {
        let directory = Path::new(&sink.directory);
        let at = |error: io::Error| Failure::target(directory, &error);
        let inherited = match inherit_from {
            Some(_) => disk.stat(&directory.join(CURRENT).join(FileKind::Key.name())).ok(),
            None => None,
        };
        let owner = match &sink.owner {
            Some(name) => Some(owner::user(disk, name).map_err(at)?),
            None => inherited.map(|stat| stat.owner),
        };
        let group = match &sink.group {
            Some(name) => Some(owner::group(disk, name).map_err(at)?),
            None => inherited.map(|stat| stat.group),
        };
        let secret_mode = sink.mode.or(inherited.map(|stat| stat.mode)).unwrap_or(SECRET_MODE) & 0o777;
        Ok(Self { owner, group, secret_mode })
    }

    /// Permission bits of one file: everybody may read what is public.
    fn mode(&self, kind: FileKind) -> u32 {
        if kind.is_secret() { self.secret_mode } else { self.secret_mode | 0o444 }
    }
}

impl FilesWriter {
    /// Writes the bundle as a version with its final name and returns that name; an equal one that is there is used.
    pub(super) fn write_version(&self, directory: &Path, bundle: &Bundle, style: &Style) -> io::Result<String> {
        let versions = directory.join(VERSIONS);
        let mut name = bundle.version().to_string();
        for rewrite in 2..=REWRITES_MAX {
            let path = versions.join(&name);
            if !self.disk.exists(&path)? {
                break;
            }
            if self.equals(&path, bundle, style)? {
                return Ok(name);
            }
            name = format!("{}.{rewrite}", bundle.version());
        }
        let unfinished = versions.join(format!("{UNFINISHED}{name}"));
        if let Err(error) = self.fill(&unfinished, bundle, style) {
            // On a full disk the half-written version must not take the space that others need.
            let _ = self.disk.remove_dir_all(&unfinished);
            return Err(error);
        }
        self.disk.rename(&unfinished, &versions.join(&name))?;
        self.fault.at(WriteStep::VersionNamed);
        self.disk.sync_dir(&versions)?;
        Ok(name)
    }

    /// Writes all files into a fresh directory and makes them durable.
    fn fill(&self, path: &Path, bundle: &Bundle, style: &Style) -> io::Result<()> {
        self.disk.create_dir_all(path, 0o755)?;
        self.fault.at(WriteStep::VersionCreated);
        for kind in FileKind::ALL {
            self.write_file(&path.join(kind.name()), bundle.file(kind), kind, style)?;
            self.fault.at(match kind {
                FileKind::Certificate => WriteStep::CertificateWritten,
                FileKind::Chain => WriteStep::ChainWritten,
                FileKind::Fullchain => WriteStep::FullchainWritten,
                FileKind::Key => WriteStep::KeyFileWritten,
                FileKind::Combined => WriteStep::CombinedWritten,
                FileKind::Root => WriteStep::RootWritten,
            });
        }
        self.disk.sync_dir(path)?;
        self.fault.at(WriteStep::VersionSynced);
        Ok(())
    }

    /// A secret file is nobody else's from its first moment on; wider permissions come only once its owner is right.
    fn write_file(&self, path: &Path, data: &[u8], kind: FileKind, style: &Style) -> io::Result<()> {
        let file = self.disk.open(path, Open::CreateNew(SECRET_MODE))?;
        if kind == FileKind::Key {
            self.fault.at(WriteStep::KeyFileCreated);
        }
        file.write_at(0, data)?;
        if style.owner.is_some() || style.group.is_some() {
            self.disk.chown(path, style.owner, style.group)?;
        }
        self.disk.chmod(path, style.mode(kind))?;
        if mutant::is(Mutant::DeliveryUnsynced) { Ok(()) } else { file.sync_data() }
    }

    /// Whether a version is there as it would be written now.
    fn equals(&self, path: &Path, bundle: &Bundle, style: &Style) -> io::Result<bool> {
        for kind in FileKind::ALL {
            let file = path.join(kind.name());
            let wanted = bundle.file(kind);
            let held = match self.disk.read(&file, wanted.len() as u64) {
                Ok(held) => zeroize::Zeroizing::new(held),
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => {
                    return Ok(false);
                }
                Err(error) => return Err(error),
            };
            let stat = self.disk.stat(&file)?;
            let owned = style.owner.is_none_or(|owner| owner == stat.owner)
                && style.group.is_none_or(|group| group == stat.group);
            if held.as_slice() != wanted || !owned || stat.mode & 0o777 != style.mode(kind) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
