//! Decisions about the cluster itself: bootstrap, nodes, data keys, identities of nodes and administrators.
//!
//! It refuses a node id that is not the next one: ids come from a counter and never recur.

use super::draft::Draft;
use super::epochs;
use super::{already_exists, misdirected, not_found, tokens};
use crate::command::Command;
use crate::event::{Event, Identity, NodeRecord, TokenGrant};
use crate::format::Format;
use crate::ids::{ClusterId, NodeId, TokenId, cluster_stream};
use crate::limits::REBASE_MIN;
use crate::rejection::{Reason, Rejection};
use crate::state::{Cluster, Node};

pub(super) fn decide(draft: &mut Draft<'_>, command: &Command) -> Result<(), Rejection> {
    match command {
        Command::BootstrapCluster { cluster_id, epoch, node, data_key_id, wrapped } => {
            bootstrap(draft, (cluster_id, *epoch), node, (*data_key_id, wrapped))
        }
        Command::OpenEpoch { opened, node, wrapped } => epochs::open(draft, opened, node, wrapped),
        Command::AdmitNode { token, secret_hash, node, identity, format } => {
            admit(draft, (token, secret_hash), (node, *format), identity)
        }
        Command::RecordNodeIdentity { node_id, identity } => {
            let node = find(draft, *node_id)?;
            if node.identity.is_none_or(|current| current.serial != identity.serial) {
                push(draft, Event::NodeIdentityIssued { node_id: *node_id, identity: identity.clone() });
            }
            Ok(())
        }
        Command::RecordAdministratorIdentity { name, identity } => {
            let known = draft.state.cluster.administrators.get(name);
            if known.is_none_or(|current| current.serial != identity.serial) {
                push(draft, Event::AdministratorIdentityIssued { name: name.clone(), identity: identity.clone() });
            }
            Ok(())
        }
        Command::RemoveNode { node_id } => remove(draft, *node_id),
        Command::SetNodeRole { node_id, learner } => set_role(draft, *node_id, *learner),
        Command::HoldRenewals { ahead_millis } => {
            if draft.state.cluster.hold.is_none() {
                push(draft, Event::RenewalsHeld { ahead_millis: *ahead_millis });
            }
            Ok(())
        }
        Command::ReleaseRenewals => {
            if draft.state.cluster.hold.is_some() {
                push(draft, Event::RenewalsReleased);
            }
            Ok(())
        }
        Command::RebaseTime { to } => {
            if draft.now > to.plus(REBASE_MIN) {
                push(draft, Event::TimeRebased { from: draft.now, to: *to });
            }
            Ok(())
        }
        Command::RaiseFormat { format, known_by } => raise(draft, *format, known_by),
        Command::WrapDataKey { node_id, data_key_id, wrapped } => {
            let node = find(draft, *node_id)?;
            expect_in_use(draft, *data_key_id)?;
            if node.wrapped.get(data_key_id) != Some(wrapped) {
                let (node_id, data_key_id, wrapped) = (*node_id, *data_key_id, wrapped.clone());
                push(draft, Event::DataKeyWrapped { node_id, data_key_id, wrapped });
            }
            Ok(())
        }
        Command::ProveDataKey { node_id, data_key_id } => prove(draft, *node_id, *data_key_id),
        Command::RotateDataKey { replaces, data_key_id, wrapped } => rotate(draft, *replaces, *data_key_id, wrapped),
        Command::RetireDataKey { data_key_id } => retire(draft, *data_key_id),
        _ => Err(misdirected()),
    }
}

pub(super) fn push(draft: &mut Draft<'_>, event: Event) {
    draft.push(cluster_stream(), event);
}

/// A node that is there and not removed.
fn find<'a>(draft: &Draft<'a>, id: NodeId) -> Result<&'a Node, Rejection> {
    let node = draft.state.cluster.nodes.get(&id).filter(|node| !node.removed);
    node.ok_or_else(|| not_found("node", id))
}

fn bootstrap(
    draft: &mut Draft<'_>,
    (cluster_id, epoch): (&ClusterId, u64),
    node: &NodeRecord,
    (data_key_id, wrapped): (u64, &[u8]),
) -> Result<(), Rejection> {
    match draft.state.cluster.id {
        Some(id) if id == *cluster_id => return Ok(()),
        Some(id) => return Err(already_exists("cluster", id)),
        None => {}
    }
    expect_next_id(draft, node.id)?;
    let (node_id, wrapped) = (node.id, wrapped.to_vec());
    push(draft, Event::ClusterBootstrapped { cluster_id: *cluster_id, epoch });
    push(draft, Event::NodeJoined(Box::new(node.clone())));
    push(draft, Event::DataKeyWrapped { node_id, data_key_id, wrapped });
    // The first node made the data key: it holds it already.
    push(draft, Event::DataKeyProved { node_id, data_key_id });
    Ok(())
}

pub(super) fn expect_next_id(draft: &Draft<'_>, id: NodeId) -> Result<(), Rejection> {
    let next = draft.state.cluster.last_node_id + 1;
    if id != next {
        return Err(Rejection::new(Reason::Moved, format!("the next node id is {next}, not {id}")));
    }
    Ok(())
}

fn admit(
    draft: &mut Draft<'_>,
    (token, secret_hash): (&TokenId, &[u8; 32]),
    (node, format): (&NodeRecord, Format),
    identity: &Identity,
) -> Result<(), Rejection> {
    let token = tokens::redeem(draft, token, secret_hash, node.spki_hash, |grant| match grant {
        TokenGrant::Node | TokenGrant::Learner => Ok(()),
        TokenGrant::Agent { .. } => Err("admits an agent, not a server".to_owned()),
    })?;
    let Cluster { nodes, format: in_use, .. } = &draft.state.cluster;
    if format < *in_use {
        let message = format!("the cluster's log is of format {in_use}, and {} knows {format}", node.name);
        return Err(Rejection::new(Reason::BuildTooOld, message));
    }
    let known = nodes.values().find(|known| known.record.spki_hash == node.spki_hash && !known.removed);
    if known.is_none() && token.consumed_by.is_some() {
        let message = format!("token {} was used, and its node removed", token.id);
        return Err(Rejection::new(Reason::TokenUsed, message));
    }
    match known {
        Some(known) if known.record.id == node.id => {}
        Some(known) => {
            let message = format!("the key is bound to node {}, not {}", known.record.id, node.id);
            return Err(Rejection::new(Reason::Moved, message));
        }
        None => {
            expect_next_id(draft, node.id)?;
            if nodes.values().any(|other| other.record.name == node.name && !other.removed) {
                return Err(already_exists("node", &node.name));
            }
            push(draft, Event::NodeJoined(Box::new(node.clone())));
            if token.grant == TokenGrant::Learner {
                push(draft, Event::NodeRoleSet { node_id: node.id, learner: true });
            }
        }
    }
    if known.and_then(|known| known.identity).is_none_or(|current| current.serial != identity.serial) {
        push(draft, Event::NodeIdentityIssued { node_id: node.id, identity: identity.clone() });
    }
    Ok(())
}

fn remove(draft: &mut Draft<'_>, id: NodeId) -> Result<(), Rejection> {
    let nodes = &draft.state.cluster.nodes;
    if nodes.get(&id).is_none_or(|node| node.removed) {
        return Err(not_found("node", id));
    }
    has_heir(draft, id)?;
    push(draft, Event::NodeRemoved { node_id: id });
    Ok(())
}

/// Whoever could only join, or never answered, or is to stay a learner, is no heir: without the data key all that is
/// sealed would be lost.
fn has_heir(draft: &Draft<'_>, id: NodeId) -> Result<(), Rejection> {
    let cluster = &draft.state.cluster;
    let mut others = cluster.nodes.values().filter(|other| other.record.id != id);
    if others.any(|other| other.may_lead(cluster.data_key_id)) {
        return Ok(());
    }
    let message = format!("node {id} is the last one of the cluster that has proved to open the data key and may vote");
    Err(Rejection::new(Reason::InUse, message))
}

fn set_role(draft: &mut Draft<'_>, id: NodeId, learner: bool) -> Result<(), Rejection> {
    if find(draft, id)?.learner == learner {
        return Ok(());
    }
    if learner {
        has_heir(draft, id)?;
    }
    push(draft, Event::NodeRoleSet { node_id: id, learner });
    Ok(())
}

/// Whoever joined since the servers were asked, or was not asked, may not know it.
fn raise(draft: &mut Draft<'_>, format: Format, known_by: &[NodeId]) -> Result<(), Rejection> {
    let Cluster { nodes, format: in_use, .. } = &draft.state.cluster;
    if format <= *in_use {
        return Ok(());
    }
    let mut members = nodes.values().filter(|node| !node.removed);
    if let Some(unsure) = members.find(|node| !known_by.contains(&node.record.id)) {
        let message = format!("{} has not said that it knows format {format}", unsure.record.name);
        return Err(Rejection::new(Reason::Moved, message));
    }
    push(draft, Event::FormatRaised { format });
    Ok(())
}

fn expect_in_use(draft: &Draft<'_>, data_key_id: u64) -> Result<(), Rejection> {
    let current = draft.state.cluster.data_key_id;
    if data_key_id == current {
        return Ok(());
    }
    Err(Rejection::new(Reason::Moved, format!("the data key in use is {current}, not {data_key_id}")))
}

/// Whoever holds the key that is replaced gets the new one with it, in one event: there is never a moment in which only
/// some of those who may lead can open what is sealed.
fn rotate(
    draft: &mut Draft<'_>,
    replaces: u64,
    data_key_id: u64,
    wrapped: &[(NodeId, Vec<u8>)],
) -> Result<(), Rejection> {
    expect_in_use(draft, replaces)?;
    let nodes = &draft.state.cluster.nodes;
    let known = nodes.values().any(|node| node.wrapped.contains_key(&data_key_id));
    let moved = |message: String| Err(Rejection::new(Reason::Moved, message));
    if known || data_key_id == 0 {
        return moved(format!("data key {data_key_id} is no new one"));
    }
    for (id, _) in wrapped {
        find(draft, *id)?;
    }
    let gets_it = |id: NodeId| wrapped.iter().any(|(wrapped_to, _)| *wrapped_to == id);
    let mut holders = nodes.values().filter(|node| !node.removed && node.wrapped.contains_key(&replaces));
    if let Some(left_out) = holders.find(|node| !gets_it(node.record.id)) {
        return moved(format!("data key {data_key_id} is not wrapped to node {}", left_out.record.id));
    }
    push(draft, Event::DataKeyRotated { data_key_id, wrapped: wrapped.to_vec() });
    Ok(())
}

fn retire(draft: &mut Draft<'_>, data_key_id: u64) -> Result<(), Rejection> {
    let state = draft.state;
    if data_key_id == state.cluster.data_key_id {
        return Err(Rejection::new(Reason::InUse, format!("data key {data_key_id} is the one in use")));
    }
    if let Some(authority) = state.authorities.iter().find(|it| it.sealed_key.data_key_id == data_key_id) {
        let message = format!("the key of authority {} is sealed under data key {data_key_id}", authority.name);
        return Err(Rejection::new(Reason::InUse, message));
    }
    if state.cluster.checkpoints.key.as_ref().is_some_and(|key| key.sealed_key.data_key_id == data_key_id) {
        let message = format!("the key for checkpoints is sealed under data key {data_key_id}");
        return Err(Rejection::new(Reason::InUse, message));
    }
    if state.cluster.nodes.values().any(|node| node.wrapped.contains_key(&data_key_id)) {
        push(draft, Event::DataKeyRetired { data_key_id });
    }
    Ok(())
}

fn prove(draft: &mut Draft<'_>, node_id: NodeId, data_key_id: u64) -> Result<(), Rejection> {
    let node = find(draft, node_id)?;
    if !node.wrapped.contains_key(&data_key_id) {
        let message = format!("data key {data_key_id} was not wrapped to node {node_id}");
        return Err(Rejection::new(Reason::Moved, message));
    }
    if node.proved != Some(data_key_id) {
        push(draft, Event::DataKeyProved { node_id, data_key_id });
    }
    Ok(())
}
