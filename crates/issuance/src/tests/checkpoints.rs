//! Checkpoints of a real log: signed while it grows, never when it rests.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use certwright_core::event::{SignedCheckpoint, TokenGrant};
use certwright_core::ids::checkpoints_stream;
use certwright_core::state::CheckpointKey;
use certwright_core::{Event, Reason};
use certwright_raft::wal::{Places, Seen, verify_seeing};
use tokio::time::Instant;

use super::server::{Machine, Server, admin};
use crate::projector::stream_prefix;

/// Waits for a checkpoint that covers an entry.
async fn covered(server: &Server, index: u64) -> SignedCheckpoint {
    server.until(|state| state.cluster.checkpoints.last.map(|(it, _)| it).filter(|it| it.index >= index)).await
}

fn applied(server: &Server) -> u64 {
    server.log.status().applied_index
}

fn key(server: &Server) -> CheckpointKey {
    server.log.read(|view| view.state.cluster.checkpoints.key.clone()).unwrap()
}

/// Appends something, once this server leads.
async fn token(server: &Server) {
    while let Err(rejection) = server.control.create_token(admin(), TokenGrant::Node, None).await {
        assert_eq!(rejection.reason, Reason::NotLeader);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_that_grows_is_signed_and_one_that_rests_is_not() {
    let machine = Machine::new();
    let server = machine.boot().await;
    server.bootstrap().await.unwrap();
    let start = Instant::now();
    covered(&server, applied(&server)).await;
    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
    // The checkpoint is an entry itself: it asks for no other.
    let rested = applied(&server);
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(applied(&server), rested);
    token(&server).await;
    let start = Instant::now();
    let signed = covered(&server, rested + 1).await;
    let waited = start.elapsed().as_secs();
    assert!((4..7).contains(&waited), "{waited} s");
    let cluster_id = server.log.read(|view| view.state.cluster.id).unwrap();
    assert!(signed.of(cluster_id).is_signed(&key(&server).public_key, &signed.signature));
    assert!(server.log.scan(&stream_prefix(&checkpoints_stream()), None, 10).is_empty(), "the projection knows none");
}

#[tokio::test(start_paused = true)]
async fn many_entries_do_not_wait() {
    let server = Machine::new().boot().await;
    server.bootstrap().await.unwrap();
    let before = covered(&server, applied(&server)).await;
    let (start, from) = (Instant::now(), applied(&server));
    for _ in 0..1010 {
        token(&server).await;
    }
    let after = covered(&server, from + 900).await;
    assert!(start.elapsed() < Duration::from_secs(4) && after.index > before.index, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_is_signed_is_the_chain_on_disk_and_the_next_leader_signs_with_the_same_key() {
    let machine = Machine::new();
    let server = machine.boot().await;
    server.bootstrap().await.unwrap();
    covered(&server, applied(&server)).await;
    let made = key(&server);
    token(&server).await;
    covered(&server, applied(&server)).await;
    server.kill().await;
    let server = machine.boot().await;
    server.until(|state| state.cluster.checkpoints.last).await;
    let last = applied(&server);
    token(&server).await;
    covered(&server, last + 1).await;
    assert_eq!(key(&server), made);
    let events = server.events();
    let kinds = |wanted: &str| events.iter().filter(|(_, event)| event.kind() == wanted).count();
    assert_eq!(kinds("CheckpointKeyMade"), 1);
    let signed = events.into_iter().filter_map(|(_, event)| match event {
        Event::CheckpointSigned(signed) => Some(*signed),
        _ => None,
    });
    let signed: Vec<_> = signed.collect();
    assert!(signed.len() >= 3, "{signed:?}");
    server.log.shutdown().await;
    let mut chains = BTreeMap::new();
    let mut see = |seen: Seen<'_>| {
        if let Seen::Entry(record, Some(chain)) = seen {
            chains.insert(record.index, chain);
        }
        Ok(())
    };
    let places = Places { log: Path::new("/data/log"), backfill: None };
    assert_eq!(verify_seeing(&machine.disk, places, &mut see).unwrap().finding, None);
    for checkpoint in signed {
        assert_eq!(chains.get(&checkpoint.index), Some(&checkpoint.chain), "{checkpoint:?}");
    }
}
