//! Given a replica, when an entry is applied, then this: the same on every replica.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use certwright_core::log::{Append, StreamId};

use super::*;
use crate::consensus::{Membership, Payload, Peer, log_id};
use crate::fold::toy::{Toy, guarded, request, say};

const CLUSTER: [u8; 16] = [3; 16];

struct Given {
    replica: Replica<Toy>,
    index: u64,
}

impl Given {
    fn new() -> Self {
        Self { replica: Replica::genesis(&CLUSTER), index: 0 }
    }

    fn when(&mut self, at_millis: u64, transactions: Vec<Transaction<String>>) -> Outcome<String> {
        self.index += 1;
        let entry = Entry {
            log_id: log_id(1, self.index),
            payload: EntryPayload::Normal(Payload(format!("{at_millis} {transactions:?}").into_bytes().into())),
        };
        let at = Timestamp::from_millis(at_millis);
        self.replica.apply(&entry, Some(DecodedEntry { at, digest: false, transactions }))
    }

    fn members(&mut self, ids: &[u64]) {
        self.index += 1;
        let peers: BTreeMap<u64, Peer> = ids.iter().map(|id| (*id, Peer::default())).collect();
        let membership = Membership::new(vec![ids.iter().copied().collect()], peers).unwrap();
        let entry = Entry { log_id: log_id(1, self.index), payload: EntryPayload::Membership(membership) };
        self.replica.apply(&entry, None);
    }
}

#[test]
fn transactions_of_one_entry_see_each_other() {
    let mut given = Given::new();
    let then = given.when(5, vec![say(1, "a", Some(0), "one"), say(2, "a", Some(1), "two")]);
    assert_eq!(then.refusals, [None, None]);
    assert_eq!(given.replica.state.streams["a"], ["one", "two"]);
    assert_eq!(given.replica.position, Position { index: 1, ordinal: 1 });
}

#[test]
fn a_transaction_is_all_or_nothing() {
    let mut given = Given::new();
    let mut transaction = say(1, "a", Some(0), "one");
    transaction.appends.push(Append { stream: StreamId::new("b"), expected: Some(7), events: vec!["two".into()] });
    let then = given.when(5, vec![transaction, say(2, "a", Some(0), "still")]);
    assert_eq!(then.refusals, [Some(Refusal::Moved), None]);
    assert_eq!(then.entry.refused, [true, false]);
    assert_eq!(then.entry.effective().count(), 1);
    assert_eq!(given.replica.state.streams["a"], ["still"]);
    assert!(given.replica.refused.contains(&Position { index: 1, ordinal: 0 }));
}

#[test]
fn appends_to_one_stream_in_one_transaction_count_on() {
    let mut given = Given::new();
    let mut transaction = say(1, "a", Some(0), "one");
    transaction.appends.push(Append { stream: StreamId::new("a"), expected: Some(1), events: vec!["two".into()] });
    assert_eq!(given.when(5, vec![transaction]).refusals, [None]);
    assert_eq!(given.replica.state.streams["a"], ["one", "two"]);
}

#[test]
fn guards_hold_or_nothing_happens() {
    let mut given = Given::new();
    given.when(5, vec![say(1, "policy", Some(0), "one")]);
    let then = given.when(6, vec![guarded(2, ("policy", 0), "stale"), guarded(3, ("policy", 1), "fresh")]);
    assert_eq!(then.refusals, [Some(Refusal::Moved), None]);
    assert_eq!(given.replica.state.loose, ["fresh"]);
    assert_eq!(given.replica.dedup.find("system", request(2)), None, "what was refused is not remembered");
}

#[test]
fn a_repeat_in_the_log_is_skipped() {
    let mut given = Given::new();
    given.when(5, vec![say(1, "a", None, "word")]);
    let then = given.when(6, vec![say(1, "a", None, "word"), say(1, "a", None, "other")]);
    let first = Position { index: 1, ordinal: 0 };
    assert_eq!(then.refusals, [Some(Refusal::Repeated(first)), Some(Refusal::Reused)]);
    assert_eq!(given.replica.state.loose, ["word"]);
}

#[test]
fn log_time_never_falls() {
    let mut given = Given::new();
    given.when(9, vec![say(1, "a", None, "word")]);
    let then = given.when(5, vec![say(2, "a", None, "word")]);
    assert_eq!((then.at, given.replica.at), (Timestamp::from_millis(9), Timestamp::from_millis(9)));
}

#[test]
fn who_left_is_remembered_for_ever() {
    let mut given = Given::new();
    given.members(&[1, 2, 3]);
    given.members(&[1, 3]);
    given.members(&[1, 3, 4]);
    given.members(&[1]);
    assert_eq!(given.replica.removed, BTreeSet::from([2, 3, 4]));
}

#[test]
fn the_chain_binds_every_entry_blank_ones_too() {
    let (mut one, mut other) = (Given::new(), Given::new());
    one.when(5, vec![say(1, "a", None, "word")]);
    other.when(5, vec![say(1, "a", None, "word")]);
    assert_eq!(one.replica.chain, other.replica.chain);
    one.replica.apply(&Entry { log_id: log_id(2, 2), payload: EntryPayload::Blank }, None);
    assert_ne!(one.replica.chain, other.replica.chain);
    assert_eq!(one.replica.state, other.replica.state);
    assert_eq!(one.replica.term(), 2);
}

#[test]
fn log_time_goes_back_behind_the_entry_that_says_so() {
    let mut given = Given::new();
    given.when(9_000, vec![say(1, "a", Some(0), "one")]);
    let then = given.when(9_500, vec![say(2, "time", None, "back to 1000"), say(3, "a", Some(1), "two")]);
    assert_eq!((then.at, then.rebased, then.entry.at.millis()), (Timestamp::from_millis(1000), 2, 9_500));
    assert!(then.sets_back());
    assert_eq!((given.replica.at.millis(), given.replica.rebased), (1000, 2));
    let then = given.when(1_200, vec![say(4, "a", Some(2), "three")]);
    assert_eq!((then.at.millis(), then.rebased, then.sets_back()), (1_200, 2, false), "that is long past");
    given.when(3_000, vec![say(5, "time", None, "back to 2000")]);
    given.when(2_000, vec![say(6, "time", None, "back to 1500"), say(7, "time", None, "back to 1800")]);
    assert_eq!((given.replica.at.millis(), given.replica.rebased), (1_800, 5), "the last one counts");
}

#[test]
fn log_time_goes_back_by_nothing_that_took_no_effect_and_never_ahead() {
    let mut given = Given::new();
    given.when(9_000, vec![say(1, "a", Some(0), "one")]);
    let then = given.when(9_500, vec![say(2, "a", Some(7), "back to 1000")]);
    assert_eq!((then.at.millis(), then.rebased, then.refusals), (9_500, 0, vec![Some(Refusal::Moved)]));
    let then = given.when(9_600, vec![say(3, "time", None, "back to 99000")]);
    assert_eq!((then.at.millis(), then.rebased), (9_600, 3));
}

#[test]
fn requests_of_a_time_that_was_taken_back_are_remembered_for_two_minutes_of_the_new_one() {
    const BEFORE: u64 = 1_000_000_000;
    let mut given = Given::new();
    given.when(BEFORE, vec![say(1, "a", None, "one")]);
    given.when(BEFORE + 60_000, vec![say(2, "time", None, "back to 500000")]);
    given.when(500_000 + 119_000, vec![say(3, "a", None, "two")]);
    let then = given.when(500_000 + 120_000, vec![say(1, "a", None, "one"), say(2, "time", None, "back to 500000")]);
    assert!(then.refusals.iter().all(|refusal| matches!(refusal, Some(Refusal::Repeated(_)))), "{:?}", then.refusals);
    assert_eq!((then.at.millis(), then.rebased), (620_000, 2), "a repeat sets nothing back");
    given.when(500_000 + 120_001, vec![say(4, "a", None, "three")]);
    assert_eq!(given.replica.dedup.len(), 2, "what was before is forgotten, the two after are not");
}

#[test]
fn the_first_entry_of_a_log_sets_nothing_back() {
    let mut replica: Replica<Toy> = Replica::genesis(&CLUSTER);
    let then = replica.apply(&Entry { log_id: log_id(0, 0), payload: EntryPayload::Blank }, None);
    assert_eq!((then.entry.index, then.sets_back()), (0, false));
}
