//! Folding the cluster's events: bootstrap, nodes, data keys, identities of nodes and administrators.
//!
//! It refuses to forget a node: removed ones stay as tombstones, so that no id recurs.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::event::{Event, Identity};
use crate::log::{Applied, Position};
use crate::state::{Cluster, IdentityState, Node, Rebase, RenewalHold, State};

/// What state remembers of an identity.
pub(super) fn remembered(identity: &Identity, position: Position) -> IdentityState {
    IdentityState { serial: identity.serial, spki_hash: identity.spki_hash, not_after: identity.not_after, position }
}

impl State {
    pub(super) fn apply_cluster(&mut self, applied: &Applied<'_>, event: &Event) {
        let cluster = &mut self.cluster;
        if let Some(revision) = applied.revision {
            cluster.revision = revision;
        }
        match event {
            Event::ClusterBootstrapped { cluster_id, epoch } => {
                cluster.id = Some(*cluster_id);
                cluster.epoch = *epoch;
            }
            Event::EpochOpened(opened) => {
                cluster.epoch = opened.epoch;
                cluster.epochs.push(**opened);
            }
            Event::NodeJoined(record) => {
                cluster.last_node_id = cluster.last_node_id.max(record.id);
                let node = Node {
                    record: (**record).clone(),
                    wrapped: BTreeMap::new(),
                    proved: None,
                    identity: None,
                    removed: false,
                    learner: false,
                };
                cluster.nodes.insert(record.id, node);
            }
            Event::NodeRemoved { node_id } => {
                if let Some(node) = cluster.nodes.get_mut(node_id) {
                    node.removed = true;
                    // Which data keys it could open is remembered until they are retired: they are to be replaced.
                    node.wrapped.values_mut().for_each(Vec::clear);
                    node.proved = None;
                }
            }
            Event::NodeRoleSet { node_id, learner } => {
                cluster.nodes.entry(*node_id).and_modify(|node| node.learner = *learner);
            }
            Event::RenewalsHeld { ahead_millis } => {
                cluster.hold = Some(RenewalHold::new(applied.at, *ahead_millis));
            }
            Event::RenewalsReleased => (cluster.hold, cluster.released_at) = (None, Some(applied.at)),
            Event::TimeRebased { from, to } => {
                self.rebase(&Rebase { index: applied.position.index, from: *from, to: *to });
            }
            Event::FormatRaised { format } => cluster.format = cluster.format.max(*format),
            Event::RetentionSet { keep_seconds } => {
                cluster.retention.set((*keep_seconds > 0).then(|| Duration::from_secs(*keep_seconds)), applied.at);
            }
            Event::HistoryTrimmed(trimmed) => cluster.retention.let_go(**trimmed),
            Event::NodeIdentityIssued { node_id, identity } => {
                if let Some(node) = cluster.nodes.get_mut(node_id) {
                    node.identity = Some(remembered(identity, applied.position));
                }
            }
            Event::AdministratorIdentityIssued { name, identity } => {
                cluster.administrators.insert(name.clone(), remembered(identity, applied.position));
            }
            _ => cluster.apply_data_key(event),
        }
    }
}

impl Cluster {
    /// Who can open which data key.
    fn apply_data_key(&mut self, event: &Event) {
        match event {
            Event::DataKeyWrapped { node_id, data_key_id, wrapped } => {
                if self.data_key_id == 0 {
                    self.data_key_id = *data_key_id;
                }
                if let Some(node) = self.nodes.get_mut(node_id) {
                    node.wrapped.insert(*data_key_id, wrapped.clone());
                }
            }
            Event::DataKeyProved { node_id, data_key_id } => {
                if let Some(node) = self.nodes.get_mut(node_id) {
                    node.proved = Some(*data_key_id);
                }
            }
            Event::DataKeyRotated { data_key_id, wrapped } => {
                self.data_key_id = *data_key_id;
                for (node_id, wrapped) in wrapped {
                    if let Some(node) = self.nodes.get_mut(node_id) {
                        node.wrapped.insert(*data_key_id, wrapped.clone());
                    }
                }
            }
            Event::DataKeyRetired { data_key_id } => {
                for node in self.nodes.values_mut() {
                    node.wrapped.remove(data_key_id);
                }
            }
            _ => {}
        }
    }
}
