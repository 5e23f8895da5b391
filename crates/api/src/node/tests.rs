//! What the leader makes of commands that other servers forward.
//!
//! It refuses a server of its own making: one is founded and led as everywhere.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use bytes::Bytes;
use certwright_core::ids::{Actor, AdministratorName, AgentName};
use certwright_issuance::order::Call;
use certwright_proto::internal::v1::ForwardRequest;
use certwright_proto::internal::v1::forward_server::Forward;
use certwright_raft::PeerNode;
use tempfile::TempDir;

use super::*;
use crate::bootstrap::bootstrap;
use crate::dispatch::{Method, PATHS, run_encoded};
use crate::forward::ForwardService;
use crate::services::cluster::{ReadIndex, RequestDigest};

/// The only server of a cluster, and its data.
async fn leader() -> (TempDir, Node) {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let folder = tempfile::tempdir().unwrap();
    let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().ok();
    let listen = Listen { api: free(), raft: free(), http: free() };
    let config = NodeConfig { listen, ..NodeConfig::new(folder.path().to_path_buf()) };
    let seams = Seams::system();
    bootstrap(&config, seams.clone(), |_| Ok(())).await.unwrap();
    let node = Node::start(config, seams).await.unwrap();
    node.ready().await;
    (folder, node)
}

fn call(actor: Actor) -> Call {
    Call { actor, key: None, request_id: None, trace: Default::default(), validate_only: false }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_looks_no_earlier_than_the_server_that_asks() {
    let (_folder, node) = leader().await;
    let service = ForwardService::new(node.doors.clone());
    let administrator = Actor::Administrator(AdministratorName::parse("admin").unwrap());
    let append = async || {
        run_encoded(&node.doors, RequestDigest::PATH, call(administrator.clone()), Bytes::new()).await.map(drop)
    };
    while append().await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let asks_from = node.doors.log.applied().borrow().index + 3;
    let request = ForwardRequest {
        actor: administrator.to_string(),
        method: ReadIndex::PATH.to_owned(),
        applied_index: asks_from,
        ..ForwardRequest::default()
    };
    let mut request = tonic::Request::new(request);
    request.extensions_mut().insert(PeerNode(1));
    // On its way here that server has applied what this one is yet to apply.
    let goes_on = async {
        for _ in 0..3 {
            append().await.unwrap();
        }
    };
    let (answer, ()) = tokio::join!(service.execute(request), goes_on);
    let answer = answer.unwrap().into_inner();
    assert!(answer.status.is_empty() && answer.applied_index >= asks_from, "{answer:?}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_asks_for_rights_whatever_server_asked_before() {
    let (_folder, node) = leader().await;
    let forwarded = async |path: &str, actor: Actor| {
        let answer = run_encoded(&node.doors, path, call(actor), Bytes::new()).await;
        answer.map(drop).map_err(|rejection| rejection.reason)
    };
    for path in PATHS {
        assert!(forwarded(path, Actor::Anonymous).await.is_err(), "{path} is done for anybody");
    }
    let agent = Actor::Agent(AgentName::parse("edge").unwrap());
    let administrator = Actor::Administrator(AdministratorName::parse("admin").unwrap());
    for (actor, answer) in [
        (Actor::Anonymous, Err(Reason::Unauthenticated)),
        (Actor::Node(1), Err(Reason::PermissionDenied)),
        (agent, Ok(())),
        (administrator, Ok(())),
    ] {
        assert_eq!(forwarded(ReadIndex::PATH, actor.clone()).await, answer, "{actor}");
    }
    node.stop().await;
}
