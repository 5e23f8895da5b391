//! The octets of a header and of every kind of frame: a change of these breaks logs that exist.

use super::super::frame::{Frame, Place, Seal, decode, encode, octets};
use super::super::header::HeaderError;
use super::*;

const SALT: u64 = 0x0102_0304_0506_0708;
const PLACE: Place = Place { sequence: 0x21, batch: 0x20 };

fn point() -> ChainPoint {
    ChainPoint { next_index: 5, chain: Some([0xaa; 32]) }
}

fn header() -> SegmentHeader {
    SegmentHeader { identity: ME, first_sequence: 0x11, start: point(), opening_frames: 2, salt: SALT }
}

/// Each kind of frame and its octets, computed independently from the tables in the docs, with Python's struct and
/// zlib.crc32.
fn frames() -> Vec<(Frame, &'static str)> {
    let entry = Record { index: 7, term: 3, node: 2, kind: 1, payload: Bytes::from_static(b"payload") };
    let seal = Seal { end: point(), low: 4, not_after: Some(0x0102) };
    vec![
        (
            Frame::Entry(entry),
            "000000200100000000000000000000210000000000000020f568d2e590d149d700000000000000070000000000000003\
             0000000000000002017061796c6f6164",
        ),
        (
            Frame::Truncate(point()),
            "000000290200000000000000000000210000000000000020e0e915c7a57607a6000000000000000501aaaaaaaaaaaaaa\
             aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa00000000000000",
        ),
        (
            Frame::Truncate(ChainPoint { next_index: 5, chain: None }),
            "000000290200000000000000000000210000000000000020e0e915c7081b940600000000000000050000000000000000\
             0000000000000000000000000000000000000000000000000000000000000000",
        ),
        (
            Frame::Vote(Bytes::from_static(b"vote")),
            "000000040300000000000000000000210000000000000020ba97850a443e6038766f746500000000",
        ),
        (
            Frame::Purge(mark(4, 3), Some([0xaa; 32])),
            "0000004104000000000000000000002100000000000000202211e94db58cb47000000000000000040000000000000003\
             0000000000000009000000000000000501aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\
             aa00000000000000",
        ),
        (
            Frame::Committed(Some(mark(4, 3))),
            "000000180500000000000000000000210000000000000020425b07fe93cb8fd000000000000000040000000000000003\
             0000000000000009",
        ),
        (Frame::Committed(None), "0000000005000000000000000000002100000000000000202c4d1c64c93d4efe"),
        (
            Frame::Seal(seal),
            "0000003a06000000000000000000002100000000000000209efe6e918104f0b7000000000000000501aaaaaaaaaaaaaa\
             aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa0000000000000004010000000000000102000000000000",
        ),
    ]
}

const HEADER: &str = "435752544c4f470a0000000100000080c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c100000000000000030000000000000001\
             0000000000000011000000000000000501aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\
             aa000000000000020102030405060708000000000000000000000000af9ec1c1";

#[test]
fn header_octets() {
    assert_eq!(hex::encode(header().encode()), HEADER);
    assert_eq!(SegmentHeader::decode(&header().encode()), Ok(header()));
}

#[test]
fn frame_octets() {
    for (frame, expected) in frames() {
        let mut out = Vec::new();
        encode(&frame, PLACE, SALT, &mut out);
        assert_eq!(hex::encode(&out), expected, "{frame:?}");
        assert_eq!(octets(&frame), out.len(), "{frame:?}");
        let read = decode(&out, SALT).unwrap();
        assert_eq!((read.frame, read.place, read.octets), (frame, PLACE, out.len()));
    }
}

#[test]
fn every_flipped_bit_of_a_frame_is_noticed() {
    for (frame, text) in frames() {
        let sound = hex::decode(text).unwrap();
        for bit in 0..sound.len() * 8 {
            let mut octets = sound.clone();
            octets[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&octets, SALT), None, "bit {bit} of {frame:?}");
        }
        assert_eq!(decode(&sound, SALT + 1), None, "the salt of another segment");
        assert_eq!(decode(&sound[..sound.len() - 1], SALT), None, "cut short");
    }
}

#[test]
fn every_flipped_bit_of_a_header_is_noticed() {
    let sound = header().encode();
    for bit in 0..sound.len() * 8 {
        let mut octets = sound;
        octets[bit / 8] ^= 1 << (bit % 8);
        assert!(SegmentHeader::decode(&octets).is_err(), "bit {bit}");
    }
    let mut newer = sound;
    newer[11] = 2;
    assert_eq!(SegmentHeader::decode(&newer), Err(HeaderError::Version(2)));
}

#[test]
fn a_file_name_sorts_as_its_number() {
    assert_eq!(segment::file_name(42), "00000000000000000042.seg");
    assert_eq!(segment::parse_name(Path::new("00000000000000000042.seg")), Some(42));
    for other in ["42.seg", "00000000000000000042.tmp", "lock", "spare", "0000000000000000004x.seg"] {
        assert_eq!(segment::parse_name(Path::new(other)), None, "{other}");
    }
}
