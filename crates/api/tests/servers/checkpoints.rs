//! Checkpoints of the log between real servers and a real agent: a server set back to an older copy of its data is found
//! out, although it is in itself whole.
//!
//! It refuses to forge anything: what is set back is a copy that an administrator might have made.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use certwright_agent::{Agent, AgentOptions, Context};
use certwright_core::checkpoint::Checkpoint as Signed;
use certwright_core::spec::Labels;
use certwright_core::time::Timestamp;
use certwright_proto::agent::v1::Checkpoint;
use certwright_seams::disk::OsDisk;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::{Cluster, PATIENCE, demo, get, issue, order, until};

/// An agent in this process, on files below a folder.
struct Running {
    shutdown: CancellationToken,
    task: JoinHandle<()>,
    welcomed: tokio::sync::watch::Receiver<Option<String>>,
}

impl Running {
    async fn start(folder: &Path) -> Self {
        let options = AgentOptions::new(folder.join("context"), folder.join("state"), Labels::new());
        let agent = Agent::new(options, certwright_seams::Seams::system()).await.unwrap();
        let (shutdown, welcomed) = (CancellationToken::new(), agent.ready());
        let stop = shutdown.clone();
        let task = tokio::spawn(async move { agent.run(stop).await.unwrap() });
        Self { shutdown, task, welcomed }
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap();
    }
}

/// What the agent keeps.
fn kept(folder: &Path) -> Option<Checkpoint> {
    let octets = std::fs::read(folder.join("state/checkpoint")).ok()?;
    Some(prost::Message::decode(&octets[..]).unwrap())
}

/// Waits until the agent keeps a checkpoint that covers more than that.
async fn keeps(folder: &Path, beyond: u64) -> Checkpoint {
    until("a checkpoint", PATIENCE, async || kept(folder).filter(|it| it.index > beyond)).await
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(copied.success());
}

/// Starts an agent until it keeps a checkpoint beyond that: a session is told one at its beginning.
async fn witness(folder: &Path, beyond: u64) -> Checkpoint {
    loop {
        let agent = Running::start(folder).await;
        let found = tokio::time::timeout(Duration::from_secs(2), keeps(folder, beyond)).await;
        agent.stop().await;
        if let Ok(found) = found {
            return found;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_set_back_to_an_older_copy_is_found_out() {
    let mut cluster = Cluster::found().await;
    demo(cluster.channel(1)).await;
    let folder = tempfile::tempdir().unwrap();
    let context: Context = cluster.agent(1, "edge").await;
    context.save(&OsDisk, &folder.path().join("context")).unwrap();
    let first = witness(folder.path(), 0).await;
    let message = Signed {
        cluster_id: context.cluster_id,
        epoch: first.epoch,
        index: first.index,
        chain: first.chain[..].try_into().unwrap(),
        at: Timestamp::from_millis(first.at_millis),
    };
    let (key, signature) = (first.public_key[..].try_into().unwrap(), first.signature[..].try_into().unwrap());
    assert!(message.is_signed(&key, &signature));

    // A copy of the data, and then the log goes on.
    let (data, old) = (cluster.folder.path().join("server-1"), cluster.folder.path().join("old"));
    cluster.halt(1).await;
    copy(&data, &old);
    cluster.restart(1).await;
    issue(cluster.channel(1), order("10000000-0000-4000-8000-000000000001")).await;
    let second = witness(folder.path(), first.index + 2).await;
    assert!(second.index > first.index && second.public_key == first.public_key);

    // The copy takes its place, and its log grows past what the agent has seen: every file of it is whole.
    cluster.halt(1).await;
    std::fs::remove_dir_all(&data).unwrap();
    copy(&old, &data);
    cluster.restart(1).await;
    for number in 0..20 {
        issue(cluster.channel(1), order(&format!("20000000-0000-4000-8000-0000000000{number:02}"))).await;
    }
    let agent = Running::start(folder.path()).await;
    let http = cluster.node(1).addresses().http;
    let counted = async || {
        let metrics = get(http, "/metrics").await;
        let line = metrics.lines().find(|line| line.starts_with("certwright_agent_checkpoints_refused_total"))?;
        line.rsplit(' ').next()?.parse::<f64>().ok().filter(|count| *count >= 2.0)
    };
    until("two refusals", PATIENCE, counted).await;
    assert_eq!((agent.welcomed.borrow().clone(), kept(folder.path())), (None, Some(second)));
    let seen = crate::support::cluster(cluster.channel(1)).await.unwrap();
    let told = &seen.nodes[0].refused_logs[0];
    assert!(told.server == "server-1" && told.times >= 2 && told.cause.contains("another one"), "{told:?}");
    agent.stop().await;
    cluster.stop().await;
}
