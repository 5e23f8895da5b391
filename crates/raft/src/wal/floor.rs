//! The floor of a log: from which entry on it is whole, once older segments were deleted. Two small files beside them
//! say so: one alone, damaged, would be the end of a log that is whole otherwise.
//!
//! It refuses to guess: a log whose first segment is not there opens only when a sound floor says that it may be gone.

use std::io;
use std::path::Path;

use certwright_seams::disk::Disk;

use super::error::WalError;
use super::header::{ChainPoint, SegmentHeader, u32_at};
use super::spare::FILE_MODE;
use crate::chain::{self, Chain};

pub(super) const NAME: &str = "floor";
/// The same once more; either will do when the other is damaged or gone.
pub(super) const COPY_NAME: &str = "floor.copy";

const MAGIC: [u8; 8] = *b"CWRTFLR\n";
const VERSION: u32 = 1;
/// Magic, version, chain point, checksum.
const OCTETS: usize = 8 + 4 + ChainPoint::OCTETS + 4;

/// Where the history that is kept begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Floor {
    /// The first entry that is kept.
    pub first_index: u64,
    /// The chain's value before it.
    pub chain: Chain,
}

impl Floor {
    pub(super) fn point(&self) -> ChainPoint {
        ChainPoint { next_index: self.first_index, chain: Some(self.chain) }
    }
}

/// | offset | octets | what |
/// |---|---|---|
/// | 0 | 8 | magic |
/// | 8 | 4 | format version |
/// | 12 | 41 | index of the first entry kept, 1, chain before it |
/// | 53 | 4 | CRC-32 of all before |
fn encode(floor: &Floor) -> Vec<u8> {
    let mut out = Vec::with_capacity(OCTETS);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_be_bytes());
    floor.point().encode(&mut out);
    out.extend_from_slice(&crc32fast::hash(&out).to_be_bytes());
    out
}

fn decode(octets: &[u8]) -> Result<Floor, &'static str> {
    if octets.len() != OCTETS || octets[..8] != MAGIC {
        return Err("it is not the floor of a log");
    }
    if u32_at(octets, 8) != VERSION {
        return Err("its format version is unknown");
    }
    if u32_at(octets, OCTETS - 4) != crc32fast::hash(&octets[..OCTETS - 4]) {
        return Err("its checksum does not match");
    }
    match ChainPoint::decode(&octets[12..OCTETS - 4]) {
        Some(ChainPoint { next_index, chain: Some(chain) }) => Ok(Floor { first_index: next_index, chain }),
        _ => Err("its chain point is malformed"),
    }
}

/// The floor of the log in a directory; `None` when nothing was ever deleted.
///
/// The power may have gone when only one of the two files was replaced. A floor never falls, so the greater one is the newer
/// one; and as nothing is deleted before both are there, the older one fits the segments, too, if the newer one is damaged.
pub(super) fn read(disk: &dyn Disk, directory: &Path) -> Result<Option<Floor>, WalError> {
    let [one, other] = [NAME, COPY_NAME].map(|name| {
        let path = directory.join(name);
        let warn = |_: &WalError| tracing::warn!(path = %path.display(), "damaged or not readable: its copy must do");
        read_file(disk, &path).inspect_err(warn)
    });
    match (one, other) {
        (Ok(Some(one)), Ok(Some(other))) if one.first_index == other.first_index && one != other => {
            Err(WalError::corrupt(&directory.join(NAME), 0, "its copy says another chain"))
        }
        (Ok(one), Ok(other)) => Ok(one.into_iter().chain(other).max_by_key(|floor| floor.first_index)),
        (Ok(Some(sound)), Err(_)) | (Err(_), Ok(Some(sound))) => Ok(Some(sound)),
        (Err(error), _) | (_, Err(error)) => Err(error),
    }
}

/// What one of the files says; `None` when it is not there.
fn read_file(disk: &dyn Disk, path: &Path) -> Result<Option<Floor>, WalError> {
    if !disk.exists(path).map_err(WalError::io("open", path))? {
        return Ok(None);
    }
    let octets = match disk.read(path, OCTETS as u64) {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return Err(WalError::corrupt(path, 0, "it is larger than the floor of a log"));
        }
        read => read.map_err(WalError::io("read", path))?,
    };
    decode(&octets).map(Some).map_err(|what| WalError::corrupt(path, 0, what))
}

/// Writes it down for good, twice, in place of the one before. Each file is replaced as a whole and before the next one is
/// touched: at any moment both are sound, unless the disk damaged one, and then the other is.
pub(super) fn write(disk: &dyn Disk, directory: &Path, floor: &Floor) -> io::Result<()> {
    let octets = encode(floor);
    [COPY_NAME, NAME].iter().try_for_each(|name| disk.write_atomic(&directory.join(name), &octets, FILE_MODE))
}

/// Whether both files say so.
pub(super) fn is_written_twice(disk: &dyn Disk, directory: &Path, floor: &Floor) -> bool {
    let says = |name: &str| read_file(disk, &directory.join(name)).is_ok_and(|found| found.as_ref() == Some(floor));
    says(NAME) && says(COPY_NAME)
}

/// Whether a log may begin with that segment; otherwise why not.
pub(super) fn check_first(first: &SegmentHeader, floor: Option<&Floor>) -> Result<(), &'static str> {
    let origin = ChainPoint { next_index: 0, chain: Some(chain::genesis(&first.identity.cluster_id)) };
    let is_first = first.first_sequence == 1;
    match floor {
        _ if is_first && first.start == origin => Ok(()),
        Some(floor) if first.start.next_index < floor.first_index => Ok(()),
        Some(floor) if first.start == floor.point() => Ok(()),
        Some(floor) if first.start.next_index == floor.first_index => Err("its chain is not that of the floor"),
        _ if is_first => Err("the first segment does not begin the chain"),
        _ => Err("the segments before it are missing"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_octets_do_not_change_and_every_one_of_them_counts() {
        let floor = Floor { first_index: 0x0102, chain: [0xaa; 32] };
        let octets = encode(&floor);
        let body = format!("{}{}{}01{}", hex::encode(MAGIC), "00000001", "0000000000000102", "aa".repeat(32));
        assert_eq!(hex::encode(&octets[..OCTETS - 4]), body);
        assert_eq!(decode(&octets), Ok(floor));
        for place in 0..OCTETS {
            let mut altered = octets.clone();
            altered[place] ^= 1;
            assert!(decode(&altered).is_err(), "octet {place}");
        }
        assert!(decode(&octets[..OCTETS - 1]).is_err());
    }
}
