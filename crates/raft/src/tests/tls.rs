//! Who may speak on the internal port.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "strangers connect as they like")]

use std::io;
use std::sync::Arc;
use std::time::Duration;

use certwright_seams::Seams;
use certwright_seams::net::BoxStream;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::cluster::{CLUSTER, Cluster, Node, PATIENCE, eventually, identity};
use crate::Member;
use crate::limits::{HANDSHAKE_TIMEOUT, HANDSHAKES_MAX, HANDSHAKES_PER_ADDRESS_MAX};
use crate::peer::pins::Pins;
use crate::peer::tls::{PeerTls, claim};

/// Dials a node as that identity and begins to speak.
async fn connect(target: &Member, cluster: [u8; 16], key: Arc<CertifiedKey>) -> io::Result<TlsStream<BoxStream>> {
    let seams = Seams::system();
    let pins = Arc::new(Pins::default());
    pins.trust(vec![target.clone()]);
    let tls = PeerTls::new(cluster, pins, seams.clock.clone(), key);
    let connector = TlsConnector::from(tls.client(target.node_id).unwrap());
    let stream = seams.net.connect(&target.address).await?;
    let mut stream = connector.connect(ServerName::try_from("peer.test").unwrap(), stream).await?;
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await?;
    Ok(stream)
}

/// Says whether that identity can send a request and is answered.
async fn dial(target: &Member, cluster: [u8; 16], key: Arc<CertifiedKey>) -> io::Result<()> {
    let mut stream = connect(target, cluster, key).await?;
    // In TLS 1.3 the server's refusal arrives after the client has finished.
    let mut octet = [0];
    match stream.read(&mut octet).await? {
        0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
        _ => Ok(()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_pinned_keys_of_this_cluster_are_heard() {
    let mut node = Node::new(1).await;
    let target = node.member.clone();
    let (friend, friend_hash) = identity(CLUSTER, 2);
    let (other_key, _) = identity(CLUSTER, 2);
    let (other_node, _) = identity(CLUSTER, 3);
    let (other_cluster, foreign_hash) = identity([0xdd; 16], 4);
    let peer = |node_id, spki_hash| Member { node_id, address: "127.0.0.1:1".into(), spki_hash };
    node.start().await.trust(vec![peer(2, friend_hash), peer(4, foreign_hash)]);
    dial(&target, CLUSTER, friend.clone()).await.expect("a pinned key, though its certificate expired long ago");
    for (who, key) in [("another key", other_key), ("an unknown node", other_node), ("another cluster", other_cluster)]
    {
        assert!(dial(&target, CLUSTER, key).await.is_err(), "{who} was heard");
    }
    let counted = || node.metric("certwright_raft_handshakes_failed_total");
    // Who dialled hears of it before it is counted.
    eventually("all are counted", async || (counted() == 3.0).then_some(())).await;
    // The dialling side is as careful: a server with another key, id or cluster is not spoken to.
    let mut wrong = target.clone();
    wrong.spki_hash = [0; 32];
    assert!(dial(&wrong, CLUSTER, friend.clone()).await.is_err());
    wrong = Member { node_id: 9, ..target.clone() };
    assert!(dial(&wrong, CLUSTER, friend.clone()).await.is_err());
    assert!(dial(&target, [0xdd; 16], friend).await.is_err());
}

/// An authority's certificates for these nodes, each with its chain, and the pin that goes with it.
fn certified<const N: usize>(node_ids: [u64; N]) -> [(Arc<CertifiedKey>, [u8; 32]); N] {
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let root = params.self_signed(&key).unwrap().der().clone();
    let issuer = rcgen::Issuer::new(params, key);
    node_ids.map(|node_id| {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        let uri = format!("certwright://{}/node/{node_id}", hex::encode(CLUSTER));
        params.subject_alt_names = vec![rcgen::SanType::URI(uri.try_into().unwrap())];
        let leaf = params.signed_by(&key, &issuer).unwrap().der().clone();
        let spki_hash = claim(&leaf).unwrap().spki_hash;
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let signer = rustls::crypto::aws_lc_rs::sign::any_supported_type(&private).unwrap();
        (Arc::new(CertifiedKey::new(vec![leaf, root.clone()], signer)), spki_hash)
    })
}

/// Consensus obeys whoever it hears: an authority's word, which also servers have that never became members, is not
/// enough, neither before the membership is known here nor after.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_alone_lets_nobody_into_consensus() {
    let mut node = Node::new(1).await;
    let [ours, friend, unknown] = certified([1, 2, 3]);
    (node.identity, node.member.spki_hash) = ours;
    let target = node.member.clone();
    let log = node.start().await.clone();
    log.trust(vec![Member { node_id: 2, address: String::new(), spki_hash: friend.1 }]);
    dial(&target, CLUSTER, friend.0.clone()).await.expect("trusted");
    assert!(dial(&target, CLUSTER, unknown.0.clone()).await.is_err(), "heard by a node that knows no membership");
    log.initialize(target.clone()).await.unwrap();
    eventually("membership", async || log.is_member(1).then_some(())).await;
    for (who, key) in [("no member", unknown.0), ("no member any more", friend.0)] {
        eventually(who, async || dial(&target, CLUSTER, key.clone()).await.err()).await;
    }
}

/// Connects from that address and says nothing.
async fn silent(from: &str, target: &Member) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
    socket.connect(target.address.parse().unwrap()).await.unwrap()
}

/// A node that runs, and a peer that it trusts.
async fn node_and_friend() -> (Node, Arc<CertifiedKey>) {
    let mut node = Node::new(1).await;
    let (friend, spki_hash) = identity(CLUSTER, 2);
    node.start().await.trust(vec![Member { node_id: 2, address: String::new(), spki_hash }]);
    (node, friend)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_connections_of_one_address_leave_room_for_the_others_and_are_dropped_in_time() {
    let (node, friend) = node_and_friend().await;
    let begun = Instant::now();
    let mut waiting = Vec::new();
    for _ in 0..HANDSHAKES_MAX / 2 {
        waiting.push(silent("127.0.0.2", &node.member).await);
    }
    let (soon, mut octet) = (Duration::from_secs(2), [0]);
    let closed = timeout(soon, silent("127.0.0.2", &node.member).await.read(&mut octet)).await;
    assert!(matches!(closed.expect("what is over the half is closed at once"), Ok(0) | Err(_)));
    assert_eq!(node.metric("certwright_raft_handshakes_refused_total"), 1.0);
    timeout(soon, dial(&node.member, CLUSTER, friend)).await.expect("others need not wait").unwrap();
    assert!(begun.elapsed() < HANDSHAKE_TIMEOUT, "all of this while they were silent");

    let dropped = timeout(3 * HANDSHAKE_TIMEOUT, waiting[0].read(&mut octet)).await.expect("dropped in time");
    assert!(matches!(dropped, Ok(0) | Err(_)) && begun.elapsed() >= HANDSHAKE_TIMEOUT);
    assert_eq!(node.metric("certwright_raft_handshakes_refused_total"), 1.0, "nobody else was refused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_every_place_is_taken_the_next_connection_waits() {
    let (node, friend) = node_and_friend().await;
    let mut waiting = Vec::new();
    for number in 0..HANDSHAKES_MAX {
        let from = format!("127.0.0.{}", 2 + number / HANDSHAKES_PER_ADDRESS_MAX);
        waiting.push(silent(&from, &node.member).await);
    }
    let mut dialling = Box::pin(dial(&node.member, CLUSTER, friend));
    assert!(timeout(Duration::from_secs(1), &mut dialling).await.is_err(), "there is no place");
    timeout(PATIENCE, dialling).await.unwrap().expect("heard once there is one");
    assert_eq!(node.metric("certwright_raft_handshakes_refused_total"), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_removal_ends_open_connections() {
    let cluster = Cluster::of(2).await;
    let leader = cluster.leader().await;
    let other = cluster.nodes.iter().find(|node| node.member.node_id != leader.status().node_id).unwrap();
    other.log().ask(leader.status().node_id).await.expect("a member is heard");
    // A connection on which nothing is asked any more, as streams are that were opened before.
    let target = cluster.nodes.iter().find(|node| node.member.node_id == leader.status().node_id).unwrap();
    let mut idle = connect(&target.member, CLUSTER, other.identity.clone()).await.unwrap();
    let mut octets = [0; 256];
    assert!(idle.read(&mut octets).await.unwrap() > 0, "it is open");
    leader.remove(other.member.node_id).await.unwrap();
    // Sooner than a ping that nobody answers would end it.
    let ended =
        timeout(Duration::from_secs(2), async { while !matches!(idle.read(&mut octets).await, Ok(0) | Err(_)) {} });
    ended.await.expect("an open connection ends with the removal");
    eventually("refusal", async || other.log().ask(leader.status().node_id).await.err()).await;
    assert!(other.log().ask(leader.status().node_id).await.is_err(), "for good");
}

/// Peers are trusted by what a joiner was told, until the log itself says who they are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trust_ends_when_the_membership_that_names_the_node_is_applied() {
    let mut cluster = Cluster::of(1).await;
    let leader = cluster.leader().await;
    let mut joiner = Node::new(2).await;
    let (ghost, ghost_hash) = identity(CLUSTER, 9);
    let stranger = Member { node_id: 9, address: "127.0.0.1:1".into(), spki_hash: ghost_hash };
    let trusted = vec![cluster.nodes[0].member.clone(), stranger.clone()];
    joiner.start().await.trust(trusted.clone());
    dial(&joiner.member, CLUSTER, ghost.clone()).await.expect("trusted so far");
    assert!(!joiner.log().is_member(9) && !joiner.log().is_member(2));
    leader.add_learner(joiner.member.clone()).await.unwrap();
    eventually("membership", async || joiner.log().is_member(2).then_some(())).await;
    eventually("refusal", async || dial(&joiner.member, CLUSTER, ghost.clone()).await.err()).await;
    // Nor does a restart revive what was true at the join.
    joiner.kill().await;
    joiner.start().await.trust(trusted);
    assert!(dial(&joiner.member, CLUSTER, ghost).await.is_err());
    leader.promote(2).await.unwrap();
    cluster.nodes.push(joiner);
    assert!(cluster.leader().await.is_member(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_learner_is_refused_like_a_voter() {
    let mut cluster = Cluster::of(1).await;
    cluster.join(2).await;
    cluster.agree().await;
    let leader = cluster.leader().await;
    let learner = cluster.nodes[1].log();
    eventually("contact", async || learner.ask(1).await.ok()).await;
    leader.remove(2).await.unwrap();
    eventually("refusal", async || learner.ask(1).await.err()).await;
    let member = cluster.nodes[1].member.clone();
    assert_eq!(leader.add_learner(member).await, Err(crate::MembershipError::Removed(2)));
    assert!(leader.peer_channel(2).is_none() && !leader.is_member(2));
}
