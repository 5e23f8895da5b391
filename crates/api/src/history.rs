//! Looking things up in the log: entries by index, certificates by position.
//!
//! It refuses to block: entries may have to be read from disk, which a worker does.

use certwright_core::Rejection;
use certwright_core::event::{Event, Issued};
use certwright_core::log::{Position, Transaction};
use certwright_core::time::Timestamp;
use certwright_raft::Effective;
use certwright_seams::exec::compute;

use crate::doors::{Doors, read_failed};

/// Entries of consensus itself that follow one another, at most: elections without a single command.
const UNSTAMPED_MAX: u64 = 1000;

/// The transaction at a position; `None` when none took effect there, or it is no longer kept.
pub(crate) async fn transaction(doors: &Doors, position: Position) -> Result<Option<Effective<Event>>, Rejection> {
    let log = doors.log.clone();
    compute(&*doors.seams.exec, "read", move || log.transaction(position)).await.map_err(read_failed)
}

/// When an entry was written, by the time that holds now.
pub(crate) fn corrected(doors: &Doors, index: u64, at: Timestamp) -> Timestamp {
    doors.log.read(|view| view.state.cluster.corrected(index, at))
}

/// Log time at an index, by the time that holds now: that of the entry, or, entries of consensus having none, of the nearest
/// one before that has; the epoch when there is none near.
pub(crate) async fn stamp(doors: &Doors, index: u64) -> Result<Timestamp, Rejection> {
    let log = doors.log.clone();
    let looking = move || {
        for index in (index.saturating_sub(UNSTAMPED_MAX)..=index).rev() {
            match log.entry(index)?.map(|entry| entry.at) {
                Some(at) if at > Timestamp::EPOCH => return Ok((index, at)),
                _ => {}
            }
        }
        Ok((index, Timestamp::EPOCH))
    };
    let (index, at) = compute(&*doors.seams.exec, "read", looking).await.map_err(read_failed)?;
    Ok(corrected(doors, index, at))
}

/// The certificate issued by a transaction that fits.
pub(crate) fn issued(transaction: Transaction<Event>, fits: impl Fn(&Issued) -> bool) -> Option<Issued> {
    let events = transaction.appends.into_iter().flat_map(|append| append.events);
    events.into_iter().find_map(|event| match event {
        Event::CertificateIssued(issued) if fits(&issued) => Some(*issued),
        _ => None,
    })
}
