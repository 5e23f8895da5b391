//! The birth of a cluster, killed at every step, and those who join it.

use std::sync::Arc;
use std::time::Duration;

use certwright_core::event::{Event, TokenGrant};
use certwright_core::ids::{Actor, ClusterId, NodeName};
use certwright_core::log::RequestId;
use certwright_core::spec::Labels;
use certwright_core::{Format, Reason};

use super::server::{Machine, admin, agent, p256, request};
use crate::{AgentJoin, Call, NodeJoin};

fn kinds(events: &[(certwright_core::log::Position, Event)]) -> Vec<&'static str> {
    events.iter().map(|(_, event)| event.kind()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_cluster_is_born_once() {
    let machine = Machine::new();
    let server = machine.boot().await;
    let first = server.bootstrap().await.unwrap();
    let events = server.events();
    assert_eq!(
        kinds(&events),
        [
            "ClusterBootstrapped",
            "NodeJoined",
            "DataKeyWrapped",
            "DataKeyProved",
            "FormatRaised",
            "AuthorityDeclared",
            "AuthorityCertificateIntended",
            "AuthorityCertified",
            "NodeIdentityIssued",
            "AdministratorIdentityIssued",
        ]
    );
    let second = server.bootstrap().await.unwrap();
    assert_eq!(first, second);
    assert_eq!(server.events(), events, "the second one appended nothing");
    assert_eq!(first.administrator.chain.len(), 1);
    assert_eq!(first.administrator.name, "administrator/admin");

    let mut foreign = server.order();
    foreign.cluster_id = ClusterId([8; 16]);
    assert_eq!(server.control.bootstrap(foreign).await.unwrap_err().reason, Reason::AlreadyExists);
}

/// Kills the process as soon as the log holds the n-th entry of a bootstrap, for every n, and starts it again.
#[tokio::test(start_paused = true)]
async fn a_bootstrap_killed_at_each_step_is_finished_by_the_next_run() {
    let mut killed = 0;
    for entries in 1.. {
        let machine = Machine::new();
        let server = machine.boot().await;
        let control = server.control.clone();
        control.leading().await;
        let start = server.log.status().applied_index;
        let order = server.order();
        let running = tokio::spawn(async move { control.bootstrap(order).await });
        let mut applied = server.log.applied();
        let reached = async { applied.wait_for(|mark| mark.index >= start + entries).await.map(|_| ()) };
        let finished = tokio::select! {
            biased;
            answer = running => { answer.unwrap().unwrap(); true }
            reached = reached => { reached.unwrap(); false }
        };
        server.kill().await;
        let server = machine.boot().await;
        let answer = server.bootstrap().await.unwrap();
        let events = server.events();
        for kind in ["ClusterBootstrapped", "AuthorityDeclared", "AuthorityCertified", "NodeIdentityIssued"] {
            assert_eq!(kinds(&events).iter().filter(|found| **found == kind).count(), 1, "{kind} after {entries}");
        }
        assert!(!answer.administrator.certificate.is_empty());
        assert!(server.transactions().iter().all(|(.., refused)| !refused));
        if finished {
            break;
        }
        killed += 1;
    }
    assert!(killed >= 5, "killed at {killed} steps only");
}

#[tokio::test(start_paused = true)]
async fn a_token_admits_one_key_which_may_repeat() {
    let machine = Machine::new();
    let server = machine.boot().await;
    server.bootstrap().await.unwrap();
    let grant = TokenGrant::Agent { name: None, labels: Labels::new() };
    let token = server.control.create_token(admin(), grant, None).await.unwrap();
    let (key, other) = (p256(), p256());
    let join = |key: &certwright_custody::LeafKey| AgentJoin {
        token: token.id.clone(),
        secret: token.secret.clone(),
        agent: certwright_core::ids::AgentName::parse("web").unwrap(),
        labels: Labels::new(),
        csr: request(key, &[]),
    };
    let anonymous = || Call::by(Actor::Anonymous);
    let first = server.control.admit_agent(anonymous(), join(&key)).await.unwrap();
    assert_eq!(first.name, "agent/web");
    let events = server.events().len();
    assert_eq!(server.control.admit_agent(anonymous(), join(&key)).await.unwrap(), first, "the lost reply");
    assert_eq!(server.events().len(), events);
    let refused = server.control.admit_agent(anonymous(), join(&other)).await.unwrap_err();
    assert_eq!(refused.reason, Reason::TokenUsed);
    let mut wrong = join(&other);
    wrong.secret[0] ^= 1;
    assert_eq!(server.control.admit_agent(anonymous(), wrong).await.unwrap_err().reason, Reason::TokenUnknown);
}

/// A token's secret is not kept: whoever lost the answer learns which token to revoke.
#[tokio::test(start_paused = true)]
async fn a_repeated_request_for_a_token_names_the_first_and_makes_no_second() {
    let (server, _) = Machine::new().estate().await;
    let call = || Call { request_id: Some(RequestId([7; 16])), ..admin() };
    let tokens = || server.log.read(|view| view.state.tokens.len());
    let before = tokens();
    let first = server.control.create_token(call(), TokenGrant::Node, None).await.unwrap();
    let refused = server.control.create_token(call(), TokenGrant::Node, None).await.unwrap_err();
    assert_eq!(refused.reason, Reason::SecretShownOnce);
    assert_eq!(refused.object, Some(format!("tokens/{}", first.id)));
    assert_eq!(tokens(), before + 1);
    let other = server.control.create_token(call(), TokenGrant::Node, Some(Duration::from_secs(60))).await.unwrap_err();
    assert_eq!(other.reason, Reason::RequestIdReused);
}

#[tokio::test(start_paused = true)]
async fn an_identity_is_renewed_for_a_new_key_and_a_lost_reply_is_repeated() {
    let machine = Machine::new();
    let (server, web) = machine.estate().await;
    let key = p256();
    let first = server.control.renew_identity(agent("web", &web), request(&key, &[])).await.unwrap();
    // The answer was lost: the agent has but its old key, and asks for the same again. For another one it is too late.
    for under in [&web, &key] {
        let repeated = server.control.renew_identity(agent("web", under), request(&key, &[])).await.unwrap();
        assert_eq!(first, repeated);
    }
    let other = server.control.renew_identity(agent("web", &web), request(&p256(), &[])).await.unwrap_err();
    assert_eq!(other.reason, Reason::Unauthenticated);
    server.clock.set_skew_millis(12 * 3600 * 1000);
    let renewed = server.control.renew_identity(agent("web", &key), request(&key, &[])).await.unwrap();
    assert!(renewed.not_after > first.not_after);
    let next = p256();
    server.control.renew_identity(agent("web", &key), request(&next, &[])).await.unwrap();
    let gone = server.control.renew_identity(agent("web", &web), request(&next, &[])).await.unwrap_err();
    assert_eq!(gone.reason, Reason::Unauthenticated, "two renewals ago");
    let anonymous = server.control.renew_identity(Call::by(Actor::Anonymous), request(&key, &[])).await.unwrap_err();
    assert_eq!(anonymous.reason, Reason::PermissionDenied);
    let stranger = server.control.renew_identity(agent("nobody", &web), request(&key, &[])).await.unwrap_err();
    assert_eq!(stranger.reason, Reason::Unauthenticated);
}

#[tokio::test]
async fn two_servers_that_join_at_once_get_two_ids() {
    let machine = Machine::new();
    let server = machine.boot().await;
    server.bootstrap().await.unwrap();
    let join = |number: u8| {
        let control = server.control.clone();
        async move {
            let token = control.create_token(admin(), TokenGrant::Node, None).await.unwrap();
            let join = NodeJoin {
                token: token.id,
                secret: token.secret,
                name: NodeName::parse(&format!("server-{number}")).unwrap(),
                raft_address: format!("127.0.0.1:{number}1"),
                api_address: format!("127.0.0.1:{number}2"),
                http_address: format!("127.0.0.1:{number}3"),
                csr: request(&p256(), &[]),
                hpke_public: vec![9; 32],
                format: Format::NEWEST,
            };
            control.admit_node(Call::by(Actor::Anonymous), join).await.unwrap()
        }
    };
    let (second, third) = tokio::join!(join(2), join(3));
    let mut ids = [second.node_id, third.node_id];
    ids.sort_unstable();
    assert_eq!(ids, [2, 3]);
    let newest = [&second, &third].into_iter().map(|answer| answer.peers.len()).max();
    assert_eq!(newest, Some(3));
    assert_eq!(second.cluster_id, ClusterId([0xab; 16]));
    let serials: std::collections::BTreeSet<Arc<[u8]>> = [second.certificate, third.certificate].into();
    assert_eq!(serials.len(), 2);
}
