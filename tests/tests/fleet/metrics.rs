//! What a running fleet exports, read by Prometheus's own parser, against what docs/operating.md lists.
//!
//! It refuses families that never move: each is looked at after something happened that it is there to show.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use certwright_tests::fleet::Fleet;
use certwright_tests::program::{eventually, must, python};
use serde::Deserialize;
use serde_json::Value;

/// Listed, and not exported before something fails that no test can make fail at will.
const SILENT: [&str; 2] = ["certwright_agent_held_certificates_total", "certwright_raft_failed_proposals_total"];

/// A certificate whose target is no directory.
const UNWRITABLE: &str = "apiVersion: certwright.dev/v1\nkind: Certificate\nmetadata: {name: unwritable}\nspec:\n  \
     dnsNames: [unwritable.demo.internal]\n  issuerRef: {name: demo}\n  targets:\n  - name: files\n    agent: agent-1\n    \
     files: {directory: /dev/null/live}\n";

#[derive(Deserialize)]
struct Family {
    complaints: Vec<String>,
    samples: Vec<(String, BTreeMap<String, String>, f64)>,
}

type Page = BTreeMap<String, Family>;

/// Scrapes every server at a moment when one of them decides: its page is the first.
fn scrape(fleet: &Fleet) -> Vec<Page> {
    let processes = fleet.processes();
    let url = |name: &String| format!("http://{}/metrics", processes[name].http.as_deref().unwrap());
    let urls: Vec<String> = fleet.servers().iter().map(url).collect();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/metrics.py");
    eventually("one server decides", Duration::from_secs(20), || {
        let text = must(Command::new(python()).arg(&script).args(&urls));
        let pages: BTreeMap<String, Page> = serde_json::from_str(&text).unwrap();
        let decides = |page: &Page| sum(page, "certwright_issuance_leading", &[]) == 1.0;
        let (mut pages, others): (Vec<_>, Vec<_>) = pages.into_values().partition(decides);
        let is_one = pages.len() == 1;
        pages.extend(others);
        is_one.then_some(pages)
    })
}

/// The sum of the samples of that name that carry these labels.
fn sum(page: &Page, name: &str, labels: &[(&str, &str)]) -> f64 {
    let carries =
        |of: &BTreeMap<String, String>| labels.iter().all(|(key, value)| of.get(*key).is_some_and(|is| is == value));
    let samples = page.values().flat_map(|family| &family.samples);
    samples.filter(|(is, of, _)| is == name && carries(of)).map(|(.., value)| value).sum()
}

/// Families listed in the tables of docs/operating.md.
fn listed() -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operating.md");
    let text = std::fs::read_to_string(path).unwrap();
    let names = text.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let metric = |name: &&str| {
        let ours = name.starts_with("certwright_") || name.starts_with("certmanager_");
        // Alerts stand in a table, too.
        ours && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
    };
    names.filter(metric).map(str::to_string).collect()
}

/// What those who decided have counted, after a first issuance, a renewal, a direct issuance and a refused one.
fn check_counters(pages: &[Page]) {
    let all = |name: &str, labels: &[(&str, &str)]| pages.iter().map(|page| sum(page, name, labels)).sum::<f64>();
    let issued =
        |trigger| all("certwright_issuances_total", &[("issuer", "demo"), ("trigger", trigger), ("result", "issued")]);
    assert_eq!((issued("first"), issued("requested"), issued("direct")), (2.0, 1.0, 1.0));
    let failed = [("trigger", "direct"), ("result", "failed"), ("reason", "ISSUER_NOT_FOUND")];
    assert_eq!(all("certwright_issuances_total", &failed), 1.0);
    for stage in ["received", "verified", "written"] {
        let done = all("certwright_deliveries_total", &[("stage", stage), ("result", "done")]);
        assert!(done >= 2.0, "{stage}: {done}");
    }
    assert!(all("certwright_deliveries_total", &[("result", "failed")]) >= 1.0);
    assert!(all("certwright_raft_commit_seconds_count", &[]) > 10.0);
    assert!(all("certwright_sign_duration_seconds_count", &[]) >= 3.0);
}

/// What whoever decides says of the fleet.
fn check_leader(page: &Page) {
    assert_eq!(sum(page, "certwright_agents", &[]), 1.0);
    assert_eq!(sum(page, "certwright_instances", &[("state", "all")]), 2.0);
    let web = [("name", "web"), ("namespace", "default"), ("issuer_name", "demo")];
    let ready = |condition| {
        sum(page, "certmanager_certificate_ready_status", &[&web[..], &[("condition", condition)]].concat())
    };
    assert_eq!((ready("True"), ready("False")), (1.0, 0.0));
    let ends = sum(page, "certmanager_certificate_expiration_timestamp_seconds", &web);
    let renews = sum(page, "certmanager_certificate_renewal_timestamp_seconds", &web);
    assert!(ends > renews && renews > 1.7e9, "ends {ends}, renews {renews}");
    for ca in ["demo-root", "demo-ca", "system"] {
        assert!(sum(page, "certwright_ca_not_after_timestamp_seconds", &[("ca", ca)]) > ends, "{ca}");
    }
}

#[test]
fn every_listed_metric_is_exported_and_moves() {
    let fleet = Fleet::start(3, 1);
    let out = fleet.folder().join("issued");
    let issue = |issuer| {
        fleet.try_run(&["issue", "--dns", "x.demo.internal", "--issuer", issuer, "--out", out.to_str().unwrap()])
    };
    fleet.run(&["renew", "web", "--wait"]);
    assert!(issue("demo").status.success());
    assert!(!issue("nobody").status.success());
    fleet.apply(UNWRITABLE);
    eventually("a delivery fails", Duration::from_secs(20), || {
        let failed = |event: &Value| event["type"] == "CertificateDelivered" && !event["data"]["failure"].is_null();
        fleet.events().iter().any(failed).then_some(())
    });
    let pages = scrape(&fleet);
    assert_eq!(pages.len(), 3);

    let exported: BTreeSet<String> = pages.iter().flat_map(|page| page.keys().cloned()).collect();
    let listed = listed();
    let unlisted: Vec<_> = exported.difference(&listed).collect();
    assert!(unlisted.is_empty(), "exported and not listed in docs/operating.md: {unlisted:?}");
    let missing: Vec<_> = listed.difference(&exported).filter(|name| !SILENT.contains(&name.as_str())).collect();
    assert!(missing.is_empty(), "listed in docs/operating.md and not exported: {missing:?}");
    for (name, family) in pages.iter().flatten() {
        assert!(family.complaints.is_empty(), "{name}: {:?}", family.complaints);
    }

    let everywhere = |name: &str| pages.iter().map(|page| sum(page, name, &[])).sum::<f64>();
    assert_eq!(everywhere("certwright_agent_sessions"), 1.0, "the agent has one session");
    assert_eq!(everywhere("certwright_serial_duplicates_total"), 0.0);
    assert!(everywhere("certwright_rpc_server_call_duration_seconds_count") > 5.0);
    for page in &pages {
        for moved in [
            "certwright_raft_fsync_seconds_count",
            "certwright_raft_fsync_octets_total",
            "certwright_raft_applied_index",
        ] {
            assert!(sum(page, moved, &[]) > 5.0, "{moved} stands still");
        }
        assert!(sum(page, "certwright_raft_term", &[]) >= 1.0);
    }
    check_counters(&pages);
    check_leader(&pages[0]);
    for page in &pages[1..] {
        assert!(!page.keys().any(|name| name.starts_with("certmanager_")), "a follower counts the fleet again");
    }
}
