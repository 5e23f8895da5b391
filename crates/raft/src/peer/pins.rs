//! The keys that peers must hold: the membership record's, those trusted until this node is in it itself, and those of newer
//! members whom a pinned peer introduced.
//!
//! It refuses ids that were removed; a node that is merely unknown here may become known later, never on its own word.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use certwright_core::mutant::{self, Mutant};
use tokio::sync::{Notify, watch};

use crate::limits::{ADDRESS_OCTETS_MAX, INTRODUCED_MAX};
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
    /// Members that joined while this node was away, and the voter that says so: until the record that names them is here,
    /// or that voter is one no more.
    introduced: BTreeMap<u64, (Member, u64)>,
    members: BTreeMap<u64, Member>,
    removed: BTreeSet<u64>,
    /// This node was a member once: from then on the record alone counts.
    settled: bool,
}

impl Table {
    /// A member of the record, or a peer that is trusted until it is here.
    fn speaks_with(&self, node_id: u64) -> bool {
        let is_ours = self.members.contains_key(&node_id) || self.trusted.contains_key(&node_id);
        is_ours && !self.removed.contains(&node_id)
    }
}

/// The pinned keys of the cluster's nodes.
#[derive(Default)]
pub(crate) struct Pins {
    table: RwLock<Table>,
    /// Told after every change.
    changes: watch::Sender<()>,
    /// Told after a stranger was met.
    met: Notify,
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
            if mutant::is(Mutant::RemovedServerAccepted) {
                table.trusted.append(&mut table.members);
                table.members = members;
                return;
            }
            table.members = members;
            table.settled |= settled;
            let Table { trusted, introduced, members, settled, .. } = table;
            trusted.retain(|id, _| !*settled && !members.contains_key(id));
            introduced.retain(|id, (_, voucher)| {
                !members.contains_key(id) && (members.contains_key(voucher) || trusted.contains_key(voucher))
            });
        });
    }

    /// A node that is unknown here was refused: others may know it.
    pub(crate) fn meet(&self) {
        self.met.notify_one();
    }

    /// Waits for the next one.
    pub(crate) async fn stranger(&self) {
        self.met.notified().await;
    }

    /// Speaks with a member that a voter of the record here, or a peer that is trusted until it is here, vouches for, as long
    /// as that one is spoken with. Answers whether it is news. That lends nobody any power: whoever vouches could as well
    /// replicate a record that names it.
    pub(crate) fn introduce(&self, member: Member, voucher: u64) -> bool {
        let mut is_news = false;
        self.change(|table| {
            let is_known = table.members.contains_key(&member.node_id) || table.trusted.contains_key(&member.node_id);
            let is_bounded = table.introduced.len() < INTRODUCED_MAX && member.address.len() <= ADDRESS_OCTETS_MAX;
            if is_known || table.removed.contains(&member.node_id) || !is_bounded || !table.speaks_with(voucher) {
                return;
            }
            is_news = table.introduced.insert(member.node_id, (member, voucher)).is_none();
        });
        is_news
    }

    /// All members as the record here names them; none before it names this node.
    pub(crate) fn record(&self) -> Vec<Member> {
        let table = self.table();
        let members = table.members.values().filter(|member| table.settled && !table.removed.contains(&member.node_id));
        members.cloned().collect()
    }

    /// Who is trusted before the record is here.
    pub(crate) fn trusted(&self) -> Vec<u64> {
        self.table().trusted.keys().copied().collect()
    }

    /// Refuses these ids from now on.
    pub(crate) fn bury(&self, removed: &BTreeSet<u64>) {
        if !mutant::is(Mutant::RemovedServerAccepted) {
            self.change(|table| {
                table.removed.extend(removed);
                let Table { introduced, removed, .. } = table;
                introduced.retain(|_, (_, voucher)| !removed.contains(voucher));
            });
        }
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
        let Table { members, trusted, introduced, .. } = &*table;
        let introduced = || introduced.get(&node_id).map(|(member, _)| member);
        let found = members.get(&node_id).or_else(|| trusted.get(&node_id)).or_else(introduced);
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
    fn who_is_introduced_is_known_until_the_record_says_more() {
        let pins = Pins::default();
        pins.replace([member(1, 1), member(2, 2)], true);
        assert_eq!(pins.check(3, &[3; 32]), Err(Stranger::Unknown(3)), "on its own word");
        assert!(!pins.introduce(member(3, 3), 4), "by a stranger");
        assert!(pins.introduce(member(3, 3), 2) && !pins.introduce(member(3, 3), 2));
        assert!(!pins.introduce(member(5, 5), 3), "by one that was introduced itself");
        assert_eq!(pins.check(3, &[3; 32]), Ok(()));
        assert_eq!(pins.check(3, &[4; 32]), Err(Stranger::OtherKey(3)));
        assert_eq!(pins.record(), [member(1, 1), member(2, 2)], "only the record is passed on");
        pins.replace([member(1, 1), member(2, 2), member(6, 6)], true);
        assert_eq!(pins.check(3, &[3; 32]), Ok(()), "a record that is older than the member");
        assert!(!pins.introduce(member(1, 9), 2), "the record counts");
        pins.replace([member(1, 1), member(2, 2), member(3, 3)], true);
        pins.replace([member(1, 1), member(2, 2)], true);
        assert_eq!(pins.check(3, &[3; 32]), Err(Stranger::Unknown(3)), "the record named it and names it no more");
        let far = Member { address: "x".repeat(ADDRESS_OCTETS_MAX + 1), ..member(7, 7) };
        assert!(!pins.introduce(far, 2));
        assert_eq!((10..1000).filter(|id| pins.introduce(member(*id, 1), 2)).count(), INTRODUCED_MAX);
    }

    #[test]
    fn who_vouched_takes_along_whom_it_introduced() {
        let gone: [fn(&Pins); 2] = [|pins| pins.bury(&BTreeSet::from([2])), |pins| pins.replace([member(1, 1)], true)];
        for go in gone {
            let pins = Pins::default();
            pins.replace([member(1, 1), member(2, 2)], true);
            assert!(pins.introduce(member(3, 3), 2));
            go(&pins);
            assert_eq!(pins.check(3, &[3; 32]), Err(Stranger::Unknown(3)));
            assert!(!pins.introduce(member(3, 3), 2));
        }
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
