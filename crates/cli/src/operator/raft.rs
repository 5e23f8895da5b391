//! `operator raft`: who leads, who votes, who belongs.
//!
//! It refuses to wait for what was not asked to be waited for: the leader brings a change about in its own time.

use std::process::ExitCode;

use certwright_core::Reason;
use certwright_proto::v1;
use certwright_proto::v1::cluster_client::ClusterClient;
use serde_json::{Value, json};

use crate::args::{Format, Global, RaftVerb};
use crate::client::Client;
use crate::failure::Failure;
use crate::output;

/// Changes something, and says so.
pub(super) async fn change(global: &Global, client: &Client, verb: RaftVerb) -> Result<ExitCode, Failure> {
    let (text, value) = match verb {
        RaftVerb::Peers | RaftVerb::ForceNewCluster { .. } => return super::peers(global, client).await,
        RaftVerb::Remove { name, wait } => remove(client, name, wait).await?,
        RaftVerb::Transfer { to } => transfer(client, to).await?,
        RaftVerb::Promote { name, wait } => set_role(client, name, "voter", wait).await?,
        RaftVerb::Demote { name, wait } => set_role(client, name, "learner", wait).await?,
    };
    match global.output {
        Format::Json | Format::Yaml => output::value(global.output, &value)?,
        _ => output::line(&text)?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn remove(client: &Client, name: String, wait: bool) -> Result<(String, Value), Failure> {
    let known = match wait {
        true => {
            let cluster = crate::status::cluster(client).await?;
            let missing = || {
                let text = format!("server/{name} is not known to {}", cluster.answered_by);
                Failure::new(Reason::NotFound, text, "see `certwright operator raft peers`")
            };
            Some(named(&cluster, &name).ok_or_else(missing)?.node_id)
        }
        false => None,
    };
    let request = v1::RemoveNodeRequest { name: name.clone(), request_id: client.request_id() };
    let call = |channel, request| async move { ClusterClient::new(channel).remove_node(request).await };
    let answer = client.call(request, call).await?;
    client.wrote(answer.token);
    if let Some(node_id) = known {
        until_refused(client, &name, node_id).await?;
    }
    Ok((format!("server/{name} removed"), json!({"name": name, "removed": true, "done": wait})))
}

/// Looks until every server that is left has put the change of membership into effect, and says who has not.
async fn until_refused(client: &Client, name: &str, node_id: u64) -> Result<(), Failure> {
    let mut said = String::new();
    let look = async || {
        let behind = knowing(&crate::status::cluster(client).await?, name, node_id);
        if behind.is_empty() {
            return Ok(Ok(()));
        }
        let text = format!("server/{name} is still a member for {}", behind.join(", "));
        if said != text {
            output::note(&text);
            said.clone_from(&text);
        }
        Ok(Err(text))
    };
    client.wait_for(look).await
}

/// The servers that are left and take it for a member still, or do not say.
fn knowing(cluster: &v1::GetClusterResponse, name: &str, node_id: u64) -> Vec<String> {
    let left = cluster.nodes.iter().filter(|node| node.node_id != node_id && node.role != "removed");
    let behind = left.filter(|node| node.members.is_empty() || node.members.contains(&node_id));
    let mut behind: Vec<String> = behind.map(|node| node.name.clone()).collect();
    if named(cluster, name).is_some_and(|node| node.node_id == node_id) {
        behind.push(format!("{}, which answered", cluster.answered_by));
    }
    behind
}

async fn transfer(client: &Client, to: Option<String>) -> Result<(String, Value), Failure> {
    let request = v1::TransferLeadershipRequest { name: to.unwrap_or_default() };
    let call = |channel, request| async move { ClusterClient::new(channel).transfer_leadership(request).await };
    let v1::TransferLeadershipResponse { leader, previous, term } = client.call(request, call).await?;
    let text = format!("server/{leader} leads in term {term}; server/{previous} led before");
    Ok((text, json!({"leader": leader, "previous": previous, "term": term})))
}

async fn set_role(client: &Client, name: String, role: &str, wait: bool) -> Result<(String, Value), Failure> {
    let (name_sent, role_sent) = (name.clone(), role.to_owned());
    let request = v1::SetNodeRoleRequest { name: name_sent, role: role_sent, request_id: client.request_id() };
    let call = |channel, request| async move { ClusterClient::new(channel).set_node_role(request).await };
    let answer = client.call(request, call).await?;
    client.wrote(answer.token);
    if wait {
        let is_so = |node: &v1::Node| match role {
            "learner" => node.role == "learner",
            _ => ["leader", "follower", "candidate"].contains(&&*node.role),
        };
        let arrived = |cluster: &v1::GetClusterResponse| named(cluster, &name).is_some_and(is_so);
        until(client, &format!("server/{name} is no {role} yet"), arrived).await?;
    }
    let text = if wait { format!("server/{name} is a {role}") } else { format!("server/{name} becomes a {role}") };
    Ok((text, json!({"name": name, "role": role, "done": wait})))
}

fn named<'a>(cluster: &'a v1::GetClusterResponse, name: &str) -> Option<&'a v1::Node> {
    cluster.nodes.iter().find(|node| node.name == name && node.role != "removed")
}

/// Looks until it is so; `WAIT_TIMED_OUT` with what is so still.
async fn until(client: &Client, still: &str, so: impl Fn(&v1::GetClusterResponse) -> bool) -> Result<(), Failure> {
    let look = async || {
        let cluster = crate::status::cluster(client).await?;
        Ok(if so(&cluster) { Ok(()) } else { Err(still.to_owned()) })
    };
    client.wait_for(look).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_say_may_take_the_removed_one_for_a_member() {
        let node = |node_id: u64, members: &[u64]| v1::Node {
            name: format!("server-{node_id}"),
            node_id,
            role: "follower".to_string(),
            members: members.to_vec(),
            ..v1::Node::default()
        };
        let of = |nodes| v1::GetClusterResponse { nodes, answered_by: "server-1".into(), ..Default::default() };
        let cluster = of(vec![node(1, &[1, 2]), node(2, &[1, 2, 3]), node(4, &[])]);
        assert_eq!(knowing(&cluster, "server-3", 3), ["server-2", "server-4"]);
        let cluster = of(vec![node(1, &[1, 2]), node(2, &[1, 2])]);
        assert_eq!(knowing(&cluster, "server-3", 3), [""; 0]);
        // The answering server has not folded the removal yet; what the removed one says itself counts for nothing.
        let cluster = of(vec![node(1, &[1, 3]), node(3, &[1, 3])]);
        assert_eq!(knowing(&cluster, "server-3", 3), ["server-1", "server-1, which answered"]);
        assert_eq!(knowing(&of(vec![node(1, &[1]), node(3, &[1, 3])]), "server-3", 3), ["server-1, which answered"]);
    }
}
