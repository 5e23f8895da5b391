//! Segment files: names, headers, and the walk over their frames up to the first that is not sound.
//!
//! It refuses to judge: whether a walk may end where it ended is recovery's business.

use std::path::{Path, PathBuf};

use certwright_seams::disk::{Disk, Open};

use super::error::WalError;
use super::frame::{self, ALIGN, Frame, Read, SEAL_FRAME_OCTETS, Seal};
use super::header::{HEADER_OCTETS, HeaderError, SegmentHeader, VERSION};
use super::{Identity, LogMark, Record};
use crate::consensus::record::KIND_NORMAL;

/// What a disk writes as a whole or not at all.
const SECTOR_OCTETS: usize = 512;
const SUFFIX: &str = ".seg";
/// Digits of the first frame's sequence in a file name: every u64, in order when sorted as text.
const NAME_DIGITS: usize = 20;

/// A segment file with a sound header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Segment {
    pub(super) path: PathBuf,
    pub(super) header: SegmentHeader,
}

/// The file name of the segment whose first frame has that sequence.
pub(super) fn file_name(first_sequence: u64) -> String {
    format!("{first_sequence:0width$}{SUFFIX}", width = NAME_DIGITS)
}

/// The first frame's sequence, if the name is a segment's.
pub(super) fn parse_name(name: &Path) -> Option<u64> {
    let digits = name.to_str()?.strip_suffix(SUFFIX)?;
    (digits.len() == NAME_DIGITS).then(|| digits.parse().ok()).flatten()
}

/// Every segment in the directory in order, headers checked against each file's name and, when given, the identity.
pub(super) fn list(disk: &dyn Disk, directory: &Path, identity: Option<Identity>) -> Result<Vec<Segment>, WalError> {
    let names = disk.list(directory).map_err(WalError::io("list", directory))?;
    let found = names.iter().filter_map(|name| Some((directory.join(name), parse_name(name)?)));
    found.map(|(path, sequence)| read_header(disk, path, sequence, identity)).collect()
}

pub(super) fn read_header(
    disk: &dyn Disk,
    path: PathBuf,
    sequence: u64,
    identity: Option<Identity>,
) -> Result<Segment, WalError> {
    let mut octets = [0; HEADER_OCTETS];
    let file = disk.open(&path, Open::Read).map_err(WalError::io("open", &path))?;
    let read = file.read_at(0, &mut octets).map_err(WalError::io("read", &path))?;
    if read < HEADER_OCTETS {
        return Err(WalError::corrupt(&path, read as u64, "the file ends within its header"));
    }
    let header = SegmentHeader::decode(&octets).map_err(|error| match error {
        HeaderError::Damaged(what) => WalError::corrupt(&path, 0, what),
        HeaderError::Version(found) => WalError::Version { path: path.clone(), found, known: VERSION },
    })?;
    if let Some(identity) = identity {
        check_identity(&path, header.identity, identity)?;
    }
    if header.first_sequence != sequence {
        let what = format!("its header says that it begins with frame {}", header.first_sequence);
        return Err(WalError::corrupt(&path, 0, what));
    }
    Ok(Segment { path, header })
}

/// Refuses a segment of another cluster, node or epoch.
pub(super) fn check_identity(path: &Path, found: Identity, expected: Identity) -> Result<(), WalError> {
    let (what, found, expected) = if found.cluster_id != expected.cluster_id {
        ("cluster", hex::encode(found.cluster_id), hex::encode(expected.cluster_id))
    } else if found.node_id != expected.node_id {
        ("node", found.node_id.to_string(), expected.node_id.to_string())
    } else if found.epoch != expected.epoch {
        ("epoch", found.epoch.to_string(), expected.epoch.to_string())
    } else {
        return Ok(());
    };
    Err(WalError::Foreign { path: path.to_path_buf(), what, found, expected })
}

/// Where a walk over a segment's frames ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Walk {
    /// Where the last batch begins, of which nobody knows whether its sync succeeded.
    pub(super) batch_at: usize,
    /// The first octet after the last sound frame.
    pub(super) end: usize,
    /// The sequence that the next frame has or should have.
    pub(super) next_sequence: u64,
    pub(super) stop: Stop,
}

/// Why a walk ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stop {
    /// At the seal.
    Sealed(Seal),
    /// Only zeros follow.
    Clean,
    /// Something follows that is no frame or not the next one.
    Bad,
}

impl Segment {
    /// The whole file.
    pub(super) fn load(&self, disk: &dyn Disk) -> Result<Vec<u8>, WalError> {
        let file = disk.open(&self.path, Open::Read).map_err(WalError::io("open", &self.path))?;
        let len = file.len().map_err(WalError::io("measure", &self.path))?;
        let mut octets = vec![0; len as usize];
        let read = file.read_at(0, &mut octets).map_err(WalError::io("read", &self.path))?;
        octets.truncate(read);
        Ok(octets)
    }

    /// The seal, when the file is trimmed to it; two small reads instead of the whole file.
    pub(super) fn read_seal(&self, disk: &dyn Disk) -> Result<Option<(u64, Seal)>, WalError> {
        let file = disk.open(&self.path, Open::Read).map_err(WalError::io("open", &self.path))?;
        let len = file.len().map_err(WalError::io("measure", &self.path))?;
        let Some(offset) = len.checked_sub(SEAL_FRAME_OCTETS as u64) else { return Ok(None) };
        let mut octets = [0; SEAL_FRAME_OCTETS];
        file.read_at(offset, &mut octets).map_err(WalError::io("read", &self.path))?;
        Ok(match frame::decode(&octets, self.header.salt) {
            Some(Read { frame: Frame::Seal(seal), place, .. }) => Some((place.sequence, seal)),
            _ => None,
        })
    }

    /// Calls `each` with the offset of every frame up to the first that is not sound or not the next one.
    pub(super) fn walk<E>(&self, octets: &[u8], mut each: impl FnMut(usize, Read) -> Result<(), E>) -> Result<Walk, E> {
        let salt = self.header.salt;
        let (mut end, mut next_sequence) = (HEADER_OCTETS, self.header.first_sequence);
        let (mut batch, mut batch_at) = (0, HEADER_OCTETS);
        loop {
            let stop = |stop| Ok(Walk { batch_at, end, next_sequence, stop });
            let Some(read) = octets.get(end..).and_then(|rest| frame::decode(rest, salt)) else {
                let rest = octets.get(end..).unwrap_or_default();
                return stop(if written_octets(rest) == 0 { Stop::Clean } else { Stop::Bad });
            };
            let follows = read.place.batch == batch || read.place.batch == next_sequence;
            if read.place.sequence != next_sequence || !follows {
                return stop(Stop::Bad);
            }
            let seal = if let Frame::Seal(seal) = read.frame { Some(seal) } else { None };
            let at = end;
            end += read.octets;
            next_sequence += 1;
            if batch != read.place.batch {
                (batch, batch_at) = (read.place.batch, at);
            }
            each(at, read)?;
            if let Some(seal) = seal {
                return Ok(Walk { batch_at, end, next_sequence, stop: Stop::Sealed(seal) });
            }
        }
    }

    /// Writes the last batch again and syncs it. When the sync of an earlier run failed, the kernel may hold the batch as
    /// clean although the disk never got it: it can be read, and no sync alone would ever bring it there.
    pub(super) fn write_again(&self, disk: &dyn Disk, octets: &[u8], walk: &Walk) -> Result<(), WalError> {
        let file = disk.open(&self.path, Open::Write).map_err(WalError::io("open", &self.path))?;
        let batch = octets.get(walk.batch_at..walk.end).unwrap_or_default();
        file.write_at(walk.batch_at as u64, batch).map_err(WalError::io("write", &self.path))?;
        file.sync_data().map_err(WalError::io("sync", &self.path))
    }

    /// Sound frames after `from`, found at any aligned offset: the place of each.
    fn later<'a>(&'a self, octets: &'a [u8], from: usize) -> impl Iterator<Item = (usize, frame::Place)> + 'a {
        let offsets = (from.next_multiple_of(ALIGN)..octets.len()).step_by(ALIGN);
        offsets.filter_map(move |offset| {
            let rest = &octets[offset..];
            // A frame's length or kind is in its first eight octets: zeros are skipped without a checksum.
            let zeros = rest.len() < ALIGN || rest[..ALIGN] == [0; ALIGN];
            if zeros { None } else { frame::decode(rest, self.header.salt).map(|read| (offset, read.place)) }
        })
    }

    /// Whether what follows the last sound frame can be the remains of one batch that was being written when the power
    /// went; otherwise why not.
    ///
    /// A batch is written only when all before it is durable, so a sound frame of a later batch proves damage.
    /// The sectors of one batch may reach the disk in any order: a sound frame of the same batch after the bad one is
    /// possible, but then a whole sector between them was never written and still holds zeros.
    pub(super) fn is_torn(&self, octets: &[u8], walk: &Walk) -> Result<(), String> {
        if walk.next_sequence < self.header.first_sequence + u64::from(self.header.opening_frames) {
            return Err("its opening frames, written before the segment was in use, are not sound".into());
        }
        let mut first_sound = None;
        for (offset, place) in self.later(octets, walk.end) {
            if place.batch > walk.next_sequence || place.sequence <= walk.next_sequence {
                return Err(format!(
                    "frame {} is not sound, yet frame {} at offset {offset} was written after it was durable",
                    walk.next_sequence, place.sequence
                ));
            }
            first_sound.get_or_insert(offset);
        }
        match first_sound {
            Some(sound) if !has_unwritten_sector(octets, walk.end, sound) => Err(format!(
                "frame {} is not sound, yet a frame of the same batch follows and no sector between them is unwritten",
                walk.next_sequence
            )),
            _ => Ok(()),
        }
    }
}

/// Whether a sector that ends in `from..to` holds only zeros from `from` on.
fn has_unwritten_sector(octets: &[u8], from: usize, to: usize) -> bool {
    let mut start = from;
    loop {
        let end = (start / SECTOR_OCTETS + 1) * SECTOR_OCTETS;
        if end > to {
            return false;
        }
        if written_octets(&octets[start..end]) == 0 {
            return true;
        }
        start = end;
    }
}

/// Octets up to the last one that is not zero; compares by the sector, as most of what it sees is zero.
pub(super) fn written_octets(octets: &[u8]) -> usize {
    let sectors =
        octets.chunks(SECTOR_OCTETS).rev().take_while(|sector| **sector == [0; SECTOR_OCTETS][..sector.len()]);
    let rest = &octets[..octets.len() - sectors.map(<[u8]>::len).sum::<usize>()];
    rest.iter().rposition(|octet| *octet != 0).map_or(0, |place| place + 1)
}

impl Record {
    /// Its log id.
    pub fn mark(&self) -> LogMark {
        LogMark { index: self.index, term: self.term, node: self.node }
    }

    /// Whether its payload is transactions, not consensus' own.
    pub fn has_transactions(&self) -> bool {
        self.kind == KIND_NORMAL
    }
}
