//! What servers say to each other: consensus, forwarded calls, backfill.
//!
//! It refuses to trust them: a message from a peer is read as carefully as a stranger's.

use bytes::Bytes;
use certwright_core::ids::Actor;
use certwright_proto::internal::v1;
use certwright_raft::fuzz::{PEER_MESSAGES, peer_message};
use prost::Message;

use crate::octets::Octets;
use crate::verdict::took;

pub(crate) fn run(input: &[u8]) {
    let mut input = Octets(input);
    let kind = input.u8() % (PEER_MESSAGES + 2);
    match kind.checked_sub(PEER_MESSAGES) {
        None => match peer_message(kind, &Bytes::copy_from_slice(input.0)) {
            Ok(()) => took(),
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
                assert!(!error.to_string().is_empty());
            }
        },
        Some(0) => forwarded(input.0),
        Some(_) => backfilled(input.number(), input.0),
    }
}

fn forwarded(octets: &[u8]) {
    let Ok(request) = v1::ForwardRequest::decode(octets) else { return };
    if let Some(actor) = Actor::parse(&request.actor) {
        assert_eq!(actor.to_string(), request.actor);
    }
    crate::text::traceparent(&request.traceparent);
    match crate::api::method(&request.method) {
        Some(run) => run(&request.message),
        None => crate::agent::forwarded(&request.method, &request.message),
    }
    let response = v1::ForwardResponse { status: request.message, ..v1::ForwardResponse::default() };
    let status = certwright_proto::status::decode_status(response.status);
    let _ = certwright_proto::status::from_status(&status);
}

/// An entry as another server's log is said to hold it.
fn backfilled(expected: u64, octets: &[u8]) {
    let Ok(frame) = v1::BackfillFrame::decode(octets) else { return };
    match certwright_raft::fuzz::backfilled(frame, expected) {
        Ok(record) => {
            assert_eq!(record.index, expected);
            took();
        }
        Err(why) => assert!(!why.is_empty()),
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    // A term and an index; a vote; a membership of two. By field number, as in crates/raft/src/consensus/wire.rs.
    let log_id = [8, 3, 16, 9];
    let vote = [8, 3, 16, 2, 24, 1];
    let field = |number: u8, octets: &[u8]| [&[number << 3 | 2, octets.len() as u8], octets].concat();
    let entry = [&[8, 3, 16, 9, 24, 1][..], &field(4, b"payload")].concat();
    let peer = [&[8, 2][..], &field(2, b"127.0.0.1:7001"), &field(3, &[7; 32])].concat();
    let membership = [field(1, &field(1, &[2])), field(2, &peer)].concat();
    let stored = [field(1, &log_id), field(2, &membership)].concat();
    let meta = [field(1, &log_id), field(2, &stored)].concat();
    let kinds: [Vec<u8>; 12] = [
        [field(1, &vote), field(2, &log_id), field(3, &log_id), field(4, &entry)].concat(),
        [vec![8, 3], field(3, &vote)].concat(),
        [vec![8, 2], field(2, &log_id)].concat(),
        [field(1, &vote), field(2, &log_id), vec![24, 1], field(4, &vote)].concat(),
        [field(1, &vote), field(2, &log_id), vec![24, 1]].concat(),
        [field(1, &vote), vec![16, 2], field(3, &log_id)].concat(),
        [vec![8, 1], field(2, &vote), field(3, &vote)].concat(),
        meta.clone(),
        membership,
        [field(1, &vote), field(2, &meta), vec![24, 100]].concat(),
        field(1, &vote),
        [vec![8, 1], field(2, &log_id)].concat(),
    ];
    let mut seeds: Vec<_> = (0..).zip(kinds).map(|(kind, body)| [vec![kind, 1], body].concat()).collect();
    for (method, message) in crate::api::methods().into_iter().chain(crate::agent::calls()) {
        let request = v1::ForwardRequest {
            actor: "administrator/ada".into(),
            method: method.into(),
            message: message.into(),
            traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into(),
            ..v1::ForwardRequest::default()
        };
        seeds.push([vec![PEER_MESSAGES], request.encode_to_vec()].concat());
    }
    // A term, an index, a kind, a payload, as above.
    let entry = [&[8, 3, 16, 9, 24, 1][..], &field(4, b"payload")].concat();
    let frame = v1::BackfillFrame { index: 9, frame: entry.into() };
    seeds.push([vec![PEER_MESSAGES + 1, 9], frame.encode_to_vec()].concat());
    seeds
}
