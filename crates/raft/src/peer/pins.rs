//! The keys that peers must hold: the membership record's, and those trusted until it is replicated.
//!
//! It refuses ids that were removed; a node that is merely unknown here may become known later.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{PoisonError, RwLock};

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
}

/// The pinned keys of the cluster's nodes.
#[derive(Default)]
pub(crate) struct Pins(RwLock<Table>);

impl Pins {
    fn table(&self) -> std::sync::RwLockReadGuard<'_, Table> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Trusts peers before the membership that names them is here.
    pub(crate) fn trust(&self, peers: Vec<Member>) {
        let mut table = self.0.write().unwrap_or_else(PoisonError::into_inner);
        table.trusted.extend(peers.into_iter().map(|peer| (peer.node_id, peer)));
    }

    /// Takes the newest membership, which supersedes what was trusted until it was here.
    pub(crate) fn replace(&self, members: impl IntoIterator<Item = Member>) {
        let mut table = self.0.write().unwrap_or_else(PoisonError::into_inner);
        table.members = members.into_iter().map(|member| (member.node_id, member)).collect();
        let Table { trusted, members, .. } = &mut *table;
        trusted.retain(|id, _| !members.contains_key(id));
    }

    /// Refuses these ids from now on.
    pub(crate) fn bury(&self, removed: &BTreeSet<u64>) {
        let mut table = self.0.write().unwrap_or_else(PoisonError::into_inner);
        table.removed.extend(removed);
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
    use super::*;

    fn member(node_id: u64, key: u8) -> Member {
        Member { node_id, address: format!("host-{node_id}:1"), spki_hash: [key; 32] }
    }

    #[test]
    fn the_record_supersedes_trust_and_removal_supersedes_both() {
        let pins = Pins::default();
        assert_eq!(pins.check(1, &[1; 32]), Err(Stranger::Unknown(1)));
        pins.trust(vec![member(1, 1)]);
        assert_eq!(pins.check(1, &[1; 32]), Ok(()));
        pins.replace([member(1, 2)]);
        assert_eq!(pins.check(1, &[1; 32]), Err(Stranger::OtherKey(1)));
        assert_eq!(pins.check(1, &[2; 32]), Ok(()));
        pins.bury(&BTreeSet::from([1]));
        assert_eq!(pins.check(1, &[2; 32]), Err(Stranger::Removed(1)));
        pins.trust(vec![member(1, 2)]);
        assert_eq!(pins.check(1, &[2; 32]), Err(Stranger::Removed(1)), "a removed id never comes back");
    }
}
