//! What the log tells Prometheus.
//!
//! It refuses labels that grow with the estate.

use prometheus::{Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use crate::error::ProposeError;

/// The log's series.
#[derive(Clone)]
pub(crate) struct LogMetrics {
    pub(crate) role: IntGauge,
    pub(crate) term: IntGauge,
    pub(crate) applied_index: IntGauge,
    pub(crate) commit_seconds: Histogram,
    pub(crate) fsync_seconds: Histogram,
    pub(crate) fsync_octets: IntCounter,
    pub(crate) failed_proposals: IntCounterVec,
    pub(crate) leader_changes: IntCounter,
    pub(crate) refused_transactions: IntCounter,
    pub(crate) handshakes_failed: IntCounter,
    pub(crate) handshakes_refused: IntCounter,
    pub(crate) projection_index: IntGauge,
    pub(crate) projection_wipes: IntCounter,
    pub(crate) snapshot_index: IntGauge,
    pub(crate) snapshot_cut_seconds: Histogram,
    pub(crate) snapshots_without_room: IntCounter,
    pub(crate) clock_ahead_seconds: Gauge,
    pub(crate) log_time_ahead_seconds: Gauge,
    pub(crate) backfills_discarded: IntCounter,
    pub(crate) history_first_index: IntGauge,
    pub(crate) trimmed_octets: IntCounter,
}

/// From a tenth of a millisecond (a fast disk) to ten seconds (the deadline).
fn buckets() -> Vec<f64> {
    prometheus::exponential_buckets(0.0001, 2.0, 17).expect("start, factor and count are positive")
}

fn gauge(name: &str, help: &str) -> IntGauge {
    IntGauge::new(name, help).expect("the name is a valid metric name")
}

fn counter(name: &str, help: &str) -> IntCounter {
    IntCounter::new(name, help).expect("the name is a valid metric name")
}

fn histogram(name: &str, help: &str) -> Histogram {
    Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets())).expect("the name is a valid metric name")
}

impl LogMetrics {
    /// Registers the series; fails when they are there already.
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let failed = Opts::new("certwright_raft_failed_proposals_total", "Proposals that failed, by reason.");
        let metrics = Self {
            role: gauge("certwright_raft_role", "0 learner, 1 follower, 2 candidate, 3 leader, 4 stopped."),
            term: gauge("certwright_raft_term", "The current term."),
            applied_index: gauge("certwright_raft_applied_index", "Index of the last entry applied."),
            commit_seconds: histogram("certwright_raft_commit_seconds", "From proposal to own apply."),
            fsync_seconds: histogram("certwright_raft_fsync_seconds", "One fdatasync of the log."),
            fsync_octets: counter("certwright_raft_fsync_octets_total", "Octets made durable in the log."),
            failed_proposals: IntCounterVec::new(failed, &["reason"]).expect("the name is a valid metric name"),
            leader_changes: counter("certwright_raft_leader_changes_total", "Leaders seen after the first."),
            refused_transactions: counter(
                "certwright_raft_refused_transactions_total",
                "Committed transactions that replicas skipped; any is a bug.",
            ),
            handshakes_failed: counter(
                "certwright_raft_handshakes_failed_total",
                "Connections on the internal port without a verified peer.",
            ),
            handshakes_refused: counter(
                "certwright_raft_handshakes_refused_total",
                "Connections on the internal port closed unread because their address had its share of handshakes.",
            ),
            projection_index: gauge("certwright_raft_projection_index", "Index that the projection has reached."),
            projection_wipes: counter("certwright_raft_projection_wipes_total", "Projections rebuilt from the log."),
            backfills_discarded: counter(
                "certwright_raft_backfills_discarded_total",
                "Gaps in the archive whose entries, as members sent them, did not chain.",
            ),
            history_first_index: gauge(
                "certwright_raft_history_first_index",
                "The first entry of the history that is kept here; 0 while nothing was let go.",
            ),
            trimmed_octets: counter(
                "certwright_raft_trimmed_octets_total",
                "Octets of segments deleted because their history is not kept any more.",
            ),
            snapshot_index: gauge("certwright_raft_snapshot_index", "Index that the newest snapshot covers."),
            snapshot_cut_seconds: histogram(
                "certwright_raft_snapshot_cut_seconds",
                "How long a snapshot's cut kept entries from being applied.",
            ),
            snapshots_without_room: counter(
                "certwright_raft_snapshots_without_room_total",
                "Snapshots that were due and found no room; each is tried again.",
            ),
            log_time_ahead_seconds: Gauge::new(
                "certwright_raft_log_time_ahead_seconds",
                "Log time ahead of this machine's clock, seconds; 0 when it is not.",
            )
            .expect("the name is a valid metric name"),
            clock_ahead_seconds: Gauge::new(
                "certwright_raft_clock_ahead_seconds",
                "This machine's clock against the median of the voters'.",
            )
            .expect("the name is a valid metric name"),
        };
        metrics.register_all(registry)?;
        Ok(metrics)
    }

    fn register_all(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        let positions = [&self.applied_index, &self.projection_index, &self.snapshot_index];
        for gauge in positions.into_iter().chain([&self.role, &self.term, &self.history_first_index]) {
            registry.register(Box::new(gauge.clone()))?;
        }
        registry.register(Box::new(self.clock_ahead_seconds.clone()))?;
        registry.register(Box::new(self.log_time_ahead_seconds.clone()))?;
        for counter in [
            &self.fsync_octets,
            &self.leader_changes,
            &self.refused_transactions,
            &self.handshakes_failed,
            &self.handshakes_refused,
            &self.projection_wipes,
            &self.backfills_discarded,
            &self.snapshots_without_room,
            &self.trimmed_octets,
        ] {
            registry.register(Box::new(counter.clone()))?;
        }
        registry.register(Box::new(self.commit_seconds.clone()))?;
        registry.register(Box::new(self.fsync_seconds.clone()))?;
        registry.register(Box::new(self.snapshot_cut_seconds.clone()))?;
        registry.register(Box::new(self.failed_proposals.clone()))
    }

    /// Counts a proposal that failed.
    pub(crate) fn failed(&self, error: &ProposeError) {
        let reason = match error {
            ProposeError::NotLeader { .. } => "not_leader",
            ProposeError::NotCommitted => "not_committed",
            ProposeError::Unknown => "unknown",
            ProposeError::Repeated(_) => "repeated",
            ProposeError::ReusedId => "reused_id",
            ProposeError::TooLarge => "too_large",
            ProposeError::Storage(_) => "storage",
            ProposeError::Stopped => "stopped",
        };
        self.failed_proposals.with_label_values(&[reason]).inc();
    }
}
