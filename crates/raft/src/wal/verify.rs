//! Verifies a log offline: every checksum, every sequence number, and the hash chain at every anchor.
//!
//! It refuses to write, to lock and to repair; the log may belong to any cluster and node.

use std::path::{Path, PathBuf};

use certwright_seams::disk::Disk;

use super::Identity;
use super::error::WalError;
use super::fold::Fold;
use super::frame::{Frame, Read};
use super::header::ChainPoint;
use super::segment::{self, Segment, Stop, Walk, check_identity, file_name, parse_name};
use crate::chain::{self, Chain};

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
    /// Index after the last entry verified.
    pub next_index: u64,
    /// The chain's value there; `None` when it continues from a snapshot whose value was not recorded.
    pub chain: Option<Chain>,
    /// The first thing wrong; what comes after it was not looked at.
    pub finding: Option<Finding>,
}

/// Something wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// The segment.
    pub path: PathBuf,
    /// Where in it.
    pub offset: u64,
    /// The first entry that is not proved good.
    pub first_bad_index: u64,
    /// What is wrong.
    pub what: String,
}

/// Verifies the log in a directory, which nobody writes to meanwhile: a batch being written looks torn. An error means
/// that it could not be read; damage is a finding.
pub fn verify(disk: &dyn Disk, directory: &Path) -> Result<Report, WalError> {
    let names = disk.list(directory).map_err(WalError::io("list", directory))?;
    let sequences: Vec<u64> = names.iter().filter_map(|name| parse_name(name)).collect();
    let empty =
        Report { identity: None, segments: 0, entries: 0, first_index: 0, next_index: 0, chain: None, finding: None };
    let mut check = Check { disk, directory, report: empty, fold: None, next_sequence: None, unsealed: None };
    for (place, sequence) in sequences.iter().enumerate() {
        let is_last = place + 1 == sequences.len();
        match check.segment(*sequence, is_last) {
            Ok(()) => check.report.segments += 1,
            Err(Failed::Read(error)) => return Err(error),
            Err(Failed::Found(finding)) => {
                check.report.finding = Some(finding);
                break;
            }
        }
    }
    if let Some(fold) = &check.fold {
        let ChainPoint { next_index, chain } = fold.chains.end();
        (check.report.next_index, check.report.chain) = (next_index, chain);
    }
    Ok(check.report)
}

enum Failed {
    Read(WalError),
    Found(Finding),
}

struct Check<'a> {
    disk: &'a dyn Disk,
    directory: &'a Path,
    report: Report,
    fold: Option<Fold>,
    /// The first frame of the segment to come.
    next_sequence: Option<u64>,
    /// The segment before was left without its seal: this one must hold only its opening frames.
    unsealed: Option<Finding>,
}

impl Check<'_> {
    fn segment(&mut self, sequence: u64, is_last: bool) -> Result<(), Failed> {
        let path = self.directory.join(file_name(sequence));
        let segment = segment::read_header(self.disk, path, sequence, None).map_err(|error| self.damage(error))?;
        self.begin(&segment)?;
        let octets = segment.load(self.disk).map_err(Failed::Read)?;
        let mut fold = self.fold.take().expect("set when the first segment began");
        let (anchor, mut entries) = (fold.chains.end().next_index, 0);
        let walk = segment.walk(&octets, |offset, Read { frame, .. }| {
            let bad_index = if let Frame::Seal(_) = frame { anchor } else { fold.chains.end().next_index };
            entries += u64::from(matches!(frame, Frame::Entry(_)));
            fold.frame(&frame).map_err(|what| finding(&segment, offset, bad_index, what))
        });
        let next_index = fold.chains.end().next_index;
        self.fold = Some(fold);
        self.report.entries += entries;
        let walk = walk.map_err(Failed::Found)?;
        let rest = octets.get(walk.end..).unwrap_or_default();
        if let Stop::Sealed(_) = walk.stop
            && segment::written_octets(rest) > 0
        {
            return Err(Failed::Found(finding(&segment, walk.end, next_index, "octets follow its seal".into())));
        }
        self.end(&segment, &walk, next_index, is_last)
    }

    /// Checks the header against what came before.
    fn begin(&mut self, segment: &Segment) -> Result<(), Failed> {
        let header = &segment.header;
        let index = self.next_index();
        let found = |what: String| Failed::Found(finding(segment, 0, index, what));
        match (self.report.identity, &mut self.fold) {
            (Some(identity), Some(fold)) => {
                check_identity(&segment.path, header.identity, identity).map_err(|error| found(error.to_string()))?;
                if let Some(expected) = self.next_sequence.filter(|expected| *expected != header.first_sequence) {
                    return Err(found(format!("the segment that begins with frame {expected} is missing")));
                }
                fold.begin(header.start).map_err(found)
            }
            _ => {
                let origin = ChainPoint { next_index: 0, chain: Some(chain::genesis(&header.identity.cluster_id)) };
                if header.first_sequence == 1 && header.start != origin {
                    return Err(found("the first segment does not begin the chain".into()));
                }
                self.report.identity = Some(header.identity);
                self.report.first_index = header.start.next_index;
                self.fold = Some(Fold::new(header.start));
                Ok(())
            }
        }
    }

    /// Judges where the frames ended.
    fn end(&mut self, segment: &Segment, walk: &Walk, next_index: u64, is_last: bool) -> Result<(), Failed> {
        let found = |what: &str| finding(segment, walk.end, next_index, what.to_string());
        let opening_end = segment.header.first_sequence + u64::from(segment.header.opening_frames);
        if let Some(unsealed) = self.unsealed.take()
            && (!is_last || walk.next_sequence != opening_end)
        {
            return Err(Failed::Found(unsealed));
        }
        self.next_sequence = Some(walk.next_sequence);
        match (walk.stop, is_last) {
            (Stop::Sealed(_), false) | (Stop::Clean, true) if walk.next_sequence >= opening_end => Ok(()),
            (Stop::Sealed(_), true) => Err(Failed::Found(found("it is sealed, yet the next segment is missing"))),
            (Stop::Clean, false) => {
                // The power may have gone between beginning the next segment and sealing this one.
                self.unsealed = Some(found("it is not sealed, yet a later segment was in use"));
                self.next_sequence = Some(walk.next_sequence + 1);
                Ok(())
            }
            _ => Err(Failed::Found(found("what follows is not the next frame: torn or altered"))),
        }
    }

    fn next_index(&self) -> u64 {
        self.fold.as_ref().map_or(0, |fold| fold.chains.end().next_index)
    }

    /// A header that is not sound is a finding; one that could not be read is an error.
    fn damage(&self, error: WalError) -> Failed {
        match error {
            WalError::Corrupt { path, offset, what } => {
                Failed::Found(Finding { path, offset, first_bad_index: self.next_index(), what })
            }
            WalError::Version { path, found, .. } => {
                let what = format!("format version {found} is unknown");
                Failed::Found(Finding { path, offset: 8, first_bad_index: self.next_index(), what })
            }
            error => Failed::Read(error),
        }
    }
}

fn finding(segment: &Segment, offset: usize, first_bad_index: u64, what: String) -> Finding {
    Finding { path: segment.path.clone(), offset: offset as u64, first_bad_index, what }
}
