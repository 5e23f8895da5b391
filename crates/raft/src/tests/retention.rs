//! Histories that begin with a snapshot: told from there on, by everybody alike, also by those who joined or were away.

use std::sync::Arc;

use certwright_core::log::Position;
use certwright_seams::Seams;
use certwright_seams::disk::Open;

use super::cluster::{Cluster, PATIENCE, eventually, say_somewhere};
use super::snapshots::{cutting_with, fill};
use crate::fold::toy::{Toy, ToyCodec, say};
use crate::{Allow, Beginning, Folded, Log, ReadError, Survivor, TrimError, WatchItem, replay, wal};

/// A few words each, so that whole segments go.
const SEGMENT_OCTETS: u64 = 80 * 1024;

async fn cutting(voters: u64) -> Cluster {
    cutting_with(voters, SEGMENT_OCTETS).await
}

fn any() -> Allow<String> {
    Arc::new(|_| Ok(()))
}

/// Trims logs of nearly all that the leader has purged.
async fn trim_what_is_purged(cluster: &Cluster, places: &[usize]) -> Beginning {
    let leader = cluster.leader().await;
    let wanted = leader.survey(leader.first_live_index() - 2, any()).await.unwrap();
    cluster.agree().await;
    for place in places {
        cluster.nodes[*place].log().trim(wanted, any()).await.unwrap();
    }
    wanted
}

/// What a watch from the first entry that is kept tells.
async fn told(log: &Log<Toy>, words: usize) -> Vec<String> {
    let first = log.kept().map_or(0, |kept| kept.first_index);
    let after = Position { index: first.saturating_sub(1), ordinal: u32::MAX };
    let mut watch = log.watch(after).await.unwrap();
    let mut told = Vec::new();
    while told.len() < words {
        let item = tokio::time::timeout(PATIENCE, watch.next()).await.expect("a watch tells or ends").unwrap();
        if let WatchItem::Transaction { entry, ordinal, .. } = item {
            told.extend(entry.transactions[ordinal as usize].appends.iter().flat_map(|it| it.events.clone()));
        }
    }
    told
}

/// History begins there, leads to the state of now, and says of what came before that it is gone.
async fn begins_with(log: &Log<Toy>, wanted: Beginning) {
    let first = wanted.floor.first_index;
    assert_eq!(log.kept().map(|kept| kept.first_index), Some(first));
    for from in [0, first - 2, first - 1] {
        let after = Position { index: from, ordinal: 0 };
        assert!(matches!(log.watch(after).await, Err(ReadError::TooOld { first: told }) if told == first), "{from}");
    }
    assert!(log.entry(first - 1).unwrap().is_none() && log.entry(first).unwrap().is_some());
    assert_eq!(log.transaction(Position { index: first - 1, ordinal: 0 }).unwrap(), None);
    let base = log.first_state().await.unwrap();
    assert_eq!((base.floor(), base.digest(&ToyCodec)), (wanted.floor, wanted.digest));
    let words = log.read(|view| view.state.loose.clone());
    let (before, after) = words.split_at(base.state().loose.len());
    assert_eq!(before, base.state().loose);
    assert_eq!(told(log, after.len()).await, after);
    let key = |word: &str| format!("w/{word}").into_bytes();
    log.wait_projected(log.applied().borrow().index, PATIENCE).await.unwrap();
    assert!(after.iter().all(|word| log.lookup(&key(word)).is_some()));
    assert_eq!(log.chain_after(first - 1).unwrap(), Some(wanted.floor.chain));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trimmed_history_begins_with_its_snapshot_also_after_a_restart() {
    let mut cluster = cutting(1).await;
    fill(&cluster).await;
    let log = cluster.nodes[0].log().clone();
    assert!(log.kept().is_none() && log.first_state().await.unwrap().last().is_none());
    let wanted = trim_what_is_purged(&cluster, &[0]).await;
    begins_with(&log, wanted).await;
    assert!(cluster.nodes[0].metric("certwright_raft_trimmed_octets_total") > 0.0);
    assert_eq!(cluster.nodes[0].metric("certwright_raft_history_first_index"), wanted.floor.first_index as f64);
    log.trim(wanted, any()).await.unwrap();
    drop(log);
    cluster.nodes[0].kill().await;
    let disk = Seams::system().disk;
    let data = cluster.nodes[0].data();
    let replayed = replay::<Toy>(Arc::clone(&disk), &data, &ToyCodec).unwrap();
    assert!(replayed.compared > 0 && replayed.differing.is_empty() && replayed.unreadable.is_empty(), "{replayed:?}");
    assert_eq!(wal::verify(&*disk, &data.join("log")).unwrap().finding, None);
    assert_eq!(crate::kept_base::<Toy>(&*disk, &data, &ToyCodec).unwrap().unwrap().floor(), wanted.floor);
    // A projection that is built anew begins there as well.
    let log = cluster.nodes[0].start().await.clone();
    begins_with(&log, wanted).await;
    cluster.leader().await.propose(say(9_000, "loose", None, "and on")).await.unwrap();
    begins_with(&log, wanted).await;
    let later = log.survey(wanted.floor.first_index + 3, any()).await.unwrap();
    log.trim(later, any()).await.unwrap();
    begins_with(&log, later).await;
    assert!(matches!(log.trim(wanted, any()).await, Err(TrimError::Later { .. })), "a floor never falls");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_goes_on_any_doubt() {
    let cluster = cutting(1).await;
    fill(&cluster).await;
    let log = cluster.nodes[0].log();
    let right = log.survey(10, any()).await.unwrap();
    let keep_seven: Allow<String> =
        Arc::new(|entry| if entry.index == 7 { Err("it is precious".into()) } else { Ok(()) });
    let expected = TrimError::Kept { index: 7, why: "it is precious".into() };
    assert_eq!(log.survey(10, Arc::clone(&keep_seven)).await, Err(expected.clone()));
    assert_eq!(log.trim(right, keep_seven).await, Err(expected));
    let mut other = right;
    other.digest[0] ^= 1;
    assert_eq!(log.trim(other, any()).await, Err(TrimError::Differs(10)));
    let mut other = right;
    other.floor.chain[0] ^= 1;
    assert_eq!(log.trim(other, any()).await, Err(TrimError::Differs(10)));
    let mut other = right;
    other.floor.first_index = 1 << 40;
    assert!(matches!(log.trim(other, any()).await, Err(TrimError::Behind { .. })));
    // A backup that is being read keeps what it reads.
    let source = log.source().await.unwrap();
    assert_eq!(log.trim(right, any()).await, Err(TrimError::Busy));
    assert!(log.kept().is_none() && source.begins.is_none());
    drop(source);
    log.trim(right, any()).await.unwrap();
    let source = log.source().await.unwrap();
    assert_eq!(source.begins.map(|(floor, _)| floor), Some(right.floor));
    assert_eq!(source.entries(source.first_index()).unwrap()[0].index, 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_joins_begins_where_the_others_do() {
    let mut cluster = cutting(2).await;
    fill(&cluster).await;
    let wanted = trim_what_is_purged(&cluster, &[0, 1]).await;
    cluster.join(3).await;
    say_somewhere(&cluster, 1, "after").await;
    cluster.agree().await;
    let joined = cluster.nodes[2].log().clone();
    assert!(joined.first_live_index() > 1, "it came by snapshot");
    joined.trim(wanted, any()).await.unwrap();
    eventually("history", async || joined.source().await.ok()).await;
    begins_with(&joined, wanted).await;
    drop(joined);
    cluster.nodes[2].kill().await;
    let data = cluster.nodes[2].data();
    let disk = Seams::system().disk;
    let places = wal::Places { log: &data.join("log"), backfill: Some(&data.join("backfill")) };
    let report = wal::verify_seeing(&*disk, places, &mut |_| Ok(())).unwrap();
    assert_eq!((report.finding, report.absent), (None, vec![]));
    let joined = cluster.nodes[2].start().await.clone();
    begins_with(&joined, wanted).await;
    assert_eq!(cluster.nodes[2].metric("certwright_raft_backfills_discarded_total"), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_joins_gets_what_is_kept_before_it_begins_where_the_others_do() {
    let mut cluster = cutting(1).await;
    fill(&cluster).await;
    let wanted = trim_what_is_purged(&cluster, &[0]).await;
    cluster.join(2).await;
    say_somewhere(&cluster, 1, "after").await;
    cluster.agree().await;
    let joined = cluster.nodes[1].log().clone();
    let first = wanted.floor.first_index;
    assert!(joined.lacks_all_before(first) && !joined.has_history());
    joined.divide_gap(wanted.floor).await.unwrap();
    eventually("what is kept", async || joined.entry(first).unwrap()).await;
    let last = joined.first_live_index();
    eventually("all of it", async || (first..last).all(|it| joined.entry(it).unwrap().is_some()).then_some(())).await;
    assert!(joined.lacks_all_before(first));
    let refused = joined.source().await.map(|source| source.first_index());
    assert!(matches!(refused, Err(ReadError::Gap)), "{refused:?}");
    joined.trim(wanted, any()).await.unwrap();
    assert!(joined.has_history() && joined.source().await.is_ok());
    begins_with(&joined, wanted).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_beginning_that_rots_is_in_no_backup_and_comes_again_from_another_server() {
    let cluster = cutting(2).await;
    fill(&cluster).await;
    let wanted = trim_what_is_purged(&cluster, &[0, 1]).await;
    let log = cluster.nodes[0].log();
    let directory = cluster.nodes[0].data().join("base");
    let disk = Seams::system().disk;
    let rot = || {
        let names = disk.list(&directory).unwrap();
        let name = names.iter().find(|it| it.extension().is_some_and(|it| it == "snapshot")).unwrap();
        let path = directory.join(name);
        let octets = disk.read(&path, u64::MAX).unwrap();
        let middle = octets.len() / 2;
        disk.open(&path, Open::Write).unwrap().write_at(middle as u64, &[octets[middle] ^ 1]).unwrap();
    };
    drop(log.source().await.unwrap());
    rot();
    assert!(matches!(log.source().await, Err(ReadError::Gap)), "it would be copied");
    assert!(!log.has_history());
    log.trim(wanted, any()).await.unwrap();
    drop(log.source().await.unwrap());
    rot();
    assert!(matches!(log.first_state().await, Err(ReadError::Gap)));
    log.trim(wanted, any()).await.unwrap();
    begins_with(log, wanted).await;
    rot();
    log.verify_base().await.unwrap();
    assert!(!log.has_history());
    log.trim(wanted, any()).await.unwrap();
    begins_with(log, wanted).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_away_when_history_went_begins_there_too() {
    let mut cluster = cutting(3).await;
    say_somewhere(&cluster, 1, "before").await;
    cluster.agree().await;
    if cluster.leader().await.status().node_id != 1 {
        cluster.leader().await.transfer_leader(1).await.unwrap();
    }
    eventually("node 1 leads", async || (cluster.leader().await.status().node_id == 1).then_some(())).await;
    cluster.node(3).kill().await;
    fill(&cluster).await;
    let leader = cluster.leader().await;
    let wanted = leader.survey(leader.first_live_index() - 2, any()).await.unwrap();
    for place in [0, 1] {
        let log = cluster.nodes[place].log();
        log.wait_applied(wanted.floor.first_index, PATIENCE).await.unwrap();
        log.trim(wanted, any()).await.unwrap();
    }
    cluster.node(3).start().await;
    cluster.agree().await;
    let late = cluster.node(3).log().clone();
    assert!(late.kept().is_none(), "it has what it had");
    late.trim(wanted, any()).await.unwrap();
    eventually("history", async || late.source().await.ok()).await;
    begins_with(&late, wanted).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_nobody_gives_the_snapshot_keeps_what_it_has() {
    let mut cluster = cutting(1).await;
    fill(&cluster).await;
    let leader = cluster.leader().await;
    let wanted = leader.survey(leader.first_live_index() - 2, any()).await.unwrap();
    cluster.nodes[0].log().store().lie.store(0, std::sync::atomic::Ordering::Relaxed);
    cluster.join(2).await;
    cluster.agree().await;
    let joined = cluster.nodes[1].log();
    assert!(matches!(joined.trim(wanted, any()).await, Err(TrimError::NoBase(_))), "node 1 has not trimmed");
    assert!(joined.kept().is_none() && matches!(joined.source().await, Err(ReadError::Gap)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_of_a_trimmed_log_folds_to_what_it_was() {
    let mut cluster = cutting(1).await;
    fill(&cluster).await;
    let wanted = trim_what_is_purged(&cluster, &[0]).await;
    let state = cluster.nodes[0].log().read(|view| view.state.clone());
    cluster.nodes[0].kill().await;
    let identity = wal::Identity { cluster_id: super::cluster::CLUSTER, node_id: 1, epoch: 1 };
    let (seams, data) = (Seams::system(), cluster.nodes[0].data());
    let mut survivor = Survivor::<Toy>::open(&seams, &data, identity, SEGMENT_OCTETS, &ToyCodec).unwrap();
    survivor.require_whole().unwrap();
    let mut base: Folded<Toy> = survivor.base(&ToyCodec).unwrap().unwrap();
    assert_eq!(base.floor(), wanted.floor);
    loop {
        let records = survivor.entries(base.floor().first_index).unwrap();
        if records.is_empty() {
            break;
        }
        records.into_iter().for_each(|record| base.apply(record, &ToyCodec).unwrap());
    }
    assert_eq!(base.state(), &state);
    assert!(survivor.fold(&ToyCodec).unwrap().equals(&base, &ToyCodec));
    survivor.close().await;
}
