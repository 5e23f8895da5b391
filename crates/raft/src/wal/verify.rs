//! Verifies a log offline: every checksum, every sequence number, the hash chain at every anchor, the preallocated file,
//! and what was fetched to fill the gaps that snapshots left.
//!
//! It refuses to write and to repair; the log may belong to any cluster and node.

use std::io;
use std::path::{Path, PathBuf};

use certwright_seams::disk::{Disk, File, Open};

use super::error::WalError;
use super::floor::{self, Floor};
use super::header::ChainPoint;
use super::segment::{Segment, parse_name};
use super::{Identity, LOCK_NAME, Record};
use crate::chain::Chain;

mod backfill;
mod segments;

use segments::Check;

/// Where a log lies.
#[derive(Clone, Copy, Debug)]
pub struct Places<'a> {
    /// The segments.
    pub log: &'a Path,
    /// What was fetched to fill gaps, if anything was.
    pub backfill: Option<&'a Path>,
}

/// What verification found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// Whose log it is; `None` when not even the first header is sound.
    pub identity: Option<Identity>,
    /// Segments verified.
    pub segments: u64,
    /// Entries verified, superseded ones included.
    pub entries: u64,
    /// Index that the first entry on disk has.
    pub first_index: u64,
    /// Where the history begins that is kept, once older entries were deleted. Some of those may still be on disk.
    pub floor: Option<Floor>,
    /// Index after the last entry verified.
    pub next_index: u64,
    /// The chain's value there; `None` when it continues from a snapshot whose value was not recorded.
    pub chain: Option<Chain>,
    /// Somebody writes to it: what is not sealed yet was verified only as far as it was sound.
    pub in_use: bool,
    /// First and last entry of what is not here: a snapshot jumped over it and it was not fetched yet.
    pub absent: Vec<(u64, u64)>,
    /// The first thing wrong; what comes after it was not looked at.
    pub finding: Option<Finding>,
}

/// Something wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// The file.
    pub path: PathBuf,
    /// Where in it.
    pub offset: u64,
    /// The first entry that is not proved good.
    pub first_bad_index: u64,
    /// What is wrong.
    pub what: String,
}

/// What verification comes across, in the order of the log; what fills gaps comes last.
#[derive(Clone, Copy, Debug)]
pub enum Seen<'a> {
    /// The next file, and the index that its first entry has.
    Segment(&'a Path, u64),
    /// The next entry, and the chain's value after it.
    Entry(&'a Record, Option<Chain>),
    /// The entries from this index on that came before are superseded.
    Superseded(u64),
    /// The next entry has this index: a snapshot jumped here. The chain's value before it.
    Jumped(u64, Option<Chain>),
}

/// Told what verification comes across; what it objects to is a finding.
pub type See<'a> = dyn FnMut(Seen<'_>) -> Result<(), String> + 'a;

/// Verifies the segments of a log; see [`verify_seeing`].
pub fn verify(disk: &dyn Disk, log: &Path) -> Result<Report, WalError> {
    verify_seeing(disk, Places { log, backfill: None }, &mut |_| Ok(()))
}

/// Verifies a log and keeps its lock meanwhile. Of a log that somebody else has open, what is sealed is verified, and
/// the rest as far as it is sound. An error means that it could not be read; damage is a finding.
pub fn verify_seeing(disk: &dyn Disk, places: Places<'_>, see: &mut See<'_>) -> Result<Report, WalError> {
    match hold(disk, places.log)? {
        Hold::Ours(lock) => {
            let report = check(disk, places, false, see);
            drop(lock);
            report
        }
        Hold::Nobody => check(disk, places, false, see),
        Hold::Another => check(disk, places, true, see),
    }
}

enum Hold {
    /// Ours, until dropped.
    Ours(Box<dyn File>),
    /// There is nothing to hold: this is a copy.
    Nobody,
    /// Another process has it.
    Another,
}

fn hold(disk: &dyn Disk, log: &Path) -> Result<Hold, WalError> {
    let path = log.join(LOCK_NAME);
    if !disk.exists(&path).map_err(WalError::io("open", &path))? {
        return Ok(Hold::Nobody);
    }
    let file = disk.open(&path, Open::Read).map_err(WalError::io("open", &path))?;
    match file.lock() {
        Ok(()) => Ok(Hold::Ours(file)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Hold::Another),
        Err(error) => Err(WalError::io("lock", &path)(error)),
    }
}

/// As [`verify_seeing`], without a look at the lock.
pub(super) fn check(disk: &dyn Disk, places: Places<'_>, in_use: bool, see: &mut See<'_>) -> Result<Report, WalError> {
    let names = disk.list(places.log).map_err(WalError::io("list", places.log))?;
    let sequences: Vec<u64> = names.iter().filter_map(|name| parse_name(name)).collect();
    let mut check = Check::new(disk, places.log, in_use, see);
    let outcome = check.floor().and_then(|()| check.log(&sequences)).and_then(|()| match places.backfill {
        Some(directory) => check.backfill(directory),
        None => Ok(()),
    });
    let mut report = check.report();
    match outcome {
        Ok(()) => {}
        Err(Failed::Read(error)) => return Err(error),
        Err(Failed::Found(finding)) => report.finding = Some(finding),
    }
    Ok(report)
}

/// Why verification ended early.
enum Failed {
    Read(WalError),
    Found(Finding),
}

impl Check<'_, '_> {
    /// Where older entries were deleted; to be called first.
    fn floor(&mut self) -> Result<(), Failed> {
        self.report.floor = floor::read(self.disk, self.directory).map_err(|error| Failed::header(error, 0))?;
        Ok(())
    }
}

impl Failed {
    /// A header that is not sound is a finding; one that could not be read is an error.
    fn header(error: WalError, first_bad_index: u64) -> Self {
        match error {
            WalError::Corrupt { path, offset, what } => Self::Found(Finding { path, offset, first_bad_index, what }),
            WalError::Version { path, found, .. } => {
                let what = format!("format version {found} is unknown");
                Self::Found(Finding { path, offset: 8, first_bad_index, what })
            }
            error @ WalError::Foreign { .. } => {
                let (path, what) = (PathBuf::new(), error.to_string());
                Self::Found(Finding { path, offset: 0, first_bad_index, what })
            }
            error => Self::Read(error),
        }
    }

    fn found(segment: &Segment, offset: usize, first_bad_index: u64, what: impl Into<String>) -> Self {
        let (path, what) = (segment.path.clone(), what.into());
        Self::Found(Finding { path, offset: offset as u64, first_bad_index, what })
    }
}

/// Entries that a snapshot jumped over: from where to where.
#[derive(Clone, Copy)]
struct Jump {
    from: ChainPoint,
    to: ChainPoint,
}
