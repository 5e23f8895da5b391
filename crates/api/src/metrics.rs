//! What the doors count: calls with their durations, sessions, certificates as the leader sees them.
//!
//! It refuses labels with unbounded values: method, code and reason come from tables of ours.

use prometheus::core::Collector;
use prometheus::{Gauge, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// Counters and histograms of the doors.
#[derive(Clone)]
pub(crate) struct Metrics {
    /// Seconds per call, by method and gRPC code.
    pub(crate) calls: HistogramVec,
    /// Agents with a session here.
    pub(crate) sessions: IntGauge,
    /// Watches open here.
    pub(crate) watches: IntGauge,
    /// Connections closed unread because their address had its share of handshakes.
    pub(crate) handshakes_refused: IntCounter,
    /// Servers that an agent took nothing from, because their log is not the one that it has seen.
    pub(crate) checkpoints_refused: IntCounter,
    /// Sessions of agents that had seen an older epoch only.
    pub(crate) agents_of_older_epochs: IntCounter,
    /// Certificates that agents hold and a restored log did not know, by what became of them.
    pub(crate) held_certificates: IntCounterVec,
    /// When a backup was last written in full by this server's schedule, seconds since the Unix epoch.
    pub(crate) backup_last_success: Gauge,
    /// Scheduled backups that failed.
    pub(crate) backup_failures: IntCounter,
    registry: Registry,
}

impl Metrics {
    /// Registers everything.
    pub(crate) fn register(registry: &Registry) -> Self {
        let calls = HistogramOpts::new("certwright_rpc_server_call_duration_seconds", "Duration of API calls")
            .buckets(vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]);
        let metrics = Self {
            calls: HistogramVec::new(calls, &["rpc_method", "rpc_status_code"]).expect("the name and labels are valid"),
            sessions: gauge("certwright_agent_sessions", "Agents with a session on this server"),
            watches: gauge("certwright_watches", "Watches open on this server"),
            handshakes_refused: IntCounter::new(
                "certwright_api_handshakes_refused_total",
                "Connections on the API port closed unread because their address had its share of handshakes",
            )
            .expect("the name is valid"),
            checkpoints_refused: IntCounter::new(
                "certwright_agent_checkpoints_refused_total",
                "Servers that an agent took nothing from because their log is not the one it has seen",
            )
            .expect("the name is valid"),
            agents_of_older_epochs: IntCounter::new(
                "certwright_agent_epochs_crossed_total",
                "Sessions of agents that had only seen an epoch before this one",
            )
            .expect("the name is valid"),
            held_certificates: IntCounterVec::new(
                Opts::new(
                    "certwright_agent_held_certificates_total",
                    "Certificates that agents held and a restored log did not know, by what became of them",
                ),
                &["outcome"],
            )
            .expect("the name and labels are valid"),
            backup_last_success: Gauge::new(
                "certwright_backup_last_success_timestamp_seconds",
                "When this server last wrote a scheduled backup in full; 0 before the first",
            )
            .expect("the name is valid"),
            backup_failures: IntCounter::new(
                "certwright_backup_failures_total",
                "Scheduled backups of this server that failed",
            )
            .expect("the name is valid"),
            registry: registry.clone(),
        };
        add(registry, Box::new(metrics.calls.clone()));
        add(registry, Box::new(metrics.sessions.clone()));
        add(registry, Box::new(metrics.watches.clone()));
        add(registry, Box::new(metrics.handshakes_refused.clone()));
        add(registry, Box::new(metrics.checkpoints_refused.clone()));
        add(registry, Box::new(metrics.agents_of_older_epochs.clone()));
        add(registry, Box::new(metrics.held_certificates.clone()));
        add(registry, Box::new(metrics.backup_last_success.clone()));
        add(registry, Box::new(metrics.backup_failures.clone()));
        metrics
    }

    /// Everything that was registered by any room, in Prometheus's text format.
    pub(crate) fn text(&self) -> String {
        prometheus::TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_default()
    }
}

fn gauge(name: &str, help: &str) -> IntGauge {
    IntGauge::new(name, help).expect("the name is valid")
}

fn add(registry: &Registry, collector: Box<dyn Collector>) {
    // A second registration can only be the same one of a server started again in the same process.
    if let Err(error) = registry.register(collector) {
        tracing::debug!(%error, "a metric was registered before");
    }
}
