//! Three nodes: leaders die, nothing acknowledged is lost, nothing is said twice.

use std::sync::Arc;
use std::time::Duration;

use certwright_core::log::Position;

use super::cluster::{Cluster, PATIENCE, eventually, say_somewhere};
use crate::fold::toy::{request, say};
use crate::{ProposeError, ReadError, WatchItem};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_leader_is_replaced_and_comes_back() {
    let mut cluster = Cluster::of(3).await;
    let mut positions = vec![say_somewhere(&cluster, 1, "one").await];
    let old = cluster.leader().await.status().node_id;
    cluster.node(old).kill().await;
    positions.push(say_somewhere(&cluster, 2, "two").await);
    // What the old leader acknowledged is known to the new one.
    assert_eq!(say_somewhere(&cluster, 1, "one").await, positions[0]);
    cluster.node(old).start().await;
    positions.push(say_somewhere(&cluster, 3, "three").await);
    cluster.agree().await;
    for node in &cluster.nodes {
        assert_eq!(node.log().read(|view| view.state.loose.clone()), ["one", "two", "three"]);
        assert_eq!(node.log().status().members.voters.len(), 3);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_word_survives_kills_under_load() {
    let mut cluster = Cluster::of(3).await;
    let mut acknowledged = Vec::new();
    for round in 0..3_u64 {
        let leader = cluster.leader().await;
        let node_id = leader.status().node_id;
        let under_way: Vec<_> = (0..50)
            .map(|number| {
                let (leader, number) = (leader.clone(), round * 50 + number);
                tokio::spawn(async move { (number, leader.propose(say(number, "a", None, "w")).await) })
            })
            .collect();
        tokio::task::yield_now().await;
        cluster.node(node_id).kill().await;
        for handle in under_way {
            if let (number, Ok(committed)) = handle.await.unwrap() {
                acknowledged.push((number, committed.position));
            }
        }
        cluster.node(node_id).start().await;
    }
    let leader = cluster.leader().await;
    for (number, position) in &acknowledged {
        let repeated = leader.propose(say(*number, "a", None, "w")).await;
        assert_eq!(repeated, Err(ProposeError::Repeated(*position)), "of {} acknowledged", acknowledged.len());
    }
    cluster.agree().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_refuse_and_point_to_the_leader() {
    let cluster = Cluster::of(3).await;
    let leader = cluster.leader().await.status().node_id;
    for node in cluster.nodes.iter().filter(|node| node.member.node_id != leader) {
        let knows = eventually("hint", async || {
            let error = node.log().propose(say(1, "a", None, "w")).await.unwrap_err();
            (error == ProposeError::NotLeader { hint: Some(leader) }).then_some(())
        });
        knows.await;
        assert!(matches!(node.log().read_index().await, Err(ReadError::NotLeader { .. })));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_quorum_the_outcome_is_unknown_and_reads_are_refused() {
    let mut cluster = Cluster::of(3).await;
    // A leader that never knew a majority's clocks in its term would write nothing at all.
    say_somewhere(&cluster, 0, "first").await;
    let leader = cluster.leader().await;
    let others: Vec<u64> = (1..=3).filter(|id| *id != leader.status().node_id).collect();
    for node_id in &others {
        cluster.node(*node_id).kill().await;
    }
    let (proposed, read) = tokio::join!(leader.propose(say(1, "a", None, "w")), leader.read_index());
    assert!(matches!(proposed, Err(ProposeError::Unknown)), "{proposed:?}");
    assert!(matches!(read, Err(ReadError::NoQuorum | ReadError::NotLeader { .. })), "{read:?}");
    // Nobody knows yet, and nobody says so: what it touches stays spoken for.
    let (actor, id) = (Arc::from("system"), request(1));
    let early = tokio::time::timeout(Duration::from_millis(100), leader.landed(&actor, id)).await;
    assert!(early.is_err(), "the fate of a transaction is known without a quorum");
    leader.landed(&actor, request(2)).await;
    cluster.node(others[0]).start().await;
    let landed = tokio::time::timeout(Duration::from_secs(30), leader.landed(&actor, id)).await;
    landed.expect("a quorum settles what was proposed");
    // The repeat shares the fate of the first, whatever that was; the word is said once.
    say_somewhere(&cluster, 1, "w").await;
    assert_eq!(cluster.leader().await.read(|view| view.state.loose.clone()), ["first", "w"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_is_handed_over_on_request_and_on_shutdown() {
    let mut cluster = Cluster::of(3).await;
    say_somewhere(&cluster, 1, "one").await;
    cluster.agree().await;
    let from = cluster.leader().await;
    let to = (1..=3).find(|id| *id != from.status().node_id).unwrap();
    from.transfer_leader(to).await.unwrap();
    let leader = cluster.leader_but(from.status().node_id).await;
    assert_eq!(leader.status().node_id, to);
    say_somewhere(&cluster, 2, "two").await;
    cluster.agree().await;
    let leader = cluster.leader().await.status().node_id;
    let witness = cluster.nodes.iter().find(|node| node.member.node_id != leader).unwrap().log().clone();
    let before = *witness.leadership().borrow();
    cluster.node(leader).stop().await;
    let after = witness.leadership().wait_for(|now| now.leader.is_some_and(|id| id != leader)).await.map(|now| *now);
    assert!(after.unwrap().term > before.term);
    say_somewhere(&cluster, 3, "three").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_resumes_on_another_node_without_gap_or_repeat() {
    let mut cluster = Cluster::of(3).await;
    let mut expected = Vec::new();
    for number in 0..20 {
        expected.push(say_somewhere(&cluster, number, &format!("w{number}")).await);
    }
    cluster.agree().await;
    let mut told = Vec::new();
    let mut after = Position::START;
    for node_id in [1, 2, 3, 1] {
        let mut watch = cluster.node(node_id).log().watch(after).await.unwrap();
        for _ in 0..5 {
            let item = loop {
                match tokio::time::timeout(PATIENCE, watch.next()).await.unwrap().unwrap() {
                    WatchItem::Transaction { position, .. } => break position,
                    WatchItem::Bookmark(_) => {}
                }
            };
            told.push(item);
            after = item;
        }
        // Half way the node that is resumed on last restarts, so that it reads from disk.
        if node_id == 2 {
            cluster.node(1).kill().await;
            cluster.node(1).start().await;
            cluster.agree().await;
        }
    }
    assert_eq!(told, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn digests_agree() {
    let cluster = Cluster::of(3).await;
    for number in 0..10 {
        say_somewhere(&cluster, number, &format!("w{number}")).await;
    }
    let index = cluster.leader().await.request_digest().await.unwrap();
    let mut digests = Vec::new();
    for node in &cluster.nodes {
        digests.push(
            eventually("digest", async || {
                node.log().digests().into_iter().find(|(at, _)| *at == index).map(|(_, digest)| digest)
            })
            .await,
        );
    }
    assert!(digests.windows(2).all(|pair| pair[0] == pair[1]), "{digests:?}");
}
