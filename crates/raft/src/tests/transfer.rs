//! Snapshots on their way: connections that break, octets that flip, files that are damaged where they are sent from.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use certwright_proto::internal::v1::SnapshotChunk;
use certwright_seams::Seams;
use certwright_seams::net::BoxStream;
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use tonic::{Code, Status};

use super::cluster::{Cluster, Node, eventually};
use super::snapshots::at_rest;
use crate::Member;
use crate::consensus::record::VoteForm;
use crate::consensus::wire::{SnapshotKeptForm, SnapshotStartForm};
use crate::fold::toy::say;
use crate::peer::client::{envelope, open};

const MIB: u64 = 1024 * 1024;

/// Files of a kind in a node's directory of snapshots, oldest first.
fn files(node: &Node, extension: &str) -> Vec<PathBuf> {
    let directory = node.data().join("snapshots");
    let names = Seams::system().disk.list(&directory).unwrap();
    let paths = names.into_iter().map(|name| directory.join(name));
    paths.filter(|path| path.extension().is_some_and(|found| found == extension)).collect()
}

fn read(path: &Path) -> Vec<u8> {
    Seams::system().disk.read(path, 1 << 30).unwrap()
}

/// A single voter with two snapshots, the last of which holds all but a few of that many words, or of more.
async fn cutting(snapshot_every_octets: u64, words: u64, word: &str) -> Cluster {
    let mut node = Node::new(1).await;
    node.snapshot_every_octets = snapshot_every_octets;
    let me = node.member.clone();
    node.start().await.initialize(me).await.unwrap();
    let speak =
        async |number: u64| node.log().propose(say(number, "loose", None, &format!("{number}{word}"))).await.unwrap();
    for number in 0..words {
        speak(number).await;
    }
    // Whoever joins now needs a snapshot, and no newer one is on its way.
    let mut more = words..;
    eventually("purge", async || {
        let is_purged = node.log().first_live_index() > 1;
        if !is_purged {
            speak(more.next().unwrap_or_default()).await;
        }
        is_purged.then_some(())
    })
    .await;
    let cluster = Cluster { nodes: vec![node] };
    at_rest(&cluster, 0).await;
    cluster
}

/// Carries connections to an address. The first one that brought `HELD_AT` octets is held there, and cut once told.
#[derive(Default)]
struct Door {
    /// Octets that went there, of all connections.
    passed: AtomicU64,
    has_held: AtomicBool,
    cut: Notify,
}

const HELD_AT: u64 = 5 * MIB;

async fn door(to: String) -> (String, Arc<Door>) {
    let net = Seams::system().net;
    let mut listener = net.listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let (address, door) = (listener.local_addr().unwrap().to_string(), Arc::<Door>::default());
    let carrier = Arc::clone(&door);
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            if let Ok(far) = net.connect(&to).await {
                let carrier = Arc::clone(&carrier);
                tokio::spawn(async move { carrier.carry(near, far).await });
            }
        }
    });
    (address, door)
}

impl Door {
    async fn carry(&self, near: BoxStream, far: BoxStream) {
        let ((mut asked, mut answered), (mut answers, mut asks)) = (tokio::io::split(near), tokio::io::split(far));
        let there = async {
            let (mut buffer, mut brought) = (vec![0; 16 * 1024], 0);
            while let Ok(count @ 1..) = asked.read(&mut buffer).await {
                if asks.write_all(&buffer[..count]).await.is_err() {
                    return;
                }
                self.passed.fetch_add(count as u64, Ordering::Relaxed);
                brought += count as u64;
                if brought >= HELD_AT && !self.has_held.swap(true, Ordering::Relaxed) {
                    return self.cut.notified().await;
                }
            }
        };
        let back = tokio::io::copy(&mut answers, &mut answered);
        tokio::select! {
            biased;
            () = there => {}
            _ = back => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_goes_on_where_the_connection_was_cut() {
    let mut cluster = cutting(500_000, 80, &"x".repeat(100_000)).await;
    let octets = read(files(&cluster.nodes[0], "snapshot").last().unwrap()).len() as u64;
    assert!(octets > 7 * MIB, "{octets}");
    let mut learner = Node::new(2).await;
    let (address, door) = door(learner.member.address.clone()).await;
    learner.start().await.trust(vec![cluster.nodes[0].member.clone()]);
    let member = Member { address, ..learner.member.clone() };
    cluster.nodes.push(learner);
    let (leader, arrived) = (cluster.leader().await, || files(&cluster.nodes[1], "part").pop());
    let joining = tokio::spawn(async move { leader.add_learner(member).await });
    eventually("half of it", async || arrived().filter(|part| read(part).len() as u64 >= 4 * MIB)).await;
    assert_eq!(arrived().into_iter().len(), 1);
    let before = door.passed.load(Ordering::Relaxed);
    door.cut.notify_one();
    // That it took a second attempt may take longer than an administrator waits.
    let _ = joining.await.unwrap();
    eventually("the snapshot", async || (files(&cluster.nodes[1], "snapshot").len() == 1).then_some(())).await;
    cluster.agree().await;
    let after = door.passed.load(Ordering::Relaxed) - before;
    assert!(after < octets - 2 * MIB, "{after} octets after the cut, {octets} in all: it did not go on");
    assert!(arrived().is_none());
}

/// One node that sends to another as its leader would, piece by piece.
struct Sender<'a> {
    from: &'a Node,
    to: &'a Node,
    octets: u64,
}

impl Sender<'_> {
    fn start(&self, digest: &[u8], from: u64) -> SnapshotStartForm {
        let vote = Some(VoteForm { term: 1, node_id: self.from.member.node_id, committed: true });
        let digest = Bytes::copy_from_slice(digest);
        SnapshotStartForm { vote, octets: self.octets, digest, from, ..Default::default() }
    }

    async fn send(&self, digest: &[u8], from: u64, data: &[u8]) -> Result<(), Status> {
        let header = self.start(digest, from).encode_to_vec().into();
        let first = SnapshotChunk { version: 1, header, data: Bytes::new() };
        let rest = data.chunks(100).map(|data| SnapshotChunk {
            version: 1,
            header: Bytes::new(),
            data: Bytes::copy_from_slice(data),
        });
        let chunks: Vec<_> = std::iter::once(first).chain(rest).collect();
        let mut client = self.from.log().unbounded_client(self.to.member.node_id);
        client.install_snapshot(futures_util::stream::iter(chunks)).await.map(drop)
    }

    async fn kept(&self, digest: &[u8]) -> u64 {
        let mut client = self.from.log().unbounded_client(self.to.member.node_id);
        let answer = client.offer_snapshot(envelope(&self.start(digest, 0))).await.unwrap();
        open::<SnapshotKeptForm>(answer.into_inner()).unwrap().octets
    }
}

/// A small snapshot of the first of two nodes.
async fn small() -> (Cluster, Vec<u8>) {
    let mut cluster = cutting(400, 30, "").await;
    cluster.join(2).await;
    cluster.agree().await;
    let octets = read(files(&cluster.nodes[0], "snapshot").last().unwrap());
    assert!(octets.len() < 4000, "{} octets are not small", octets.len());
    (cluster, octets)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_octet_that_flips_on_the_way_is_noticed_and_the_snapshot_is_sent_again() {
    let (cluster, octets) = small().await;
    let sender = Sender { from: &cluster.nodes[0], to: &cluster.nodes[1], octets: octets.len() as u64 };
    let digest = &octets[octets.len() - 32..];
    for place in 0..octets.len() {
        let mut flipped = octets.clone();
        flipped[place] ^= 0x40;
        let status = sender.send(digest, 0, &flipped).await.unwrap_err();
        assert_eq!(status.code(), Code::DataLoss, "octet {place}: {status:?}");
        assert!(files(&cluster.nodes[1], "part").is_empty(), "octet {place}: what is damaged was kept");
    }
    sender.send(digest, 0, &octets).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_arrived_and_verified_is_kept_of_one_snapshot_at_a_time() {
    let (cluster, octets) = small().await;
    let sender = Sender { from: &cluster.nodes[0], to: &cluster.nodes[1], octets: octets.len() as u64 };
    let digest = &octets[octets.len() - 32..];
    let most = octets.len() - 50;
    assert_eq!(sender.kept(digest).await, 0);
    assert_eq!(sender.send(digest, 0, &octets[..most]).await.unwrap_err().code(), Code::InvalidArgument);
    let kept = sender.kept(digest).await as usize;
    assert!(0 < kept && kept < most, "{kept} of {most}: whole chunks and nothing else");
    // More than is there cannot be gone on from.
    assert_eq!(sender.send(digest, most as u64 + 1, b"x").await.unwrap_err().code(), Code::Internal);
    // What rots meanwhile does not count.
    let part = files(&cluster.nodes[1], "part").pop().unwrap();
    let mut rotten = read(&part);
    rotten[kept - 1] ^= 1;
    Seams::system().disk.write_atomic(&part, &rotten, 0o600).unwrap();
    let fewer = sender.kept(digest).await as usize;
    assert!(fewer < kept, "{fewer} of {kept}");
    // Another snapshot begins anew, and the one before it is forgotten.
    assert_eq!(sender.kept(&[7; 32]).await, 0);
    assert_eq!(sender.send(&[7; 32], 0, &octets[..most]).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(files(&cluster.nodes[1], "part").len(), 1);
    assert_eq!(sender.kept(digest).await, 0);
    assert_eq!(sender.send(digest, 0, &octets[..most]).await.unwrap_err().code(), Code::InvalidArgument);
    let kept = sender.kept(digest).await;
    sender.send(digest, kept, &octets[kept as usize..]).await.unwrap();
    assert!(files(&cluster.nodes[1], "part").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_is_damaged_where_it_is_sent_from_gives_way_to_the_one_before_it() {
    let mut cluster = cutting(400, 30, "").await;
    let newest = files(&cluster.nodes[0], "snapshot").pop().unwrap();
    let mut octets = read(&newest);
    let place = octets.len() - 60;
    octets[place] ^= 1;
    Seams::system().disk.write_atomic(&newest, &octets, 0o600).unwrap();
    cluster.join(2).await;
    cluster.agree().await;
    assert!(newest.with_extension("damaged").exists(), "it was not set aside");
}
