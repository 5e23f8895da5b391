//! A server founded in an empty directory, and its administrator's context.
//!
//! It refuses shortcuts: what is done to the server goes through its ports.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use certwright_agent::Context;
use certwright_api::bootstrap::{Administrator, bootstrap};
use certwright_api::node::{Listen, Node, NodeConfig};
use certwright_core::ids::Actor;
use certwright_core::spec::KeyEncoding;
use certwright_seams::Seams;

pub fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

pub fn config(data: &Path) -> NodeConfig {
    let listen = Listen { api: Some(free()), raft: Some(free()), http: Some(free()) };
    NodeConfig { listen, strict: true, ..NodeConfig::new(data.to_path_buf()) }
}

pub fn context_of(administrator: &Administrator) -> Context {
    Context {
        cluster_id: administrator.cluster_id,
        actor: Actor::parse(&administrator.name).unwrap(),
        servers: vec![administrator.server.clone()],
        ca_pem: administrator.ca_pem.clone(),
        certificate_pem: administrator.certificate_pem.clone(),
        key_pem: administrator.key.to_pem(KeyEncoding::Pkcs8).unwrap(),
    }
}

/// The first server of a cluster of its own, serving.
pub async fn found(config: NodeConfig, seams: &Seams) -> (Node, Context) {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut context = None;
    let keep = |it: &Administrator| {
        context = Some(context_of(it));
        Ok(())
    };
    bootstrap(&config, seams.clone(), keep).await.unwrap();
    let node = Node::start(config, seams.clone()).await.unwrap();
    node.ready().await;
    (node, context.unwrap())
}
