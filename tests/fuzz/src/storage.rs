//! The payload of a log entry, an event, and the chunks of a cut, as some disk gives them back.
//!
//! It refuses two octet strings for one meaning: what is read is written again as it was, or at least means the same.

use bytes::Bytes;
use certwright_core::State;
use certwright_core::log::{Codec, Fold};
use certwright_proto::storage::{DomainCodec, EntryBuilder, EntryParts, decode_entry, encode_transaction};

use crate::estate;
use crate::octets::{Octets, sliced};
use crate::verdict::took;

const ENTRY: u8 = 0;
const EVENT: u8 = 1;
const CUT: u8 = 2;

pub(crate) fn run(input: &[u8]) {
    let mut input = Octets(input);
    match input.u8() % 3 {
        ENTRY => entry(Bytes::copy_from_slice(input.0)),
        EVENT => event(input.0),
        _ => cut(input),
    }
}

fn entry(payload: Bytes) {
    let Ok(entry) = decode_entry::<State>(&DomainCodec, payload.clone()) else { return };
    let mut written = EntryBuilder::new();
    entry.transactions.iter().for_each(|it| written.push(&encode_transaction::<State>(&DomainCodec, it)));
    if entry.digest {
        written.request_digest();
    }
    assert_eq!(written.count(), entry.transactions.len());
    let bound = written.octets();
    let written = written.finish(entry.at);
    assert!(written.len() <= bound);
    // Protobuf lets one value be written in many ways; reading refuses what would be written shorter or longer.
    assert_eq!(written.len(), payload.len());
    assert_eq!(decode_entry::<State>(&DomainCodec, written).expect("what was written is read"), entry);
    let parts = EntryParts::read(payload).expect("an entry has parts");
    assert_eq!(parts.at(), entry.at);
    for (ordinal, it) in (0..).zip(&entry.transactions) {
        assert_eq!(parts.transaction::<State>(&DomainCodec, ordinal).as_ref(), Ok(&Some(it.clone())));
    }
    entry.transactions.iter().for_each(estate::told);
    took();
}

fn event(octets: &[u8]) {
    let Ok(event) = DomainCodec.decode_event(octets) else { return };
    let written = DomainCodec.encode_event(&event);
    assert_eq!(written.len(), octets.len());
    assert_eq!(DomainCodec.decode_event(&written).expect("what was written is read"), event);
    assert!(!event.kind().is_empty());
    took();
}

fn cut(mut input: Octets<'_>) {
    let mut chunks = Vec::new();
    while !input.is_empty() {
        chunks.push(input.slice().to_vec());
    }
    let Ok(state) = DomainCodec.decode_cut(&mut chunks.into_iter()) else { return };
    // A rebuilt state may let go of what is derived; from then on nothing changes any more.
    estate::kept(&state);
    let state = State::from_parts(state.cut());
    estate::kept(&state);
    took();
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let with = |kind: u8, octets: &[u8]| [&[kind], octets].concat();
    let golden = |text: &'static str| text.lines().filter_map(|line| hex::decode(line.split_once(' ')?.1).ok());
    let mut seeds: Vec<_> = estate::entries().iter().map(|entry| with(ENTRY, entry)).collect();
    seeds.extend(golden(include_str!("../../../proto/golden/events.hex")).map(|event| with(EVENT, &event)));
    let mut envelopes = golden(include_str!("../../../proto/golden/envelopes.hex"));
    seeds.extend(envelopes.next().map(|entry| with(ENTRY, &entry)));
    seeds.extend(envelopes.next().map(|chunk| with(CUT, &sliced(&chunk))));
    seeds.push(with(CUT, &estate::chunks().iter().flat_map(|chunk| sliced(chunk)).collect::<Vec<_>>()));
    seeds
}
