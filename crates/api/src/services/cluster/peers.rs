//! What the servers say of themselves, asked all at once.
//!
//! It refuses to wait for one that is gone: each has a moment, then it is unreachable.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use certwright_core::ids::NodeId;
use certwright_core::state::{Node, Retention};
use certwright_core::time::Timestamp;
use certwright_core::{Reason, Rejection};
use certwright_issuance::peer;
use certwright_proto::api::values::{moment_to_message, span_to_message};
use certwright_proto::internal::v1::{RefusedLog, StatusResponse};
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
    let leader = status
        .leader
        .filter(|_| doors.in_touch().is_ok())
        .and_then(|id| nodes.iter().find(|node| node.record.id == id));
    let (position, certificates, agents, due, open, cluster) = doors.log.read(|view| {
        let now = view.at.max(doors.log.clock());
        let (open, due) = (view.state.counts().open, view.state.due_count(now));
        let cluster = &view.state.cluster;
        let cluster = (cluster.hold, cluster.format, cluster.retention);
        (view.position, view.state.certificates.len(), view.state.agents.len(), due, open, cluster)
    });
    let votes = |node: &Node| status.members.voters.iter().any(|voter| voter.node_id == node.record.id);
    v1::GetClusterResponse {
        cluster_id: doors.cluster.to_string(),
        epoch: doors.epoch,
        nodes: nodes.iter().map(|node| describe_node(node, votes(node), said.get(&node.record.id))).collect(),
        leader: leader.map(|node| node.record.name.to_string()).unwrap_or_default(),
        term: status.term,
        token: Some(doors.token(position)),
        answered_by: doors.name.to_string(),
        certificates: certificates as u64,
        agents: agents as u64,
        due: due as u64,
        open_issuances: open as u64,
        format: cluster.1.0,
        log_time: Some(moment_to_message(doors.log.log_time())),
        clock: Some(moment_to_message(Timestamp::from_millis(doors.seams.clock.wall_millis()))),
        retention: Some(retention(&cluster.2)),
        renewal_hold: cluster.0.map(|hold| v1::RenewalHold {
            since: Some(moment_to_message(hold.since)),
            ahead: Some(span_to_message(Duration::from_millis(hold.ahead_millis))),
            begun: hold.begun,
        }),
    }
}

fn retention(retention: &Retention) -> v1::Retention {
    v1::Retention {
        keep: retention.keep.map(span_to_message),
        first_index: retention.trimmed.map_or(0, |trimmed| trimmed.first_index),
        last_at: retention.trimmed.map(|trimmed| moment_to_message(trimmed.last_at)),
    }
}

fn describe_node(node: &Node, votes: bool, said: Option<&Said>) -> v1::Node {
    let (record, answer) = (&node.record, said);
    let said = answer.map(|answer| &answer.status);
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
        learner: node.learner,
        voter: votes,
        last_log_index: said.map_or(0, |said| said.last_log_index),
        clock_offset_millis: answer.and_then(Said::clock_offset_millis),
        round_trip_micros: answer.map_or(0, |answer| answer.round_trip.as_micros() as u64),
        disk_available_octets: said.and_then(|said| said.disk_available_octets),
        sessions: said.map_or(0, |said| said.sessions),
        heartbeat_millis: said.map_or(0, |said| said.heartbeat_millis),
        election_millis: said.map_or(0, |said| said.election_millis),
        refused_logs: said.into_iter().flat_map(|said| &said.refused_logs).map(refused_log).collect(),
        backup_every_seconds: said.map_or(0, |said| said.backup_every_seconds),
        backup_last_success: said
            .map(|said| said.backup_last_success_millis)
            .filter(|millis| *millis > 0)
            .map(|millis| moment_to_message(Timestamp::from_millis(millis))),
        format: said.map_or(0, |said| said.format),
        members: said.map(|said| said.members.clone()).unwrap_or_default(),
        history_first_index: said.map_or(0, |said| said.history_first_index),
        history_incomplete: said.is_some_and(|said| said.history_incomplete),
    }
}

fn refused_log(told: &RefusedLog) -> v1::RefusedLog {
    v1::RefusedLog { server: told.server.clone(), times: told.times, cause: told.cause.clone() }
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
            if let Some(digest) = said.status.digests.iter().find(|digest| digest.index == index) {
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

/// What those servers say of themselves, of those who answer in time.
pub(super) async fn ask_all(doors: &Arc<Doors>, ids: impl IntoIterator<Item = NodeId>) -> BTreeMap<NodeId, Said> {
    let asked = ids.into_iter().map(|id| async move { (id, ask(doors, id).await) });
    join_all(asked).await.into_iter().filter_map(|(id, said)| Some((id, said?))).collect()
}

/// What one server says of itself, when it was asked and when it had answered, on this server's monotonic clock.
async fn ask(doors: &Arc<Doors>, id: NodeId) -> Option<Said> {
    let clock = &doors.seams.clock;
    let (asked, wall) = (clock.monotonic(), clock.wall_millis());
    if id == doors.node_id {
        return Some(Said { status: doors.itself.status().await, wall, round_trip: Duration::ZERO });
    }
    let mut status = peer::status_of(&doors.log, id, PEER_STATUS_TIMEOUT).await.ok()?;
    let round_trip = clock.monotonic().saturating_sub(asked);
    if status.role == Role::Leader.to_string() && doors.log.leadership().borrow().leader != Some(id) {
        // It has not noticed yet that it was deposed.
        status.role = Role::Follower.to_string();
    }
    Some(Said { status, wall, round_trip })
}

/// What a server said.
pub(super) struct Said {
    pub(super) status: StatusResponse,
    /// This server's clock when it was asked.
    wall: u64,
    round_trip: Duration,
}

impl Said {
    /// How far its clock was ahead, if it took as long there as back.
    fn clock_offset_millis(&self) -> Option<i64> {
        let here = self.wall + self.round_trip.as_millis() as u64 / 2;
        Some(self.status.wall_millis?.cast_signed().wrapping_sub(here.cast_signed()))
    }
}
