//! `status`: is the cluster well, and what is due.
//!
//! It refuses to be well when a majority is not.

use std::process::ExitCode;

use certwright_proto::v1;
use certwright_proto::v1::cluster_client::ClusterClient;
use serde_json::json;

use crate::args::{Format, Global, StatusArgs};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{self, Table};

/// Asks a server about the cluster.
pub async fn cluster(client: &Client) -> Result<v1::GetClusterResponse, Failure> {
    let request = v1::GetClusterRequest { min_token: client.min_token(), linearizable: false };
    client.call(request, |channel, request| async move { ClusterClient::new(channel).get_cluster(request).await }).await
}

/// Runs the verb.
pub async fn run(global: &Global, _: StatusArgs) -> Result<ExitCode, Failure> {
    let client = Client::new(global)?;
    let cluster = cluster(&client).await?;
    let members: Vec<&v1::Node> = cluster.nodes.iter().filter(|node| node.role != "removed").collect();
    let reachable = members.iter().filter(|node| node.role != "unreachable").count();
    let well = !cluster.leader.is_empty() && reachable == members.len();
    match global.output {
        Format::Json | Format::Yaml => {
            let nodes: Vec<_> = members.iter().map(|node| crate::operator::peer(node)).collect();
            let value = json!({
                "clusterId": cluster.cluster_id, "epoch": cluster.epoch, "leader": cluster.leader, "term": cluster.term,
                "answeredBy": cluster.answered_by, "certificates": cluster.certificates, "agents": cluster.agents,
                "due": cluster.due, "openIssuances": cluster.open_issuances, "nodes": nodes, "well": well,
            });
            output::value(global.output, &value)?;
        }
        _ => {
            output::line(&format!(
                "cluster {} epoch {}, answered by {}",
                cluster.cluster_id, cluster.epoch, cluster.answered_by
            ))?;
            output::line(&format!(
                "{} certificates, {} agents, {} due, {} issuances open\n",
                cluster.certificates, cluster.agents, cluster.due, cluster.open_issuances
            ))?;
            let mut table = Table::new(&["SERVER", "ROLE", "APPLIED", "TERM", "UNSEALED", "GRPC"]);
            for node in members {
                table.row(vec![
                    node.name.clone(),
                    node.role.clone(),
                    node.applied_index.to_string(),
                    node.term.to_string(),
                    node.unsealed.to_string(),
                    node.api_address.clone(),
                ]);
            }
            output::line(&table.render())?;
        }
    }
    if well {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Failure::finding(
        "not every server is reachable under one leader",
        "start the servers that are away; `certwright operator raft peers` names them",
    ))
}
