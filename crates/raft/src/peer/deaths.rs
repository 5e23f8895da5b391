//! What this node itself has seen of others' processes: the connections that they hold here, and whose end was proved.
//!
//! It refuses hearsay: what another node says of a leader's death changes nothing here.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use certwright_core::mutant::{self, Mutant};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use crate::consensus::Vote;

/// Connections that peers hold here, by node: a leader has some as long as its process lives and can be reached.
type Open = BTreeMap<u64, usize>;

/// What this node has seen.
#[derive(Default)]
pub(crate) struct Deaths {
    open: watch::Sender<Open>,
    /// The newest leader whose process is known to have died. It leads no more in that term, whatever is started later.
    proved: Mutex<Option<Vote>>,
    /// The term for which this node stands because the leader before it died; 0 for none.
    standing: AtomicU64,
    /// Told when another node asks about a leader that is dead as this node sees it, too.
    pub(crate) suspected: Notify,
}

/// One connection of a peer, as long as it lasts.
pub(crate) struct Link {
    deaths: Arc<Deaths>,
    node_id: u64,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.deaths.open.send_modify(|open| {
            if let Some(count) = open.get_mut(&self.node_id) {
                *count -= 1;
                if *count == 0 {
                    open.remove(&self.node_id);
                }
            }
        });
    }
}

impl Deaths {
    /// Notes a connection of a peer until the link is dropped.
    pub(crate) fn link(self: &Arc<Self>, node_id: u64) -> Link {
        self.open.send_modify(|open| *open.entry(node_id).or_default() += 1);
        Link { deaths: Arc::clone(self), node_id }
    }

    /// Told of every connection that comes or goes.
    pub(crate) fn links(&self) -> watch::Receiver<Open> {
        self.open.subscribe()
    }

    /// Whether the peer holds a connection here.
    pub(crate) fn is_linked(&self, node_id: u64) -> bool {
        self.open.borrow().contains_key(&node_id)
    }

    /// Whether the peer holds no connection here, or none any more within a moment: those of one process do not all end
    /// at once.
    pub(crate) async fn ends(&self, node_id: u64, within: Duration) -> bool {
        let mut open = self.open.subscribe();
        timeout(within, open.wait_for(|open| !open.contains_key(&node_id))).await.is_ok()
    }

    fn proved(&self) -> MutexGuard<'_, Option<Vote>> {
        self.proved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers that the leader of that vote is dead.
    pub(crate) fn bury(&self, leader: Vote) {
        *self.proved() = Some(leader);
    }

    /// Whether this node itself has proved that the leader of that vote is dead.
    pub(crate) fn is_buried(&self, leader: &Vote) -> bool {
        let of_any_term = |proved: &Vote| {
            mutant::is(Mutant::DeathInEveryTerm) && proved.leader_id().voted_for == leader.leader_id().voted_for
        };
        self.proved().as_ref().is_some_and(|proved| proved == leader || of_any_term(proved))
    }

    /// Stands for the term after that leader's.
    pub(crate) fn stand_after(&self, leader: &Vote) {
        self.standing.store(leader.leader_id().term + 1, Ordering::Relaxed);
    }

    /// The dead leader that a request for votes of that term goes back to.
    pub(crate) fn predecessor(&self, term: u64) -> Option<Vote> {
        let stands = self.standing.load(Ordering::Relaxed) == term;
        stands.then(|| *self.proved()).flatten()
    }

    /// Whether a request for votes that says that this leader is dead may void its lease here: only on own proof.
    pub(crate) fn voids_lease(&self, dead: &Vote) -> bool {
        mutant::is(Mutant::DeathByHearsay) || self.is_buried(dead) && !self.is_linked(dead.leader_id().voted_for)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_lease_is_void_for_who_has_proved_the_death_and_is_not_linked() {
        let deaths = Arc::new(Deaths::default());
        let leader = Vote::new_committed(3, 1);
        assert!(!deaths.voids_lease(&leader), "hearsay");
        deaths.bury(leader);
        assert!(deaths.voids_lease(&leader));
        assert!(!deaths.voids_lease(&Vote::new_committed(4, 1)), "another term's leader");
        assert!(!deaths.voids_lease(&Vote::new_committed(3, 2)), "another leader");
        let (one, two) = (deaths.link(1), deaths.link(1));
        drop(one);
        assert!(!deaths.voids_lease(&leader), "one connection is left");
        assert!(!deaths.ends(1, Duration::from_millis(10)).await);
        drop(two);
        assert!(deaths.voids_lease(&leader) && deaths.ends(1, Duration::from_millis(10)).await);
    }

    #[test]
    fn only_the_term_after_the_dead_leaders_goes_back_to_it() {
        let deaths = Deaths::default();
        let leader = Vote::new_committed(3, 1);
        deaths.bury(leader);
        assert_eq!(deaths.predecessor(4), None, "it has not stood");
        deaths.stand_after(&leader);
        assert_eq!(deaths.predecessor(4), Some(leader));
        assert_eq!(deaths.predecessor(5), None);
    }
}
