//! Disks that lose what was not synced when the power goes: one of our own, and the kernel's ext4 in a file.
//!
//! It refuses to unmount in good order what should lose something: that would write everything.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use certwright_seams::Entropy;
use clap::ValueEnum;

use crate::room::system;
use crate::volume::{Found, Mounted, Power, Volume};

/// Size of an image: room for small files of a log.
const IMAGE_OCTETS: u64 = 96 * 1024 * 1024;

/// Which kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum DriveKind {
    /// A file system of our own: keeps what was synced, and of the rest whatever it likes
    Fuse,
    /// ext4 in a file, which is copied while it is mounted: what the kernel had written by then
    Ext4,
}

/// A disk at a directory.
pub trait Drive {
    /// Mounts it with what is left on it.
    fn mount(&mut self) -> Result<()>;
    /// The power went, and nobody uses it any more: takes it away with what had reached it.
    fn lose(&mut self, draw: &dyn Entropy) -> Result<Found>;
    /// Whether files below a directory would hold these octets if the power went now; `None` where nobody can look.
    fn keeps(&self, directory: &Path, octets: &[u8]) -> Option<bool>;
}

/// An empty one.
pub fn drive(kind: DriveKind, at: &Path, power: &Power) -> Result<Box<dyn Drive>> {
    std::fs::create_dir_all(at)?;
    match kind {
        DriveKind::Fuse => {
            let volume = Arc::new(Volume::new(power.clone()));
            Ok(Box::new(Fuse { volume, at: at.to_owned(), mounted: None }))
        }
        DriveKind::Ext4 => {
            let image = Image { at: at.to_owned(), cuts: 0, is_mounted: false };
            std::fs::File::create(image.file())?.set_len(IMAGE_OCTETS)?;
            // Nothing is left to be initialised in the background.
            let options = "lazy_itable_init=0,lazy_journal_init=0";
            system("mkfs.ext4", &["-q", "-E", options, text(&image.file())])?;
            Ok(Box::new(image))
        }
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}

struct Fuse {
    volume: Arc<Volume>,
    at: PathBuf,
    mounted: Option<Mounted>,
}

impl Drive for Fuse {
    fn mount(&mut self) -> Result<()> {
        self.mounted = Some(Mounted::new(self.volume.clone(), &self.at)?);
        Ok(())
    }

    fn lose(&mut self, draw: &dyn Entropy) -> Result<Found> {
        self.mounted.take().map_or(Ok(()), Mounted::unmount).context("unmounting")?;
        Ok(self.volume.lose(draw))
    }

    fn keeps(&self, directory: &Path, octets: &[u8]) -> Option<bool> {
        Some(self.volume.keeps(directory, octets))
    }
}

struct Image {
    at: PathBuf,
    cuts: u64,
    is_mounted: bool,
}

impl Image {
    fn file(&self) -> PathBuf {
        self.at.with_extension(format!("{}.ext4", self.cuts))
    }

    fn unmount(&mut self) -> Result<()> {
        if std::mem::take(&mut self.is_mounted) {
            system("umount", &[text(&self.at)])?;
        }
        Ok(())
    }
}

impl Drive for Image {
    fn mount(&mut self) -> Result<()> {
        system("mount", &["-o", "loop,noatime", text(&self.file()), text(&self.at)])?;
        self.is_mounted = true;
        Ok(())
    }

    fn lose(&mut self, _: &dyn Entropy) -> Result<Found> {
        let before = self.file();
        self.cuts += 1;
        system("cp", &["--sparse=always", text(&before), text(&self.file())])?;
        self.unmount()?;
        std::fs::remove_file(before)?;
        Ok(Found::default())
    }

    fn keeps(&self, _: &Path, _: &[u8]) -> Option<bool> {
        None
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = self.unmount();
    }
}
