//! What lies on the servers' disks in the end: a log that verifies (I9), also against one bit that is flipped, and
//! snapshots that are what replaying the log gives (I18).
//!
//! It refuses to write: whatever it changes, it changes in a copy.

use std::path::Path;
use std::sync::Arc;

use certwright_proto::storage::DomainCodec;
use certwright_raft::{replay, wal};
use certwright_seams::{Disk, Entropy};

use crate::estate::Estate;
use crate::machine::VOLUME;

const CHECKER: &str = "disks";

/// Looks at every member's disk.
pub(crate) fn check(estate: &Estate) {
    let data = Path::new(VOLUME).join("server");
    for server in estate.servers() {
        let disk = &estate.machine(&server).disk;
        let wrong = |invariant: &str, what: &str| {
            estate.verdict.report(invariant, CHECKER, format_args!("{server}: {what}"));
        };
        match wal::verify(disk, &data.join("log")).map(|report| report.finding) {
            Ok(None) => {}
            found => wrong("I9", &format!("its log does not verify: {found:?}")),
        }
        if let Some(flipped) = unseen_flip(estate, &server) {
            wrong("I9", &flipped);
        }
        match replay(Arc::new(disk.clone()), &data, &DomainCodec) {
            Ok(replayed) if replayed.differing.is_empty() && replayed.unreadable.is_empty() => {
                estate.count_snapshots(replayed.compared);
            }
            found => wrong("I18", &format!("snapshots are not what the log gives: {found:?}")),
        }
    }
}

/// Flips one bit of a copy's log; what was flipped, when nobody sees it.
fn unseen_flip(estate: &Estate, server: &str) -> Option<String> {
    let draw = estate.draw(server.bytes().map(u64::from).sum());
    let (copy, log) = (estate.machine(server).disk.fork(draw.next_u64()), Path::new(VOLUME).join("server/log"));
    let names = copy.list(&log).ok()?;
    let segments: Vec<_> = names.iter().filter(|name| name.extension().is_some_and(|it| it == "seg")).collect();
    let path = log.join(segments.get(draw.next_u64() as usize % segments.len().max(1))?);
    let octets = copy.read(&path, u64::MAX).ok()?;
    // Behind the last frame there is room, which means nothing.
    let written = octets.iter().rposition(|octet| *octet != 0)? as u64 + 1;
    let (offset, bit) = (draw.next_u64() % written, draw.next_u64() % 8);
    copy.flip(&path, offset, 1 << bit).ok()?;
    let is_seen = wal::verify(&copy, &log).map_or(true, |report| report.finding.is_some());
    (!is_seen).then(|| format!("nobody sees that bit {bit} of octet {offset} of {} is flipped", path.display()))
}
