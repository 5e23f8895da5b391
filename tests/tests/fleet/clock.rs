//! `operator clock` on three servers whose clocks are right.
//!
//! It refuses to move the machine's clock; clocks that are wrong are simulated.

use std::time::Duration;

use certwright_tests::fleet::Fleet;
use certwright_tests::program::eventually;
use serde_json::{Value, json};

#[test]
fn log_time_is_with_the_clocks_and_nothing_is_set_back() {
    let fleet = Fleet::start(3, 1);
    let shown: Value = serde_json::from_str(&fleet.run(&["operator", "clock", "-o", "json"])).unwrap();
    assert!(shown["ahead_millis"].as_u64().unwrap() < 1000, "{shown}");
    let offsets: Vec<i64> =
        shown["servers"].as_array().unwrap().iter().map(|server| server["offset_millis"].as_i64().unwrap()).collect();
    assert!(offsets.len() == 3 && offsets.iter().all(|offset| offset.abs() < 1000), "{shown}");
    let text = fleet.run(&["operator", "clock"]);
    assert!(
        text.starts_with("SERVER") && text.contains("(this machine)") && text.contains("log time is with server-"),
        "{text}"
    );

    let refused = fleet.try_run(&["operator", "clock", "rebase"]);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("--yes-clocks-are-right"), "{said}");
    // A server that leads since a moment has yet to hear the others' clocks; the command waits for that.
    let answer = fleet.run(&["operator", "clock", "rebase", "--yes-clocks-are-right", "-o", "json"]);
    assert_eq!(serde_json::from_str::<Value>(&answer).unwrap(), json!({"rebased": false}));
    eventually("check finds nothing", Duration::from_secs(20), || {
        let answer: Value = serde_json::from_slice(&fleet.try_run(&["check", "-o", "json"]).stdout).ok()?;
        let check = answer["checks"].as_array()?.iter().find(|check| check["name"] == "cluster/log-time")?;
        (check["level"] == "good" || check["detail"] == "with the clock of the server that answers").then_some(())
    });
}
