//! The frames of a segment: their head, checksums and kinds.
//!
//! It refuses files and recovery: it only turns a frame into octets and back.

use bytes::Bytes;
use certwright_core::mutant::{self, Mutant};

use super::header::{ChainPoint, u32_at, u64_at};
use super::{LogMark, Record};
use crate::limits;

/// Octets before a frame's payload.
pub(super) const HEAD_OCTETS: usize = 32;
/// Frames begin at multiples of this, so that a search after damage finds them.
pub(super) const ALIGN: usize = 8;
/// Octets before an entry's own payload.
const ENTRY_PREFIX_OCTETS: usize = 25;
/// Octets of an encoded log mark.
const MARK_OCTETS: usize = 24;
/// Octets of a seal frame as a whole.
pub(super) const SEAL_FRAME_OCTETS: usize = HEAD_OCTETS + SEAL_OCTETS.next_multiple_of(ALIGN);
const SEAL_OCTETS: usize = ChainPoint::OCTETS + 8 + 1 + 8;
/// Octets of the largest frame payload.
const PAYLOAD_OCTETS_MAX: usize = limits::WAL_FRAME_OCTETS_MAX + ENTRY_PREFIX_OCTETS;

const KIND_ENTRY: u8 = 1;
const KIND_TRUNCATE: u8 = 2;
const KIND_VOTE: u8 = 3;
const KIND_PURGE: u8 = 4;
const KIND_COMMITTED: u8 = 5;
const KIND_SEAL: u8 = 6;

/// What a frame says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Frame {
    /// One entry, appended.
    Entry(Record),
    /// Entries from `next_index` on are gone.
    Truncate(ChainPoint),
    /// The vote, as opaque octets.
    Vote(Bytes),
    /// Entries up to the mark are of no more use to Raft; the chain value is the one after the mark's entry.
    Purge(LogMark, Option<crate::chain::Chain>),
    /// Committed up to here, as far as this node had heard.
    Committed(Option<LogMark>),
    /// The segment ends here.
    Seal(Seal),
}

/// The last frame of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Seal {
    pub(super) end: ChainPoint,
    /// The least `next_index` that the log had within this segment: entries of earlier segments from there on are
    /// superseded.
    pub(super) low: u64,
    /// Milliseconds since the Unix epoch.
    pub(super) not_after: Option<u64>,
}

/// Where a frame stands: its sequence, and the sequence of the first frame that was synced together with it.
/// Frames of a later batch exist only when every frame before that batch was durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    pub(super) sequence: u64,
    pub(super) batch: u64,
}

/// A frame read back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Read {
    pub(super) place: Place,
    pub(super) frame: Frame,
    /// Octets of the whole frame with its padding.
    pub(super) octets: usize,
}

/// Octets of a frame when encoded.
pub(super) fn octets(frame: &Frame) -> usize {
    frame_octets(match frame {
        Frame::Entry(record) => ENTRY_PREFIX_OCTETS + record.payload.len(),
        Frame::Truncate(_) => ChainPoint::OCTETS,
        Frame::Vote(vote) => vote.len(),
        Frame::Purge(..) => MARK_OCTETS + ChainPoint::OCTETS,
        Frame::Committed(mark) => mark.map_or(0, |_| MARK_OCTETS),
        Frame::Seal(_) => SEAL_OCTETS,
    })
}

/// Octets of the frame that holds a record with a payload of that size.
pub(super) fn entry_octets(payload: usize) -> usize {
    frame_octets(ENTRY_PREFIX_OCTETS + payload)
}

fn frame_octets(payload: usize) -> usize {
    HEAD_OCTETS + payload.next_multiple_of(ALIGN)
}

/// The checksum of a segment before its first octet: stale octets of another segment never match.
fn salted(salt: u64) -> crc32fast::Hasher {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&salt.to_be_bytes());
    hasher
}

/// Appends a frame:
///
/// | offset | octets | what |
/// |---|---|---|
/// | 0 | 4 | octets of the payload |
/// | 4 | 1 | kind |
/// | 5 | 3 | zero |
/// | 8 | 8 | sequence |
/// | 16 | 8 | batch |
/// | 24 | 4 | CRC-32 of salt and all before |
/// | 28 | 4 | CRC-32 of salt, the 28 octets before, payload and padding |
/// | 32 | | payload, zero-padded to a multiple of 8 |
pub(super) fn encode(frame: &Frame, place: Place, salt: u64, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; HEAD_OCTETS]);
    let kind = encode_payload(frame, out);
    let length = out.len() - start - HEAD_OCTETS;
    out.resize(start + frame_octets(length), 0);
    let whole = &mut out[start..];
    whole[..4].copy_from_slice(&(length as u32).to_be_bytes());
    whole[4] = kind;
    whole[8..16].copy_from_slice(&place.sequence.to_be_bytes());
    whole[16..24].copy_from_slice(&place.batch.to_be_bytes());
    let mut head = salted(salt);
    head.update(&whole[..24]);
    whole[24..28].copy_from_slice(&head.finalize().to_be_bytes());
    let mut body = salted(salt);
    body.update(&whole[..28]);
    body.update(&whole[HEAD_OCTETS..]);
    whole[28..32].copy_from_slice(&body.finalize().to_be_bytes());
}

fn encode_payload(frame: &Frame, out: &mut Vec<u8>) -> u8 {
    match frame {
        Frame::Entry(record) => {
            encode_mark(&record.mark(), out);
            out.push(record.kind);
            out.extend_from_slice(&record.payload);
            KIND_ENTRY
        }
        Frame::Truncate(point) => {
            point.encode(out);
            KIND_TRUNCATE
        }
        Frame::Vote(vote) => {
            out.extend_from_slice(vote);
            KIND_VOTE
        }
        Frame::Purge(mark, chain) => {
            encode_mark(mark, out);
            ChainPoint { next_index: mark.index + 1, chain: *chain }.encode(out);
            KIND_PURGE
        }
        Frame::Committed(mark) => {
            if let Some(mark) = mark {
                encode_mark(mark, out);
            }
            KIND_COMMITTED
        }
        Frame::Seal(seal) => {
            seal.end.encode(out);
            out.extend_from_slice(&seal.low.to_be_bytes());
            out.push(u8::from(seal.not_after.is_some()));
            out.extend_from_slice(&seal.not_after.unwrap_or_default().to_be_bytes());
            KIND_SEAL
        }
    }
}

fn encode_mark(mark: &LogMark, out: &mut Vec<u8>) {
    for number in [mark.index, mark.term, mark.node] {
        out.extend_from_slice(&number.to_be_bytes());
    }
}

fn decode_mark(octets: &[u8]) -> Option<LogMark> {
    (octets.len() == MARK_OCTETS).then(|| LogMark {
        index: u64_at(octets, 0),
        term: u64_at(octets, 8),
        node: u64_at(octets, 16),
    })
}

/// The frame at the start of `octets`, which may go on beyond it; `None` when there is no whole, sound frame.
pub(super) fn decode(octets: &[u8], salt: u64) -> Option<Read> {
    let length = sound_head(octets, salt)?;
    let total = frame_octets(length);
    let whole = octets.get(..total)?;
    let mut body = salted(salt);
    body.update(&whole[..28]);
    body.update(&whole[HEAD_OCTETS..]);
    if u32_at(whole, 28) != body.finalize() && !mutant::is(Mutant::ChecksumsUnchecked) {
        return None;
    }
    let place = Place { sequence: u64_at(whole, 8), batch: u64_at(whole, 16) };
    let frame = decode_payload(whole[4], &whole[HEAD_OCTETS..HEAD_OCTETS + length])?;
    Some(Read { place, frame, octets: total })
}

/// Octets of the whole frame whose head this is; `None` when the head is not sound.
pub(super) fn whole_octets(head: &[u8], salt: u64) -> Option<usize> {
    sound_head(head, salt).map(frame_octets)
}

/// The payload's length when the head is sound.
fn sound_head(octets: &[u8], salt: u64) -> Option<usize> {
    let head = octets.get(..HEAD_OCTETS)?;
    let length = u32_at(head, 0) as usize;
    if length > PAYLOAD_OCTETS_MAX || head[5..8] != [0; 3] {
        return None;
    }
    let mut hasher = salted(salt);
    hasher.update(&head[..24]);
    (u32_at(head, 24) == hasher.finalize()).then_some(length)
}

fn decode_payload(kind: u8, payload: &[u8]) -> Option<Frame> {
    Some(match kind {
        KIND_ENTRY => {
            let (prefix, rest) = payload.split_at_checked(ENTRY_PREFIX_OCTETS)?;
            let LogMark { index, term, node } = decode_mark(&prefix[..MARK_OCTETS])?;
            let payload = Bytes::copy_from_slice(rest);
            Frame::Entry(Record { index, term, node, kind: prefix[MARK_OCTETS], payload })
        }
        KIND_TRUNCATE => Frame::Truncate(ChainPoint::decode(payload)?),
        KIND_VOTE => Frame::Vote(Bytes::copy_from_slice(payload)),
        KIND_PURGE => {
            let (mark, point) = payload.split_at_checked(MARK_OCTETS)?;
            let (mark, point) = (decode_mark(mark)?, ChainPoint::decode(point)?);
            if mark.index.checked_add(1)? != point.next_index {
                return None;
            }
            Frame::Purge(mark, point.chain)
        }
        KIND_COMMITTED if payload.is_empty() => Frame::Committed(None),
        KIND_COMMITTED => Frame::Committed(Some(decode_mark(payload)?)),
        KIND_SEAL => Frame::Seal(decode_seal(payload)?),
        _ => return None,
    })
}

fn decode_seal(payload: &[u8]) -> Option<Seal> {
    if payload.len() != SEAL_OCTETS {
        return None;
    }
    let (end, rest) = payload.split_at(ChainPoint::OCTETS);
    let not_after = match (rest[8], u64_at(rest, 9)) {
        (0, 0) => None,
        (1, millis) => Some(millis),
        _ => return None,
    };
    Some(Seal { end: ChainPoint::decode(end)?, low: u64_at(rest, 0), not_after })
}
