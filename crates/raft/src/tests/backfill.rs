//! Gaps that snapshots leave are filled from members: by whoever has the entries and tells them as they are.

use std::sync::atomic::Ordering;

use certwright_core::log::Position;
use certwright_seams::Seams;

use super::cluster::{Cluster, PATIENCE, eventually, say_somewhere};
use super::snapshots::{cutting, fill};
use crate::fold::toy::Toy;
use crate::{Log, ReadError, WatchItem};

/// Every word that a watch from the start tells, up to that many; fewer when it ends.
async fn told(log: &Log<Toy>, words: usize) -> Option<Vec<String>> {
    let mut watch = log.watch(Position::START).await.ok()?;
    let mut told = Vec::new();
    while told.len() < words {
        let item = tokio::time::timeout(PATIENCE, watch.next()).await.expect("a watch tells or ends").ok()?;
        if let WatchItem::Transaction { entry, ordinal, .. } = item {
            told.extend(entry.transactions[ordinal as usize].appends.iter().flat_map(|it| it.events.clone()));
        }
    }
    Some(told)
}

/// Waits until a watch from the start works there, and checks that it tells what everybody else was told.
async fn complete(cluster: &Cluster, place: usize) {
    let log = cluster.nodes[place].log();
    let words = log.read(|view| view.state.loose.clone());
    let heard = eventually("a watch from the start", async || told(log, words.len()).await).await;
    assert_eq!(heard, words);
    let leader = cluster.leader().await;
    for index in 1..=4 {
        let (ours, theirs) = (log.entry(index).unwrap().unwrap(), leader.entry(index).unwrap().unwrap());
        assert_eq!((ours.at, &ours.transactions), (theirs.at, &theirs.transactions));
    }
    // The chain leads through what was fetched to the same values.
    for index in 1..=leader.applied().borrow().index {
        let chain = leader.chain_after(index).unwrap();
        assert!(chain.is_some(), "{index}");
        assert_eq!(log.chain_after(index).unwrap(), chain, "{index}");
    }
    // What was looked up by word can be looked up again, wherever the word was said.
    let key = format!("w/{}", words[0]).into_bytes();
    log.wait_projected(log.applied().borrow().index, PATIENCE).await.unwrap();
    assert_eq!(log.lookup(&key), leader.lookup(&key));
}

fn fetched(cluster: &Cluster, place: usize) -> Vec<std::path::PathBuf> {
    let directory = cluster.nodes[place].data().join("backfill");
    let names = Seams::system().disk.list(&directory).unwrap_or_default();
    let names = names.into_iter().filter(|name| name.extension().is_some_and(|extension| extension == "seg"));
    names.map(|name| directory.join(name)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_came_by_snapshot_has_the_whole_history_soon() {
    let mut cluster = cutting(1).await;
    fill(&cluster).await;
    cluster.join(2).await;
    cluster.agree().await;
    assert!(cluster.nodes[1].log().first_live_index() > 1, "it came by snapshot");
    complete(&cluster, 1).await;
    assert!(fetched(&cluster, 1).len() > 1, "in portions");
    // For good.
    cluster.nodes[1].kill().await;
    cluster.nodes[1].start().await;
    complete(&cluster, 1).await;
    assert_eq!(cluster.nodes[1].metric("certwright_raft_backfills_discarded_total"), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backfill_that_was_killed_goes_on_where_it_was() {
    let mut cluster = cutting(1).await;
    fill(&cluster).await;
    cluster.join(2).await;
    let first = eventually("two portions", async || {
        let fetched = fetched(&cluster, 1);
        (fetched.len() >= 2).then(|| fetched[0].clone())
    })
    .await;
    cluster.nodes[1].kill().await;
    let disk = Seams::system().disk;
    // Segments are salted: one that was fetched again would have other octets.
    let before = disk.read(&first, 1 << 30).unwrap();
    let portions = fetched(&cluster, 1).len();
    cluster.nodes[1].start().await;
    cluster.agree().await;
    complete(&cluster, 1).await;
    assert_eq!(disk.read(&first, 1 << 30).unwrap(), before);
    assert!(fetched(&cluster, 1).len() > portions, "it was killed in the middle");
}

/// Two members; the one that is asked first lies, or has nothing.
async fn asked_of_two(answer: u64) -> Cluster {
    let mut cluster = cutting(2).await;
    cluster.agree().await;
    if cluster.leader().await.status().node_id != 1 {
        cluster.leader().await.transfer_leader(1).await.unwrap();
    }
    eventually("node 1 leads", async || (cluster.leader().await.status().node_id == 1).then_some(())).await;
    fill(&cluster).await;
    cluster.agree().await;
    cluster.nodes[0].log().store().lie.store(answer, Ordering::Relaxed);
    cluster.join(3).await;
    say_somewhere(&cluster, 1, "after").await;
    cluster.agree().await;
    cluster
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_lies_is_found_out_and_another_is_asked() {
    let cluster = asked_of_two(9).await;
    assert!(cluster.nodes[2].log().first_live_index() > 9, "it came by snapshot");
    complete(&cluster, 2).await;
    assert_eq!(cluster.nodes[2].metric("certwright_raft_backfills_discarded_total"), 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_has_nothing_is_passed_over() {
    let cluster = asked_of_two(0).await;
    complete(&cluster, 2).await;
    assert_eq!(cluster.nodes[2].metric("certwright_raft_backfills_discarded_total"), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_behind_a_gap_is_looked_up_while_it_lasts() {
    let mut cluster = cutting(1).await;
    fill(&cluster).await;
    // The only one that could fill it has nothing.
    cluster.nodes[0].log().store().lie.store(0, Ordering::Relaxed);
    cluster.join(2).await;
    say_somewhere(&cluster, 1, "behind").await;
    cluster.agree().await;
    let log = cluster.nodes[1].log();
    eventually("what was said behind it", async || log.lookup(b"w/behind")).await;
    let wipes = || cluster.nodes[1].metric("certwright_raft_projection_wipes_total");
    let before = wipes();
    assert!(matches!(log.watch(Position::START).await, Err(ReadError::Gap)), "it is still to come");
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert_eq!(wipes(), before);
    assert!(log.lookup(b"w/behind").is_some());
}
