//! What has been applied, as readers see it.
//!
//! It refuses writes: state changes only by applying the log.

use certwright_core::log::{Position, RequestId, Transaction};
use certwright_core::time::Timestamp;

use crate::chain::Chain;
use crate::fold::dedup::Dedup;

/// Where and when a transaction was committed and applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Committed {
    /// Its position.
    pub position: Position,
    /// Log time of its entry.
    pub at: Timestamp,
}

/// State at one moment; holds the state's lock, so keep it short.
pub struct View<'a, F> {
    /// The folded state.
    pub state: &'a F,
    /// Position of the last transaction of the last entry applied.
    pub position: Position,
    /// Log time of the last entry applied.
    pub at: Timestamp,
    /// Index of the last entry applied, one of consensus itself included; 0 before everything.
    pub index: u64,
    /// The log's hash chain after that entry.
    pub chain: Chain,
    pub(crate) dedup: &'a Dedup,
}

impl<F> View<'_, F> {
    /// Digest and position of the request with this id that the actor committed within the deduplication window.
    pub fn repeated(&self, actor: &str, id: RequestId) -> Option<([u8; 16], Position)> {
        self.dedup.find(actor, id)
    }
}

/// One applied entry, decoded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AppliedEntry<E> {
    /// Its index.
    pub index: u64,
    /// Its log time, as its leader stamped it; the epoch for entries of consensus itself.
    pub at: Timestamp,
    /// Its transactions, in order; empty for entries of consensus itself.
    pub transactions: Vec<Transaction<E>>,
    /// For each transaction, whether replicas skipped it: a guard or revision did not hold, or it was a repeat.
    pub refused: Vec<bool>,
}

/// A transaction that took effect.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Effective<E> {
    /// Its log time.
    pub at: Timestamp,
    /// The transaction.
    pub transaction: Transaction<E>,
}

impl<E> AppliedEntry<E> {
    /// The transactions that took effect, with their positions.
    pub fn effective(&self) -> impl Iterator<Item = (Position, &Transaction<E>)> {
        self.transactions
            .iter()
            .zip(&self.refused)
            .enumerate()
            .filter(|(_, (_, refused))| !**refused)
            .map(|(ordinal, (transaction, _))| (Position { index: self.index, ordinal: ordinal as u32 }, transaction))
    }
}
