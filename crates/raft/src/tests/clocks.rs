//! Machines whose clocks are wrong.
//!
//! It refuses to wait for time to pass: clocks are set.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use certwright_core::log::Transaction;
use certwright_core::time::Timestamp;
use certwright_seams::Clock;

use super::cluster::{Cluster, PATIENCE, eventually, say_somewhere};
use super::snapshots::{cutting, fill};
use crate::Log;
use crate::fold::toy::{Toy, say};
use crate::limits::CLOCK_AHEAD_MAX;

const HOUR_MILLIS: i64 = 3_600_000;
const MONTH_MILLIS: i64 = 30 * 24 * HOUR_MILLIS;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_clock_is_an_hour_off_gives_way_and_takes_nobody_along() {
    let mut cluster = Cluster::of(3).await;
    for (number, off) in [(1, HOUR_MILLIS), (2, -HOUR_MILLIS)] {
        let old = cluster.leader().await.status().node_id;
        let clock = cluster.node(old).clock.clone();
        clock.set_skew_millis(off);
        say_somewhere(&cluster, number, "while it leads").await;
        let term = cluster.leader().await.status().term;
        eventually("another leader", async || {
            let status = cluster.leader().await.status();
            (status.node_id != old && status.term >= term).then_some(())
        })
        .await;
        say_somewhere(&cluster, number + 10, "after it").await;
        clock.set_skew_millis(0);
        let (now, at) = (clock.wall_millis(), cluster.leader().await.read(|view| view.at.millis()));
        assert!(at.abs_diff(now) <= CLOCK_AHEAD_MAX.as_millis() as u64 + 1000, "log time is {at}, it is {now}");
        // Nobody takes it for wrong any more before the next one is.
        eventually("a good clock", async || {
            let ahead = cluster.nodes[(old - 1) as usize].log().clock_ahead_millis()?;
            (ahead.abs() < 1000).then_some(())
        })
        .await;
    }
    cluster.agree().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_word_after_an_hour_in_which_no_server_ran_is_an_hour_later() {
    let mut cluster = Cluster::of(3).await;
    say_somewhere(&cluster, 1, "before").await;
    let before = cluster.leader().await.read(|view| view.at.millis());
    for node in &mut cluster.nodes {
        node.kill().await;
        node.clock.set_skew_millis(HOUR_MILLIS);
    }
    for node in &mut cluster.nodes {
        node.start().await;
    }
    let position = say_somewhere(&cluster, 2, "after").await;
    let told = entries(&cluster.leader().await);
    let (_, at, _) = told.iter().find(|(index, ..)| *index == position.index).unwrap();
    assert!(at.millis() >= before + HOUR_MILLIS as u64, "stamped by the time of the log: {at}");
}

/// Most clocks are a month ahead until log time is, then all are right again.
async fn poison(cluster: &Cluster, number: u64) {
    let most = &cluster.nodes[..cluster.nodes.len() / 2 + 1];
    most.iter().for_each(|node| node.clock.set_skew_millis(MONTH_MILLIS));
    let mut number = number;
    eventually("log time of the clocks", async || {
        number += 1;
        say_somewhere(cluster, number, "before").await;
        (ahead_millis(&cluster.leader().await, cluster) > MONTH_MILLIS - HOUR_MILLIS).then_some(())
    })
    .await;
    most.iter().for_each(|node| node.clock.set_skew_millis(0));
}

/// How far log time is ahead of true time.
fn ahead_millis(log: &Log<Toy>, cluster: &Cluster) -> i64 {
    let now = log.read(|view| view.at.max(log.clock()));
    now.millis().cast_signed() - cluster.nodes.last().unwrap().clock.wall_millis().cast_signed()
}

/// Has log time set back, by whoever leads, as often as it takes.
async fn set_back(cluster: &Cluster, number: u64) -> Timestamp {
    let to = eventually("agreement of clocks", async || cluster.leader().await.agreed_clock().ok()).await;
    say_somewhere(cluster, number, &format!("back to {}", to.millis())).await;
    to
}

/// All entries with transactions, as one node has them.
fn entries(log: &Log<Toy>) -> Vec<(u64, Timestamp, Vec<Transaction<String>>)> {
    let last = log.status().applied_index;
    let read = |index| log.entry(index).unwrap().filter(|entry| !entry.transactions.is_empty());
    (1..=last).filter_map(read).map(|entry| (entry.index, entry.at, entry.transactions.clone())).collect()
}

/// In the log, time falls right behind an entry that sets it back, to no less than that, and nowhere else.
fn assert_in_order(log: &Log<Toy>) -> usize {
    let (mut floor, mut falls) = (Timestamp::EPOCH, 0);
    for (index, at, transactions) in entries(log) {
        assert!(at >= floor, "entry {index} is of {at}, after {floor}");
        let words = transactions.iter().flat_map(|it| &it.appends).flat_map(|append| &append.events);
        let back = words.filter_map(|word| word.strip_prefix("back to ")).next_back();
        falls += usize::from(back.is_some());
        floor = back.map_or(at, |millis| at.min(Timestamp::from_millis(millis.parse().unwrap())));
    }
    falls
}

/// Says words on whoever leads, one after the other, until it is told to stop; now and then asks for a digest.
async fn talk(logs: Vec<Log<Toy>>, caller: u64, said: Arc<AtomicU64>, is_over: Arc<AtomicBool>) {
    let mut number = 100_000 * (caller + 1);
    while !is_over.load(Ordering::SeqCst) {
        number += 1;
        for log in &logs {
            if number.is_multiple_of(50) {
                let _ = log.request_digest().await;
            }
            if log.propose(say(number, "load", None, "word")).await.is_ok() {
                said.fetch_add(1, Ordering::SeqCst);
            }
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_time_is_set_back_under_load_and_nothing_of_before_is_stamped_behind_it() {
    let cluster = Cluster::of(3).await;
    poison(&cluster, 1000).await;
    let (said, is_over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let logs = || cluster.nodes.iter().map(|node| node.log().clone()).collect();
    let callers: Vec<_> =
        (0..4).map(|caller| tokio::spawn(talk(logs(), caller, said.clone(), is_over.clone()))).collect();
    let more = async |words: u64| {
        let wanted = said.load(Ordering::SeqCst) + words;
        eventually("words", async || (said.load(Ordering::SeqCst) >= wanted).then_some(())).await;
    };
    more(100).await;
    set_back(&cluster, 1).await;
    more(100).await;
    is_over.store(true, Ordering::SeqCst);
    for caller in callers {
        caller.await.unwrap();
    }
    cluster.agree().await;
    for node in &cluster.nodes {
        assert_eq!(assert_in_order(node.log()), 1);
        let ahead = ahead_millis(node.log(), &cluster);
        assert!(ahead.abs() < CLOCK_AHEAD_MAX.as_millis() as i64 + 1000, "{ahead}");
        assert_eq!(node.log().clock_jump(), None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_server_leads_by_the_right_time_after_log_time_was_set_back() {
    let mut cluster = Cluster::of(3).await;
    poison(&cluster, 1000).await;
    // The leader ends right after that.
    set_back(&cluster, 1).await;
    let led = cluster.leader().await.status().node_id;
    cluster.node(led).kill().await;
    say_somewhere(&cluster, 10, "by the next one").await;
    cluster.node(led).start().await;
    for id in 1..=3 {
        eventually("its lead", async || {
            let _ = cluster.leader().await.transfer_leader(id).await;
            cluster.nodes[id as usize - 1].log().leadership().borrow().ready.then_some(())
        })
        .await;
        say_somewhere(&cluster, 20 + id, "by that one").await;
        cluster.agree().await;
    }
    for number in 0..3 {
        cluster.nodes[number].stop().await;
    }
    for number in 0..3 {
        cluster.nodes[number].start().await;
    }
    say_somewhere(&cluster, 30, "after a restart of all").await;
    // Again, as far as clocks are concerned.
    poison(&cluster, 2000).await;
    set_back(&cluster, 2).await;
    say_somewhere(&cluster, 40, "after the second time").await;
    cluster.agree().await;
    for node in &cluster.nodes {
        assert_eq!(assert_in_order(node.log()), 2);
        let ahead = ahead_millis(node.log(), &cluster);
        assert!(ahead.abs() < CLOCK_AHEAD_MAX.as_millis() as i64 + 1000, "{ahead}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_learns_by_a_snapshot_that_log_time_was_set_back_goes_by_it_too() {
    let mut cluster = cutting(3).await;
    poison(&cluster, 900_000).await;
    let away = cluster.leader().await.status().node_id % 3 + 1;
    // It has seen log time a month ahead, and so have its clocks.
    let seen = cluster.leader().await.status().applied_index;
    cluster.node(away).log().wait_applied(seen, PATIENCE).await.unwrap();
    cluster.node(away).kill().await;
    set_back(&cluster, 1).await;
    let rebased = cluster.leader().await.applied().borrow().rebased;
    fill(&cluster).await;
    cluster.node(away).start().await;
    let (leader, log) = (cluster.leader().await, cluster.node(away).log().clone());
    log.wait_applied(leader.status().applied_index, PATIENCE).await.unwrap();
    assert_eq!(log.applied().borrow().rebased, rebased);
    eventually("its lead", async || {
        let _ = cluster.leader().await.transfer_leader(away).await;
        log.leadership().borrow().ready.then_some(())
    })
    .await;
    say_somewhere(&cluster, 2, "by the one that was away").await;
    cluster.agree().await;
    let ahead = ahead_millis(&log, &cluster);
    assert!(ahead.abs() < CLOCK_AHEAD_MAX.as_millis() as i64 + 1000, "{ahead}");
    assert_eq!(log.clock_jump(), None);
}
