//! Who leads next: the server that an operator names, or the one that is furthest of those that can sign.
//!
//! It refuses heirs that could not sign as leader, and to leave a cluster waiting for one that does not answer.

use std::collections::BTreeSet;
use std::time::Duration;

use certwright_core::ids::NodeId;
use certwright_core::policy::{Action, Resource};
use certwright_core::state::{Cluster, Node};
use certwright_core::{Reason, Rejection};
use certwright_proto::internal::v1::StatusResponse;
use certwright_raft::MembershipError;
use futures_util::future::join_all;

use crate::order::Call;
use crate::peer;
use crate::session::{Session, Tools, not_leader};

/// How long an heir may take to say that it is there, before writes are held up for it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// Entries that an heir may lack: about as many as are sent while it is asked.
const BEHIND_ENTRIES_MAX: u64 = 1024;

/// The servers that may lead.
fn entitled(cluster: &Cluster) -> BTreeSet<NodeId> {
    let may_lead = |node: &&Node| node.may_lead(cluster.data_key_id);
    cluster.nodes.values().filter(may_lead).map(|node| node.record.id).collect()
}

/// The other servers that vote and may lead.
pub(crate) fn heirs(tools: &Tools) -> Vec<NodeId> {
    let entitled = tools.log.read(|view| entitled(&view.state.cluster));
    let voters = tools.log.status().members.voters.into_iter().map(|voter| voter.node_id);
    voters.filter(|id| *id != tools.node_id && entitled.contains(id)).collect()
}

/// What the heirs say that answer, those first that have most of the log.
async fn answers(tools: &Tools) -> Vec<StatusResponse> {
    let ask = |id| async move { peer::status_of(&tools.log, id, ANSWER_TIMEOUT).await.ok() };
    let mut there: Vec<_> = join_all(heirs(tools).into_iter().map(ask)).await.into_iter().flatten().collect();
    there.sort_by_key(|heir| std::cmp::Reverse(heir.last_log_index));
    there
}

/// The heirs that answer and have room for the log, those first that have most of it.
pub(crate) async fn heirs_with_room(tools: &Tools) -> Vec<NodeId> {
    answers(tools).await.into_iter().filter(|heir| !heir.no_room).map(|heir| heir.node_id).collect()
}

/// Hands leadership to whoever is furthest of those that may lead, whether it answers or not: for a leader that is of no use.
pub(crate) async fn give_up(tools: &Tools) {
    let heirs = heirs(tools);
    tools.log.hand_over(|id| heirs.contains(&id)).await;
}

/// Hands leadership to whoever is furthest of those that may lead and are able to. Nobody is asked where there is none: a
/// leader that waits for an heir takes no writes.
pub(crate) async fn hand_over(tools: &Tools) {
    let ours = tools.log.status().last_log_index;
    let able = |heir: &StatusResponse| is_able(heir, ours).is_ok();
    let heirs: Vec<_> = answers(tools).await.into_iter().filter(able).map(|heir| heir.node_id).collect();
    tools.log.hand_over(|id| heirs.contains(&id)).await;
}

/// Hands leadership to the server that is named, or to whoever is furthest; answers who leads.
pub(crate) async fn transfer(session: &Session, call: &Call, to: Option<NodeId>) -> Result<NodeId, Rejection> {
    session.allow(call, Action::Operate, &Resource::Cluster)?;
    let tools = &session.tools;
    if let Some(to) = to {
        may_lead(tools, to).await?;
        tools.log.transfer_leader(to).await.map_err(|error| refused(to, error))?;
        return Ok(to);
    }
    hand_over(tools).await;
    let leader = tools.log.leadership().borrow().leader.filter(|leader| *leader != tools.node_id);
    leader.ok_or_else(|| Rejection::new(Reason::NotReady, "no other server has taken over"))
}

async fn may_lead(tools: &Tools, to: NodeId) -> Result<(), Rejection> {
    if to == tools.node_id {
        return Err(Rejection::new(Reason::AlreadyLeader, format!("node {to} leads already")));
    }
    if !tools.log.status().members.voters.iter().any(|voter| voter.node_id == to) {
        return Err(Rejection::new(Reason::NotAVoter, format!("node {to} does not vote")));
    }
    if !heirs(tools).contains(&to) {
        let message = format!(
            "node {to} is about to stop voting, or does not hold the data key yet or has not proved that it can open it"
        );
        return Err(Rejection::new(Reason::NotReady, message));
    }
    let unreachable = |why| Rejection::new(Reason::ServerUnreachable, format!("node {to} does not answer: {why}"));
    let heir = peer::status_of(&tools.log, to, ANSWER_TIMEOUT).await.map_err(unreachable)?;
    is_able(&heir, tools.log.status().last_log_index)
}

/// Writes are held up until an heir has what this leader has, and then until it has room for more.
fn is_able(heir: &StatusResponse, ours: u64) -> Result<(), Rejection> {
    let refuse = |why: String| Err(Rejection::new(Reason::NotReady, format!("node {} {why}", heir.node_id)));
    let behind = ours.saturating_sub(heir.last_log_index);
    if behind > BEHIND_ENTRIES_MAX {
        return refuse(format!("is {behind} entries behind"));
    }
    if heir.no_room {
        return refuse("has no room left for the log".to_owned());
    }
    Ok(())
}

fn refused(to: NodeId, error: MembershipError) -> Rejection {
    match error {
        MembershipError::NotLeader { .. } => not_leader(),
        MembershipError::NotMember(_) | MembershipError::Removed(_) => {
            Rejection::new(Reason::NotAVoter, format!("node {to} does not vote"))
        }
        MembershipError::Unknown(why) => Rejection::new(Reason::OutcomeUnknown, why),
        other => Rejection::new(Reason::NotReady, other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::tests::record;

    #[test]
    fn who_holds_the_key_in_use_and_has_proved_to_open_one_may_lead() {
        let node = |id: NodeId, wrapped: &[u64], proved, removed, learner| {
            let wrapped = wrapped.iter().map(|id| (*id, vec![])).collect();
            (id, Node { record: record(id), wrapped, proved, identity: None, removed, learner })
        };
        let nodes = [
            node(1, &[4], Some(4), false, false),
            // The key was replaced a moment ago.
            node(2, &[3, 4], Some(3), false, false),
            // It has not got the new one yet.
            node(3, &[3], Some(3), false, false),
            node(4, &[4], None, false, false),
            node(5, &[3, 4], Some(3), true, false),
            node(6, &[4], Some(4), false, true),
        ];
        let cluster = Cluster { data_key_id: 4, nodes: nodes.into(), ..Cluster::default() };
        assert_eq!(entitled(&cluster), [1, 2].into());
    }

    #[test]
    fn an_heir_has_nearly_everything_and_room_for_more() {
        let ours = 5000;
        let able = |last_log_index, no_room| {
            let heir = StatusResponse { node_id: 2, last_log_index, no_room, ..StatusResponse::default() };
            is_able(&heir, ours).map_err(|rejection| (rejection.reason, rejection.message))
        };
        assert_eq!(able(5000, false), Ok(()));
        assert_eq!(able(5010, false), Ok(()));
        assert_eq!(able(ours - BEHIND_ENTRIES_MAX, false), Ok(()));
        let behind = "node 2 is 1025 entries behind".to_owned();
        assert_eq!(able(ours - BEHIND_ENTRIES_MAX - 1, false), Err((Reason::NotReady, behind)));
        let full = "node 2 has no room left for the log".to_owned();
        assert_eq!(able(5000, true), Err((Reason::NotReady, full)));
    }
}
