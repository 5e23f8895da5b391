//! `operator`: consensus, clocks, digests, backups, retention.
//!
//! It refuses to repair: it shows, and changes who leads, votes or belongs when told to.

mod backup;
pub mod clock;
mod drill;
mod raft;
mod restore;
mod retention;

use std::process::ExitCode;

use certwright_proto::v1;
use certwright_proto::v1::cluster_client::ClusterClient;
use serde_json::{Value, json};

use crate::args::{Format, Global, OperatorVerb, RaftVerb, RenewalsVerb};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{self, Table};

/// Runs the verb.
pub async fn run(global: &Global, verb: OperatorVerb) -> Result<ExitCode, Failure> {
    let client = || Client::new(global);
    match verb {
        OperatorVerb::Raft(RaftVerb::Peers) => peers(global, &client()?).await,
        OperatorVerb::Raft(RaftVerb::ForceNewCluster { from, yes_others_are_lost, server }) => {
            restore::force(global, &from, yes_others_are_lost, &server).await
        }
        OperatorVerb::Raft(verb) => raft::change(global, &client()?, verb).await,
        OperatorVerb::Digest => digest(global, &client()?).await,
        OperatorVerb::Backup(verb) => backup::run(global, verb).await,
        OperatorVerb::Restore(args) => restore::run(global, &args).await,
        OperatorVerb::RestoreDrill { file, key, scratch } => drill::run(global, &file, &key, scratch.as_deref()).await,
        OperatorVerb::Clock { verb } => clock::run(global, &client()?, verb).await,
        OperatorVerb::Renewals(RenewalsVerb::Release) => release(global, &client()?).await,
        OperatorVerb::Retention(verb) => retention::run(global, verb).await,
    }
}

/// A server as `operator raft peers -o json` prints it.
pub fn peer(node: &v1::Node) -> Value {
    json!({"name": node.name, "node_id": node.node_id, "role": node.role, "applied_index": node.applied_index, "term": node.term, "learner": node.learner,
        "format": node.format})
}

async fn peers(global: &Global, client: &Client) -> Result<ExitCode, Failure> {
    let cluster = crate::status::cluster(client).await?;
    match global.output {
        Format::Json | Format::Yaml => output::value(global.output, &cluster.nodes.iter().map(peer).collect())?,
        Format::Name => cluster.nodes.iter().try_for_each(|node| output::line(&node.name))?,
        Format::Table | Format::Wide | Format::Junit => {
            let mut table = Table::new(&["NAME", "NODE", "ROLE", "APPLIED", "TERM", "RAFT", "GRPC", "HTTP"]);
            for node in &cluster.nodes {
                let numbers = [
                    node.node_id.to_string(),
                    node.role.clone(),
                    node.applied_index.to_string(),
                    node.term.to_string(),
                ];
                let addresses = [&node.raft_address, &node.api_address, &node.http_address].map(String::clone);
                table.row(std::iter::once(node.name.clone()).chain(numbers).chain(addresses).collect());
            }
            output::line(&table.render())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn release(global: &Global, client: &Client) -> Result<ExitCode, Failure> {
    let request = v1::ReleaseRenewalsRequest { request_id: client.request_id() };
    let call = |channel, request| async move { ClusterClient::new(channel).release_renewals(request).await };
    let answer = client.call(request, call).await?;
    client.wrote(answer.token);
    match (global.output, answer.unchanged) {
        (Format::Json | Format::Yaml, unchanged) => output::value(global.output, &json!({"released": !unchanged}))?,
        (_, true) => output::line("renewals are not held back")?,
        (_, false) => output::line("renewals are begun as they are due")?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn digest(global: &Global, client: &Client) -> Result<ExitCode, Failure> {
    let call = |channel, request| async move { ClusterClient::new(channel).get_digests(request).await };
    let answer = client.call(v1::GetDigestsRequest {}, call).await?;
    match global.output {
        Format::Json | Format::Yaml => {
            output::value(global.output, &json!({"index": answer.index, "digests": answer.digests}))?;
        }
        _ => {
            let mut table = Table::new(&["SERVER", "INDEX", "DIGEST"]);
            for (name, digest) in &answer.digests {
                table.row(vec![name.clone(), answer.index.to_string(), digest.clone()]);
            }
            output::line(&table.render())?;
        }
    }
    for name in &answer.unreachable {
        output::note(&format!("{name} did not answer"));
    }
    let mut digests = answer.digests.values();
    let first = digests.next();
    if digests.all(|digest| Some(digest) == first) {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Failure::finding(
        format!("the servers' states differ at index {}", answer.index),
        "stop the server that differs from the majority, wipe its data and let it join again",
    ))
}
