//! The task that asks the voters what their clocks show, and gives way when this node leads with a wrong one.
//!
//! It refuses answers that took long: they say little about now.

use std::sync::Arc;

use certwright_core::log::Fold;
use certwright_core::time::Timestamp;
use certwright_proto::internal::v1::ClockRequest;
use futures_util::future::join_all;
use openraft::Raft;
use openraft::async_runtime::WatchReceiver;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::Log;
use crate::clocks::{ClockJump, Clocks, ClocksApart};
use crate::consensus::Types;
use crate::fold::machine::Machine;
use crate::fold::shared::Shared;
use crate::limits::{CLOCK_AHEAD_MAX, CLOCK_ANSWER_TIMEOUT, CLOCK_EVERY, CLOCK_HASTE};
use crate::member::Leadership;
use crate::peer::channels::{Channels, Lane};
use crate::peer::client::raft_client;

/// Rounds in a row in which a leader's clock is wrong before it gives way: one could be a machine that woke up.
const ROUNDS_WRONG: u32 = 2;

impl<F: Fold> Log<F> {
    /// This node's clock, bounded by those of the voters: what log time would be stamped with now if it were not ahead.
    /// Decisions go by the later of both.
    pub fn clock(&self) -> Timestamp {
        if !self.inner.leadership.borrow().is_self {
            self.inner.shared.clocks.go_on_from_log();
        }
        self.inner.shared.clocks.now()
    }

    /// [`clock`](Self::clock) went ahead of the time that passed, at once: a quorum of clocks jumped, or all were away for
    /// long. Told until [`forget_jump`](Self::forget_jump).
    pub fn clock_jump(&self) -> Option<ClockJump> {
        self.inner.shared.clocks.jump()
    }

    /// That jump is on record.
    pub fn forget_jump(&self, known: ClockJump) {
        self.inner.shared.clocks.forget_jump(known);
    }

    /// Whether the clocks of a majority are known, and none of them is in doubt.
    pub fn clocks_known(&self) -> bool {
        self.inner.shared.clocks.is_known()
    }

    /// Log time: what the newest entry that is applied here says, and the time that has passed since.
    pub fn log_time(&self) -> Timestamp {
        self.inner.shared.clocks.log_time()
    }

    /// The time that all voters' clocks show which are known, a majority's at least: where log time may be set back to.
    pub fn agreed_clock(&self) -> Result<Timestamp, ClocksApart> {
        self.inner.shared.clocks.agreed()
    }

    /// Milliseconds that this node's clock is ahead of the voters' median; `None` while fewer than three are known.
    pub fn clock_ahead_millis(&self) -> Option<i64> {
        self.inner.shared.clocks.compare().map(|comparison| comparison.ahead_millis)
    }
}

/// What the task needs.
pub(crate) struct Timekeeper<F: Fold> {
    pub(crate) raft: Raft<Types, Machine<F>>,
    pub(crate) shared: Arc<Shared<F>>,
    pub(crate) channels: Arc<Channels>,
    pub(crate) leadership: watch::Receiver<Leadership>,
}

impl<F: Fold> Timekeeper<F> {
    /// The task.
    pub(crate) async fn run(self, cancel: CancellationToken) {
        let (mut wrong, clocks) = (0, &self.shared.clocks);
        loop {
            join_all(clocks.others().into_iter().map(|voter| ask(clocks, &self.channels, voter))).await;
            clocks.look();
            wrong = if self.is_wrong() { wrong + 1 } else { 0 };
            if wrong >= ROUNDS_WRONG {
                self.give_way().await;
            }
            tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                () = sleep(if clocks.is_known() { CLOCK_EVERY } else { CLOCK_HASTE }) => {}
            }
        }
    }

    fn is_wrong(&self) -> bool {
        let comparison = self.shared.clocks.compare();
        let ahead_millis = comparison.as_ref().map_or(0, |it| it.ahead_millis);
        let metrics = &self.shared.metrics;
        metrics.clock_ahead_seconds.set(ahead_millis as f64 / 1000.0);
        let clock = Timestamp::from_millis(self.shared.seams.clock.wall_millis());
        metrics.log_time_ahead_seconds.set(self.shared.clocks.log_time().since(clock).as_secs_f64());
        let Some(comparison) = comparison else { return false };
        comparison.ahead_millis.unsigned_abs() > CLOCK_AHEAD_MAX.as_millis() as u64
    }

    /// Hands leadership to the voter with a good clock that has most of the log.
    async fn give_way(&self) {
        let Some(comparison) = self.shared.clocks.compare() else { return };
        let ahead_ms = comparison.ahead_millis;
        if !self.leadership.borrow().is_self {
            return tracing::warn!(ahead_ms, "this machine's clock is wrong: set it right");
        }
        let metrics = self.raft.metrics().borrow_watched().clone();
        let matched = |id: &u64| metrics.replication.as_ref().and_then(|all| all.get(id).copied().flatten());
        let best = comparison.close.iter().filter_map(|id| Some((matched(id)?, *id))).max();
        tracing::error!(ahead_ms, to = best.map(|(_, id)| id), "this leader's clock is wrong: another one takes over");
        if let Some((_, to)) = best
            && let Err(error) = self.raft.trigger().transfer_leader(to).await
        {
            tracing::warn!(%error, to, "leadership was not handed over");
        }
    }
}

async fn ask(clocks: &Clocks, channels: &Channels, voter: u64) {
    let Some(channel) = channels.get(voter, Lane::Heartbeat) else { return };
    let (asked, mut client) = (clocks.monotonic(), raft_client(channel));
    if let Ok(Ok(answer)) = timeout(CLOCK_ANSWER_TIMEOUT, client.clock(ClockRequest {})).await {
        clocks.note(voter, answer.into_inner().wall_millis, asked, clocks.monotonic());
    }
}
