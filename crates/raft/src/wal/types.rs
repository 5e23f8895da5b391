//! What the log is given and what it tells: identities, records, marks, options, what opening found.
//!
//! It refuses behaviour: the handle is in the room above.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;

use super::error::WalError;
use super::floor::Floor;
use crate::limits;

/// Whose log this is; a directory of another cluster, node or epoch is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The cluster.
    pub cluster_id: [u8; 16],
    /// The node.
    pub node_id: u64,
    /// Grows when a backup is restored.
    pub epoch: u64,
}

/// One entry of the replicated log, as stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Place in the log, from 0, without holes but after a purge beyond the end.
    pub index: u64,
    /// Term of the leader that proposed it.
    pub term: u64,
    /// The node part of that leader's id; 0 when ids have none.
    pub node: u64,
    /// What the payload is; the log only carries it.
    pub kind: u8,
    /// At most [`WalOptions::payload_octets_max`].
    pub payload: Bytes,
}

/// The log id of an entry.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct LogMark {
    /// Place in the log.
    pub index: u64,
    /// Term of the leader that proposed it.
    pub term: u64,
    /// The node part of that leader's id; 0 when ids have none.
    pub node: u64,
}

/// Told once what became of an operation: durable, or never certain again.
pub type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// Reads from a record the notAfter (milliseconds since the Unix epoch) of the longest-lived certificate in it.
pub type NotAfter = Arc<dyn Fn(&Record) -> Option<u64> + Send + Sync>;

/// What one fdatasync carried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SyncSample {
    /// Frames made durable.
    pub frames: usize,
    /// Octets made durable.
    pub octets: usize,
    /// How long the sync took.
    pub took: Duration,
}

/// Told after every fdatasync; for metrics.
pub type SyncObserver = Arc<dyn Fn(SyncSample) + Send + Sync>;

/// How a log is opened.
#[derive(Clone)]
pub struct WalOptions {
    /// Size of a segment file.
    pub segment_octets: u64,
    /// Octets of the newest entries kept in memory.
    pub cache_octets: usize,
    /// Octets queued in front of the writer; beyond it operations wait.
    pub queue_octets: usize,
    /// Octets written before one fdatasync.
    pub batch_octets: usize,
    /// Where seals get the latest notAfter of their segment from.
    pub not_after: Option<NotAfter>,
    /// Told after every fdatasync.
    pub observer: Option<SyncObserver>,
    /// Where a log begins that is made anew; the first entry of all if absent.
    pub start: Option<Floor>,
}

impl WalOptions {
    /// The usual bounds with segments of that size.
    pub fn new(segment_octets: u64) -> Self {
        Self {
            segment_octets,
            cache_octets: limits::WAL_CACHE_OCTETS_MAX,
            queue_octets: limits::WAL_QUEUE_OCTETS_MAX,
            batch_octets: limits::WAL_BATCH_OCTETS_MAX,
            not_after: None,
            observer: None,
            start: None,
        }
    }

    /// Octets of the largest payload that fits a frame and a segment of this size.
    pub fn payload_octets_max(&self) -> usize {
        let room = self.segment_octets.saturating_sub(limits::WAL_SEGMENT_RESERVE_OCTETS);
        (room as usize).min(limits::WAL_FRAME_OCTETS_MAX)
    }

    /// Whether the options are within their bounds.
    pub(super) fn check(&self) -> Result<(), WalError> {
        let bounds = limits::WAL_SEGMENT_OCTETS_MIN..=limits::WAL_SEGMENT_OCTETS_MAX;
        if !bounds.contains(&self.segment_octets) {
            let (least, most) = (bounds.start(), bounds.end());
            let text = format!("a segment has {least} to {most} octets, not {}", self.segment_octets);
            return Err(WalError::Options(text));
        }
        if self.queue_octets == 0 || self.queue_octets > Semaphore::MAX_PERMITS || self.batch_octets == 0 {
            return Err(WalError::Options("queue and batch hold at least one octet".into()));
        }
        Ok(())
    }
}

/// What opening found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recovered {
    /// Nothing was there: the log was created.
    pub fresh: bool,
    /// The last vote saved.
    pub vote: Option<Bytes>,
    /// The last committed mark saved, never beyond the last entry.
    pub committed: Option<LogMark>,
    /// Up to where the log was purged.
    pub purged: Option<LogMark>,
    /// The last entry, or the purge mark when there is none.
    pub last: Option<LogMark>,
    /// Octets of a torn, never acknowledged batch that were cut off.
    pub cut_octets: u64,
}
