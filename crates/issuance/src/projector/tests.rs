//! Keys of the projection as golden octets, and the alarm about a serial seen twice.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use certwright_core::Event;
use certwright_core::ids::{Serial, direct_stream};
use certwright_core::log::{Append, Position, RequestId, StreamId, Trace, Transaction};
use certwright_core::time::Timestamp;
use certwright_raft::Projector;

use super::{Projection, decode_position, encode_position, position_of_key, serial_key, stream_key, stream_prefix};

fn at(index: u64, ordinal: u32) -> Position {
    Position { index, ordinal }
}

fn certified(serial: Serial) -> Transaction<Event> {
    let time = Timestamp::EPOCH;
    let event = Event::AuthorityCertified { serial, not_before: time, not_after: time, certificate: [][..].into() };
    Transaction {
        request_id: RequestId([0; 16]),
        request_digest: [0; 16],
        actor: "system".into(),
        trace: Trace::default(),
        guards: vec![],
        appends: vec![Append { stream: direct_stream(&serial), expected: None, events: vec![event] }],
    }
}

#[test]
fn keys_are_these_octets() {
    let stream = StreamId::new("issuers/a");
    assert_eq!(stream_key(&stream, at(0x0102, 3)), b"t/issuers/a\0\0\0\0\0\0\0\x01\x02\0\0\0\x03");
    let serial = Serial::from_random([7; 20]);
    assert_eq!(serial_key(&serial), [b"s/", &[7; 20][..]].concat());
}

#[test]
fn positions_round_trip_and_sort() {
    let positions = [at(0, 0), at(0, 1), at(1, 0), at(255, 9), at(256, 0), at(u64::MAX, u32::MAX)];
    let encoded: Vec<_> = positions.iter().map(|position| encode_position(*position)).collect();
    assert!(encoded.is_sorted());
    for (position, octets) in positions.iter().zip(&encoded) {
        assert_eq!(decode_position(octets), Some(*position));
    }
    assert_eq!(decode_position(&[0; 11]), None);
    assert_eq!(decode_position(&[0; 13]), None);
}

#[test]
fn a_stream_is_not_found_under_the_name_it_begins_with() {
    let (short, long) = (StreamId::new("issuers/a"), StreamId::new("issuers/ab"));
    assert!(!stream_key(&long, at(1, 0)).starts_with(&stream_prefix(&short)));
    assert_eq!(position_of_key(&short, &stream_key(&short, at(7, 2))), Some(at(7, 2)));
    assert_eq!(position_of_key(&short, &stream_key(&long, at(7, 2))), None);
}

#[test]
fn a_serial_on_two_certificates_is_alarmed_and_a_rebuild_is_not() {
    let projection = Projection::new(&prometheus::Registry::new());
    let serial = Serial::from_random([7; 20]);
    let mut puts = 0;
    projection.project(at(1, 0), &certified(serial), &mut |_, _| puts += 1);
    projection.project(at(1, 0), &certified(serial), &mut |_, _| puts += 1);
    assert_eq!((puts, projection.duplicates()), (2, 0));
    projection.project(at(2, 0), &certified(serial), &mut |_, _| ());
    assert_eq!(projection.duplicates(), 1);
}

#[test]
fn a_duplicate_of_something_long_stored_is_alarmed() {
    let projection = Projection::new(&prometheus::Registry::new());
    let store: Arc<Mutex<BTreeMap<Vec<u8>, Vec<u8>>>> = Arc::default();
    let serial = Serial::from_random([9; 20]);
    store.lock().unwrap().insert(serial_key(&serial), encode_position(at(1, 0)).to_vec());
    let found = store.clone();
    projection.find_with(Box::new(move |key| found.lock().unwrap().get(key).cloned()));
    projection.project(at(1, 0), &certified(serial), &mut |_, _| ());
    assert_eq!(projection.duplicates(), 0);
    projection.project(at(8, 0), &certified(serial), &mut |_, _| ());
    assert_eq!(projection.duplicates(), 1);
}
