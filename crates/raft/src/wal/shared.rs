//! What the log's callers and its writer share: the live range, the archive, the failure latch and the room left.
//!
//! It refuses blocking calls while a lock is held.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use std::sync::Arc;

use tokio::sync::watch;

use super::archive::Archive;
use super::live::Live;

/// Shared between callers and the writer.
pub(super) struct Shared {
    live: Mutex<Live>,
    archive: Mutex<Archive>,
    /// Why the log failed, once it has; never unset.
    fatal: watch::Sender<Option<Arc<str>>>,
    /// No spare segment could be prepared.
    short_of_space: AtomicBool,
    /// The writer has been asked to try again.
    asked_for_space: AtomicBool,
}

impl Shared {
    pub(super) fn new(mut live: Live, archive: Archive) -> Self {
        // It was read from the disk; whoever deletes makes sure first that it stays there.
        live.purged_durably(live.first_index());
        Self {
            live: Mutex::new(live),
            archive: Mutex::new(archive),
            fatal: watch::channel(None).0,
            short_of_space: AtomicBool::new(false),
            asked_for_space: AtomicBool::new(false),
        }
    }

    pub(super) fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn archive(&self) -> MutexGuard<'_, Archive> {
        self.archive.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.fatal.subscribe()
    }

    /// Latches the first failure.
    pub(super) fn fail(&self, error: &io::Error) {
        let text: Arc<str> = error.to_string().into();
        self.fatal.send_if_modified(|state| {
            let first = state.is_none();
            if first {
                *state = Some(text);
            }
            first
        });
    }

    /// An error when the log has failed.
    pub(super) fn check(&self) -> io::Result<()> {
        match &*self.fatal.borrow() {
            Some(text) => Err(io::Error::other(format!("the log has failed, this process must stop: {text}"))),
            None => Ok(()),
        }
    }

    pub(super) fn is_short_of_space(&self) -> bool {
        self.short_of_space.load(Ordering::Acquire)
    }

    pub(super) fn set_short_of_space(&self, short: bool) {
        self.short_of_space.store(short, Ordering::Release);
        self.asked_for_space.store(false, Ordering::Release);
    }

    /// Whether the caller is the first to ask for another attempt.
    pub(super) fn ask_for_space(&self) -> bool {
        !self.asked_for_space.swap(true, Ordering::AcqRel)
    }
}
