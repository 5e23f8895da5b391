//! The server that joined last leads and signs with the authorities' keys, within a minute of its birth.
//!
//! It refuses to name a leader: the others stop in good order until this one is elected.

use std::time::{Duration, Instant};

use certwright_tests::fleet::Fleet;
use certwright_tests::program::eventually;
use serde_json::Value;

const JOINER: &str = "server-3";
const WITHIN: Duration = Duration::from_secs(60);

/// Stops whoever leads and starts it again, until the joiner leads.
fn until_it_leads(fleet: &mut Fleet, begun: Instant) {
    loop {
        assert!(begun.elapsed() < WITHIN, "it never led");
        let leader = fleet.leader();
        if leader == JOINER {
            return;
        }
        fleet.signal(&leader, "TERM");
        eventually("the leader has stopped", Duration::from_secs(20), || fleet.is_gone(&leader).then_some(()));
        fleet.restart(&leader);
        eventually("somebody else leads", Duration::from_secs(20), || (fleet.leader() != leader).then_some(()));
        // Two of three must be up before the next one may stop.
        fleet.agreed_digest();
    }
}

fn term(fleet: &Fleet) -> Value {
    let peers = fleet.json(&["operator", "raft", "peers"]);
    let peer = peers.as_array().unwrap().iter().find(|peer| peer["name"] == JOINER).unwrap();
    assert_eq!(peer["role"], "leader", "{peers}");
    peer["term"].clone()
}

#[test]
fn the_third_joiner_leads_and_signs_within_a_minute() {
    let begun = Instant::now();
    let mut fleet = Fleet::start(3, 1);
    until_it_leads(&mut fleet, begun);
    let before = term(&fleet);
    let out = fleet.folder().join("issued");
    let asked = ["issue", "--dns", "joiner.demo.internal", "--issuer", "demo", "--out", out.to_str().unwrap()];
    let issued = fleet.json(&asked);
    fleet.run(&["renew", "web", "--wait"]);
    let took = begun.elapsed();
    assert_eq!(term(&fleet), before, "it led all the while, so that nobody else signed");
    assert!(took < WITHIN, "it took {took:?} from the birth of the cluster");
    let serial = issued["serial"].as_str().unwrap();
    let known =
        fleet.events().iter().any(|event| event["type"] == "CertificateIssued" && event["data"]["serial"] == serial);
    assert!(known, "{serial} is not in the log");
}
