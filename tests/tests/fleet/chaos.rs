//! The leader dies twenty times, each time at a named point with dozens of issuances under way; then everything dies.
//!
//! It refuses a single lost acknowledgement, repeated serial or repeated generation.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use certwright_tests::fleet::Fleet;
use certwright_tests::load::{Answer, Load};
use certwright_tests::program::eventually;
use serde_json::Value;

const KILLS: usize = 20;
const CALLERS: usize = 64;
const IN_FLIGHT_MIN: u64 = 50;
/// Where a leader may die, in the order in which a transaction passes the points.
const POINTS: [&str; 4] = ["before_propose", "after_append", "after_commit", "during_release"];

/// Waits until some server has ended; answers its name and when that was seen.
fn next_death(fleet: &Fleet, servers: &[String]) -> (String, Instant) {
    eventually("an armed leader dies", Duration::from_secs(120), || {
        let dead = servers.iter().find(|name| fleet.is_gone(name))?;
        Some((dead.clone(), Instant::now()))
    })
}

/// Every certificate of the log: how often each serial and each (instance, generation) was issued.
fn issued(events: &[Value]) -> (BTreeMap<String, usize>, BTreeMap<(String, u64), usize>) {
    let (mut serials, mut generations) = (BTreeMap::new(), BTreeMap::new());
    for event in events.iter().filter(|event| event["type"] == "CertificateIssued") {
        let data = &event["data"];
        *serials.entry(data["serial"].as_str().unwrap().to_string()).or_default() += 1;
        let generation = (data["instance"].as_str().unwrap().to_string(), data["generation"].as_u64().unwrap());
        *generations.entry(generation).or_default() += 1;
    }
    (serials, generations)
}

fn check(events: &[Value], answers: &[Answer]) {
    let (serials, generations) = issued(events);
    let lost: Vec<_> = answers.iter().filter(|answer| !serials.contains_key(&answer.serial)).collect();
    assert!(lost.is_empty(), "{} acknowledged certificates are not in the log: {:?}", lost.len(), lost.first());
    let twice: Vec<_> = serials.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "serials issued twice: {twice:?}");
    let twice: Vec<_> = generations.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "generations issued twice: {twice:?}");
    let answered: BTreeSet<&str> = answers.iter().map(|answer| answer.serial.as_str()).collect();
    assert_eq!(answered.len(), answers.len(), "two requests got the same certificate");
}

#[test]
fn nothing_acknowledged_is_lost_when_leaders_die() {
    let mut fleet = Fleet::start(3, 2);
    let servers = fleet.servers();
    // Followers first, so that the leader that is left hands over to an armed one.
    let leader = fleet.leader();
    for name in servers.iter().filter(|name| **name != leader).chain([&leader]) {
        fleet.kill(name);
        fleet.restart_with(name, &[("CERTWRIGHT_FAULT", "after_append:400")]);
        eventually("all servers are back", Duration::from_secs(60), || {
            fleet.try_run(&["status"]).status.success().then_some(())
        });
    }
    let load = Load::start(&fleet.context(), CALLERS);
    let mut gaps = Vec::new();
    for kill in 0..KILLS {
        let (name, died) = next_death(&fleet, &servers);
        assert!(load.in_flight() >= IN_FLIGHT_MIN, "only {} in flight at kill {kill}", load.in_flight());
        let next = eventually("the next certificate", Duration::from_secs(60), || load.first_after(died));
        gaps.push(next.answered.duration_since(died));
        let point = format!("{}:{}", POINTS[(kill + 1) % POINTS.len()], 300 + 37 * kill);
        fleet.restart_with(&name, &[("CERTWRIGHT_FAULT", &point)]);
    }
    let answers = load.stop();
    gaps.sort();
    eprintln!(
        "{KILLS} leader deaths, {} certificates; next certificate p50 {:?}, max {:?}",
        answers.len(),
        gaps[KILLS / 2],
        gaps[KILLS - 1]
    );

    // Disarm, and let everything die at once: the disks are all that is left.
    let digest_of = |fleet: &mut Fleet| {
        for name in &servers {
            if !fleet.is_gone(name) {
                fleet.kill(name);
            }
        }
        for name in &servers {
            fleet.restart(name);
        }
        eventually("all servers are back", Duration::from_secs(60), || {
            fleet.try_run(&["status"]).status.success().then_some(())
        });
        fleet.agreed_digest()
    };
    digest_of(&mut fleet);
    let events = fleet.events();
    check(&events, &answers);
    let newest = events
        .iter()
        .filter(|event| {
            event["type"] == "CertificateIssued" && event["stream"] == "namespaces/default/certificates/web"
        })
        .filter_map(|event| event["data"]["generation"].as_u64())
        .max()
        .unwrap();
    eventually("the agent has the newest generation", Duration::from_secs(90), || {
        let certificate = fleet.json(&["get", "certificate", "web"]);
        let text = certificate["status"].to_string();
        let instance = &certificate["status"]["instances"][0];
        let generation = instance["generation"].as_u64().unwrap_or_else(|| panic!("no generation in {text}"));
        let delivered = instance["deliveries"]
            .as_array()?
            .iter()
            .any(|delivery| delivery["stage"] == "written" && delivery["generation"].as_u64() == Some(generation));
        (generation >= newest && delivered).then_some(())
    });
}
