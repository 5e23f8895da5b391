//! When a snapshot is due: by how much was applied since the last one, or because somebody needs one.
//!
//! It refuses to make any: whoever asks consensus for one waits here.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{Notify, watch};

/// What was applied since the last cut, and who is to be told.
pub(crate) struct Cuts {
    every_octets: u64,
    octets: AtomicU64,
    /// A cut is due.
    pub(crate) due: Notify,
    ended: watch::Sender<Ended>,
}

/// How many cuts have ended, and what the last one covers; `None` when there was no room for it.
#[derive(Clone, Copy, Default)]
pub(crate) struct Ended {
    pub(crate) count: u64,
    pub(crate) index: Option<u64>,
}

impl Cuts {
    /// A cut for so many octets of log.
    pub(crate) fn new(every_octets: u64) -> Self {
        Self { every_octets, octets: AtomicU64::new(0), due: Notify::new(), ended: watch::Sender::default() }
    }

    /// So much was applied.
    pub(crate) fn applied(&self, octets: usize) {
        self.octets.fetch_add(octets as u64, Ordering::Relaxed);
    }

    /// Whether so much was applied since the last cut that another one is due.
    pub(crate) fn is_due(&self) -> bool {
        self.octets.load(Ordering::Relaxed) >= self.every_octets
    }

    /// Tells whoever waits when one is due.
    pub(crate) fn tell(&self) {
        if self.is_due() {
            self.due.notify_one();
        }
    }

    /// One has ended.
    pub(crate) fn end(&self, index: Option<u64>) {
        self.ended.send_modify(|ended| *ended = Ended { count: ended.count + 1, index });
    }

    /// Told of every end.
    pub(crate) fn ended(&self) -> watch::Receiver<Ended> {
        self.ended.subscribe()
    }

    /// One is being made, or came from elsewhere.
    pub(crate) fn made(&self) {
        self.octets.store(0, Ordering::Relaxed);
    }

    /// One is due however little was applied: there is none that can be used, or the last one found no room.
    pub(crate) fn want(&self) {
        self.octets.store(self.every_octets, Ordering::Relaxed);
        self.due.notify_one();
    }
}
