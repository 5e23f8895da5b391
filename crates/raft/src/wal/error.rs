//! Why a log does not open.
//!
//! It refuses vague damage reports: each names the file, the place and what to do.

use std::io;
use std::path::{Path, PathBuf};

/// Why a log does not open. Nothing was changed on disk.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// Another process has it open.
    #[error("{} is in use by another process: stop that one first, or choose another data directory", path.display())]
    Locked {
        /// The log's directory.
        path: PathBuf,
    },
    /// It belongs to another cluster, node or epoch.
    #[error("{} belongs to {what} {found}, this is {expected}: point to the right data directory", path.display())]
    Foreign {
        /// The segment.
        path: PathBuf,
        /// `cluster`, `node` or `epoch`.
        what: &'static str,
        /// As the segment says.
        found: String,
        /// As the caller says.
        expected: String,
    },
    /// Written by a newer program.
    #[error("{} has format version {found}, this program reads {known}: run the newer program", path.display())]
    Version {
        /// The segment.
        path: PathBuf,
        /// As the segment says.
        found: u32,
        /// What this program reads.
        known: u32,
    },
    /// Damaged where a power cut cannot damage it.
    #[error(
        "{} is damaged at offset {offset}: {what}; keep the directory for inspection, wipe this node and let it join \
         again under a new id, or restore a backup if it was the only one",
        path.display()
    )]
    Corrupt {
        /// The segment.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// A segment is not there.
    #[error(
        "{} lacks the segment that holds frame {sequence}: put it back, or wipe this node and let it join again under \
         a new id",
        path.display()
    )]
    Missing {
        /// The log's directory.
        path: PathBuf,
        /// The first frame that is missing.
        sequence: u64,
    },
    /// The options contradict each other or a bound.
    #[error("log options: {0}")]
    Options(String),
    /// The file system refused.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// `open`, `read`, ...
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl WalError {
    pub(super) fn corrupt(path: &Path, offset: u64, what: impl Into<String>) -> Self {
        Self::Corrupt { path: path.to_path_buf(), offset, what: what.into() }
    }

    /// For `map_err`: names what was tried and where.
    pub(super) fn io<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self::Io { action, path: path.to_path_buf(), source }
    }
}
