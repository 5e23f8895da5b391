//! What the leader's work is measured by.
//!
//! It refuses unbounded labels: an issuer that does not exist is counted under an empty name.

mod estate;

use certwright_core::event::Stage;
use certwright_core::ids::IssuerName;
use certwright_core::{Reason, State};
use certwright_raft::Log;
use prometheus::core::Collector;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// Seconds of verify, compose, lint and sign: P-256 needs about 0.15 ms, RSA and a busy pool more.
const SIGN_BUCKETS: [f64; 10] = [0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5];

/// The leader's metrics; zero on the others.
pub(crate) struct Metrics {
    issuances: IntCounterVec,
    deliveries: IntCounterVec,
    pub(crate) overloaded: IntCounter,
    pub(crate) queued: IntGauge,
    pub(crate) in_flight: IntGauge,
    pub(crate) due: IntGauge,
    pub(crate) held: IntGauge,
    pub(crate) leading: IntGauge,
    pub(crate) sign_seconds: Histogram,
}

impl Metrics {
    /// Registers everything, the estate's own series included. A name that is taken keeps its first owner: that is the
    /// same process with a second log, as tests have.
    pub(crate) fn register(registry: &Registry, log: &Log<State>) -> Self {
        let metrics = Self::new();
        let all: [Box<dyn Collector>; 10] = [
            Box::new(metrics.issuances.clone()),
            Box::new(metrics.deliveries.clone()),
            Box::new(metrics.overloaded.clone()),
            Box::new(metrics.queued.clone()),
            Box::new(metrics.in_flight.clone()),
            Box::new(metrics.due.clone()),
            Box::new(metrics.held.clone()),
            Box::new(metrics.leading.clone()),
            Box::new(metrics.sign_seconds.clone()),
            Box::new(estate::Estate::of(log.clone())),
        ];
        for collector in all {
            if let Err(error) = registry.register(collector) {
                tracing::warn!(%error, "a metric is not registered");
            }
        }
        metrics
    }

    fn new() -> Self {
        let labels = ["issuer", "trigger", "result", "reason"];
        let issuances = Opts::new("certwright_issuances_total", "Issuances by issuer, trigger, result and reason.");
        let deliveries = Opts::new("certwright_deliveries_total", "Agents' reports recorded, by stage and result.");
        let seconds =
            "Verification, composition, lint and signature of one certificate, queue of the signers included.";
        Self {
            issuances: valid(IntCounterVec::new(issuances, &labels)),
            deliveries: valid(IntCounterVec::new(deliveries, &["stage", "result"])),
            overloaded: counter("certwright_commands_overloaded_total", "Commands refused because too many waited."),
            queued: gauge("certwright_sequencer_queue_depth", "Commands that wait to be decided."),
            in_flight: gauge("certwright_sequencer_in_flight", "Transactions handed to the log and not applied yet."),
            due: gauge(
                "certwright_issuances_due",
                "Instances due for a new generation, as far as the scheduler looks.",
            ),
            held: gauge(
                "certwright_renewals_held",
                "1 while renewals are held back because log time jumped or was set back: somebody must say that it is right.",
            ),
            leading: gauge("certwright_issuance_leading", "1 while this server decides and signs."),
            sign_seconds: valid(Histogram::with_opts(
                HistogramOpts::new("certwright_sign_duration_seconds", seconds).buckets(SIGN_BUCKETS.to_vec()),
            )),
        }
    }

    /// Counts one issuance; no reason means that it succeeded.
    pub(crate) fn count_issuance(&self, issuer: &IssuerName, trigger: &'static str, failed: Option<Reason>) {
        let issuer = match failed {
            Some(Reason::IssuerNotFound | Reason::NotLeader | Reason::Overloaded) => "",
            _ => issuer.as_str(),
        };
        let result = if failed.is_some() { "failed" } else { "issued" };
        let reason = failed.map_or("", Reason::code);
        self.issuances.with_label_values(&[issuer, trigger, result, reason]).inc();
    }

    /// Counts one report of an agent.
    pub(crate) fn count_delivery(&self, stage: Stage, failed: bool) {
        let result = if failed { "failed" } else { "done" };
        self.deliveries.with_label_values(&[stage.name(), result]).inc();
    }
}

/// The counter of serials that were seen on two certificates; anything but 0 is an alarm.
pub(crate) fn serial_duplicates() -> IntCounter {
    counter("certwright_serial_duplicates_total", "Serials seen on two certificates: a fault of ours.")
}

fn counter(name: &str, help: &str) -> IntCounter {
    valid(IntCounter::new(name, help))
}

fn gauge(name: &str, help: &str) -> IntGauge {
    valid(IntGauge::new(name, help))
}

fn valid<T>(metric: prometheus::Result<T>) -> T {
    metric.expect("metric names and labels are constants, and valid")
}

#[cfg(test)]
mod tests {
    use super::Metrics;
    use certwright_core::Reason;
    use certwright_core::ids::IssuerName;

    #[test]
    #[allow(clippy::unwrap_used)]
    fn an_issuer_that_does_not_exist_makes_no_series_of_its_own() {
        let metrics = Metrics::new();
        for name in ["a", "b", "c"] {
            let name = IssuerName::parse(name).unwrap();
            metrics.count_issuance(&name, "direct", Some(Reason::IssuerNotFound));
        }
        assert_eq!(metrics.issuances.with_label_values(&["", "direct", "failed", "ISSUER_NOT_FOUND"]).get(), 3);
        metrics.count_issuance(&IssuerName::parse("a").unwrap(), "direct", None);
        assert_eq!(metrics.issuances.with_label_values(&["a", "direct", "issued", ""]).get(), 1);
    }
}
