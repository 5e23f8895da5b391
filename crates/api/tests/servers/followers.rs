//! What followers know and what they ask the leader for.
//!
//! It refuses sleeps as proof: it waits for conditions, each with a deadline.

use certwright_api::limits::ADMISSIONS_MAX;
use certwright_core::Reason;
use certwright_proto::status::from_status;
use certwright_proto::v1;
use certwright_proto::v1::agents_client::AgentsClient;
use certwright_proto::v1::cluster_client::ClusterClient;
use certwright_proto::v1::events_client::EventsClient;
use tokio::task::JoinSet;
use tonic::transport::Channel;

use crate::session::{Session, until_it_ends};
use crate::support::{Cluster, PATIENCE, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_agent_hears_so_from_every_server() {
    let mut cluster = Cluster::found().await;
    for number in 2..=3 {
        cluster.grow(number, 1).await;
    }
    let edge = cluster.agent(2, "edge").await;
    let mut sessions = Vec::new();
    for number in 1..=3 {
        let channel = cluster.connect_as(&edge, number).await;
        let session = Session::open(&channel).await.expect("an agent that joined is known everywhere");
        sessions.push((number, channel, session));
    }

    let request = v1::DeleteRequest { name: "agents/edge".into(), ..Default::default() };
    AgentsClient::new(cluster.channel(2).clone()).delete_agent(request).await.unwrap();
    for (number, channel, mut open) in sessions {
        assert_eq!(from_status(&open.ends().await).reason, Reason::Unauthenticated, "server {number}");
        let Err(refused) = Session::open(&channel).await else { panic!("server {number} lets a removed agent in") };
        assert_eq!(from_status(&refused).reason, Reason::Unauthenticated, "server {number}: {refused:?}");
    }

    // Any server answers a linearizable read, none without a majority.
    let linearizable = async |channel: &Channel| {
        let request = v1::GetClusterRequest { linearizable: true, ..Default::default() };
        let mut client = ClusterClient::new(channel.clone());
        client.get_cluster(request).await.map(drop).map_err(|status| from_status(&status).reason)
    };
    for number in 1..=3 {
        assert_eq!(linearizable(cluster.channel(number)).await, Ok(()));
    }
    for number in 1..=2 {
        cluster.halt(number).await;
    }
    assert_eq!(linearizable(cluster.channel(3)).await, Err(Reason::NoLeader));

    // Of those who are unknown only so many are looked up at once; the others hear so at once.
    let channel = cluster.connect_as(&edge, 3).await;
    let mut asking = JoinSet::new();
    for _ in 0..3 * ADMISSIONS_MAX {
        let channel = channel.clone();
        asking.spawn(async move { Session::open(&channel).await.err().map(|status| from_status(&status).reason) });
    }
    let heard = asking.join_all().await;
    let count = |reason| heard.iter().filter(|it| **it == Some(reason)).count();
    assert_eq!((count(Reason::NoLeader), count(Reason::Overloaded)), (ADMISSIONS_MAX, 2 * ADMISSIONS_MAX), "{heard:?}");
    cluster.stop().await;
}

/// Of two servers one is gone. Whoever waits at the other one for news is sent away: it may be the one that is cut off.
async fn sends_everybody_away(goes: usize, stays: usize) {
    let mut cluster = Cluster::found().await;
    cluster.grow(2, 1).await;
    let edge = cluster.agent(1, "edge").await;
    let channel = cluster.connect_as(&edge, stays).await;
    let mut session = Session::open(&channel).await.unwrap();
    let following = v1::WatchRequest { from_index: 1, follow: true, ..Default::default() };
    let watch = async |request| EventsClient::new(cluster.channel(stays).clone()).watch(request).await;
    let mut events = watch(following.clone()).await.unwrap().into_inner();
    cluster.halt(goes).await;

    assert_eq!(from_status(&session.ends().await).reason, Reason::NoLeader);
    let (_, ended) = until_it_ends(&mut events).await;
    assert_eq!(from_status(&ended).reason, Reason::NoLeader);
    let Err(refused) = Session::open(&channel).await else { panic!("an agent that nothing reaches may stay") };
    assert_eq!(from_status(&refused).reason, Reason::NoLeader);
    let watch = async |request| EventsClient::new(cluster.channel(stays).clone()).watch(request).await;
    assert_eq!(from_status(&watch(following).await.unwrap_err()).reason, Reason::NoLeader);
    // What is known here may still be read.
    let known =
        watch(v1::WatchRequest { from_index: 1, ..Default::default() }).await.unwrap().into_inner().message().await;
    assert!(known.unwrap().unwrap().event.is_some());

    cluster.restart(goes).await;
    until("it is in touch again", PATIENCE, async || Session::open(&channel).await.ok()).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_hears_of_no_leader_sends_everybody_away() {
    sends_everybody_away(1, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_no_quorum_answers_sends_everybody_away() {
    sends_everybody_away(2, 1).await;
}
