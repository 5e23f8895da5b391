//! Server and agent in this process: the embedded default.
//!
//! It refuses ports that others use: it takes free ones.

use std::path::{Path, PathBuf};

use certwright_agent::{Agent, AgentOptions};
use certwright_api::node::{Listen, NodeConfig};
use certwright_api::{Node, bootstrap};
use certwright_seams::Seams;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::demo::Demo;
use super::fleet;
use super::processes::{self, Process, Processes};
use crate::failure::Failure;
use crate::output::note;
use crate::signals::until_signal;

/// A running server and, later, an agent.
pub(super) struct Local {
    node: Option<Node>,
    agent: Option<JoinHandle<()>>,
    shutdown: CancellationToken,
    directory: PathBuf,
    processes: Processes,
}

impl Local {
    /// Bootstraps (or finds) the cluster in `D/data` and serves it.
    pub(super) async fn start(directory: &Path, seams: Seams) -> Result<Self, Failure> {
        let mut config = NodeConfig::new(directory.join("data"));
        // A laptop that slept is no estate whose clocks are wrong.
        config.renewals_percent = 100;
        let fresh = !seams.disk.exists(&config.data.join("node.json")).unwrap_or(false);
        if fresh {
            let [api, raft, http] = fleet::free_ports(&seams).await?;
            config.listen = Listen { api: Some(api), raft: Some(raft), http: Some(http) };
        }
        let context = directory.join("context");
        bootstrap(&config, seams.clone(), |administrator| crate::server::keep(administrator, &*seams.disk, &context))
            .await?;
        let node = Node::start(config, seams.clone()).await?;
        node.ready().await;
        let addresses = node.addresses();
        note(&format!("server-1 serves: grpc {} http {}", addresses.api, addresses.http));
        let mut processes = Processes::default();
        let mut process = Process::running(std::process::id(), "server", directory.join("data"), &*seams.disk);
        process.grpc = Some(addresses.api.to_string());
        process.http = Some(addresses.http.to_string());
        process.raft = Some(addresses.raft.to_string());
        processes.insert("server-1".to_string(), process);
        processes::write(directory, &processes, &*seams.disk)?;
        let shutdown = CancellationToken::new();
        Ok(Self { node: Some(node), agent: None, shutdown, directory: directory.to_path_buf(), processes })
    }

    /// Joins and runs agent-1.
    pub(super) async fn start_agent(&mut self, demo: &Demo) -> Result<(), Failure> {
        let context = demo.join("agent-1").await?;
        let state = self.directory.join("agent-1");
        let options = AgentOptions::new(context, state.clone(), Default::default());
        let agent =
            Agent::new(options, demo.seams().clone()).await.map_err(|error| Failure::internal(error.to_string()))?;
        let shutdown = self.shutdown.clone();
        self.agent = Some(tokio::spawn(async move {
            if let Err(error) = agent.run(shutdown).await {
                tracing::error!(%error, "the agent ended");
            }
        }));
        let process = Process::running(std::process::id(), "agent", state, &*demo.seams().disk);
        self.processes.insert("agent-1".to_string(), process);
        processes::write(&self.directory, &self.processes, &*demo.seams().disk)
    }

    /// Waits for a signal, or for the server to end by itself.
    pub(super) async fn until_signal(&mut self) {
        let Some(node) = self.node.as_mut() else { return };
        tokio::select! {
            biased;
            () = until_signal() => {}
            ended = node.ended() => note(&format!("{ended} ended by itself")),
        }
    }

    /// Stops agent and server in good order.
    pub(super) async fn stop(mut self) {
        self.shutdown.cancel();
        if let Some(agent) = self.agent.take() {
            let _ = agent.await;
        }
        if let Some(node) = self.node.take() {
            node.stop().await;
        }
    }
}
