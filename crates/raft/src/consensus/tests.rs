//! Golden octets of what is stored and sent, and the runtime's randomness.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use certwright_core::log::Position;
use certwright_core::time::Timestamp;
use certwright_proto::storage::{EntryBuilder, decode_entry, encode_transaction};
use certwright_seams::sim::SeededEntropy;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, StreamAppendError, TransferLeaderError, TransferLeaderRequest,
    VoteRequest, VoteResponse,
};
use openraft_rt::AsyncRuntime;
use rand::RngExt;

use super::record::{
    KIND_MEMBERSHIP, LogIdForm, MembershipForm, SnapshotMetaForm, VoteForm, decode, encode, entry_from, entry_octets,
};
use super::runtime::{SeamRuntime, scope};
use super::wire::{
    AppendForm, AppendedForm, TransferForm, VoteRequestForm, VoteResponseForm, streamed_form, streamed_result,
    transferred_form, transferred_result,
};
use super::*;
use crate::fold::toy::{codec, say};

fn peer(number: u8) -> Peer {
    Peer { address: format!("host-{number}:7300"), spki_hash: [number; 32] }
}

fn joint() -> Membership {
    let peers = BTreeMap::from([(1, peer(1)), (2, peer(2)), (3, peer(3))]);
    Membership::new(vec![BTreeSet::from([1]), BTreeSet::from([1, 2])], peers).unwrap()
}

#[test]
fn golden_vote_and_log_id() {
    let vote = Vote::new_committed(3, 2);
    assert_eq!(hex::encode(encode(&VoteForm::from(&vote))), "01080310021801");
    assert_eq!(
        Vote::from(decode::<VoteForm>("vote", &Bytes::from_static(b"\x01\x08\x03\x10\x02\x18\x01")).unwrap()),
        vote
    );
    assert_eq!(hex::encode(encode(&LogIdForm::from(&log_id(3, 300)))), "01080310ac02");
}

#[test]
fn golden_membership() {
    let octets = encode(&MembershipForm::from(&joint()));
    let expected = [
        "01",
        "0a030a0101",
        "0a040a020102",
        "1231080112",
        "0b686f73742d313a37333030",
        "1a20",
        &"01".repeat(32),
        "1231080212",
        "0b686f73742d323a37333030",
        "1a20",
        &"02".repeat(32),
        "1231080312",
        "0b686f73742d333a37333030",
        "1a20",
        &"03".repeat(32),
    ]
    .concat();
    assert_eq!(hex::encode(&octets), expected);
    let back: Membership = decode::<MembershipForm>("membership", &octets).unwrap().try_into().unwrap();
    assert_eq!(back, joint());
}

#[test]
fn golden_entry_payload() {
    let mut builder = EntryBuilder::new();
    builder.push(&encode_transaction(&*codec(), &say(1, "a", Some(0), "w")));
    builder.request_digest();
    let payload = builder.finish(Timestamp::from_millis(1_700_000_000_000));
    let expected = [
        "0801",           // version
        "1080d095ffbc31", // at
        "1801",           // digest
        "2236",           // transaction
        "0a10",
        "00000000000000000000000000000001",
        "1210",
        "77000000000000000000000000000000",
        "1a0673797374656d", // actor
        "3a08",             // append
        "0a016110001a0177",
    ]
    .concat();
    // `expected: 0` is written, because absent means something else.
    assert_eq!(hex::encode(&payload), expected);
    let decoded = decode_entry(&*codec(), payload).unwrap();
    assert_eq!((decoded.digest, decoded.transactions), (true, vec![say(1, "a", Some(0), "w")]));
}

#[test]
fn unknown_versions_and_kinds_are_refused() {
    assert!(decode::<VoteForm>("vote", &Bytes::from_static(b"\x02\x08\x03")).is_err());
    assert!(decode::<VoteForm>("vote", &Bytes::new()).is_err());
    assert!(entry_from(log_id(1, 1), 3, Bytes::new()).is_err());
    assert!(entry_from(log_id(1, 1), KIND_MEMBERSHIP, Bytes::from_static(b"\x01\xff")).is_err());
    let short = MembershipForm {
        peers: vec![super::record::PeerForm {
            node_id: 1,
            address: String::new(),
            spki_hash: Bytes::from_static(b"x"),
        }],
        ..MembershipForm::from(&Membership::default())
    };
    assert!(Membership::try_from(short).is_err());
}

#[test]
fn entries_come_back_as_they_went() {
    for payload in [
        EntryPayload::Blank,
        EntryPayload::Normal(Payload(Bytes::from_static(b"octets"))),
        EntryPayload::Membership(joint()),
    ] {
        let entry = Entry { log_id: log_id(2, 9), payload };
        let (kind, octets) = entry_octets(&entry);
        assert_eq!(entry_from(log_id(2, 9), kind, octets).unwrap(), entry);
    }
    let meta = SnapshotMeta {
        last_log_id: Some(log_id(2, 9)),
        last_membership: StoredMembership::new(Some(log_id(1, 3)), joint()),
    };
    assert_eq!(SnapshotMeta::try_from(SnapshotMetaForm::from(&meta)).unwrap(), meta);
    let empty = SnapshotMeta::default();
    assert_eq!(SnapshotMeta::try_from(SnapshotMetaForm::from(&empty)).unwrap(), empty);
}

#[test]
fn messages_come_back_as_they_went() {
    let vote = Vote::new(7, 2);
    let append: AppendEntriesRequest<Types> = AppendEntriesRequest {
        vote,
        prev_log_id: Some(log_id(6, 8)),
        entries: vec![Entry { log_id: log_id(7, 9), payload: EntryPayload::Normal(Payload(Bytes::from_static(b"x"))) }],
        leader_commit: None,
    };
    let back: AppendEntriesRequest<Types> = AppendForm::from(&append).try_into().unwrap();
    assert_eq!(format!("{back:?}"), format!("{append:?}"));
    for answer in [
        AppendEntriesResponse::Success,
        AppendEntriesResponse::PartialSuccess(Some(log_id(1, 2))),
        AppendEntriesResponse::Conflict,
        AppendEntriesResponse::HigherVote(vote),
    ] {
        assert_eq!(AppendEntriesResponse::try_from(AppendedForm::from(answer.clone())).unwrap(), answer);
    }
    for answer in [
        Ok(None),
        Ok(Some(log_id(1, 2))),
        Err(StreamAppendError::Conflict(log_id(1, 2))),
        Err(StreamAppendError::HigherVote(vote)),
    ] {
        assert_eq!(streamed_result(streamed_form(answer.clone())).unwrap(), answer);
    }
    let mut request: VoteRequest<Types> = VoteRequest::new(vote, Some(log_id(1, 2)));
    request.leadership_transfer = true;
    assert_eq!(VoteRequest::try_from(VoteRequestForm::from(&request)).unwrap(), request);
    let response: VoteResponse<Types> = VoteResponse::new(vote, None, true);
    assert_eq!(VoteResponse::try_from(VoteResponseForm::from(&response)).unwrap(), response);
    let transfer: TransferLeaderRequest<Types> = TransferLeaderRequest::new(vote, 3, Some(log_id(1, 2)));
    assert_eq!(TransferLeaderRequest::try_from(TransferForm::from(&transfer)).unwrap(), transfer);
    for answer in [
        Ok(()),
        Err(TransferLeaderError::VoteChanged { expected: vote, actual: Vote::new_committed(8, 1) }),
        Err(TransferLeaderError::LogNotFlushed { expected: Some(log_id(1, 2)), actual: None }),
    ] {
        assert_eq!(transferred_result(transferred_form(answer.clone())).unwrap(), answer);
    }
    assert!(AppendEntriesResponse::<Types>::try_from(AppendedForm { outcome: 9, ..AppendedForm::default() }).is_err());
    assert!(VoteRequest::<Types>::try_from(VoteRequestForm::default()).is_err(), "a vote must be there");
}

#[test]
fn the_standard_leader_id_orders_terms_only() {
    assert!(log_id(2, 1) > log_id(1, 9));
    assert_eq!(term_of(&log_id(4, 1)), 4);
    assert!(PartialOrd::partial_cmp(&Vote::new(2, 1), &Vote::new(2, 2)).is_none(), "one leader in a term");
    assert_eq!(Vote::new(2, 1).leader_id().voted_for, 1);
    assert!(Position::START < Position { index: 1, ordinal: 0 });
}

#[tokio::test]
async fn draws_come_from_the_node_that_a_task_belongs_to() {
    async fn draws() -> Vec<u64> {
        let nested = SeamRuntime::spawn(async { SeamRuntime::thread_rng().random::<u64>() });
        vec![nested.await.unwrap(), SeamRuntime::thread_rng().random(), SeamRuntime::thread_rng().random()]
    }
    let one = scope(Arc::new(SeededEntropy::new(1)), draws()).await;
    let again = scope(Arc::new(SeededEntropy::new(1)), draws()).await;
    let other = scope(Arc::new(SeededEntropy::new(2)), draws()).await;
    assert_eq!(one, again);
    assert_ne!(one, other);
}
