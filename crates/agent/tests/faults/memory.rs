//! A thousand certificates in little memory.

use crate::rig::Rig;
use crate::target::spec;

const CERTIFICATES: usize = 1000;
/// The promise.
const RESIDENT_OCTETS_MAX: u64 = 20 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_certificates_stay_below_20_mib() {
    let rig = Rig::new().await;
    for number in 1..=CERTIFICATES {
        rig.estate.declare(&format!("5-0-{number}"), spec(&rig.root.path().join(format!("live/{number}"))));
    }
    let agent = rig.process(None);
    let mut largest = 0;
    rig.until("all deliveries", |estate| {
        largest = largest.max(agent.resident());
        estate.state().reports.iter().filter(|report| report.stage == "written").count() >= CERTIFICATES
    })
    .await;
    for number in 1..=CERTIFICATES {
        rig.estate.renew(&format!("5-0-{number}"));
    }
    rig.until("all renewals", |estate| {
        largest = largest.max(agent.resident());
        let state = estate.state();
        state.reports.iter().filter(|report| report.stage == "written" && report.generation == 2).count()
            >= CERTIFICATES
    })
    .await;
    println!("resident: {} KiB at most; at the end:\n{}", largest / 1024, agent.status());
    assert!(largest < RESIDENT_OCTETS_MAX, "{} KiB", largest / 1024);
}
