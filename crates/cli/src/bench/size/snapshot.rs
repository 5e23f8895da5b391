//! One snapshot under load: what its cut and its writing do to those who wait for their transactions.
//!
//! It refuses to trigger it: it is cut when it is due, as on any server.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use certwright_api::node::BareLog;
use certwright_core::State;
use certwright_raft::Log;
use certwright_seams::{Disk, Seams};
use serde_json::Value;
use tokio::time::Instant;

use super::super::estate::Estate;
use crate::failure::Failure;
use crate::output::note;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// The log's own measure of how long a cut kept entries from being applied.
const CUTS: &str = "certwright_raft_snapshot_cut_seconds";
/// Octets that the log made durable.
const OCTETS: &str = "certwright_raft_fsync_octets_total";

/// Where the load is.
const BEFORE: u64 = 0;
const WRITING: u64 = 1;
const AFTER: u64 = 2;

/// Renews certificates until a snapshot was cut and written, and then until the next one is almost due.
pub(super) async fn measure(
    bare: &Arc<BareLog>,
    estate: &Arc<Estate>,
    data: &Path,
    snapshot_octets: u64,
    seams: &Seams,
) -> Result<Value, Failure> {
    let directory = data.join("snapshots");
    // One of those that were due while the estate was declared may still be written.
    while writing(&*seams.disk, &directory)? {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let (phase, done) = (Arc::new(AtomicU64::new(BEFORE)), Arc::new(AtomicBool::new(false)));
    let gaps = tokio::spawn(gaps(bare.log.clone(), Arc::clone(&phase), Arc::clone(&done)));
    let load = {
        let (estate, done) = (Arc::clone(estate), Arc::clone(&done));
        tokio::spawn(async move { estate.renew_while(move || !done.load(Ordering::Relaxed)).await })
    };
    let (cuts, pauses) = bare.metric(CUTS);
    let known = newest(&*seams.disk, &directory)?;
    let runs = || !load.is_finished();
    while bare.metric(CUTS).0 <= cuts && runs() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let (start, begun) = (Instant::now(), bare.metric(OCTETS).0);
    phase.store(WRITING, Ordering::Relaxed);
    while newest(&*seams.disk, &directory)? == known && runs() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    phase.store(AFTER, Ordering::Relaxed);
    let (pause_ms, write_ms) = ((bare.metric(CUTS).1 - pauses) * 1000.0, super::millis(start));
    let path = newest(&*seams.disk, &directory)?.unwrap_or_default();
    note(&format!("a snapshot was cut in {pause_ms:.2} ms and written in {write_ms} ms"));
    let tail = |bare: &BareLog| (bare.metric(OCTETS).0 - begun) as u64;
    while tail(bare) < snapshot_octets / 10 * 8 && runs() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    done.store(true, Ordering::Relaxed);
    load.await.map_err(|error| Failure::internal(error.to_string()))??;
    let gaps_ms = gaps.await.map_err(|error| Failure::internal(error.to_string()))?;
    let file = |error| Failure::file(path.display(), error);
    let octets = seams.disk.open(&path, certwright_seams::disk::Open::Read).and_then(|it| it.len()).map_err(file)?;
    Ok(super::figures(pause_ms, write_ms, octets, gaps_ms, tail(bare)))
}

/// The longest time in which nothing was applied, before the snapshot and while it was written; milliseconds.
async fn gaps(log: Log<State>, phase: Arc<AtomicU64>, done: Arc<AtomicBool>) -> (f64, f64) {
    let mut applied = log.applied();
    let mut longest = [Duration::ZERO; 3];
    // The load takes a moment to begin.
    let _ = applied.changed().await;
    let mut last = Instant::now();
    while !done.load(Ordering::Relaxed) && applied.changed().await.is_ok() {
        let gap = last.elapsed();
        last = Instant::now();
        let longest = &mut longest[phase.load(Ordering::Relaxed) as usize];
        *longest = gap.max(*longest);
    }
    (longest[0].as_secs_f64() * 1000.0, longest[1].as_secs_f64() * 1000.0)
}

fn listed(disk: &dyn Disk, directory: &Path) -> Result<Vec<PathBuf>, Failure> {
    disk.list(directory).map_err(|error| Failure::file(directory.display(), error))
}

fn writing(disk: &dyn Disk, directory: &Path) -> Result<bool, Failure> {
    Ok(listed(disk, directory)?.iter().any(|name| name.extension().is_some_and(|extension| extension == "new")))
}

/// The newest snapshot that is whole; their names sort as they do.
fn newest(disk: &dyn Disk, directory: &Path) -> Result<Option<PathBuf>, Failure> {
    let whole = |name: &PathBuf| name.extension().is_some_and(|extension| extension == "snapshot");
    Ok(listed(disk, directory)?.into_iter().rfind(whole).map(|name| directory.join(name)))
}
