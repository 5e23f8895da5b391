//! Takes a newer format of the log into use, once every server of the cluster has said that it knows it.
//!
//! It refuses to guess: whoever does not answer, or says nothing of formats, holds it up until it does or is taken out.

use std::sync::Arc;
use std::time::Duration;

use certwright_core::Format;
use certwright_core::command::Command;
use certwright_core::ids::{NodeId, NodeName};
use certwright_core::log::Trace;
use futures_util::future::join_all;

use crate::peer;
use crate::session::{Session, Tools};

/// Between rounds of asking, as long as somebody does not know the newest format.
const ASK_EVERY: Duration = Duration::from_secs(2);
/// How long one server may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// Runs until the term is over, or there is nothing newer to take into use.
pub(crate) async fn run(session: Arc<Session>) {
    let log = &session.tools.log;
    let mut applied = log.applied();
    let mut told = None;
    loop {
        let (is_cluster, in_use) = log.read(|view| (view.state.cluster.id.is_some(), view.state.cluster.format));
        if in_use >= Format::NEWEST {
            return;
        }
        if !is_cluster {
            if applied.changed().await.is_err() {
                return;
            }
            continue;
        }
        let known = ask_all(&session.tools).await;
        let Some((format, by)) = known.iter().map(|said| (said.format, &said.name)).min() else { continue };
        if format > in_use && !is_leaving(&session.tools) {
            raise(&session, format, known.iter().map(|said| said.node_id).collect()).await;
        } else if told.replace(by.clone()).as_ref() != Some(by) {
            tracing::info!(server = %by, knows = %format, "the log stays in format {in_use} until every server knows a newer one");
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// Whether a server still votes that was removed: it need not know what it would have to acknowledge.
fn is_leaving(tools: &Tools) -> bool {
    let voters = tools.log.status().members.voters;
    tools.log.read(|view| {
        let removed = |id: &NodeId| view.state.cluster.nodes.get(id).is_some_and(|node| node.removed);
        voters.iter().any(|voter| removed(&voter.node_id))
    })
}

async fn raise(session: &Session, format: Format, known_by: Vec<NodeId>) {
    match session.act(Trace::default(), Command::RaiseFormat { format, known_by }).await {
        Ok(_) => tracing::info!(%format, "every server knows this format of the log: it is in use from now on"),
        Err(rejection) => tracing::info!(%format, "this format of the log is not in use yet: {rejection}"),
    }
}

/// What a server knows.
struct Said {
    node_id: NodeId,
    name: NodeName,
    format: Format,
}

/// All that were not removed, members or about to be.
async fn ask_all(tools: &Tools) -> Vec<Said> {
    let servers: Vec<(NodeId, NodeName)> = tools.log.read(|view| {
        let stay = view.state.cluster.nodes.values().filter(|node| !node.removed);
        stay.map(|node| (node.record.id, node.record.name.clone())).collect()
    });
    join_all(servers.into_iter().map(|(node_id, name)| async move {
        let format = match node_id == tools.node_id {
            true => Format::NEWEST,
            false => Format::told(peer::status_of(&tools.log, node_id, ANSWER_TIMEOUT).await.map_or(0, |it| it.format)),
        };
        Said { node_id, name, format }
    }))
    .await
}
