//! How long this node has been out of touch: no leader speaks to it, or as leader no quorum answers it.
//!
//! It refuses to guess why: a node that was cut off and one that was removed look the same from here.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use certwright_core::log::Fold;
use openraft::async_runtime::{Instant, WatchReceiver};

use super::Log;

/// When a leader spoke last, by this node's monotonic clock.
#[derive(Debug, Default)]
pub(crate) struct Heard(AtomicU64);

impl Heard {
    /// A leader has just spoken, or this node has just begun to listen.
    pub(crate) fn note(&self, now: Duration) {
        self.0.fetch_max(now.as_millis() as u64, Ordering::Relaxed);
    }

    /// How long that is ago.
    pub(super) fn since(&self, now: Duration) -> Duration {
        now.saturating_sub(Duration::from_millis(self.0.load(Ordering::Relaxed)))
    }
}

impl<F: Fold> Log<F> {
    /// How long no leader has spoken to this node, or, as long as it takes itself for the leader, no quorum has answered
    /// it. What it knows is at least that old; whoever waits for news is better served elsewhere.
    pub fn silence(&self) -> Duration {
        let unheard = self.inner.heard.since(self.inner.shared.seams.clock.monotonic());
        if !self.leadership().borrow().is_self {
            return unheard;
        }
        let metrics = self.inner.raft.metrics().borrow_watched().clone();
        // The only voter is its own quorum.
        if metrics.membership_config.voter_ids().count() <= 1 {
            return Duration::ZERO;
        }
        // Before the first answer there is what it heard of the leader before.
        metrics.last_quorum_acked.map_or(unheard, |acked| acked.elapsed().min(unheard))
    }
}
