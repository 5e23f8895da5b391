//! Chain values of the live log, one for each entry, so that a truncation can go back to any of them.
//!
//! It refuses entries: it keeps values only.

use std::collections::VecDeque;

use super::Record;
use super::header::ChainPoint;
use crate::chain::{self, Chain, Link};

/// The chain over the live range of the log.
#[derive(Debug)]
pub(super) struct Chains {
    /// Where the range begins.
    base: ChainPoint,
    /// The value after each entry from `base.next_index` on.
    values: VecDeque<Option<Chain>>,
}

impl Chains {
    pub(super) fn new(base: ChainPoint) -> Self {
        Self { base, values: VecDeque::new() }
    }

    /// Where the log ends.
    pub(super) fn end(&self) -> ChainPoint {
        let next_index = self.base.next_index + self.values.len() as u64;
        ChainPoint { next_index, chain: self.values.back().copied().unwrap_or(self.base.chain) }
    }

    /// Adds the next entry.
    pub(super) fn push(&mut self, record: &Record) {
        let Record { index, term, node, kind, ref payload } = *record;
        let link = Link { index, term, node, kind };
        self.values.push_back(self.end().chain.map(|previous| chain::next(&previous, link, payload)));
    }

    /// The point before `next_index`; its value is `None` outside the live range.
    pub(super) fn at(&self, next_index: u64) -> ChainPoint {
        let chain = match next_index.checked_sub(self.base.next_index) {
            Some(0) => self.base.chain,
            Some(count) => self.values.get(count as usize - 1).copied().flatten(),
            None => None,
        };
        ChainPoint { next_index, chain }
    }

    /// Drops everything after the point; one before the range becomes the range's new start.
    pub(super) fn truncate(&mut self, point: ChainPoint) {
        match point.next_index.checked_sub(self.base.next_index) {
            Some(count) => self.values.truncate(count as usize),
            None => *self = Self::new(point),
        }
    }

    /// Drops everything before the point; one after the range empties it and the chain goes on from the point's value.
    pub(super) fn purge(&mut self, point: ChainPoint) {
        match point.next_index.checked_sub(self.base.next_index) {
            Some(count) if count as usize <= self.values.len() => {
                self.base = self.at(point.next_index);
                self.values.drain(..count as usize);
            }
            Some(_) => *self = Self::new(point),
            None => {}
        }
    }
}
