//! The floor of a log: from which entry on it is whole, once older segments were deleted. A small file beside them says so.
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
pub(super) fn read(disk: &dyn Disk, directory: &Path) -> Result<Option<Floor>, WalError> {
    let path = directory.join(NAME);
    if !disk.exists(&path).map_err(WalError::io("open", &path))? {
        return Ok(None);
    }
    let octets = match disk.read(&path, OCTETS as u64) {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return Err(WalError::corrupt(&path, 0, "it is larger than the floor of a log"));
        }
        read => read.map_err(WalError::io("read", &path))?,
    };
    decode(&octets).map(Some).map_err(|what| WalError::corrupt(&path, 0, what))
}

/// Writes it down for good, in place of the one before.
pub(super) fn write(disk: &dyn Disk, directory: &Path, floor: &Floor) -> io::Result<()> {
    disk.write_atomic(&directory.join(NAME), &encode(floor), FILE_MODE)
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
