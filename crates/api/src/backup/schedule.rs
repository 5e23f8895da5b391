//! Backups that a server makes by itself: one file after the other into a directory, the oldest removed.
//!
//! It refuses to count what is not whole: a file gets its name when all of it is durable, and only files with such a name
//! are counted, kept or removed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use certwright_core::{Reason, Rejection};
use certwright_custody::backup::Recipient;
use certwright_seams::disk::{Disk, File, Open};
use certwright_seams::exec::compute;
use tokio_util::sync::CancellationToken;

use super::write::Writer;
use crate::data_dir::file_failed;
use crate::doors::Doors;

const POOL: &str = "backup";
const MODE: u32 = 0o600;
const SUFFIX: &str = ".backup";
const PART_SUFFIX: &str = ".part";
/// After a failure, at most so long until the next attempt.
const RETRY: Duration = Duration::from_secs(60);

/// When, whereto and for whom.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// The directory; made when absent.
    pub directory: PathBuf,
    /// To whom the files are encrypted.
    pub recipient: Recipient,
    /// Between the beginnings of two.
    pub every: Duration,
    /// Files kept; the oldest go. At least one.
    pub keep: usize,
}

/// What became of the schedule so far, for those who ask.
#[derive(Debug, Default)]
pub struct Record {
    /// Between two; 0 without a schedule.
    every_seconds: AtomicU64,
    /// Since the Unix epoch; 0 before the first.
    last_success_millis: AtomicU64,
}

impl Record {
    /// Seconds between two backups, and when the last one was whole, milliseconds since the Unix epoch (0: never). `None`
    /// without a schedule.
    pub fn get(&self) -> Option<(u64, u64)> {
        let every = self.every_seconds.load(Ordering::Relaxed);
        (every > 0).then(|| (every, self.last_success_millis.load(Ordering::Relaxed)))
    }
}

/// One server's files of one cluster; `_` is in nobody's name.
fn prefix(doors: &Doors) -> String {
    format!("certwright-{}_{}_", &doors.cluster.to_string()[..8], doors.name)
}

/// Names sort by when the file was made.
fn name(prefix: &str, millis: u64, index: u64) -> String {
    format!("{prefix}{millis:015}-{index}{SUFFIX}")
}

/// A whole backup of this server's.
struct Made {
    /// Since the Unix epoch.
    millis: u64,
    /// The entry that it goes up to.
    index: u64,
    path: PathBuf,
}

/// What the name of a file says.
fn made(path: PathBuf, prefix: &str) -> Option<Made> {
    let name = path.file_name()?.to_str()?;
    let (millis, index) = name.strip_prefix(prefix)?.strip_suffix(SUFFIX)?.split_once('-')?;
    let (millis, index) = (millis.parse().ok()?, index.parse().ok()?);
    Some(Made { millis, index, path })
}

/// Makes one after the other until told to stop.
pub(crate) async fn run(doors: Arc<Doors>, schedule: Schedule, stop: CancellationToken) {
    let record = &doors.backup;
    record.every_seconds.store(schedule.every.as_secs().max(1), Ordering::Relaxed);
    let prefix = prefix(&doors);
    let (disk, directory, of) = (doors.seams.disk.clone(), schedule.directory.clone(), prefix.clone());
    let now = doors.seams.clock.wall_millis();
    let found = compute(&*doors.seams.exec, POOL, move || whole(&*disk, &directory, &of, now)).await;
    // After a restore the first one is due at once: what is there brings back the epoch before.
    let began = doors.log.read(|view| view.state.cluster.opened().map_or(0, |opened| opened.at.millis()));
    let of_this_epoch = |made: &&Made| (began..=now).contains(&made.millis);
    if let Some(newest) = found.unwrap_or_default().iter().rev().find(of_this_epoch) {
        succeeded(&doors, newest.millis);
    }
    loop {
        let (_, last) = record.get().unwrap_or_default();
        let age = Duration::from_millis(doors.seams.clock.wall_millis().saturating_sub(last));
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(schedule.every.saturating_sub(age)) => {}
        }
        let written = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            written = write(&doors, &schedule, &prefix) => written,
        };
        match written {
            Ok((millis, path)) => {
                tracing::info!(path = %path.display(), "a backup is written");
                succeeded(&doors, millis);
            }
            Err(rejection) => {
                doors.metrics.backup_failures.inc();
                tracing::error!(%rejection, "no backup was written");
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(RETRY.min(schedule.every)) => {}
                }
            }
        }
    }
}

fn succeeded(doors: &Doors, millis: u64) {
    doors.backup.last_success_millis.store(millis, Ordering::Relaxed);
    doors.metrics.backup_last_success.set(millis as f64 / 1000.0);
}

/// Every whole backup of this server's, oldest first. A name of later than now comes from a clock that was wrong: it is
/// taken for the oldest, so that it does not outlive every true one.
fn whole(disk: &dyn Disk, directory: &Path, prefix: &str, now: u64) -> std::io::Result<Vec<Made>> {
    if !disk.exists(directory)? {
        return Ok(Vec::new());
    }
    let names = disk.list(directory)?;
    let mut all: Vec<_> = names.iter().filter_map(|path| made(directory.join(path.file_name()?), prefix)).collect();
    all.sort_by_key(|made| if made.millis > now { (0, made.index) } else { (made.millis, made.index) });
    Ok(all)
}

/// Removes what an earlier attempt left unfinished.
fn sweep(disk: &dyn Disk, directory: &Path, prefix: &str) -> std::io::Result<()> {
    let names = disk.list(directory)?;
    let parts = names.iter().filter_map(|path| path.file_name()?.to_str());
    let parts = parts.filter(|name| name.starts_with(prefix) && name.ends_with(PART_SUFFIX));
    parts.map(|name| directory.join(name)).try_for_each(|path| disk.remove(&path))
}

/// Writes one and removes what is too old. What could not be finished gives its room back.
async fn write(doors: &Arc<Doors>, schedule: &Schedule, prefix: &str) -> Result<(u64, PathBuf), Rejection> {
    let permit = doors.backups.clone().try_acquire_owned();
    let _permit = permit.map_err(|_| Rejection::new(Reason::Overloaded, "another backup is being written"))?;
    let millis = doors.seams.clock.wall_millis();
    let path = schedule.directory.join(name(prefix, millis, doors.log.status().applied_index));
    let part = path.with_extension(PART_SUFFIX.trim_start_matches('.'));
    let (disk, exec) = (doors.seams.disk.clone(), doors.seams.exec.clone());
    let result = match fill(doors, schedule, prefix, &part).await {
        Ok(()) => {
            let (keep, directory, of) = (schedule.keep.max(1), schedule.directory.clone(), prefix.to_owned());
            let (from, to, disk) = (part.clone(), path.clone(), disk.clone());
            let name_it = move || {
                disk.rename(&from, &to)?;
                disk.sync_dir(&directory)?;
                let all = whole(&*disk, &directory, &of, millis)?;
                // It is written; what cannot be removed does not undo that.
                for made in all.iter().rev().skip(keep).filter(|made| made.path != to) {
                    if let Err(error) = disk.remove(&made.path) {
                        tracing::warn!(path = %made.path.display(), %error, "an old backup stays");
                    }
                }
                Ok(())
            };
            compute(&*exec, POOL, name_it).await.map_err(|error| file_failed("write", &path, error))
        }
        Err(rejection) => Err(rejection),
    };
    if result.is_err() {
        let (of, directory) = (prefix.to_owned(), schedule.directory.clone());
        if let Err(error) = compute(&*exec, POOL, move || sweep(&*disk, &directory, &of)).await {
            tracing::warn!(part = %part.display(), %error, "the part of a backup stays");
        }
    }
    result.map(|()| (millis, path))
}

/// Makes the file and all that is in it durable.
async fn fill(doors: &Arc<Doors>, schedule: &Schedule, prefix: &str, part: &Path) -> Result<(), Rejection> {
    let failed = |error| file_failed("write", part, error);
    let (disk, exec) = (doors.seams.disk.clone(), doors.seams.exec.clone());
    let (directory, of, at) = (schedule.directory.clone(), prefix.to_owned(), part.to_owned());
    let opened = compute(&*exec, POOL, move || {
        disk.create_dir_durable(&directory, 0o700)?;
        sweep(&*disk, &directory, &of)?;
        disk.open(&at, Open::CreateNew(MODE))
    });
    let file: Arc<dyn File> = opened.await.map_err(failed)?.into();
    let mut pieces = Writer::of(doors).begin(&schedule.recipient).await?;
    let mut offset = 0;
    while let Some(data) = pieces.next().await? {
        let (to, at) = (file.clone(), offset);
        offset += data.len() as u64;
        compute(&*exec, POOL, move || to.write_at(at, &data)).await.map_err(failed)?;
    }
    compute(&*exec, POOL, move || file.sync_data()).await.map_err(failed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use certwright_seams::Seams;

    use super::*;

    #[test]
    fn a_server_counts_its_own_whole_files_and_a_wrong_clock_outlives_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let disk = Seams::system().disk;
        let prefix = "certwright-00000000_a_";
        let others =
            ["certwright-00000000_b_000000000000500-5.backup", "certwright-00000000_a-_000000000000500-5.backup"];
        let parts = ["certwright-00000000_a_000000000000600-6.part", "certwright-00000000_b_000000000000600-6.part"];
        let own = [(300, 3), (100, 1), (9_000, 9), (200, 2)].map(|(millis, index)| name(prefix, millis, index));
        for name in own.iter().map(String::as_str).chain(others).chain(parts) {
            disk.write_atomic(&directory.path().join(name), b"x", 0o600).unwrap();
        }
        let all = whole(&*disk, directory.path(), prefix, 400).unwrap();
        assert_eq!(all.iter().map(|made| made.index).collect::<Vec<_>>(), [9, 1, 2, 3]);
        sweep(&*disk, directory.path(), prefix).unwrap();
        let left = disk.list(directory.path()).unwrap();
        let left: Vec<_> = left.iter().filter(|path| path.to_str().unwrap().ends_with(".part")).collect();
        assert!(left.len() == 1 && left[0].ends_with(parts[1]), "{left:?}");
    }
}
