//! The keys that peers must hold: the membership record's, and those trusted until this node is in it itself.
//!
//! It refuses ids that were removed; a node that is merely unknown here may become known later.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::watch;

use crate::member::Member;

/// Why a peer is not spoken with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Stranger {
    #[error("node {0} was removed from the cluster")]
    Removed(u64),
    #[error("node {0} is not pinned here")]
    Unknown(u64),
    #[error("node {0} holds another key than the pinned one")]
    OtherKey(u64),
}

#[derive(Default)]
struct Table {
    trusted: BTreeMap<u64, Member>,
    members: BTreeMap<u64, Member>,
    removed: BTreeSet<u64>,
    /// This node was a member once: from then on the record alone counts.
    settled: bool,
}

/// The pinned keys of the cluster's nodes.
#[derive(Default)]
pub(crate) struct Pins {
    table: RwLock<Table>,
    /// Told after every change.
    changes: watch::Sender<()>,
}

impl Pins {
    fn table(&self) -> std::sync::RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Table)) {
        change(&mut self.table.write().unwrap_or_else(PoisonError::into_inner));
        self.changes.send_replace(());
    }

    /// Trusts peers before the membership that names this node is here; afterwards nobody is trusted any more.
    pub(crate) fn trust(&self, peers: Vec<Member>) {
        self.change(|table| {
            if !table.settled {
                table.trusted.extend(peers.into_iter().map(|peer| (peer.node_id, peer)));
            }
        });
    }

    /// Takes the newest membership, which supersedes what was trusted until it was here. `settled` says that the one
    /// applied names this node.
    pub(crate) fn replace(&self, members: impl IntoIterator<Item = Member>, settled: bool) {
        let members = members.into_iter().map(|member| (member.node_id, member)).collect();
        let table = self.table();
        let same = table.members == members && (table.settled || !settled);
        drop(table);
        if same {
            return;
        }
        self.change(|table| {
            table.members = members;
            table.settled |= settled;
            let Table { trusted, members, settled, .. } = table;
            trusted.retain(|id, _| !*settled && !members.contains_key(id));
        });
    }

    /// Refuses these ids from now on.
    pub(crate) fn bury(&self, removed: &BTreeSet<u64>) {
        self.change(|table| table.removed.extend(removed));
    }

    /// Resolves when that node with that key is no longer spoken with.
    pub(crate) async fn unpinned(self: Arc<Self>, node_id: u64, spki_hash: [u8; 32]) {
        let mut changes = self.changes.subscribe();
        while self.check(node_id, &spki_hash).is_ok() {
            // The sender lives in `self`.
            let _ = changes.changed().await;
        }
    }

    /// The peer with that id.
    pub(crate) fn get(&self, node_id: u64) -> Result<Member, Stranger> {
        let table = self.table();
        if table.removed.contains(&node_id) {
            return Err(Stranger::Removed(node_id));
        }
        let found = table.members.get(&node_id).or_else(|| table.trusted.get(&node_id));
        found.cloned().ok_or(Stranger::Unknown(node_id))
    }

    /// Checks that whoever says to be that node holds its pinned key.
    pub(crate) fn check(&self, node_id: u64, spki_hash: &[u8; 32]) -> Result<(), Stranger> {
        if self.get(node_id)?.spki_hash == *spki_hash { Ok(()) } else { Err(Stranger::OtherKey(node_id)) }
    }

    /// Whether the id was removed from the cluster.
    pub(crate) fn is_removed(&self, node_id: u64) -> bool {
        self.table().removed.contains(&node_id)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn member(node_id: u64, key: u8) -> Member {
        Member { node_id, address: format!("host-{node_id}:1"), spki_hash: [key; 32] }
    }

    #[test]
    fn trust_ends_when_this_node_is_a_member() {
        let pins = Pins::default();
        pins.trust(vec![member(1, 1), member(2, 2)]);
        // A membership on the way here that does not name this node yet.
        pins.replace([member(1, 1)], false);
        assert_eq!(pins.check(2, &[2; 32]), Ok(()));
        pins.replace([member(1, 1)], true);
        assert_eq!(pins.check(1, &[1; 32]), Ok(()));
        assert_eq!(pins.check(2, &[2; 32]), Err(Stranger::Unknown(2)), "a trusted peer that is no member");
        pins.trust(vec![member(2, 2)]);
        assert_eq!(pins.check(2, &[2; 32]), Err(Stranger::Unknown(2)), "what was true at the join is true no more");
        pins.replace([member(1, 1), member(3, 3)], false);
        assert_eq!(pins.check(3, &[3; 32]), Ok(()));
    }

    #[tokio::test]
    async fn who_holds_a_connection_hears_when_its_pin_is_gone() {
        let pins = Arc::new(Pins::default());
        pins.replace([member(1, 1), member(2, 2), member(3, 3)], true);
        let ended = |id: u64| tokio::spawn(Arc::clone(&pins).unpinned(id, [id as u8; 32]));
        let (one, two, three) = (ended(1), ended(2), ended(3));
        pins.bury(&BTreeSet::from([1]));
        one.await.unwrap();
        pins.replace([member(1, 1), member(3, 3)], true);
        two.await.unwrap();
        assert!(!three.is_finished());
        pins.replace([member(1, 1), member(3, 9)], true);
        three.await.unwrap();
    }

    #[test]
    fn the_record_supersedes_trust_and_removal_supersedes_both() {
        let pins = Pins::default();
        assert_eq!(pins.check(1, &[1; 32]), Err(Stranger::Unknown(1)));
        pins.trust(vec![member(1, 1)]);
        assert_eq!(pins.check(1, &[1; 32]), Ok(()));
        pins.replace([member(1, 2)], false);
        assert_eq!(pins.check(1, &[1; 32]), Err(Stranger::OtherKey(1)));
        assert_eq!(pins.check(1, &[2; 32]), Ok(()));
        pins.bury(&BTreeSet::from([1]));
        assert_eq!(pins.check(1, &[2; 32]), Err(Stranger::Removed(1)));
        pins.trust(vec![member(1, 2)]);
        assert_eq!(pins.check(1, &[2; 32]), Err(Stranger::Removed(1)), "a removed id never comes back");
    }
}
