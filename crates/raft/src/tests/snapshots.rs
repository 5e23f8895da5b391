//! Snapshots: cut by volume, installed by those who are far behind, verified before use.

use certwright_core::log::Position;
use certwright_seams::Seams;

use super::cluster::{Cluster, PATIENCE, eventually, say_somewhere};
use crate::fold::toy::say;
use crate::{ReadError, WatchItem};

/// Words of that size reach the volume for a cut after a few.
const WORD_OCTETS: usize = 10_000;

pub(super) async fn cutting(voters: u64) -> Cluster {
    cutting_with(voters, 4 * 1024 * 1024).await
}

/// The same with segments of that size.
pub(super) async fn cutting_with(voters: u64, segment_octets: u64) -> Cluster {
    let mut cluster = Cluster { nodes: vec![super::cluster::Node::new(1).await] };
    (cluster.nodes[0].snapshot_every_octets, cluster.nodes[0].segment_octets) = (100_000, segment_octets);
    let me = cluster.nodes[0].member.clone();
    cluster.nodes[0].start().await.initialize(me).await.unwrap();
    for node_id in 2..=voters {
        cluster.join(node_id).await;
        cluster.leader().await.promote(node_id).await.unwrap();
    }
    cluster
}

fn snapshots(cluster: &Cluster, place: usize) -> Vec<std::path::PathBuf> {
    let directory = cluster.nodes[place].data().join("snapshots");
    let names = Seams::system().disk.list(&directory).unwrap();
    let mut found: Vec<_> = names.into_iter().map(|name| directory.join(name)).collect();
    found.retain(|path| path.extension().is_some_and(|extension| extension == "snapshot"));
    found.sort();
    found
}

/// Waits until no more snapshots are cut: none is due or being written, and a while later the same ones lie there.
pub(super) async fn at_rest(cluster: &Cluster, place: usize) {
    let directory = cluster.nodes[place].data().join("snapshots");
    let list = || Seams::system().disk.list(&directory).unwrap();
    eventually("rest", async || {
        let before = list();
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        let whole = before.iter().all(|path| path.extension().is_some_and(|extension| extension == "snapshot"));
        // One that is due may wait until consensus is asked for it again.
        (!cluster.nodes[place].log().cut_is_due() && whole && before.len() == 2 && before == list()).then_some(())
    })
    .await;
}

/// Says words until the log before the newest cut but one is gone from Raft's view.
pub(super) async fn fill(cluster: &Cluster) -> u64 {
    let leader = cluster.leader().await;
    let mut number = 1000;
    eventually("purge", async || {
        for _ in 0..15 {
            leader.propose(say(number, "loose", None, &format!("{number}{}", "x".repeat(WORD_OCTETS)))).await.unwrap();
            number += 1;
        }
        (leader.first_live_index() > 1).then_some(())
    })
    .await;
    number - 1000
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_are_cut_by_volume_and_two_are_kept() {
    let mut cluster = cutting(1).await;
    let words = fill(&cluster).await;
    at_rest(&cluster, 0).await;
    let before = cluster.nodes[0].log().read(|view| view.state.clone());
    cluster.nodes[0].kill().await;
    let log = cluster.nodes[0].start().await.clone();
    assert_eq!(log.read(|view| view.state.clone()), before, "snapshot and tail make the same state");
    assert_eq!(before.loose.len() as u64, words);
    // The archive still reaches back: a watch from the start is served from disk.
    let mut watch = log.watch(Position::START).await.unwrap();
    let mut told = 0;
    while told < words {
        if let Ok(WatchItem::Transaction { .. }) = tokio::time::timeout(PATIENCE, watch.next()).await.unwrap() {
            told += 1;
        }
    }
    // So is deduplication.
    let leader = cluster.leader().await;
    let repeat = leader.propose(say(1000, "loose", None, &format!("1000{}", "x".repeat(WORD_OCTETS)))).await;
    assert!(matches!(repeat, Err(crate::ProposeError::Repeated(_))), "{repeat:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_behind_two_cuts_goes_although_the_server_starts_again_after_every_cut() {
    let mut cluster = cutting(1).await;
    for life in 0..3_u64 {
        let before = snapshots(&cluster, 0).pop();
        let leader = cluster.leader().await;
        for number in 0..12 {
            let number = 100 * life + number;
            leader.propose(say(number, "loose", None, &format!("{number}{}", "x".repeat(WORD_OCTETS)))).await.unwrap();
        }
        eventually("a snapshot", async || (snapshots(&cluster, 0).pop() > before).then_some(())).await;
        // What comes after the cut in this life is less than another one is due at.
        if life < 2 {
            cluster.nodes[0].kill().await;
            cluster.nodes[0].start().await;
        }
    }
    let log = cluster.leader().await;
    eventually("purge", async || (log.first_live_index() > 1).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_told_of_a_cut_before_it_was_made_causes_no_second_one() {
    let cluster = cutting(1).await;
    let leader = cluster.leader().await;
    let word = |number: u64| say(number, "loose", None, &format!("{number}{}", "x".repeat(WORD_OCTETS)));
    // One is due with the last of them.
    for number in 0..10 {
        leader.propose(word(number)).await.unwrap();
    }
    eventually("a snapshot", async || (snapshots(&cluster, 0).len() == 1).then_some(())).await;
    // As every entry does that is applied after the cut was due and before it was made.
    leader.tell_cut_due();
    leader.propose(word(100)).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert_eq!(snapshots(&cluster, 0).len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_snapshot_is_set_aside_and_the_one_before_it_used() {
    let mut cluster = cutting(1).await;
    fill(&cluster).await;
    at_rest(&cluster, 0).await;
    let before = cluster.nodes[0].log().read(|view| view.state.clone());
    cluster.nodes[0].kill().await;
    let newest = snapshots(&cluster, 0).pop().unwrap();
    let disk = Seams::system().disk;
    let mut octets = disk.read(&newest, 1 << 30).unwrap();
    let middle = octets.len() / 2;
    octets[middle] ^= 1;
    disk.write_atomic(&newest, &octets, 0o600).unwrap();
    let log = cluster.nodes[0].start().await;
    assert_eq!(log.read(|view| view.state.clone()), before);
    assert!(newest.with_extension("damaged").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_learner_receives_a_snapshot_and_the_tail() {
    let mut cluster = cutting(1).await;
    fill(&cluster).await;
    cluster.join(2).await;
    say_somewhere(&cluster, 1, "after").await;
    cluster.agree().await;
    let leader = cluster.leader().await;
    leader.promote(2).await.unwrap();
    let learner = cluster.nodes[1].log();
    assert!(learner.first_live_index() > 1, "it came by snapshot");
    assert_eq!(snapshots(&cluster, 1).len(), 1);
    assert_eq!(learner.status().members.voters.len(), 2);
    // What the snapshot jumped over is a gap that is said, not hidden, until it is filled.
    match learner.watch(Position::START).await {
        Err(ReadError::Gap) => {}
        Err(error) => panic!("{error}"),
        Ok(_) => assert!(learner.entry(1).unwrap().is_some()),
    }
    eventually("history", async || learner.entry(1).unwrap()).await;
    let mut watch = learner.watch(Position::START).await.unwrap();
    assert!(tokio::time::timeout(PATIENCE, watch.next()).await.unwrap().is_ok());
    // Deduplication came along.
    let repeat = say(1000, "loose", None, &format!("1000{}", "x".repeat(WORD_OCTETS)));
    assert!(learner.repeated("system", repeat.request_id).is_some());
    // And it all survives a restart.
    let before = learner.read(|view| view.state.clone());
    cluster.nodes[1].kill().await;
    let log = cluster.nodes[1].start().await;
    assert_eq!(log.read(|view| view.state.clone()), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_that_was_away_catches_up_by_snapshot() {
    let mut cluster = cutting(3).await;
    say_somewhere(&cluster, 1, "before").await;
    cluster.agree().await;
    if cluster.leader().await.status().node_id != 1 {
        cluster.leader().await.transfer_leader(1).await.unwrap();
    }
    // A transfer is only asked for; the one that is killed next must not lead any more.
    eventually("node 1 leads", async || (cluster.leader().await.status().node_id == 1).then_some(())).await;
    cluster.node(3).kill().await;
    fill(&cluster).await;
    cluster.node(3).start().await;
    cluster.agree().await;
    let voter = cluster.node(3).log();
    assert_eq!(voter.read(|view| view.state.loose[0].clone()), "before");
    // What it had applied before it left stays in its archive.
    let mut watch = voter.watch(Position::START).await.unwrap();
    let Ok(WatchItem::Transaction { entry, .. }) = watch.next().await else { panic!("nothing told") };
    assert_eq!(entry.transactions[0].appends[0].events, ["before"]);
}
