//! Watching the log from a position: every transaction that took effect after it, once and in order.
//!
//! It refuses to drop: a slow watcher is served from disk.

use std::collections::VecDeque;
use std::sync::Arc;

use certwright_core::log::{Fold, Position};
use certwright_core::time::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::error::ReadError;
use crate::handle::entries::Entries;
use crate::member::Mark;
use crate::view::AppliedEntry;

/// Entries fetched at a time.
const FETCH_ENTRIES: usize = 64;

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
    /// Nothing more took effect up to and including this position; resume after it. Comes when a watcher has caught up
    /// over entries that had nothing for it.
    Bookmark(Position),
}

/// A watcher's place in the log.
pub struct Watch<F: Fold> {
    entries: Arc<Entries<F>>,
    applied: watch::Receiver<Mark>,
    stopped: CancellationToken,
    /// Everything up to here was told or skipped.
    seen: Position,
    /// What a bookmark would say; `None` when nothing was skipped since the last item.
    skipped: Option<Position>,
    fetched: VecDeque<Arc<AppliedEntry<F::Event>>>,
}

impl<F: Fold> Watch<F> {
    /// Watches after a position; `TooOld` when entries after it are not kept here.
    pub(crate) async fn new(
        entries: Arc<Entries<F>>,
        stopped: CancellationToken,
        after: Position,
    ) -> Result<Self, ReadError> {
        let applied = entries.watch();
        let mut watch = Self { entries, applied, stopped, seen: after, skipped: None, fetched: VecDeque::new() };
        watch.fetch().await?;
        Ok(watch)
    }

    /// The next item; `Stopped` when the log has stopped, `TooOld` when its archive no longer reaches back to this
    /// watcher. Ask no more after an error.
    pub async fn next(&mut self) -> Result<WatchItem<F::Event>, ReadError> {
        loop {
            if let Some(item) = self.take() {
                return Ok(item);
            }
            self.applied.borrow_and_update();
            if self.fetch().await? {
                continue;
            }
            if let Some(position) = self.skipped.take() {
                return Ok(WatchItem::Bookmark(position));
            }
            tokio::select! {
                biased;
                () = self.stopped.cancelled() => return Err(ReadError::Stopped),
                changed = self.applied.changed() => changed.map_err(|_| ReadError::Stopped)?,
            }
        }
    }

    /// Fetches what follows; says whether there was anything.
    async fn fetch(&mut self) -> Result<bool, ReadError> {
        // The entry of the last position may have more transactions; index 0 holds none and may be long gone.
        let from = match self.fetched.back() {
            Some(last) => last.index + 1,
            None if self.skipped_whole(self.seen) => self.seen.index + 1,
            None => self.seen.index,
        };
        self.fetched.extend(self.entries.fetch(from, FETCH_ENTRIES).await?);
        Ok(!self.fetched.is_empty())
    }

    /// Whether nothing of the entry at that position is left to tell.
    fn skipped_whole(&self, position: Position) -> bool {
        position == Position::START || position.ordinal == u32::MAX
    }

    fn take(&mut self) -> Option<WatchItem<F::Event>> {
        while let Some(entry) = self.fetched.front() {
            let next = entry.effective().map(|(position, _)| position).find(|position| *position > self.seen);
            if let Some(position) = next {
                let (at, entry) = (entry.at, Arc::clone(entry));
                self.seen = position;
                self.skipped = None;
                return Some(WatchItem::Transaction { position, at, entry, ordinal: position.ordinal });
            }
            let end = Position { index: entry.index, ordinal: u32::MAX };
            if self.seen < end {
                // Nothing or nothing more in this entry: told as a bookmark only when it had nothing at all.
                if self.seen.index < entry.index {
                    self.skipped = Some(Position { index: entry.index, ordinal: last_ordinal(entry) });
                }
                self.seen = end;
            }
            self.fetched.pop_front();
        }
        None
    }
}

fn last_ordinal<E>(entry: &AppliedEntry<E>) -> u32 {
    entry.transactions.len().saturating_sub(1) as u32
}
