//! Looking things up in the log: entries by index, certificates by position.
//!
//! It refuses to block: entries may have to be read from disk, which a worker does.

use std::sync::Arc;

use certwright_core::Rejection;
use certwright_core::event::{Event, Issued};
use certwright_core::log::Position;
use certwright_raft::AppliedEntry;
use certwright_seams::exec::compute;

use crate::doors::{Doors, read_failed};

/// The entry at an index; `None` when it holds no transaction of ours.
pub(crate) async fn entry(doors: &Doors, index: u64) -> Result<Option<Arc<AppliedEntry<Event>>>, Rejection> {
    let log = doors.log.clone();
    compute(&*doors.seams.exec, "read", move || log.entry(index)).await.map_err(read_failed)
}

/// The certificate issued by the transaction at a position that fits.
pub(crate) fn issued(
    entry: &AppliedEntry<Event>,
    position: Position,
    fits: impl Fn(&Issued) -> bool,
) -> Option<&Issued> {
    let (_, transaction) = entry.effective().find(|(at, _)| *at == position)?;
    transaction.appends.iter().flat_map(|append| &append.events).find_map(|event| match event {
        Event::CertificateIssued(issued) if fits(issued) => Some(&**issued),
        _ => None,
    })
}
