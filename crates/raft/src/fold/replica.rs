//! One replica: the folded state and what the log itself remembers with it (time, chain, members, requests).
//!
//! It refuses transactions whose guards or revisions do not hold, identically on every replica.

use std::collections::BTreeSet;
use std::sync::Arc;

use certwright_core::log::{Append, Fold, Position, Transaction};
use certwright_core::mutant::{self, Mutant};
use certwright_core::time::Timestamp;
use certwright_proto::storage::DecodedEntry;

use super::dedup::{Dedup, DedupCut, Row};
use crate::chain::{self, Chain, Link};
use crate::consensus::record::entry_octets;
use crate::consensus::{Entry, EntryPayload, LogId, StoredMembership, term_of};
use crate::view::AppliedEntry;

/// Everything that a snapshot holds.
pub(crate) struct Replica<F: Fold> {
    pub(crate) state: F,
    /// The last entry applied.
    pub(crate) applied: Option<LogId>,
    /// The last transaction of the last entry that had any.
    pub(crate) position: Position,
    /// Log time; falls behind an entry that sets it back, and never else.
    pub(crate) at: Timestamp,
    /// Index of the newest entry that set log time back; 0 when none did.
    pub(crate) rebased: u64,
    pub(crate) chain: Chain,
    pub(crate) membership: StoredMembership,
    /// Ids that were members once and are no more; they never recur.
    pub(crate) removed: BTreeSet<u64>,
    /// Transactions that were skipped: bugs of ours, so few.
    pub(crate) refused: BTreeSet<Position>,
    pub(crate) dedup: Dedup,
}

/// A consistent copy of a replica, as cheap as the fold's own cut.
pub(crate) struct ReplicaCut<C> {
    pub(crate) state: C,
    pub(crate) applied: Option<LogId>,
    pub(crate) position: Position,
    pub(crate) at: Timestamp,
    pub(crate) rebased: u64,
    pub(crate) chain: Chain,
    pub(crate) membership: StoredMembership,
    pub(crate) removed: BTreeSet<u64>,
    pub(crate) refused: BTreeSet<Position>,
    pub(crate) dedup: DedupCut,
}

/// Why a replica skipped a transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refusal {
    /// The same actor committed the same request before, there.
    Repeated(Position),
    /// The same actor committed another request with this id before.
    Reused,
    /// A guard or an expected revision did not hold.
    Moved,
}

/// What applying one entry came to.
pub(crate) struct Outcome<E> {
    /// Log time after it.
    pub(crate) at: Timestamp,
    /// [`Replica::rebased`] after it: its own index, if it set log time back.
    pub(crate) rebased: u64,
    pub(crate) entry: Arc<AppliedEntry<E>>,
    /// For each transaction, why it was skipped.
    pub(crate) refusals: Vec<Option<Refusal>>,
}

impl<E> Outcome<E> {
    /// Whether log time was set back by that very entry. The first one of a log, at index 0, is consensus' own.
    pub(crate) fn sets_back(&self) -> bool {
        self.rebased > 0 && self.rebased == self.entry.index
    }
}

impl<F: Fold> Replica<F> {
    /// Before the first entry of a cluster.
    pub(crate) fn genesis(cluster_id: &[u8; 16]) -> Self {
        Self {
            state: F::default(),
            applied: None,
            position: Position::START,
            at: Timestamp::EPOCH,
            rebased: 0,
            chain: chain::genesis(cluster_id),
            membership: StoredMembership::default(),
            removed: BTreeSet::new(),
            refused: BTreeSet::new(),
            dedup: Dedup::default(),
        }
    }

    /// Index of the last entry applied; 0 before everything.
    pub(crate) fn index(&self) -> u64 {
        self.applied.as_ref().map_or(0, LogId::index)
    }

    /// Term of the last entry applied.
    pub(crate) fn term(&self) -> u64 {
        self.applied.as_ref().map_or(0, term_of)
    }

    /// A copy that later entries do not change.
    pub(crate) fn cut(&self) -> ReplicaCut<F::Cut> {
        ReplicaCut {
            state: self.state.cut(),
            applied: self.applied,
            position: self.position,
            at: self.at,
            rebased: self.rebased,
            chain: self.chain,
            membership: self.membership.clone(),
            removed: self.removed.clone(),
            refused: self.refused.clone(),
            dedup: self.dedup.cut(),
        }
    }

    /// Applies the next entry; `decoded` is its payload when it has transactions.
    pub(crate) fn apply(&mut self, entry: &Entry, decoded: Option<DecodedEntry<F::Event>>) -> Outcome<F::Event> {
        let (index, term) = (entry.log_id.index(), term_of(&entry.log_id));
        let (kind, payload) = entry_octets(entry);
        self.chain = chain::next(&self.chain, Link { index, term, node: 0, kind }, &payload);
        self.applied = Some(entry.log_id);
        if let EntryPayload::Membership(membership) = &entry.payload {
            self.join_and_leave(StoredMembership::new(Some(entry.log_id), membership.clone()));
        }
        let (at, transactions) =
            decoded.map_or((Timestamp::EPOCH, Vec::new()), |decoded| (decoded.at, decoded.transactions));
        self.at = if mutant::is(Mutant::LogTimeGoesBack) { at } else { self.at.max(at) };
        self.dedup.evict(self.at);
        let mut refusals = Vec::with_capacity(transactions.len());
        for (ordinal, transaction) in transactions.iter().enumerate() {
            let position = Position { index, ordinal: ordinal as u32 };
            let refusal = self.refusal(transaction);
            match refusal {
                None => self.take(position, transaction),
                Some(_) => {
                    self.refused.insert(position);
                }
            }
            self.position = position;
            refusals.push(refusal);
        }
        self.rebase(index, &transactions, &refusals);
        let refused = refusals.iter().map(Option::is_some).collect();
        let entry = Arc::new(AppliedEntry { index, at, transactions, refused });
        Outcome { at: self.at, rebased: self.rebased, entry, refusals }
    }

    /// Sets log time back where a transaction that took effect says so: behind the whole entry, whose stamp holds for all of
    /// it. Rows of requests are no younger than that: one of the future would hold up all that come after it.
    fn rebase(&mut self, index: u64, transactions: &[Transaction<F::Event>], refusals: &[Option<Refusal>]) {
        let taken = transactions.iter().zip(refusals).filter(|(_, refusal)| refusal.is_none());
        let events = taken.flat_map(|(transaction, _)| &transaction.appends).flat_map(|append| &append.events);
        if let Some(to) = events.filter_map(F::rebases).last() {
            (self.at, self.rebased) = (self.at.min(to), index);
            self.dedup.rebase(self.at);
        }
    }

    fn join_and_leave(&mut self, membership: StoredMembership) {
        let now: BTreeSet<u64> = membership.nodes().map(|(&id, _)| id).collect();
        self.removed.extend(self.membership.nodes().map(|(&id, _)| id).filter(|id| !now.contains(id)));
        self.membership = membership;
    }

    fn refusal(&self, transaction: &Transaction<F::Event>) -> Option<Refusal> {
        match self.dedup.get(&(transaction.request_id, transaction.actor.clone())) {
            Some((digest, position)) if digest == transaction.request_digest => {
                return Some(Refusal::Repeated(position));
            }
            Some(_) => return Some(Refusal::Reused),
            None => {}
        }
        let guards_hold = transaction.guards.iter().all(|guard| self.state.revision(&guard.stream) == guard.revision);
        let moved = !guards_hold || !self.revisions_hold(&transaction.appends);
        moved.then_some(Refusal::Moved)
    }

    /// Expected revisions count the events that earlier appends of the same transaction add to the stream.
    fn revisions_hold(&self, appends: &[Append<F::Event>]) -> bool {
        appends.iter().enumerate().all(|(place, append)| {
            let Some(expected) = append.expected else { return true };
            let earlier: usize = appends[..place]
                .iter()
                .filter(|earlier| earlier.expected.is_some() && earlier.stream == append.stream)
                .map(|earlier| earlier.events.len())
                .sum();
            self.state.revision(&append.stream) + earlier as u64 == expected
        })
    }

    fn take(&mut self, position: Position, transaction: &Transaction<F::Event>) {
        for append in &transaction.appends {
            append.fold_into(&mut self.state, position, self.at, &transaction.actor);
        }
        self.dedup.insert(Row {
            actor: transaction.actor.clone(),
            id: transaction.request_id,
            digest: transaction.request_digest,
            position,
            at: self.at,
        });
    }
}

#[cfg(test)]
mod tests;
