//! Three servers that joined by token: any of them answers, followers forward, a lost leader is replaced.
//!
//! It refuses sleeps as proof: it waits for conditions, each with a deadline.

use certwright_api::join;
use certwright_core::Reason;
use certwright_core::x509::Names;
use certwright_custody::LeafKey;
use certwright_proto::agent::v1::IdentityRenewal;
use certwright_proto::agent::v1::agent_message::Kind as Up;
use certwright_proto::agent::v1::server_message::Kind as Down;
use certwright_proto::status::from_status;
use certwright_proto::v1;
use certwright_proto::v1::certificates_client::CertificatesClient;
use certwright_proto::v1::cluster_client::ClusterClient;
use certwright_proto::v1::issuers_client::IssuersClient;
use tokio::time::timeout;
use tonic::transport::Channel;

use crate::session::Session;
use crate::support::{Cluster, PATIENCE, create_issuer, is_voter, issue, order, token};

/// A follower validates as the leader would issue, and nothing is issued.
async fn validates(channel: &Channel) {
    let request = v1::IssueRequest { validate_only: true, ..order("") };
    let answer = CertificatesClient::new(channel.clone()).issue(request).await.unwrap().into_inner();
    assert!(answer.serial.is_empty() && answer.certificate.is_empty() && answer.index == 0, "{answer:?}");
    assert!(answer.not_after.unwrap().seconds > answer.not_before.unwrap().seconds && !answer.chain.is_empty());
    let request = v1::IssueRequest { validate_only: true, csr: vec![0].into(), ..order("") };
    let refused = CertificatesClient::new(channel.clone()).issue(request).await.unwrap_err();
    assert_eq!(from_status(&refused).reason, Reason::InvalidCsr);
}

/// An agent's wish goes through a follower with the key it proved there, without which the leader would refuse it.
async fn renews_an_agent_through(cluster: &Cluster, number: usize) {
    let context = cluster.agent(number, "edge").await;
    let key = LeafKey::from_pem(&context.key_pem).unwrap();
    let renewal = IdentityRenewal { csr: key.request(&Names::default()).unwrap().into() };
    let mut session = Session::open(&cluster.connect_as(&context, number).await).await.unwrap();
    session.say(Up::Identity(renewal)).await;
    let heard = timeout(PATIENCE, session.hears(|kind| matches!(kind, Down::Identity(_)))).await;
    let Ok(Down::Identity(issued)) = heard else { panic!("no answer: {heard:?}") };
    assert!(issued.reason.is_empty() && !issued.certificate.is_empty(), "{} {}", issued.reason, issued.message);
}

/// What a follower has answered to be done is to be seen there at once, without a token.
async fn reads_its_own_writes(channel: &Channel) {
    let mut issuers = IssuersClient::new(channel.clone());
    for number in 0..50 {
        let name = format!("issuers/own-{number}");
        create_issuer(channel, &name).await;
        issuers.get_issuer(v1::GetRequest { name, min_token: None }).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_server_answers_and_a_lost_leader_is_replaced() {
    // Two more join; a token admits one server only.
    let mut cluster = Cluster::of(1).await;
    for number in 2..=3 {
        let (seams, address) = (cluster.seams.clone(), cluster.address(1));
        let token = token(cluster.channel(1), "node", "").await;
        let config = cluster.config(number);
        let record = join(&config, seams.clone(), &address, &token).await.unwrap();
        assert_eq!(record.node_id, number as u64);
        // A finished join is left alone, also with a token that was used.
        assert_eq!(join(&config, seams.clone(), &address, &token).await.unwrap(), record);
        cluster.start(number, config).await;
        is_voter(cluster.channel(1), number).await;
        let thief = cluster.config(10 + number);
        assert_eq!(join(&thief, seams, &address, &token).await.unwrap_err().reason, Reason::TokenUsed);
    }

    // A follower forwards, and a repeat under the same id is the same certificate on every server.
    let follower = cluster.channel(2).clone();
    let wanted = order(&"ab".repeat(16));
    let issued = issue(&follower, wanted.clone()).await;
    for number in 1..=3 {
        assert_eq!(issue(cluster.channel(number), wanted.clone()).await.serial, issued.serial);
    }

    reads_its_own_writes(&follower).await;
    validates(&follower).await;
    renews_an_agent_through(&cluster, 2).await;

    // A read that carries the token is never older than the write, wherever it is asked.
    let request = v1::GetClusterRequest { min_token: issued.token.clone(), ..Default::default() };
    let seen = ClusterClient::new(cluster.channel(3).clone()).get_cluster(request).await.unwrap().into_inner();
    assert_eq!(seen.answered_by, "server-3");

    // Every replica has the same state.
    let digests = ClusterClient::new(follower.clone()).get_digests(v1::GetDigestsRequest {}).await;
    let digests = digests.unwrap().into_inner();
    assert_eq!(digests.digests.len(), 3, "{digests:?}");
    let mut values: Vec<_> = digests.digests.values().collect();
    values.dedup();
    assert_eq!(values.len(), 1, "{digests:?}");

    // The first server goes; what it answered is still there, and the others issue on.
    cluster.halt(1).await;
    let after = issue(&follower, order(&"cd".repeat(16))).await;
    assert_ne!(after.serial, issued.serial);
    assert_eq!(issue(cluster.channel(3), wanted).await.serial, issued.serial);
    cluster.stop().await;
}
