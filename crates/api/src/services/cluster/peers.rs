//! What the servers say of themselves, asked all at once.
//!
//! It refuses to wait for one that is gone: each has a moment, then it is unreachable.

use std::collections::BTreeMap;
use std::sync::Arc;

use certwright_core::ids::NodeId;
use certwright_core::state::Node;
use certwright_core::time::Timestamp;
use certwright_core::{Reason, Rejection};
use certwright_proto::api::values::moment_to_message;
use certwright_proto::internal::v1::peer_client::PeerClient;
use certwright_proto::internal::v1::{StatusRequest, StatusResponse};
use certwright_proto::v1;
use certwright_raft::Role;
use futures_util::future::join_all;

use crate::doors::{Doors, read_failed};
use crate::limits::{DIGEST_WAIT, PEER_STATUS_TIMEOUT, RETRY_DELAY};

/// The cluster as this server sees it, with what the others say of themselves.
pub(super) async fn describe(doors: &Arc<Doors>) -> v1::GetClusterResponse {
    let nodes = members(doors);
    let said = ask_all(doors, nodes.iter().map(|node| node.record.id)).await;
    let status = doors.log.status();
    let leader = status.leader.and_then(|id| nodes.iter().find(|node| node.record.id == id));
    let (position, certificates, agents, due, open) = doors.log.read(|view| {
        let now = view.at.max(Timestamp::from_millis(doors.seams.clock.wall_millis()));
        let open = view.state.certificates.iter().flat_map(|it| &it.instances).filter(|it| it.open.is_some()).count();
        let due = view.state.due(now, usize::MAX).len();
        (view.position, view.state.certificates.len(), view.state.agents.len(), due, open)
    });
    v1::GetClusterResponse {
        cluster_id: doors.cluster.to_string(),
        epoch: doors.epoch,
        nodes: nodes.iter().map(|node| describe_node(node, said.get(&node.record.id))).collect(),
        leader: leader.map(|node| node.record.name.to_string()).unwrap_or_default(),
        term: status.term,
        token: Some(doors.token(position)),
        answered_by: doors.name.to_string(),
        certificates: certificates as u64,
        agents: agents as u64,
        due: due as u64,
        open_issuances: open as u64,
    }
}

fn describe_node(node: &Node, said: Option<&StatusResponse>) -> v1::Node {
    let record = &node.record;
    v1::Node {
        name: record.name.to_string(),
        node_id: record.id,
        role: said.map_or("unreachable".to_owned(), |said| said.role.clone()),
        applied_index: said.map_or(0, |said| said.applied_index),
        term: said.map_or(0, |said| said.term),
        api_address: record.api_address.clone(),
        raft_address: record.raft_address.clone(),
        http_address: record.http_address.clone(),
        unsealed: said.is_some_and(|said| said.unsealed),
        identity_not_after: node.identity.map(|identity| moment_to_message(identity.not_after)),
    }
}

/// The digests of all servers right after the entry at `index`.
pub(super) async fn digests(doors: &Arc<Doors>, index: u64) -> Result<v1::GetDigestsResponse, Rejection> {
    doors.log.wait_applied(index, DIGEST_WAIT).await.map_err(read_failed)?;
    let nodes = members(doors);
    let deadline = doors.seams.clock.monotonic() + DIGEST_WAIT;
    let mut found: BTreeMap<NodeId, String> = BTreeMap::new();
    loop {
        let missing = nodes.iter().map(|node| node.record.id).filter(|id| !found.contains_key(id));
        for (id, said) in ask_all(doors, missing.collect::<Vec<_>>()).await {
            if let Some(digest) = said.digests.iter().find(|digest| digest.index == index) {
                found.insert(id, hex::encode(&digest.digest));
            }
        }
        if found.len() == nodes.len() || doors.seams.clock.monotonic() >= deadline {
            break;
        }
        tokio::time::sleep(RETRY_DELAY).await;
    }
    if found.is_empty() {
        return Err(Rejection::new(Reason::NotReady, "no server has computed the digest yet"));
    }
    let name = |id: NodeId| nodes.iter().find(|node| node.record.id == id).map(|node| node.record.name.to_string());
    let unreachable = nodes.iter().filter(|node| !found.contains_key(&node.record.id));
    Ok(v1::GetDigestsResponse {
        index,
        unreachable: unreachable.map(|node| node.record.name.to_string()).collect(),
        digests: found.into_iter().filter_map(|(id, digest)| Some((name(id)?, digest))).collect(),
    })
}

fn members(doors: &Doors) -> Vec<Node> {
    doors.log.read(|view| view.state.cluster.nodes.values().filter(|node| !node.removed).cloned().collect())
}

async fn ask_all(doors: &Arc<Doors>, ids: impl IntoIterator<Item = NodeId>) -> BTreeMap<NodeId, StatusResponse> {
    let asked = ids.into_iter().map(|id| async move { (id, ask(doors, id).await) });
    join_all(asked).await.into_iter().filter_map(|(id, said)| Some((id, said?))).collect()
}

async fn ask(doors: &Arc<Doors>, id: NodeId) -> Option<StatusResponse> {
    if id == doors.node_id {
        return Some(own(doors));
    }
    let mut client = PeerClient::new(doors.log.peer_channel(id)?);
    let answer = tokio::time::timeout(PEER_STATUS_TIMEOUT, client.get_status(StatusRequest {})).await;
    let mut answer = answer.ok()?.ok()?.into_inner();
    if answer.role == Role::Leader.to_string() && doors.log.leadership().borrow().leader != Some(id) {
        // It has not noticed yet that it was deposed.
        answer.role = Role::Follower.to_string();
    }
    Some(answer)
}

/// What this server says of itself.
pub(crate) fn own(doors: &Doors) -> StatusResponse {
    let status = doors.log.status();
    let digests = doors.log.digests().into_iter();
    StatusResponse {
        node_id: doors.node_id,
        name: doors.name.to_string(),
        role: status.role.to_string(),
        term: status.term,
        applied_index: status.applied_index,
        last_log_index: status.last_log_index,
        unsealed: certwright_issuance::peer::opens(&doors.log, &doors.seal, doors.node_id),
        digests: digests
            .map(|(index, digest)| certwright_proto::internal::v1::Digest { index, digest: digest.to_vec().into() })
            .collect(),
    }
}
