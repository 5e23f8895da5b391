//! Decisions about the history that is kept: for how long, and where it begins.
//!
//! It refuses to let go of anything within a day of a shorter time being set, of what is younger than that time, of
//! certificates that have not ended, of either before a margin for unnoticed errors of clocks has passed, and of anything at
//! all while it is in doubt what time it is.

use std::time::Duration;

use super::cluster::push;
use super::draft::Draft;
use crate::event::{Event, HistoryTrimmed};
use crate::limits::{RETENTION_MAX, RETENTION_MIN};
use crate::rejection::{Reason, Rejection};
use crate::state::StillKept;

pub(super) fn set(draft: &mut Draft<'_>, keep: Option<Duration>) -> Result<(), Rejection> {
    let keep = keep.map(|keep| Duration::from_secs(keep.as_secs()));
    if let Some(keep) = keep.filter(|keep| !(RETENTION_MIN..=RETENTION_MAX).contains(keep)) {
        let (least, most) = (RETENTION_MIN.as_secs() / 3600, RETENTION_MAX.as_secs() / 3600);
        let message = format!("history is kept for {least} to {most} hours, or for ever, not for {} s", keep.as_secs());
        return Err(Rejection::field(Reason::InvalidSpec, "keep", message));
    }
    if draft.state.cluster.retention.keep != keep {
        push(draft, Event::RetentionSet { keep_seconds: keep.map_or(0, |keep| keep.as_secs()) });
    }
    Ok(())
}

pub(super) fn trim(draft: &mut Draft<'_>, trimmed: &HistoryTrimmed) -> Result<(), Rejection> {
    let (cluster, now) = (&draft.state.cluster, draft.now);
    let refused = |what: String| Err(Rejection::new(Reason::Moved, what));
    let still_kept = |why: StillKept| Rejection::new(Reason::Moved, why.to_string());
    let setting = cluster.retention.setting().ok_or(StillKept::Forever).map_err(still_kept)?;
    if cluster.hold.is_some() {
        return Err(still_kept(StillKept::Held));
    }
    let before = cluster.retention.trimmed.map_or(0, |before| before.first_index);
    if trimmed.first_index <= before || trimmed.first_index > draft.state.applied.index {
        let newest = draft.state.applied.index;
        return refused(format!(
            "history cannot begin with entry {}: it has {before} to {newest}",
            trimmed.first_index
        ));
    }
    let vouched_for = cluster.retention.trimmed.map(|before| (before.last_at, before.last_not_after));
    if vouched_for.is_some_and(|(at, not_after)| trimmed.last_at < at || trimmed.last_not_after < not_after) {
        return refused("less is vouched for than when history went before".to_owned());
    }
    setting.lets_go(trimmed, now).map_err(still_kept)?;
    push(draft, Event::HistoryTrimmed(Box::new(*trimmed)));
    Ok(())
}
