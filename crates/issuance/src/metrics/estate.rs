//! Series about certificates and authorities, read from state when scraped: cert-manager's names, so that its alerts and
//! dashboards work, and the authorities' ends.
//!
//! It refuses to speak anywhere but on the leader, which would count the fleet once for each server; and it refuses to
//! hold state for longer than a page.

use std::collections::HashMap;

use certwright_core::State;
use certwright_core::ids::CertificateName;
use certwright_core::spec::AuthorityPurpose;
use certwright_core::state::Certificate;
use certwright_core::time::Timestamp;
use certwright_raft::Log;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Gauge, LabelPair, Metric, MetricFamily, MetricType};

/// Certificates read under one look at state.
const PAGE: usize = 256;
/// Certificates whose series are emitted; beyond it `certwright_certificates_unlisted` says how many are not.
const LISTED_MAX: usize = 20_000;
/// What cert-manager calls issuers of ours.
const ISSUER_KIND: &str = "Issuer";
const ISSUER_GROUP: &str = "certwright.dev";

/// The one series that is always there; the others' names are cert-manager's and ours, and nobody else emits them.
const UNLISTED: (&str, &str) = ("certwright_certificates_unlisted", "Certificates without series of their own.");

/// The collector.
pub(crate) struct Estate {
    log: Log<State>,
    described: Desc,
}

/// One certificate at one moment.
struct Row {
    labels: Vec<LabelPair>,
    ready: bool,
    not_after: Option<Timestamp>,
    renew_at: Option<Timestamp>,
}

impl Estate {
    pub(crate) fn of(log: Log<State>) -> Self {
        let described = Desc::new(UNLISTED.0.to_owned(), UNLISTED.1.to_owned(), Vec::new(), HashMap::new());
        Self { log, described: described.expect("a constant name without labels is valid") }
    }

    fn rows(&self) -> (Vec<Row>, usize) {
        let (mut rows, mut after): (Vec<Row>, Option<CertificateName>) = (Vec::new(), None);
        loop {
            let (page, last, left) = self.log.read(|view| {
                let certificates = &view.state.certificates;
                let page = certificates.page_after(after.as_ref(), PAGE, |_| true);
                let last = page.last().map(|certificate| certificate.name.clone());
                let rows: Vec<Row> = page.into_iter().map(|certificate| row(certificate, view.at)).collect();
                (rows, last, certificates.len())
            });
            rows.extend(page);
            after = last;
            if after.is_none() || rows.len() >= LISTED_MAX {
                let unlisted = if after.is_none() { 0 } else { left.saturating_sub(rows.len()) };
                return (rows, unlisted);
            }
        }
    }

    /// Instances by what they are at.
    fn counts(&self) -> Vec<Metric> {
        let counts = self.log.read(|view| view.state.counts());
        let states =
            [("all", counts.instances), ("ready", counts.ready), ("open", counts.open), ("failing", counts.failing)];
        states.into_iter().map(|(state, count)| gauge(vec![label("state", state)], count as f64)).collect()
    }

    fn agents(&self) -> f64 {
        self.log.read(|view| view.state.agents.len()) as f64
    }

    fn authorities(&self) -> Vec<Metric> {
        self.log.read(|view| {
            let certified = view.state.authorities.iter().filter_map(|authority| {
                let role = match (authority.spec.purpose, &authority.spec.parent) {
                    (AuthorityPurpose::System, _) => "system",
                    (AuthorityPurpose::Issuing, None) => "root",
                    (AuthorityPurpose::Issuing, Some(_)) => "intermediate",
                };
                let labels = vec![label("ca", authority.name.as_str()), label("role", role)];
                Some(gauge(labels, seconds(authority.certified.as_ref()?.not_after)))
            });
            certified.collect()
        })
    }
}

impl Collector for Estate {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.described]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        if !self.log.leadership().borrow().ready {
            return Vec::new();
        }
        let (rows, unlisted) = self.rows();
        let mut ready = Vec::with_capacity(rows.len() * 3);
        let (mut ends, mut renewals) = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
        for row in rows {
            let current = if row.ready { "True" } else { "False" };
            for condition in ["True", "False", "Unknown"] {
                let labels = [&row.labels[..], &[label("condition", condition)]].concat();
                ready.push(gauge(labels, f64::from(u8::from(condition == current))));
            }
            // An end of 0 means "never issued" there; a renewal time of 0 would set off its expiry alert, so none is
            // emitted instead.
            ends.push(gauge(row.labels.clone(), row.not_after.map_or(0.0, seconds)));
            renewals.extend(row.renew_at.map(|renew_at| gauge(row.labels, seconds(renew_at))));
        }
        let families = [
            ("certmanager_certificate_ready_status", "The ready status of the certificate.", ready),
            (
                "certmanager_certificate_expiration_timestamp_seconds",
                "When the certificate expires; 0: never issued.",
                ends,
            ),
            ("certmanager_certificate_renewal_timestamp_seconds", "When the certificate will be renewed.", renewals),
            (
                "certwright_ca_not_after_timestamp_seconds",
                "When an authority's certificate expires.",
                self.authorities(),
            ),
            ("certwright_agents", "Agents that are registered.", vec![gauge(vec![], self.agents())]),
            ("certwright_instances", "Instances of certificates by state.", self.counts()),
            (UNLISTED.0, UNLISTED.1, vec![gauge(vec![], unlisted as f64)]),
        ];
        let filled = families.into_iter().filter(|(.., metrics)| !metrics.is_empty());
        filled.map(|(name, help, metrics)| family(name, help, metrics)).collect()
    }
}

/// A certificate is as good as the worst of its instances: ready when all are, ending when the first does.
fn row(certificate: &Certificate, now: Timestamp) -> Row {
    let current = || certificate.instances.iter().filter_map(|instance| instance.current.as_ref());
    let issuer = certificate.spec().issuer;
    Row {
        labels: vec![
            label("name", certificate.name.name.as_str()),
            label("namespace", certificate.name.namespace.as_str()),
            label("issuer_name", issuer.as_str()),
            label("issuer_kind", ISSUER_KIND),
            label("issuer_group", ISSUER_GROUP),
        ],
        ready: certwright_proto::api::readiness::is_ready(certificate, now),
        not_after: current().map(|current| current.not_after).min(),
        renew_at: current().map(|current| current.renew_at).min(),
    }
}

fn seconds(moment: Timestamp) -> f64 {
    moment.seconds() as f64
}

fn label(name: &str, value: &str) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}

fn gauge(mut labels: Vec<LabelPair>, value: f64) -> Metric {
    labels.sort();
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    let mut metric = Metric::default();
    metric.set_label(labels);
    metric.set_gauge(gauge);
    metric
}

fn family(name: &str, help: &str, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(MetricType::GAUGE);
    family.set_metric(metrics);
    family
}
