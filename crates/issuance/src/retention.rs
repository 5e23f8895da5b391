//! Letting history go: the leader says from where on it is kept, every server deletes the rest for itself.
//!
//! It refuses on any doubt: what is younger than it is to be kept for, or holds a certificate that has not ended, stays, by
//! the earlier of log time and this machine's clock; nobody deletes what the leader did not vouch for in the log, nor on the
//! leader's word alone.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use certwright_core::Rejection;
use certwright_core::command::Command;
use certwright_core::event::{Event, HistoryTrimmed};
use certwright_core::limits::{RETENTION_GRACE, RETENTION_MARGIN};
use certwright_core::log::Trace;
use certwright_core::mutant::{self, Mutant};
use certwright_core::state::{Rebase, Retention, State, StillKept};
use certwright_core::time::Timestamp;
use certwright_raft::wal::Floor;
use certwright_raft::{Allow, AppliedEntry, Beginning, DIGEST_VERSION, Leadership, Log, TrimError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::session::{Session, Tools};

/// Between looks at what the log says.
const TICK: Duration = Duration::from_secs(5);
/// Between looks at the history itself: reading it takes longer the more there is.
const LOOK_EVERY: Duration = Duration::from_secs(600);
/// After a failure.
const RETRY: Duration = Duration::from_secs(60);
/// The same, at most, after one that hardly mends by itself: each attempt may read all of the history.
const RETRY_MAX: Duration = Duration::from_secs(4 * 3600);
/// Between looks at every octet of the snapshot that history begins with.
const VERIFY_EVERY: Duration = Duration::from_secs(24 * 3600);

/// Why nothing was let go.
#[derive(Debug, thiserror::Error)]
enum Obstacle {
    #[error("{0}")]
    Refused(#[from] Rejection),
    #[error("{0}")]
    Trim(#[from] TrimError),
    #[error("{0}")]
    Kept(#[from] StillKept),
    #[error("the state that history begins with was hashed in form {0}, which this build does not know")]
    Form(u32),
}

impl Obstacle {
    /// Whether it will most likely be there the next time.
    fn lasts(&self) -> bool {
        match self {
            Self::Form(_) => true,
            Self::Trim(error) => {
                matches!(error, TrimError::Differs(_) | TrimError::Kept { .. } | TrimError::Storage(_))
            }
            Self::Refused(_) | Self::Kept(_) => false,
        }
    }
}

/// How long to wait: longer after each failure that lasts.
#[derive(Default)]
struct Patience {
    failures: u32,
}

impl Patience {
    fn after(&mut self, outcome: &Result<(), Obstacle>) -> Duration {
        match outcome {
            Ok(()) => {
                self.failures = 0;
                TICK
            }
            Err(obstacle) if obstacle.lasts() => {
                let wait = RETRY.saturating_mul(1 << self.failures.min(16)).min(RETRY_MAX);
                self.failures = self.failures.saturating_add(1);
                wait
            }
            Err(_) => RETRY,
        }
    }
}

/// Runs on every server until the log stops: does what the log says.
pub(crate) async fn follow(tools: Arc<Tools>, stopped: CancellationToken) {
    let (mut wait, mut patience, mut leadership) = (TICK, Patience::default(), tools.log.leadership());
    let mut verify_at = Duration::ZERO;
    loop {
        tokio::select! {
            biased;
            () = stopped.cancelled() => return,
            () = ended(&mut leadership) => return,
            () = tokio::time::sleep(wait) => {}
        }
        let outcome = obey(&tools, &mut verify_at).await;
        wait = patience.after(&outcome);
        if let Err(Obstacle::Trim(TrimError::Differs(first_index))) = outcome {
            tools.contradicted.store(first_index, Ordering::Relaxed);
        }
        match outcome {
            Ok(()) => {}
            Err(Obstacle::Trim(error @ (TrimError::Differs(_) | TrimError::Kept { .. }))) => {
                tracing::error!(%error, "history is not let go here: this is a bug, or this server's log was altered");
            }
            Err(error) => tracing::warn!(%error, "history is not let go here yet"),
        }
    }
}

/// Resolves when the log has stopped.
async fn ended(leadership: &mut watch::Receiver<Leadership>) {
    while leadership.changed().await.is_ok() {}
}

/// Trims this server's history to where the log says, unless it is so, once that is due by this server's own clock as well. A
/// server that has nothing that could go, or let it go before, gets what history begins with at any time.
async fn obey(tools: &Tools, verify_at: &mut Duration) -> Result<(), Obstacle> {
    let now = tools.log.log_time().min(Timestamp::from_millis(tools.seams.clock.wall_millis()));
    let (trimmed, is_due, rebases) = tools.log.read(|view| {
        let cluster = &view.state.cluster;
        (cluster.retention.trimmed, cluster.may_delete(now), cluster.rebases.clone())
    });
    let Some(trimmed) = trimmed else { return Ok(()) };
    let here = tools.seams.clock.monotonic();
    if here >= *verify_at {
        tools.log.verify_base().await?;
        *verify_at = here + VERIFY_EVERY;
    }
    let floor = Floor { first_index: trimmed.first_index, chain: trimmed.chain };
    tools.log.divide_gap(floor).await?;
    let kept = tools.log.kept();
    let begins_there = kept.filter(|kept| kept.first_index == trimmed.first_index);
    let is_so = begins_there.is_some_and(|kept| kept.at.is_some());
    let is_later = kept.is_some_and(|kept| kept.first_index > trimmed.first_index);
    if is_so && !tools.log.has_leftovers() || is_later {
        return Ok(());
    }
    let lacks_base_alone = begins_there.is_some_and(|kept| kept.at.is_none());
    if !lacks_base_alone && !tools.log.lacks_all_before(trimmed.first_index) {
        is_due?;
    }
    if trimmed.digest_version != DIGEST_VERSION {
        return Err(Obstacle::Form(trimmed.digest_version));
    }
    let wanted = Beginning { floor, digest: trimmed.digest };
    let done = tools.log.trim(wanted, vouched_for(trimmed, rebases)).await?;
    tracing::info!(
        first_index = trimmed.first_index,
        segments = done.segments,
        octets = done.octets,
        "history begins later"
    );
    Ok(())
}

/// Lets go of what the leader has vouched for.
fn vouched_for(trimmed: HistoryTrimmed, rebases: Vec<Rebase>) -> Allow<Event> {
    Arc::new(move |entry| match newest(entry, &rebases) {
        (at, _) if at > trimmed.last_at => Err(format!("it was written at {at}")),
        (_, not_after) if not_after > trimmed.last_not_after => Err(format!("a certificate in it ends at {not_after}")),
        _ => Ok(()),
    })
}

/// Log time of an entry, by what holds now, and the latest end of the certificates issued in it. Certificates of authorities are
/// kept in state; of identities it has all that anybody asks for: who has one is told once, and then gets a new one.
fn newest(entry: &AppliedEntry<Event>, rebases: &[Rebase]) -> (Timestamp, Timestamp) {
    let appends = entry.transactions.iter().flat_map(|transaction| &transaction.appends);
    let ends = appends.flat_map(|append| &append.events).filter_map(|event| match event {
        Event::CertificateIssued(issued) => Some(issued.not_after),
        _ => None,
    });
    (Rebase::corrected(rebases, entry.index, entry.at), ends.max().unwrap_or(Timestamp::EPOCH))
}

/// What is known of the history: for which setting, and until when nothing changes.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Looked {
    retention: Retention,
    /// When it was last said that log time is right, which changes what is old.
    released_at: Option<Timestamp>,
    until: Timestamp,
    at: Duration,
}

/// Runs until the term is over.
pub(crate) async fn run(session: Arc<Session>) {
    let (mut looked, mut patience) = (None, Patience::default());
    loop {
        let outcome = look(&session, &mut looked).await;
        if let Err(obstacle) = &outcome {
            tracing::warn!("history is not let go: {obstacle}");
        }
        tokio::time::sleep(patience.after(&outcome)).await;
    }
}

/// Looks how much of the history may go, if that may have changed, and says so in the log when it is worth it.
async fn look(session: &Session, looked: &mut Option<Looked>) -> Result<(), Obstacle> {
    let Tools { log, seams, .. } = &*session.tools;
    let (retention, is_held, released_at, at) = log.read(|view| {
        let cluster = &view.state.cluster;
        (cluster.retention, cluster.hold.is_some(), cluster.released_at, view.at)
    });
    let Some(keep) = retention.keep.filter(|_| !is_held && is_time_known(log)) else { return Ok(()) };
    // Every server begins there before it begins later, where that can be.
    let before = retention.trimmed.map(|trimmed| trimmed.first_index);
    let is_contradicted = before == Some(session.tools.contradicted.load(Ordering::Relaxed));
    let is_behind = log.kept().map(|kept| kept.first_index) != before && !is_contradicted;
    let (now, here) = (at.min(Timestamp::from_millis(seams.clock.wall_millis())), seams.clock.monotonic());
    // Somebody may think better of it yet.
    if retention.since.is_some_and(|since| since.plus(RETENTION_GRACE) > now) {
        return Ok(());
    }
    let is_same = |it: &Looked| (it.retention, it.released_at) == (retention, released_at);
    let is_known = |it: &Looked| is_same(it) && (now < it.until || here < it.at + LOOK_EVERY);
    if is_behind || looked.as_ref().is_some_and(is_known) {
        return Ok(());
    }
    // A server that was away when history went before lets go of that as well, by what is vouched for now.
    let (last_at, last_not_after) = retention
        .trimmed
        .map_or((Timestamp::EPOCH, Timestamp::EPOCH), |before| (before.last_at, before.last_not_after));
    let found = Arc::new(Mutex::new(Found { last_at, last_not_after, until: now }));
    let rebases = log.read(|view| view.state.cluster.rebases.clone());
    let prefix = log.prefix(may_go(found.clone(), rebases, keep, now)).await?;
    let Found { last_at, last_not_after, until } = *found.lock().unwrap_or_else(PoisonError::into_inner);
    *looked = Some(Looked { retention, released_at, until, at: here });
    if prefix.octets < session.tools.trim_octets {
        return Ok(());
    }
    let Beginning { floor, digest } = log.survey(prefix.first_index, Arc::new(|_| Ok(()))).await?;
    let Floor { first_index, chain } = floor;
    // Folding takes its time, and a jump that was noticed meanwhile may not be on record yet.
    if !is_time_known(log) {
        *looked = None;
        return Ok(());
    }
    let digest_version = DIGEST_VERSION;
    let trimmed = HistoryTrimmed { first_index, chain, digest, digest_version, last_at, last_not_after };
    session.act(Trace::default(), Command::TrimHistory { trimmed }).await?;
    tracing::info!(first_index, octets = prefix.octets, %last_at, %last_not_after, "history is let go");
    Ok(())
}

/// Whether nothing is in doubt about the time: no jump waits to be put on record, and a majority's clocks are known.
fn is_time_known(log: &Log<State>) -> bool {
    // Reading the clock is what notices a jump.
    log.clock();
    log.clock_jump().is_none() && log.clocks_known()
}

/// What was found in what may go, and when the next entry may.
#[derive(Clone, Copy)]
struct Found {
    last_at: Timestamp,
    last_not_after: Timestamp,
    until: Timestamp,
}

/// Lets go of what is old enough and has ended, both by a margin: a jump of clocks while nobody ran may be as large and unnoticed.
fn may_go(found: Arc<Mutex<Found>>, rebases: Vec<Rebase>, keep: Duration, now: Timestamp) -> Allow<Event> {
    Arc::new(move |entry| {
        let (at, not_after) = newest(entry, &rebases);
        let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
        found.until = at.plus(keep).max(not_after).plus(RETENTION_MARGIN);
        if at.plus(keep).plus(RETENTION_MARGIN) > now {
            return Err(format!("it was written at {at}"));
        }
        if not_after.plus(RETENTION_MARGIN) >= now && !mutant::is(Mutant::TrimsUnexpired) {
            return Err(format!("a certificate in it ends at {not_after}"));
        }
        (found.last_at, found.last_not_after) = (found.last_at.max(at), found.last_not_after.max(not_after));
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_for_good_is_tried_less_and_less() {
        let mut patience = Patience::default();
        let lasting = Err(Obstacle::Trim(TrimError::Differs(7)));
        let waits: Vec<u64> = (0..20).map(|_| patience.after(&lasting).as_secs()).collect();
        assert_eq!(waits[..4], [60, 120, 240, 480]);
        assert_eq!(waits[19], RETRY_MAX.as_secs());
        assert_eq!(patience.after(&Err(Obstacle::Trim(TrimError::Busy))), RETRY, "that passes");
        assert_eq!(patience.after(&Ok(())), TICK);
        assert_eq!(patience.after(&lasting), RETRY);
    }
}
