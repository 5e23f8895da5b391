//! `status`: is the cluster well, and what is due.
//!
//! It refuses to call a cluster healthy that could not lose another server as it was built to.

use std::process::ExitCode;

use certwright_core::Reason;
use certwright_core::limits::REBASE_MIN;
use certwright_proto::v1;
use certwright_proto::v1::cluster_client::ClusterClient;
use serde_json::json;

use crate::args::{Format, Global, StatusArgs};
use crate::client::Client;
use crate::failure::Failure;
use crate::operator::clock;
use crate::output::{self, Table};

/// Asks a server about the cluster.
pub async fn cluster(client: &Client) -> Result<v1::GetClusterResponse, Failure> {
    let request = v1::GetClusterRequest { min_token: client.min_token(), linearizable: false };
    client.call(request, |channel, request| async move { ClusterClient::new(channel).get_cluster(request).await }).await
}

/// How well a cluster is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Health {
    /// One server leads, every other one answers, and each could lead in its place.
    Healthy,
    /// It serves, and the next loss may be one too many.
    Degraded,
    /// Nobody leads: reads are answered, writes and renewals wait.
    Unavailable,
}

impl Health {
    const fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unavailable => "unavailable",
        }
    }
}

/// Servers that were not taken out.
fn members(cluster: &v1::GetClusterResponse) -> impl Iterator<Item = &v1::Node> {
    cluster.nodes.iter().filter(|node| node.role != "removed")
}

/// How well it is, and what is not as it should be, a sentence each.
fn health(cluster: &v1::GetClusterResponse) -> (Health, Vec<String>) {
    let mut findings = Vec::new();
    for node in members(cluster) {
        match node.role.as_str() {
            "unreachable" => findings.push(format!("{} does not answer", node.name)),
            // A learner has to catch up before it proves that it can.
            "learner" => {}
            _ if !node.unsealed => {
                findings.push(format!("{} cannot open the data key and could not sign as leader", node.name));
            }
            _ => {}
        }
    }
    if cluster.renewal_hold.is_some() {
        findings.push("renewals are held back because log time jumped or was set back".to_string());
    }
    if let Some(ahead) = clock::ahead(cluster).filter(|ahead| *ahead > REBASE_MIN) {
        findings.push(format!("log time is {} ahead of {}'s clock", clock::seconds(ahead), cluster.answered_by));
    }
    match (cluster.leader.is_empty(), findings.is_empty()) {
        (true, _) => {
            findings.insert(0, "no server leads".to_string());
            (Health::Unavailable, findings)
        }
        (false, true) => (Health::Healthy, findings),
        (false, false) => (Health::Degraded, findings),
    }
}

/// Runs the verb.
pub async fn run(global: &Global, _: StatusArgs) -> Result<ExitCode, Failure> {
    let client = Client::new(global)?;
    let cluster = cluster(&client).await?;
    let (health, findings) = health(&cluster);
    match global.output {
        Format::Json | Format::Yaml => {
            let nodes: Vec<_> = members(&cluster).map(crate::operator::peer).collect();
            let value = json!({
                "clusterId": cluster.cluster_id, "epoch": cluster.epoch, "leader": cluster.leader, "term": cluster.term,
                "answeredBy": cluster.answered_by, "format": cluster.format, "certificates": cluster.certificates, "agents": cluster.agents,
                "due": cluster.due, "openIssuances": cluster.open_issuances, "nodes": nodes,
                "well": health == Health::Healthy, "health": health.name(), "findings": findings,
            });
            output::value(global.output, &value)?;
        }
        Format::Name => members(&cluster).try_for_each(|node| output::line(&format!("server/{}", node.name)))?,
        Format::Table | Format::Wide | Format::Junit => output::line(&page(&cluster, health))?,
    }
    let reason = match health {
        Health::Healthy => return Ok(ExitCode::SUCCESS),
        Health::Degraded => Reason::ClusterDegraded,
        Health::Unavailable => Reason::NoLeader,
    };
    let away = members(&cluster).filter(|node| node.role == "unreachable").count();
    let all = members(&cluster).count();
    let message = format!("{}: {}; {} of {all} servers answer", health.name(), findings.join(", "), all - away);
    Err(Failure::new(reason, message, Reason::ClusterDegraded.fix()))
}

/// What people see.
fn page(cluster: &v1::GetClusterResponse, health: Health) -> String {
    let mut table = Table::new(&["SERVER", "ROLE", "APPLIED", "TERM", "UNSEALED", "FORMAT", "GRPC"]);
    for node in members(cluster) {
        let numbers = [node.applied_index.to_string(), node.term.to_string(), node.unsealed.to_string()];
        // Builds of before there was a second format say none.
        let format = if node.role == "unreachable" { "-".to_string() } else { node.format.max(1).to_string() };
        let names = [node.name.clone(), node.role.clone()];
        table.row(names.into_iter().chain(numbers).chain([format, node.api_address.clone()]).collect());
    }
    format!(
        "cluster {} epoch {}, format {}, answered by {}: {}\n{} certificates, {} agents, {} due, {} issuances open\n\n{}",
        cluster.cluster_id,
        cluster.epoch,
        cluster.format.max(1),
        cluster.answered_by,
        health.name(),
        cluster.certificates,
        cluster.agents,
        cluster.due,
        cluster.open_issuances,
        table.render()
    )
}

#[cfg(test)]
mod tests {
    use certwright_proto::v1;

    use super::{Health, health};

    fn cluster(leader: &str, roles: &[(&str, bool)]) -> v1::GetClusterResponse {
        let node = |(number, (role, unsealed)): (usize, &(&str, bool))| v1::Node {
            name: format!("server-{}", number + 1),
            role: role.to_string(),
            unsealed: *unsealed,
            ..v1::Node::default()
        };
        let nodes = roles.iter().enumerate().map(node).collect();
        v1::GetClusterResponse { leader: leader.to_string(), nodes, ..v1::GetClusterResponse::default() }
    }

    #[test]
    fn a_cluster_is_as_well_as_its_servers() {
        let (leads, follows, away) = (("leader", true), ("follower", true), ("unreachable", false));
        let (sealed, learns, removed) = (("follower", false), ("learner", false), ("removed", false));
        let cannot_open = "server-2 cannot open the data key and could not sign as leader";
        let cases = [
            ("server-1", vec![leads, follows, follows], Health::Healthy, vec![]),
            ("server-1", vec![leads, follows, removed], Health::Healthy, vec![]),
            ("server-1", vec![leads, learns], Health::Healthy, vec![]),
            ("server-1", vec![leads, follows, away], Health::Degraded, vec!["server-3 does not answer"]),
            ("server-1", vec![leads, sealed], Health::Degraded, vec![cannot_open]),
            ("", vec![follows, away], Health::Unavailable, vec!["no server leads", "server-2 does not answer"]),
        ];
        for (leader, roles, expected, told) in cases {
            let (found, findings) = health(&cluster(leader, &roles));
            assert_eq!(found, expected, "{roles:?}");
            assert_eq!(findings, told, "{roles:?}");
        }
    }
}
