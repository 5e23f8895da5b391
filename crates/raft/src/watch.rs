//! Watching the log from a position: every transaction that took effect after it, once and in order.
//!
//! It refuses to drop: a slow watcher is served from disk.

use std::sync::Arc;

use certwright_core::log::{Fold, Position};
use certwright_core::time::Timestamp;

use crate::view::AppliedEntry;

/// What a watcher is told.
#[derive(Clone, Debug)]
pub enum WatchItem<E> {
    /// A transaction took effect.
    Transaction {
        /// Its position; resume after it.
        position: Position,
        /// Log time of its entry.
        at: Timestamp,
        /// The entry that holds it.
        entry: Arc<AppliedEntry<E>>,
        /// Its place in the entry.
        ordinal: u32,
    },
    /// Nothing took effect up to and including this position; resume after it.
    Bookmark(Position),
}

/// A watcher's place in the log.
pub struct Watch<F: Fold> {
    _fold: std::marker::PhantomData<F>,
}

impl<F: Fold> Watch<F> {
    /// The next item; `None` when the log has stopped or its archive no longer reaches back to this watcher.
    pub async fn next(&mut self) -> Option<WatchItem<F::Event>> {
        None
    }
}
