//! How much of the history is kept, and from when on what was let go may be deleted.
//!
//! It refuses to take the leader's word: whoever is about to delete asks here again, by a time of its own.

use std::time::Duration;

use super::Cluster;
use crate::event::HistoryTrimmed;
use crate::limits::{RETENTION_GRACE, RETENTION_MARGIN};
use crate::mutant::{self, Mutant};
use crate::time::Timestamp;

/// How much of the history is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Retention {
    /// For how long, in whole seconds; `None` for ever.
    pub keep: Option<Duration>,
    /// Log time when that was set, or lowered last; `None` while all is kept.
    pub since: Option<Timestamp>,
    /// Where it begins, once something was let go.
    pub trimmed: Option<HistoryTrimmed>,
    /// What was set when that was said: what is set later neither hastens nor delays it.
    pub under: Option<Setting>,
}

/// For how long history is kept, and since when that is so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Setting {
    /// For how long.
    pub keep: Duration,
    /// Log time when that was set, or lowered last.
    pub since: Timestamp,
}

/// Why history is not deleted yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StillKept {
    /// It is in doubt what time it is.
    #[error("log time jumped, or was set back, and nobody has said yet that it is right")]
    Held,
    /// Nothing was to be let go.
    #[error("all history is kept")]
    Forever,
    /// Somebody may think better of it.
    #[error("how long history is kept was set at {0}: nothing goes within a day of that")]
    SetAt(Timestamp),
    /// An entry is too young.
    #[error("what was written at {} is to be kept for {} s and a week", .0, .1.as_secs())]
    Young(Timestamp, Duration),
    /// A certificate has not ended.
    #[error("a certificate in it ends at {0}: it stays for a week after that")]
    Unended(Timestamp),
}

impl Setting {
    /// Whether what is claimed of a part of the history lets it go at that time.
    pub fn lets_go(&self, claimed: &HistoryTrimmed, now: Timestamp) -> Result<(), StillKept> {
        let Self { keep, since } = *self;
        if since.plus(RETENTION_GRACE) > now {
            return Err(StillKept::SetAt(since));
        }
        if claimed.last_at.plus(keep).plus(RETENTION_MARGIN) > now {
            return Err(StillKept::Young(claimed.last_at, keep));
        }
        if claimed.last_not_after.plus(RETENTION_MARGIN) >= now && !mutant::is(Mutant::TrimsUnexpired) {
            return Err(StillKept::Unended(claimed.last_not_after));
        }
        Ok(())
    }
}

impl Retention {
    /// What is set; `None` while all is kept.
    pub fn setting(&self) -> Option<Setting> {
        let (keep, since) = self.keep.zip(self.since)?;
        Some(Setting { keep, since })
    }

    /// It is kept for so long from then on, or for ever.
    pub(super) fn set(&mut self, keep: Option<Duration>, at: Timestamp) {
        // Only what makes more of it go is to be thought over.
        let is_lowered = self.keep.zip(keep).is_none_or(|(before, keep)| keep < before);
        if is_lowered || self.since.is_none() {
            self.since = Some(at);
        }
        self.since = self.since.filter(|_| keep.is_some());
        self.keep = keep;
    }

    /// It begins later; where it began before is behind everybody, whatever is said.
    pub(super) fn let_go(&mut self, trimmed: HistoryTrimmed) {
        if self.trimmed.is_none_or(|before| before.first_index < trimmed.first_index) {
            (self.under, self.trimmed) = (self.setting(), Some(trimmed));
        }
    }

    /// Log time was set back to then: nothing of this happened later.
    pub(super) fn rebase(&mut self, to: Timestamp) {
        self.since = self.since.map(|at| at.min(to));
        if let Some(under) = &mut self.under {
            under.since = under.since.min(to);
        }
        if let Some(trimmed) = &mut self.trimmed {
            trimmed.last_at = trimmed.last_at.min(to);
        }
    }
}

impl Cluster {
    /// Whether a server may delete what was let go last. `now` is the earlier of log time and its own clock: one leader that
    /// is wrong about the time, or lies, must not make everybody delete.
    pub fn may_delete(&self, now: Timestamp) -> Result<(), StillKept> {
        if self.hold.is_some() {
            return Err(StillKept::Held);
        }
        let Retention { trimmed, under, .. } = &self.retention;
        match trimmed {
            Some(trimmed) => under.as_ref().ok_or(StillKept::Forever)?.lets_go(trimmed, now),
            None => Err(StillKept::Forever),
        }
    }
}
