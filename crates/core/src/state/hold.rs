//! Renewals held back because log time jumped or was set back: how many were begun in the present hour.
//!
//! It refuses to decide how many may be: that is the leader's configuration.

use std::time::Duration;

use crate::time::Timestamp;

/// Over which renewals are counted.
const SPAN: Duration = Duration::from_secs(3600);

/// Log time went ahead of the time that passed, or was set back, and nobody has said yet that this is right: what became due by it is
/// renewed a little at a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RenewalHold {
    /// Log time when it began.
    pub since: Timestamp,
    /// How far it went ahead, or was set back, milliseconds.
    pub ahead_millis: u64,
    /// When the present hour began.
    pub hour: Timestamp,
    /// Renewals begun in it.
    pub begun: u64,
}

impl RenewalHold {
    /// It begins.
    pub fn new(since: Timestamp, ahead_millis: u64) -> Self {
        Self { since, ahead_millis, hour: since, begun: 0 }
    }

    /// How many of that many renewals an hour are left now.
    pub fn left(&self, an_hour: u64, now: Timestamp) -> u64 {
        if now >= self.hour.plus(SPAN) { an_hour } else { an_hour.saturating_sub(self.begun) }
    }

    /// One more is begun.
    pub(super) fn begin(&mut self, at: Timestamp) {
        if at >= self.hour.plus(SPAN) {
            (self.hour, self.begun) = (at, 0);
        }
        self.begun += 1;
    }
}
