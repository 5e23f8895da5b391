//! The decision that opens an epoch: one server goes on where a backup, or the data of a survivor, ends.
//!
//! It refuses a cluster whose CA keys nobody could open, and to keep anybody who was a member.

use super::cluster::{expect_next_id, push};
use super::draft::Draft;
use crate::event::{EpochOpened, Event, NodeRecord};
use crate::ids::Generation;
use crate::limits;
use crate::rejection::{Reason, Rejection};
use crate::time::Timestamp;

/// Refuses what could not have been made between the end of the log before an epoch and that epoch's beginning: the log
/// knows everything else.
pub(super) fn lost(draft: &Draft<'_>, not_before: Timestamp) -> Result<(), Rejection> {
    // Validity begins a little before the moment of issue, and log time is not the clock of who signs.
    let after = |at: Timestamp| not_before.plus(limits::LOST_SLACK) >= at;
    let before = |at: Timestamp| not_before <= at.plus(limits::LOST_SLACK);
    let epochs = &draft.state.cluster.epochs;
    if epochs.iter().any(|opened| after(opened.after) && before(opened.at)) {
        return Ok(());
    }
    let message = "it was issued when the log that is here was written, which would know it";
    Err(Rejection::new(Reason::OldEpoch, message))
}

/// Refuses a generation that no lost epoch can have come to: it would leave no number for the generations after it.
pub(super) fn within(next: Generation, generation: Generation) -> Result<(), Rejection> {
    if generation.saturating_sub(next) <= limits::LOST_GENERATIONS_MAX {
        return Ok(());
    }
    let message =
        format!("generation {generation} is too far ahead of {next}, the next one that the log would give out");
    Err(Rejection::new(Reason::GenerationConflict, message))
}

pub(super) fn open(
    draft: &mut Draft<'_>,
    opened: &EpochOpened,
    node: &NodeRecord,
    wrapped: &[(u64, Vec<u8>)],
) -> Result<(), Rejection> {
    let cluster = &draft.state.cluster;
    if cluster.id.is_none() {
        return Err(Rejection::new(Reason::NotReady, "there is no cluster yet"));
    }
    if opened.epoch <= cluster.epoch || opened.epoch > limits::EPOCHS_MAX {
        let message = format!(
            "the epoch is {}; {} is none of the later ones, up to {}",
            cluster.epoch,
            opened.epoch,
            limits::EPOCHS_MAX
        );
        return Err(Rejection::new(Reason::Moved, message));
    }
    if !wrapped.iter().any(|(id, _)| *id == cluster.data_key_id) {
        let message = format!("the data key in use, {}, is not among those that are at hand", cluster.data_key_id);
        return Err(Rejection::new(Reason::NotReady, message));
    }
    expect_next_id(draft, node.id)?;
    let members = cluster.nodes.values().filter(|node| !node.removed).map(|node| node.record.id);
    let members: Vec<_> = members.collect();
    let data_key_id = cluster.data_key_id;
    push(draft, Event::EpochOpened(Box::new(*opened)));
    for node_id in members {
        push(draft, Event::NodeRemoved { node_id });
    }
    push(draft, Event::NodeJoined(Box::new(node.clone())));
    for (data_key_id, wrapped) in wrapped {
        let (node_id, data_key_id, wrapped) = (node.id, *data_key_id, wrapped.clone());
        push(draft, Event::DataKeyWrapped { node_id, data_key_id, wrapped });
    }
    // Whoever restores wrapped it a moment ago, and is this server.
    push(draft, Event::DataKeyProved { node_id: node.id, data_key_id });
    Ok(())
}
