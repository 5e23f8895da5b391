//! What exceeds a bound by one is refused or waits; bounds of one part alone are tested beside it.

use certwright_proto::internal::v1::{Envelope, SnapshotChunk};
use openraft::RaftLogReader;
use prost::Message;

use super::cluster::Cluster;
use crate::consensus::record::VoteForm;
use crate::consensus::wire::SnapshotStartForm;
use crate::fold::toy::say;

use crate::limits::{
    APPEND_BATCH_OCTETS_MAX, ENTRY_CACHE_MAX, FRAME_OCTETS_MAX, RECENT_ENTRIES_MAX, SNAPSHOT_OCTETS_MAX,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_one_octet_too_large_is_refused() {
    let cluster = Cluster::of(2).await;
    let (from, to) = (cluster.nodes[1].log(), cluster.nodes[0].member.node_id);
    from.ask(to).await.unwrap();
    let mut client = from.unbounded_client(to).max_encoding_message_size(2 * FRAME_OCTETS_MAX);
    let empty = Envelope { version: 1, body: vec![0; FRAME_OCTETS_MAX / 2].into() };
    let overhead = empty.encoded_len() - FRAME_OCTETS_MAX / 2;
    for (octets, code) in
        [(FRAME_OCTETS_MAX, tonic::Code::InvalidArgument), (FRAME_OCTETS_MAX + 1, tonic::Code::OutOfRange)]
    {
        let body = vec![0xff; octets - overhead].into();
        let status = client.pre_vote(Envelope { version: 1, body }).await.unwrap_err();
        assert_eq!(status.code(), code, "{octets} octets: {status:?}");
    }
    let status = client.pre_vote(Envelope { version: 2, body: Default::default() }).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument, "an envelope of unknown version");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_announced_one_octet_too_large_is_refused_and_so_are_lies_about_it() {
    let cluster = Cluster::of(2).await;
    let leader = cluster.leader().await.status().node_id;
    let other = cluster.nodes.iter().find(|node| node.member.node_id != leader).unwrap();
    let (mut client, me) = (other.log().unbounded_client(leader), other.member.node_id);
    let chunks = |node_id: u64, octets: u64, data: &'static [u8]| {
        let vote = Some(VoteForm { term: 1, node_id, committed: true });
        let header = SnapshotStartForm { vote, octets, ..Default::default() }.encode_to_vec().into();
        let first = SnapshotChunk { version: 1, header, data: Default::default() };
        let second = SnapshotChunk { version: 1, header: Default::default(), data: data.into() };
        futures_util::stream::iter([first, second])
    };
    for (chunks, code) in [
        (chunks(me, SNAPSHOT_OCTETS_MAX + 1, b""), tonic::Code::OutOfRange),
        (chunks(leader, 1, b"x"), tonic::Code::PermissionDenied),
        (chunks(me, 1, b"xx"), tonic::Code::InvalidArgument),
        (chunks(me, 2, b"x"), tonic::Code::InvalidArgument),
        (chunks(me, 1, b"x"), tonic::Code::DataLoss),
    ] {
        let status = client.install_snapshot(chunks).await.unwrap_err();
        assert_eq!(status.code(), code, "{status:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_for_peers_and_for_look_ups_are_bounded() {
    let cluster = Cluster::of(1).await;
    let log = cluster.leader().await;
    let word = "x".repeat(APPEND_BATCH_OCTETS_MAX / 5);
    for number in 0..6 {
        log.propose(say(number, "loose", None, &word)).await.unwrap();
    }
    let last = log.status().last_log_index;
    let batch = log.store().limited_get_log_entries(last - 5, last + 1).await.unwrap();
    assert_eq!(batch.len(), 4, "five are a little more than a batch");
    let all = log.store().try_get_log_entries(last - 5..=last).await.unwrap();
    assert_eq!(all.len(), 6);
    // Small entries push the first ones out of memory; then they are read from disk.
    let wanted = (RECENT_ENTRIES_MAX + ENTRY_CACHE_MAX) as u64;
    for number in 100.. {
        if log.status().last_log_index > wanted + 10 {
            break;
        }
        log.propose(say(number, "loose", None, "w")).await.unwrap();
    }
    let entries = log.entries();
    let kept = |index: u64| entries.cached(index).is_some();
    // From the newest to the oldest: what is wanted is kept wherever it lies, and the one that was wanted longest ago goes.
    let last = ENTRY_CACHE_MAX as u64 + 1;
    for index in (1..=last).rev() {
        assert_eq!(entries.get(index).unwrap().unwrap().index, index);
        assert!(kept(index), "{index}");
    }
    assert_eq!((1..=last).filter(|index| kept(*index)).count(), ENTRY_CACHE_MAX);
    assert!(!kept(last));
    assert!(kept(last - 1));
    entries.get(last).unwrap();
    assert!(kept(last - 1), "it was wanted a moment ago");
}
