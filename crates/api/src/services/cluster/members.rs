//! Changing the servers of the cluster: who leads, who votes, who leaves.
//!
//! It refuses a change after which too few of those who answer could agree on anything.

use std::collections::BTreeSet;
use std::sync::Arc;

use certwright_core::command::Command;
use certwright_core::ids::{Actor, NodeId};
use certwright_core::policy::{Action, Resource};
use certwright_core::{Reason, Rejection};
use certwright_issuance::order::Call;
use certwright_proto::v1;

use super::peers;
use crate::dispatch::Method;
use crate::doors::Doors;

/// Takes a server out; its id never recurs.
pub(crate) struct RemoveNode;

impl Method for RemoveNode {
    const PATH: &'static str = "/certwright.v1.Cluster/RemoveNode";
    type Request = v1::RemoveNodeRequest;
    type Response = v1::DeleteResponse;

    fn request_id(request: &Self::Request) -> &str {
        &request.request_id
    }

    fn right(_: &Actor) -> (Action, Resource) {
        (Action::Operate, Resource::Cluster)
    }

    async fn run(doors: &Arc<Doors>, call: Call, request: Self::Request) -> Result<Self::Response, Rejection> {
        let node_id = node_named(doors, &request.name)?;
        quorum_stays(doors, node_id).await?;
        let outcome = doors.control.execute(call, Command::RemoveNode { node_id }).await?;
        Ok(v1::DeleteResponse { token: Some(doors.token(outcome.position)) })
    }
}

/// Has another server lead.
pub(crate) struct TransferLeadership;

impl Method for TransferLeadership {
    const PATH: &'static str = "/certwright.v1.Cluster/TransferLeadership";
    type Request = v1::TransferLeadershipRequest;
    type Response = v1::TransferLeadershipResponse;

    fn right(_: &Actor) -> (Action, Resource) {
        (Action::Operate, Resource::Cluster)
    }

    async fn run(doors: &Arc<Doors>, call: Call, request: Self::Request) -> Result<Self::Response, Rejection> {
        let to = match &*request.name {
            "" => None,
            name => Some(node_named(doors, name)?),
        };
        let leader = doors.control.transfer(&call, to).await?;
        let record = |view: &certwright_raft::View<'_, certwright_core::State>| {
            view.state.cluster.nodes.get(&leader).map(|node| node.record.name.to_string())
        };
        Ok(v1::TransferLeadershipResponse {
            leader: doors.log.read(record).unwrap_or_default(),
            previous: doors.name.to_string(),
            term: doors.log.leadership().borrow().term,
        })
    }
}

/// Lets a server vote, or only learn.
pub(crate) struct SetNodeRole;

impl Method for SetNodeRole {
    const PATH: &'static str = "/certwright.v1.Cluster/SetNodeRole";
    type Request = v1::SetNodeRoleRequest;
    type Response = v1::SetNodeRoleResponse;

    fn request_id(request: &Self::Request) -> &str {
        &request.request_id
    }

    fn right(_: &Actor) -> (Action, Resource) {
        (Action::Operate, Resource::Cluster)
    }

    async fn run(doors: &Arc<Doors>, call: Call, request: Self::Request) -> Result<Self::Response, Rejection> {
        let learner = match &*request.role {
            "voter" => false,
            "learner" => true,
            other => {
                let message = format!("{other:?} is not one of voter, learner");
                return Err(Rejection::field(Reason::InvalidSpec, "role", message));
            }
        };
        let node_id = node_named(doors, &request.name)?;
        if learner {
            quorum_stays(doors, node_id).await?;
        }
        let outcome = doors.control.execute(call, Command::SetNodeRole { node_id, learner }).await?;
        Ok(v1::SetNodeRoleResponse { token: Some(doors.token(outcome.position)) })
    }
}

/// The server with that name, or the last one that had it: whoever repeats a removal names one that is gone.
fn node_named(doors: &Doors, name: &str) -> Result<NodeId, Rejection> {
    let found = doors.log.read(|view| {
        let nodes = view.state.cluster.nodes.values().filter(|node| node.record.name.as_str() == name);
        nodes.max_by_key(|node| (!node.removed, node.record.id)).map(|node| node.record.id)
    });
    found.ok_or_else(|| Rejection::new(Reason::NotFound, format!("there is no server {name:?}")))
}

/// Whether those who are left to vote could go on: a majority of them answers. Whose removal or demotion was accepted and
/// is yet to be done is not left.
async fn quorum_stays(doors: &Arc<Doors>, without: NodeId) -> Result<(), Rejection> {
    let mut voters: BTreeSet<NodeId> = doors.log.status().members.voters.iter().map(|voter| voter.node_id).collect();
    doors.log.read(|view| {
        let nodes = &view.state.cluster.nodes;
        voters.retain(|id| nodes.get(id).is_none_or(|node| !node.removed && !node.learner));
    });
    let left: Vec<NodeId> = voters.iter().copied().filter(|id| *id != without).collect();
    if left.len() == voters.len() || left.is_empty() {
        return Ok(());
    }
    let mut answering = 0;
    // An answer that is late once is no reason to refuse an operator.
    for _ in 0..2 {
        answering = peers::ask_all(doors, left.iter().copied()).await.len();
        if 2 * answering > left.len() {
            return Ok(());
        }
    }
    let message = format!("of the {} servers left to vote {answering} answer", left.len());
    Err(Rejection::new(Reason::QuorumAtRisk, message))
}
