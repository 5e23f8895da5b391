//! Verifies the log in a data directory offline: what `raft` proves of entries, that their events can be read, and that
//! every signed checkpoint says what the chain was.
//!
//! It refuses to write and to ask a server: what it says rests on the files alone.

use std::path::{Path, PathBuf};

use certwright_core::{Reason, Rejection, State};
use certwright_proto::storage::DomainCodec;
use certwright_raft::wal::{self, Finding, Places, Report, Seen};
use certwright_raft::{Folded, kept_base};
use certwright_seams::Disk;

use crate::data_dir::{BACKFILL, BASE, LOG, file_failed};

pub(crate) mod tally;

use tally::{Tally, UNTOLD};

/// What verification found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogReport {
    /// Events in entries that are not superseded and were found good.
    pub events: u64,
    /// Signed checkpoints that say what the chain was.
    pub checkpoints: u64,
    /// Those of which it is not known here: the key or the entries that they cover are not in this log.
    pub checkpoints_unknown: u64,
    /// That history begins where it does is not proved: the entries that say so are not here, or somebody is writing them.
    pub beginning_unproved: bool,
    /// What was found of the entries.
    pub log: Report,
}

/// Verifies the log of a data directory, or of a directory that holds nothing but a log; `tell` hears of every file.
pub fn verify_log(disk: &dyn Disk, directory: &Path, tell: &mut dyn FnMut(String)) -> Result<LogReport, Rejection> {
    let places = Found::look(disk, directory)?;
    let base = match &places.data {
        Some(data) => kept_base::<State>(disk, data, &DomainCodec),
        None => Ok(None),
    };
    let mut tally = Tally::anywhere(base.as_ref().ok().and_then(Option::as_ref));
    let mut see = |seen: Seen<'_>| {
        if let Seen::Segment(path, index) = seen {
            tell(format!("{}: from entry {index}", path.display()));
        }
        tally.see(seen)
    };
    let logs = Places { log: &places.log, backfill: places.backfill.as_deref() };
    let mut log = wal::verify_seeing(disk, logs, &mut see)
        .map_err(|error| Rejection::new(Reason::FileFailed, error.to_string()))?;
    let begins = base.as_ref().ok().and_then(Option::as_ref).map(Folded::floor);
    if let (None, Some(data)) = (&log.finding, &places.data) {
        log.finding = misses_base(data, &log, base);
    }
    let mut beginning_unproved = false;
    if log.finding.is_none() && !tally.is_told(log.floor) {
        let first_bad_index = begins.into_iter().chain(log.floor).map(|floor| floor.first_index).max().unwrap_or(0);
        // What says so comes after what it says.
        beginning_unproved = log.in_use || log.absent.iter().any(|(_, last)| *last >= first_bad_index);
        let path = places.data.as_ref().map_or_else(|| places.log.clone(), |data| data.join(BASE));
        let untold = Finding { path, offset: 0, first_bad_index, what: UNTOLD.to_owned() };
        log.finding = (!beginning_unproved).then_some(untold);
    }
    let (checkpoints, checkpoints_unknown) = tally.checkpoints();
    Ok(LogReport { events: tally.events(), checkpoints, checkpoints_unknown, beginning_unproved, log })
}

/// Whether a history that begins with a snapshot has it. One that cannot be read is wrong whatever the log says of its floor:
/// that is written only after the snapshot, and a server goes by the snapshot.
fn misses_base(data: &Path, log: &Report, base: std::io::Result<Option<Folded<State>>>) -> Option<Finding> {
    let finding = |first_bad_index, what| Finding { path: data.join(BASE), offset: 0, first_bad_index, what };
    let base = match base {
        Ok(base) => base,
        Err(error) => {
            let first_bad_index = log.floor.map_or(log.first_index, |floor| floor.first_index);
            return Some(finding(first_bad_index, error.to_string()));
        }
    };
    let floor = log.floor?;
    let what = match base {
        Some(base) if base.floor().first_index < floor.first_index || base.floor().first_index > log.next_index => {
            "it does not stand where history begins".to_owned()
        }
        Some(base) if base.floor().first_index == floor.first_index && base.chain() != floor.chain => {
            "it comes after another chain than the log".to_owned()
        }
        Some(_) => return None,
        None => "the snapshot that history begins with is missing".to_owned(),
    };
    Some(finding(floor.first_index, what))
}

/// Where the log lies.
struct Found {
    /// The data directory; `None` when there is nothing but a log.
    data: Option<PathBuf>,
    log: PathBuf,
    backfill: Option<PathBuf>,
}

impl Found {
    fn look(disk: &dyn Disk, directory: &Path) -> Result<Self, Rejection> {
        let exists = |path: &Path| disk.exists(path).map_err(|error| file_failed("open", path, error));
        let (log, backfill) = (directory.join(LOG), directory.join(BACKFILL));
        if exists(&log)? {
            let backfill = if exists(&backfill)? { Some(backfill) } else { None };
            return Ok(Self { data: Some(directory.to_path_buf()), log, backfill });
        }
        let names = disk.list(directory).map_err(|error| file_failed("open", directory, error))?;
        if names.iter().any(|name| name.extension().is_some_and(|end| end == "seg")) {
            return Ok(Self { data: None, log: directory.to_path_buf(), backfill: None });
        }
        let what = format!("{} holds no log: name a server's data directory", directory.display());
        Err(Rejection::new(Reason::FileFailed, what))
    }
}

#[cfg(test)]
mod tests;
