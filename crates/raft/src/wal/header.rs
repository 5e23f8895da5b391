//! The header of a segment file: whose it is, where it stands in the log, what salts its checksums.
//!
//! It refuses files and paths: it only turns a header into octets and back.

use super::Identity;
use crate::chain::Chain;

/// Octets of a header.
pub(super) const HEADER_OCTETS: usize = 128;
/// The format this program writes and the only one it reads.
pub(super) const VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"CWRTLOG\n";

/// Where the log stood at some point: the index its next entry gets and the chain's value before that entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ChainPoint {
    pub(super) next_index: u64,
    /// `None` after a jump over entries that were never here and whose chain value nobody supplied.
    pub(super) chain: Option<Chain>,
}

impl ChainPoint {
    /// Octets of an encoded point.
    pub(super) const OCTETS: usize = 41;

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.next_index.to_be_bytes());
        out.push(u8::from(self.chain.is_some()));
        out.extend_from_slice(&self.chain.unwrap_or_default());
    }

    pub(super) fn decode(octets: &[u8]) -> Option<Self> {
        let (next_index, rest) = octets.split_first_chunk::<8>()?;
        let (known, chain) = rest.split_first()?;
        let chain: Chain = chain.try_into().ok()?;
        let chain = match known {
            0 if chain == [0; 32] => None,
            1 => Some(chain),
            _ => return None,
        };
        Some(Self { next_index: u64::from_be_bytes(*next_index), chain })
    }
}

/// What a segment file begins with.
///
/// | offset | octets | what |
/// |---|---|---|
/// | 0 | 8 | magic |
/// | 8 | 4 | format version |
/// | 12 | 4 | octets of the header |
/// | 16 | 16 | cluster id |
/// | 32 | 8 | node id |
/// | 40 | 8 | epoch |
/// | 48 | 8 | sequence of its first frame |
/// | 56 | 41 | next index, whether the chain is known, chain |
/// | 97 | 3 | zero |
/// | 100 | 4 | opening frames |
/// | 104 | 8 | salt |
/// | 112 | 12 | zero |
/// | 124 | 4 | CRC-32 of all before |
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SegmentHeader {
    pub(super) identity: Identity,
    pub(super) first_sequence: u64,
    pub(super) start: ChainPoint,
    /// Frames at the start that repeat the current vote, purge and committed marks.
    pub(super) opening_frames: u32,
    pub(super) salt: u64,
}

/// Why octets are no header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum HeaderError {
    Damaged(&'static str),
    Version(u32),
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> [u8; HEADER_OCTETS] {
        let mut out = Vec::with_capacity(HEADER_OCTETS);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_be_bytes());
        out.extend_from_slice(&(HEADER_OCTETS as u32).to_be_bytes());
        out.extend_from_slice(&self.identity.cluster_id);
        out.extend_from_slice(&self.identity.node_id.to_be_bytes());
        out.extend_from_slice(&self.identity.epoch.to_be_bytes());
        out.extend_from_slice(&self.first_sequence.to_be_bytes());
        self.start.encode(&mut out);
        out.extend_from_slice(&[0; 3]);
        out.extend_from_slice(&self.opening_frames.to_be_bytes());
        out.extend_from_slice(&self.salt.to_be_bytes());
        out.extend_from_slice(&[0; 12]);
        out.extend_from_slice(&crc32fast::hash(&out).to_be_bytes());
        out.try_into().expect("the fields above add up to the header's size")
    }

    pub(super) fn decode(octets: &[u8; HEADER_OCTETS]) -> Result<Self, HeaderError> {
        if octets[..8] != MAGIC {
            return Err(HeaderError::Damaged("it does not begin as a segment of the log"));
        }
        // The version first: a newer format may check itself otherwise.
        let version = u32_at(octets, 8);
        if version != VERSION {
            return Err(HeaderError::Version(version));
        }
        if u32_at(octets, 124) != crc32fast::hash(&octets[..124]) {
            return Err(HeaderError::Damaged("the header's checksum does not match"));
        }
        if u32_at(octets, 12) != HEADER_OCTETS as u32 {
            return Err(HeaderError::Damaged("the header has another size"));
        }
        let start = ChainPoint::decode(&octets[56..97]).ok_or(HeaderError::Damaged("the chain point is malformed"))?;
        let mut cluster_id = [0; 16];
        cluster_id.copy_from_slice(&octets[16..32]);
        Ok(Self {
            identity: Identity { cluster_id, node_id: u64_at(octets, 32), epoch: u64_at(octets, 40) },
            first_sequence: u64_at(octets, 48),
            start,
            opening_frames: u32_at(octets, 100),
            salt: u64_at(octets, 104),
        })
    }
}

/// The big-endian number at an offset.
///
/// # Panics
/// When the octets end before it: callers have checked the size.
pub(super) fn u32_at(octets: &[u8], offset: usize) -> u32 {
    u32::from_be_bytes(octets[offset..offset + 4].try_into().expect("four octets make a u32"))
}

/// As [`u32_at`], of eight octets.
pub(super) fn u64_at(octets: &[u8], offset: usize) -> u64 {
    u64::from_be_bytes(octets[offset..offset + 8].try_into().expect("eight octets make a u64"))
}
