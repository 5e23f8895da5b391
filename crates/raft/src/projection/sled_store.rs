//! A projection in sled, which `raft` alone names.
//!
//! It refuses trust: sled 0.34's `flush` does not survive a power cut, so whatever it says is checked against the log.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Batch, ProjectionError, ProjectionStore};

/// sled's page cache; its default of 1 GiB would dwarf the rest of the server.
const CACHE_OCTETS: u64 = 64 * 1024 * 1024;
/// How long an opening waits for a handle before it to let go, and how long between two looks.
const RELEASE_PATIENCE: Duration = Duration::from_secs(5);
const RELEASE_PAUSE: Duration = Duration::from_millis(5);
/// Sorts before every projected key, which are text.
const APPLIED_KEY: &[u8] = b"\0applied";

/// A projection in sled.
pub struct SledStore {
    path: PathBuf,
    db: sled::Db,
}

impl SledStore {
    /// Opens the projection in that directory; one that does not open is wiped and made anew.
    ///
    /// Blocks, for seconds at most, while a handle of this process that was dropped has not let go yet.
    pub fn open(path: &Path) -> Result<Self, ProjectionError> {
        await_release(path);
        let db = match open_db(path) {
            Ok(db) => db,
            Err(error) => {
                tracing::warn!(%error, "the projection does not open: wiping it");
                remove(path)?;
                open_db(path)?
            }
        };
        Ok(Self { path: path.to_owned(), db })
    }

    fn guarded<T>(&self, work: impl FnOnce(&sled::Db) -> sled::Result<T>) -> Result<T, ProjectionError> {
        guard(|| work(&self.db))
    }
}

/// sled panics on some corruptions; a panic is one more doubt.
fn guard<T>(work: impl FnOnce() -> sled::Result<T>) -> Result<T, ProjectionError> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(ProjectionError(error.to_string())),
        Err(_) => Err(ProjectionError("sled panicked".into())),
    }
}

fn open_db(path: &Path) -> Result<sled::Db, ProjectionError> {
    guard(|| sled::Config::new().path(path).cache_capacity(CACHE_OCTETS).mode(sled::Mode::LowSpace).open())
}

/// sled's own threads hold its lock for a moment after the last handle is dropped, and `open` would take that for damage.
/// Nobody else can hold it: the data directory has one owner.
#[allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "sled bypasses the disk seam")]
fn await_release(path: &Path) {
    let db = path.join("db");
    let mut waited = Duration::ZERO;
    while waited < RELEASE_PATIENCE {
        match std::fs::File::open(&db).map(|file| file.try_lock()) {
            Ok(Err(std::fs::TryLockError::WouldBlock)) => std::thread::sleep(RELEASE_PAUSE),
            _ => return,
        }
        waited += RELEASE_PAUSE;
    }
}

/// sled works on the real file system only, so its directory is removed there and not through the disk seam.
#[allow(clippy::disallowed_methods, reason = "sled bypasses the disk seam; the simulation uses MemoryStore")]
fn remove(path: &Path) -> Result<(), ProjectionError> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        // No directory, or one that cannot be read: out of the way with it.
        Err(_) => {
            std::fs::rename(path, path.with_extension("damaged")).map_err(|error| ProjectionError(error.to_string()))
        }
        Ok(()) => Ok(()),
    }
}

impl ProjectionStore for SledStore {
    fn apply(&mut self, batch: Batch, applied_index: u64) -> Result<(), ProjectionError> {
        let mut rows = sled::Batch::default();
        for (key, value) in batch {
            rows.insert(key, value);
        }
        rows.insert(APPLIED_KEY, &applied_index.to_be_bytes());
        self.guarded(|db| db.apply_batch(rows))
    }

    fn applied_index(&self) -> Result<u64, ProjectionError> {
        match self.guarded(|db| db.get(APPLIED_KEY))? {
            None => Ok(0),
            Some(octets) => octets
                .as_ref()
                .try_into()
                .map(u64::from_be_bytes)
                .map_err(|_| ProjectionError(format!("applied index of {} octets", octets.len()))),
        }
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ProjectionError> {
        self.guarded(|db| db.get(key)).map(|value| value.map(|value| value.to_vec()))
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Batch, ProjectionError> {
        let start = match after {
            Some(after) if after >= prefix => [after, &[0]].concat(),
            _ => prefix.to_vec(),
        };
        self.guarded(|db| {
            let mut rows = Vec::new();
            for row in db.range(start..).take(limit) {
                let (key, value) = row?;
                if !key.starts_with(prefix) {
                    break;
                }
                rows.push((key.to_vec(), value.to_vec()));
            }
            Ok(rows)
        })
    }

    fn wipe(&mut self) -> Result<(), ProjectionError> {
        if self.guarded(|db| db.clear()).is_ok() {
            return Ok(());
        }
        // A database that cannot even be cleared is replaced; a small one elsewhere takes its place until then,
        // because sled locks the directory for as long as a handle lives.
        let spare = guard(|| sled::Config::new().temporary(true).cache_capacity(1 << 20).open())?;
        drop(std::mem::replace(&mut self.db, spare));
        remove(&self.path)?;
        self.db = open_db(&self.path)?;
        Ok(())
    }
}
