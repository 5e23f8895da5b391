//! The server that joined last leads and signs with the authorities' keys, within a minute of its birth.
//!
//! It refuses to wait for chance: leadership is handed to it.

use std::time::{Duration, Instant};

use certwright_tests::fleet::Fleet;
use certwright_tests::program::eventually;
use serde_json::Value;

const JOINER: &str = "server-3";
const WITHIN: Duration = Duration::from_secs(60);

/// Has the leader hand over to the joiner, which must have proved by now that it opens the data key.
fn until_it_leads(fleet: &Fleet, begun: Instant) {
    eventually("the joiner leads", WITHIN.saturating_sub(begun.elapsed()), || {
        fleet.try_run(&["operator", "raft", "transfer", "--to", JOINER]);
        (fleet.leader() == JOINER).then_some(())
    });
}

/// The term in which the joiner leads, if it does.
fn term(fleet: &Fleet) -> Option<Value> {
    let peers = fleet.json(&["operator", "raft", "peers"]);
    let peer = peers.as_array().unwrap().iter().find(|peer| peer["name"] == JOINER).unwrap();
    (peer["role"] == "leader").then(|| peer["term"].clone())
}

#[test]
fn the_third_joiner_leads_and_signs_within_a_minute() {
    let begun = Instant::now();
    let fleet = Fleet::start(3, 1);
    let out = fleet.folder().join("issued");
    let asked = ["issue", "--dns", "joiner.demo.internal", "--issuer", "demo", "--out", out.to_str().unwrap()];
    let issued = eventually("it led all the while, so that nobody else signed", WITHIN, || {
        until_it_leads(&fleet, begun);
        let before = term(&fleet)?;
        let issued = fleet.json(&asked);
        fleet.run(&["renew", "web", "--wait"]);
        (term(&fleet)? == before).then_some(issued)
    });
    let took = begun.elapsed();
    // Whoever answers has applied it.
    fleet.agreed_digest();
    assert!(took < WITHIN, "it took {took:?} from the birth of the cluster");
    let serial = issued["serial"].as_str().unwrap();
    let known =
        fleet.events().iter().any(|event| event["type"] == "CertificateIssued" && event["data"]["serial"] == serial);
    assert!(known, "{serial} is not in the log");
}
