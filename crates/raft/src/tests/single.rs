//! One node: proposing, reading, deduplication, watching, projecting.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use certwright_core::log::Position;

use super::cluster::{Cluster, PATIENCE, eventually};
use crate::fold::toy::{Toy, guarded, request, say};
use crate::limits::ENTRY_OCTETS_MAX;
use crate::{Log, ProposeError, ReadError, Role, WatchItem};

async fn one() -> (Cluster, Log<Toy>) {
    let cluster = Cluster::of(1).await;
    let log = cluster.leader().await;
    (cluster, log)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proposal_is_applied_when_it_returns() {
    let (_cluster, log) = one().await;
    let first = log.propose(say(1, "a", Some(0), "one")).await.unwrap();
    let second = log.propose(say(2, "a", Some(1), "two")).await.unwrap();
    assert!(second.position > first.position && second.at >= first.at);
    log.read(|view| {
        assert_eq!(view.state.streams["a"], ["one", "two"]);
        assert_eq!(view.position, second.position);
        assert_eq!(view.repeated("system", request(1)).unwrap().1, first.position);
    });
    assert!(log.read_index().await.unwrap() >= second.position.index);
    let entry = log.entry(first.position.index).unwrap().unwrap();
    assert_eq!(entry.transactions, [say(1, "a", Some(0), "one")]);
    let status = log.status();
    assert_eq!((status.role, status.leader, status.members.voters.len()), (Role::Leader, Some(1), 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_chain_is_known_after_every_entry_that_was_applied() {
    let (_cluster, log) = one().await;
    let mut chains = Vec::new();
    for number in 1..=20 {
        log.propose(say(number, "a", None, "word")).await.unwrap();
        chains.push(log.read(|view| (view.index, view.chain)));
    }
    for (index, chain) in &chains {
        assert_eq!(log.chain_after(*index).unwrap(), Some(*chain));
    }
    let last = chains.last().unwrap().0;
    assert_eq!(log.chain_after(last + 1).unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_state_shows_can_be_read_in_the_log_at_once() {
    let (_cluster, log) = one().await;
    let (reader, is_over) = (log.clone(), Arc::new(AtomicBool::new(false)));
    let over = is_over.clone();
    let reading = tokio::spawn(async move {
        let mut looks = 0_u64;
        while !over.load(Ordering::SeqCst) {
            let index = reader.read(|view| view.index);
            assert!(reader.entry(index).unwrap().is_some(), "entry {index} is in state and not in the log");
            looks += 1;
            tokio::task::yield_now().await;
        }
        looks
    });
    for hundred in 0..20 {
        let said = (1..=100).map(|number| log.propose(say(100 * hundred + number, "a", None, "word")));
        futures_util::future::try_join_all(said).await.unwrap();
    }
    is_over.store(true, Ordering::SeqCst);
    assert!(reading.await.unwrap() > 100);
}

/// On one thread all are proposed before any of them is packed.
#[tokio::test]
async fn concurrent_proposals_share_entries() {
    let (_cluster, log) = one().await;
    let said = futures_util::future::join_all((0..200).map(|number| {
        let log = log.clone();
        async move { log.propose(say(number, "loose", None, "word")).await.unwrap().position }
    }))
    .await;
    let mut entries: Vec<u64> = said.iter().map(|position| position.index).collect();
    entries.sort_unstable();
    entries.dedup();
    assert!(entries.len() < 100, "{} entries for 200 transactions", entries.len());
    assert_eq!(log.read(|view| view.state.loose.len()), 200);
}

/// On one thread both of a pair are proposed before either is answered.
#[tokio::test]
async fn a_repeat_is_answered_from_the_table_and_a_reused_id_refused() {
    let (_cluster, log) = one().await;
    let first = log.propose(say(1, "loose", None, "word")).await.unwrap();
    assert_eq!(log.propose(say(1, "loose", None, "word")).await, Err(ProposeError::Repeated(first.position)));
    assert_eq!(log.propose(say(1, "loose", None, "other")).await, Err(ProposeError::ReusedId));
    let twice = futures_util::future::join(
        log.propose(say(2, "loose", None, "both")),
        log.propose(say(2, "loose", None, "both")),
    )
    .await;
    assert!(matches!(twice, (Ok(a), Ok(b)) if a == b), "{twice:?}");
    assert_eq!(log.read(|view| view.state.loose.clone()), ["word", "both"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_one_octet_too_large_is_refused() {
    let (_cluster, log) = one().await;
    let overhead =
        certwright_proto::storage::EntryBuilder::new().octets_with(&certwright_proto::storage::encode_transaction(
            &*crate::fold::toy::codec(),
            &say(1, "a", None, &"x".repeat(200_000)),
        )) - 200_000;
    let fits = "x".repeat(ENTRY_OCTETS_MAX - overhead);
    log.propose(say(1, "a", None, &fits)).await.unwrap();
    assert_eq!(log.propose(say(2, "a", None, &(fits + "x"))).await, Err(ProposeError::TooLarge));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_decision_read_and_what_moved_since_is_not_committed() {
    let mut cluster = Cluster { nodes: vec![super::cluster::Node::new(1).await] };
    cluster.nodes[0].strict = false;
    let me = cluster.nodes[0].member.clone();
    let log = cluster.nodes[0].start().await.clone();
    log.initialize(me).await.unwrap();
    log.propose(say(1, "policy", Some(0), "seven")).await.unwrap();
    log.propose(guarded(2, ("policy", 1), "under seven")).await.unwrap();
    log.propose(say(3, "policy", Some(1), "eight")).await.unwrap();
    assert_eq!(log.propose(guarded(4, ("policy", 1), "late")).await, Err(ProposeError::NotCommitted));
    assert_eq!(log.propose(say(5, "policy", Some(1), "again")).await, Err(ProposeError::NotCommitted));
    // What was refused is not remembered: the same id may be decided again.
    log.propose(guarded(4, ("policy", 2), "late")).await.unwrap();
    assert_eq!(cluster.nodes[0].metric("certwright_raft_refused_transactions_total"), 2.0);
    assert_eq!(log.read(|view| view.state.loose.clone()), ["under seven", "late"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_tells_everything_once_and_in_order() {
    let (_cluster, log) = one().await;
    let mut watch = log.watch(Position::START).await.unwrap();
    let first = log.propose(say(1, "loose", None, "one")).await.unwrap().position;
    let second = log.propose(say(2, "loose", None, "two")).await.unwrap().position;
    let mut told = Vec::new();
    while told.len() < 2 {
        match tokio::time::timeout(PATIENCE, watch.next()).await.unwrap().unwrap() {
            WatchItem::Transaction { position, entry, ordinal, .. } => {
                told.push((position, entry.transactions[ordinal as usize].appends[0].events[0].clone()));
            }
            WatchItem::Bookmark(position) => assert!(position < first),
        }
    }
    assert_eq!(told, [(first, "one".to_owned()), (second, "two".to_owned())]);
    let mut resumed = log.watch(first).await.unwrap();
    let Ok(WatchItem::Transaction { position, .. }) = resumed.next().await else { panic!("nothing after the first") };
    assert_eq!(position, second);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_projection_follows() {
    let (_cluster, log) = one().await;
    let said = log.propose(say(1, "loose", None, "word")).await.unwrap();
    let found = eventually("projection", async || log.lookup(b"w/word")).await;
    assert_eq!(found, said.position.to_string().into_bytes());
    assert_eq!(log.scan(b"w/", None, 10).len(), 1);
    assert_eq!(log.lookup(b"w/unsaid"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_digest_is_computed_at_the_index_that_was_asked_for() {
    let (_cluster, log) = one().await;
    log.propose(say(1, "loose", None, "word")).await.unwrap();
    let index = log.request_digest().await.unwrap();
    let digests = eventually("digest", async || (!log.digests().is_empty()).then(|| log.digests())).await;
    assert_eq!(digests[0].0, index);
    for _ in 0..crate::limits::DIGESTS_MAX {
        log.request_digest().await.unwrap();
    }
    let newest = eventually("newer digests", async || {
        let digests = log.digests();
        (digests.len() == crate::limits::DIGESTS_MAX && digests[0].0 > index).then_some(digests)
    })
    .await;
    assert!(newest.windows(2).all(|pair| pair[0].1 == pair[1].1), "state did not change");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_log_says_so() {
    let (mut cluster, log) = one().await;
    cluster.nodes[0].stop().await;
    assert_eq!(log.propose(say(1, "loose", None, "word")).await, Err(ProposeError::Stopped));
    assert_eq!(log.read_index().await, Err(ReadError::Stopped));
    assert_eq!(log.wait_applied(u64::MAX, PATIENCE).await, Err(ReadError::Stopped));
    let mut watch = log.watch(Position { index: log.status().applied_index, ordinal: 0 }).await.unwrap();
    assert_eq!(watch.next().await.err(), Some(ReadError::Stopped));
    assert_eq!(log.status().role, Role::Stopped);
}
