//! A leader's process dies: survivors who saw it follow it at once; nobody else's word moves those who hear the leader.
//!
//! It refuses elections as a way out: where one must not be what helped, its time is longer than the test's.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use certwright_seams::net::{BoxStream, Listener};
use certwright_seams::{BoxFuture, Net, Seams};

use super::cluster::{CLUSTER, Cluster, Node, eventually, identity, say_somewhere};
use crate::Role;
use crate::consensus::record::{LogIdForm, VoteForm};
use crate::consensus::wire::{DeathForm, TestimonyForm, VoteRequestForm, VoteResponseForm};
use crate::peer::channels::Channels;
use crate::peer::client::{envelope, open};
use crate::peer::pins::Pins;
use crate::peer::tls::PeerTls;

/// Longer than any test.
const NEVER: (u64, u64) = (120_000, 240_000);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_process_died_is_followed_without_an_election_timeout() {
    let mut cluster = Cluster::with_elections(3, NEVER).await;
    say_somewhere(&cluster, 1, "one").await;
    // Who joined a moment ago may not have heard of its leader yet, and would wait out the lease of the dead one.
    cluster.agree().await;
    for round in 2..=4 {
        let before = cluster.leader().await.status();
        cluster.node(before.node_id).kill().await;
        say_somewhere(&cluster, round, "more").await;
        let after = cluster.leader().await.status();
        assert_ne!(after.node_id, before.node_id);
        assert_eq!(after.term, before.term + 1, "one election");
        // Who comes back follows.
        cluster.node(before.node_id).start().await;
        cluster.agree().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_three_follows_nobody_alone() {
    let mut cluster = Cluster::with_elections(3, NEVER).await;
    say_somewhere(&cluster, 1, "one").await;
    cluster.agree().await;
    let leader = cluster.leader().await.status();
    let votes = |node: &Node| [Role::Follower, Role::Leader].contains(&node.log().status().role);
    eventually("three voters", async || cluster.nodes.iter().all(votes).then_some(())).await;
    let others: Vec<u64> = (1..=3).filter(|id| *id != leader.node_id).collect();
    cluster.node(others[0]).kill().await;
    cluster.node(leader.node_id).kill().await;
    let alone = cluster.node(others[1]).log().clone();
    // It has looked at the leader's port and found nobody to agree with.
    eventually("the leader is known to be dead", async || alone.knows_dead().then_some(())).await;
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    let status = alone.status();
    assert_eq!((status.term, status.role), (leader.term, Role::Follower));
}

/// Asks a node for its vote for another one because that leader is said to be dead.
async fn ask_for_vote(cluster: &mut Cluster, from: u64, of: u64, form: VoteRequestForm) -> VoteResponseForm {
    let mut client = cluster.node(from).log().unbounded_client(of);
    open(client.vote(envelope(&form)).await.unwrap().into_inner()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_hears_the_leader_goes_by_its_lease_whatever_others_say() {
    let mut cluster = Cluster::of(3).await;
    say_somewhere(&cluster, 1, "one").await;
    cluster.agree().await;
    let before = cluster.leader().await.status();
    let leader = VoteForm { term: before.term, node_id: before.node_id, committed: true };
    let (heir, other) = match before.node_id {
        1 => (2, 3),
        2 => (1, 3),
        _ => (1, 2),
    };
    let vote = VoteForm { term: before.term + 1, node_id: heir, committed: false };
    let last = Some(LogIdForm { term: before.term, index: before.last_log_index + 100 });
    let said_dead = VoteRequestForm { vote: Some(vote), last, leadership_transfer: true, dead_leader: Some(leader) };
    for of in [other, before.node_id] {
        let answer = ask_for_vote(&mut cluster, heir, of, said_dead.clone()).await;
        assert!(!answer.granted, "node {of} {answer:?}");
        assert_eq!(cluster.node(of).log().status().term, before.term, "node {of} is not disturbed");
    }
    let mut client = cluster.node(heir).log().unbounded_client(other);
    let question = envelope(&DeathForm { leader: Some(leader) });
    let testimony: TestimonyForm = open(client.testify(question).await.unwrap().into_inner()).unwrap();
    assert!(!testimony.dead && testimony.last.is_some(), "{testimony:?}");
    let asked_of_another_term = envelope(&DeathForm { leader: Some(VoteForm { term: before.term + 1, ..leader }) });
    let testimony: TestimonyForm = open(client.testify(asked_of_another_term).await.unwrap().into_inner()).unwrap();
    assert!(!testimony.dead);
    assert_eq!(cluster.leader().await.status().term, before.term);

    // The same request is granted when it is the leader's own wish.
    let honest = VoteRequestForm { dead_leader: None, ..said_dead };
    assert!(ask_for_vote(&mut cluster, heir, other, honest).await.granted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_does_not_vote_cannot_set_the_lease_aside() {
    let mut cluster = Cluster::of(3).await;
    say_somewhere(&cluster, 1, "one").await;
    cluster.join(4).await;
    cluster.agree().await;
    let before = cluster.leader().await.status();
    let vote = VoteForm { term: before.term + 1, node_id: 4, committed: false };
    let last = Some(LogIdForm { term: before.term, index: before.last_log_index + 100 });
    let form = VoteRequestForm { vote: Some(vote), last, leadership_transfer: true, dead_leader: None };
    for of in 1..=3 {
        let answer = ask_for_vote(&mut cluster, 4, of, form.clone()).await;
        assert!(!answer.granted, "node {of} {answer:?}");
        let mut client = cluster.node(4).log().unbounded_client(of);
        let answer: VoteResponseForm = open(client.pre_vote(envelope(&form)).await.unwrap().into_inner()).unwrap();
        assert!(!answer.granted, "node {of} {answer:?}");
        assert_eq!(cluster.node(of).log().status().term, before.term, "node {of} is not disturbed");
    }
}

/// A network that answers every dial as told, then refuses.
struct Told(Mutex<VecDeque<Option<io::ErrorKind>>>);

impl Net for Told {
    fn listen(&self, _: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        Box::pin(std::future::ready(Err(io::ErrorKind::Unsupported.into())))
    }

    fn connect<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<BoxStream>> {
        let next = self.0.lock().unwrap().pop_front().unwrap_or(Some(io::ErrorKind::ConnectionRefused));
        Box::pin(async move {
            match next {
                Some(kind) => Err(kind.into()),
                None => std::future::pending().await,
            }
        })
    }
}

#[tokio::test]
async fn only_a_closed_port_is_proof() {
    let refuses = async |answers: &[Option<io::ErrorKind>]| {
        let (identity, spki_hash) = identity(CLUSTER, 1);
        let pins = Arc::new(Pins::default());
        pins.trust(vec![crate::Member { node_id: 1, address: "leader:1".into(), spki_hash }]);
        let tls = PeerTls::new(CLUSTER, Arc::clone(&pins), Arc::clone(&Seams::system().clock), identity);
        let net = Told(Mutex::new(answers.iter().copied().collect()));
        Channels::new(Arc::new(net), tls, pins).is_refused(1).await
    };
    let kind = |kind: io::ErrorKind| Some(kind);
    assert!(refuses(&[]).await);
    assert!(refuses(&[kind(io::ErrorKind::ConnectionReset), kind(io::ErrorKind::UnexpectedEof)]).await, "it was dying");
    assert!(!refuses(&[kind(io::ErrorKind::ConnectionReset); 20]).await, "something answers");
    assert!(!refuses(&[None]).await, "silence");
    for other in [io::ErrorKind::TimedOut, io::ErrorKind::HostUnreachable, io::ErrorKind::NetworkUnreachable] {
        assert!(!refuses(&[kind(other)]).await, "{other:?}");
    }
    // A leader that lives answers.
    let mut node = Node::new(1).await;
    node.start().await;
    let pins = Arc::new(Pins::default());
    pins.trust(vec![node.member.clone()]);
    let seams = Seams::system();
    let tls = PeerTls::new(CLUSTER, Arc::clone(&pins), Arc::clone(&seams.clock), Arc::clone(&node.identity));
    assert!(!Channels::new(Arc::clone(&seams.net), tls, pins).is_refused(1).await);
}
