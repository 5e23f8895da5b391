//! How a log is opened.
//!
//! It refuses defaults that depend on the environment.

use std::path::PathBuf;

use crate::error::OpenError;

/// Log between two snapshots. A start applies what came since the last one on one core, 100 MB in about three seconds; a
/// snapshot of a million certificates is 480 MB.
pub const SNAPSHOT_EVERY_OCTETS: u64 = 128 * 1024 * 1024;

/// How a log is opened.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// The data directory: the log lies in `log`, snapshots in `snapshots`, the projection in `projection`.
    pub data: PathBuf,
    /// The cluster it belongs to; another cluster's directory is refused.
    pub cluster_id: [u8; 16],
    /// This node.
    pub node_id: u64,
    /// Grows when a backup is restored.
    pub epoch: u64,
    /// Shortest and longest wait for a leader before an election; 500 to 1000.
    pub election_millis: (u64, u64),
    /// Between heartbeats; 150. An answer that takes longer does not count: more than the slowest round trip.
    pub heartbeat_millis: u64,
    /// Size of a segment of the log.
    pub segment_octets: u64,
    /// A snapshot is cut when that much log was applied since the last one.
    pub snapshot_every_octets: u64,
    /// Panic when a replica refuses a transaction; for tests, where such a bug must be loud.
    pub strict: bool,
    /// Where metrics are registered.
    pub registry: prometheus::Registry,
}

impl LogOptions {
    /// The usual timers and sizes.
    pub fn new(data: PathBuf, cluster_id: [u8; 16], node_id: u64, epoch: u64) -> Self {
        Self {
            data,
            cluster_id,
            node_id,
            epoch,
            election_millis: (500, 1000),
            heartbeat_millis: 150,
            segment_octets: 64 * 1024 * 1024,
            snapshot_every_octets: SNAPSHOT_EVERY_OCTETS,
            strict: false,
            registry: prometheus::Registry::new(),
        }
    }

    /// Checks that the options agree with each other.
    pub(crate) fn check(&self) -> Result<(), OpenError> {
        let (shortest, longest) = self.election_millis;
        if self.node_id == 0 {
            return Err(OpenError::Options("node ids start at 1".into()));
        }
        if self.heartbeat_millis == 0 || shortest < 3 * self.heartbeat_millis || longest <= shortest {
            return Err(OpenError::Options(format!(
                "timers: heartbeat {} ms must be at most a third of the election timeout {shortest}..{longest} ms",
                self.heartbeat_millis
            )));
        }
        Ok(())
    }
}
