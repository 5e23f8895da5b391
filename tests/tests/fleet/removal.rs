//! A server is removed, and whoever replaces the data key dies after every single step of it.
//!
//! It refuses a step that is done twice, and a key that nobody can open afterwards.

use std::collections::BTreeMap;
use std::time::Duration;

use certwright_tests::fleet::Fleet;
use certwright_tests::program::eventually;
use serde_json::Value;

/// A new data key, one seal for each authority and one for the key of checkpoints, the old data key forgotten.
fn steps(events: &[Value]) -> BTreeMap<&str, usize> {
    let mut steps = BTreeMap::new();
    for event in events {
        let kind = event["type"].as_str().unwrap();
        let kinds =
            ["DataKeyRotated", "AuthorityKeyResealed", "CheckpointKeyResealed", "DataKeyRetired", "AuthorityDeclared"];
        if kinds.contains(&kind) {
            *steps.entry(kind).or_default() += 1;
        }
    }
    steps
}

#[test]
fn a_data_key_is_replaced_though_the_leader_dies_at_every_step() {
    let mut fleet = Fleet::start(3, 1);
    let leader = fleet.leader();
    let removed = fleet.servers().into_iter().find(|name| *name != leader).unwrap();
    let stay: Vec<String> = fleet.servers().into_iter().filter(|name| *name != removed).collect();
    let back = |fleet: &Fleet| {
        eventually("both servers are back", Duration::from_secs(60), || {
            fleet.try_run(&["status"]).status.success().then_some(())
        });
    };
    for name in stay.iter().filter(|name| **name != leader).chain([&leader]) {
        fleet.kill(name);
        fleet.restart_with(name, &[("CERTWRIGHT_FAULT", "after_rotation")]);
        back(&fleet);
    }
    fleet.run(&["operator", "raft", "remove", &removed]);
    let authorities = steps(&fleet.events())["AuthorityDeclared"];
    // Each of the two that stay dies at the first step it takes, and is armed again when it comes back.
    for _ in 0..authorities + 3 {
        let dead = eventually("an armed leader dies", Duration::from_secs(60), || {
            stay.iter().find(|name| fleet.is_gone(name)).cloned()
        });
        fleet.restart_with(&dead, &[("CERTWRIGHT_FAULT", "after_rotation")]);
    }
    back(&fleet);
    // Whoever answers may be behind still.
    let events = eventually("the last step is told", Duration::from_secs(30), || {
        let events = fleet.events();
        events.iter().any(|event| event["type"] == "DataKeyRetired").then_some(events)
    });
    let steps = steps(&events);
    assert_eq!(steps["DataKeyRotated"], 1, "{steps:?}");
    assert_eq!(steps["AuthorityKeyResealed"], authorities, "{steps:?}");
    assert_eq!(steps["CheckpointKeyResealed"], 1, "{steps:?}");
    assert_eq!(steps["DataKeyRetired"], 1, "{steps:?}");
    // Whoever leads signs with keys that only the new data key opens.
    let out = fleet.folder().join("after");
    fleet.run(&["issue", "--dns", "after.example.com", "--issuer", "demo", "--out", out.to_str().unwrap()]);
    // The removed one may answer, too, and knows only what it heard.
    eventually("it is gone", Duration::from_secs(30), || {
        (!fleet.run(&["operator", "raft", "peers"]).contains(&removed)).then_some(())
    });
}
