//! What the leader makes of commands that other servers forward.
//!
//! It refuses a server of its own making: one is founded and led as everywhere.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use bytes::Bytes;
use certwright_core::ids::{Actor, AdministratorName, AgentName};
use certwright_issuance::order::Call;

use super::*;
use crate::bootstrap::bootstrap;
use crate::dispatch::{Method, PATHS, run_encoded};
use crate::services::cluster::ReadIndex;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_asks_for_rights_whatever_server_asked_before() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let folder = tempfile::tempdir().unwrap();
    let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().ok();
    let listen = Listen { api: free(), raft: free(), http: free() };
    let config = NodeConfig { listen, ..NodeConfig::new(folder.path().to_path_buf()) };
    let seams = Seams::system();
    bootstrap(&config, seams.clone(), |_| Ok(())).await.unwrap();
    let node = Node::start(config, seams).await.unwrap();
    node.ready().await;

    let forwarded = async |path: &str, actor: Actor| {
        let call = Call { actor, key: None, request_id: None, trace: Default::default(), validate_only: false };
        run_encoded(&node.doors, path, call, Bytes::new()).await.map(drop).map_err(|rejection| rejection.reason)
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
