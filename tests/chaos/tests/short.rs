//! The short form of what `make chaos` does at length: a few power cuts, one of each fault, and planted bugs that must be
//! found.
//!
//! It refuses to pass silently where real faults cannot be made: it says so, and fails in continuous integration.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::explicit_write,
    missing_docs,
    reason = "tests fail loudly and start processes"
)]

use std::io::Write as _;
use std::process::Command;

use certwright_chaos::room;
use certwright_chaos::storm::fault::Fault;
use serde_json::Value;

/// Whether real faults can be made here.
fn can_strike() -> bool {
    let Some(why) = room::missing() else { return true };
    assert!(std::env::var_os("CI").is_none(), "real faults cannot be made here: {why}");
    // Not by eprintln!, which the test's harness keeps to itself when all is well.
    writeln!(std::io::stderr(), "\n!!! NOT TESTED: real faults cannot be made here: {why}\n").unwrap();
    false
}

/// Runs `chaos`; answers its last line, whether it found all well, and what it said besides.
///
/// Its folder is in one of the test's own, where nothing may be left when it ends well.
fn chaos(arguments: &[&str]) -> (Value, bool, String) {
    let place = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_chaos"));
    command.args(arguments).env("RUST_BACKTRACE", "0").env("TMPDIR", place.path());
    let output = command.output().unwrap();
    let is_empty = std::fs::read_dir(place.path()).unwrap().next().is_none();
    assert!(is_empty || !output.status.success(), "{arguments:?} leaves something behind");
    if !is_empty {
        // Logs of what failed.
        let _ = place.keep();
    }
    let (said, besides) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    let last = said.lines().last().unwrap_or_else(|| panic!("chaos says nothing: {besides}"));
    (serde_json::from_str(last).unwrap(), output.status.success(), besides)
}

fn cuts(count: u64, arguments: &[&str]) {
    let (last, is_good, besides) = chaos(&[&["cuts", "--count", &count.to_string()], arguments].concat());
    assert!(is_good, "{besides}");
    assert!(last["cuts"].as_u64().unwrap() >= count, "{last}");
}

#[test]
fn what_was_acknowledged_survives_power_cuts() {
    if can_strike() {
        cuts(13, &["--seed", "1"]);
        cuts(8, &["--seed", "2", "--servers", "3"]);
        cuts(4, &["--seed", "3", "--drive", "ext4"]);
    }
}

#[test]
fn nothing_breaks_under_one_fault_of_each_kind() {
    if !can_strike() {
        return;
    }
    let (last, is_good, besides) = chaos(&["faults", "--pause-max", "3"]);
    assert!(is_good, "{besides}");
    assert_eq!(last["faults"].as_object().unwrap().len(), Fault::ALL.len(), "{last}");
    let least = |what: &str| last[what].as_u64().unwrap();
    // Most operations make an event or more; the certificate is renewed every seven seconds.
    assert!(2 * least("watched") > least("operations"), "the watcher was told nothing: {last}");
    assert!(least("pairs") > Fault::ALL.len() as u64 / 2, "the consumer saw nothing: {last}");
}

#[test]
fn power_cuts_find_a_log_that_is_not_synced() {
    if !can_strike() {
        return;
    }
    // What was never synced is missed by callers, by the server itself when it starts again, or by whoever reads the log up
    // to a snapshot, which is synced on its own.
    let checkers = ["promises", "restart", "history"];
    finds("skip_fsync", &checkers, &["cuts", "--count", "25", "--seed", "1"]);
    finds("skip_directory_fsync", &checkers, &["cuts", "--count", "25", "--seed", "1"]);
}

#[test]
fn a_leader_that_is_cut_off_and_promises_too_early_is_found() {
    if can_strike() {
        finds("reply_before_commit", &["promises"], &["faults", "--only", "leader cut off"]);
    }
}

/// A bug that is planted in the servers must be found as what it breaks, by one of these checks.
fn finds(bug: &str, checkers: &[&str], arguments: &[&str]) {
    let (last, is_good, besides) = chaos(&[arguments, &["--mutant", bug]].concat());
    let found = last["violations"].as_array().unwrap();
    let is_one = |told: &Value, of: &[&str]| of.iter().any(|it| told == it);
    let is_named = |it: &Value| is_one(&it["invariant"], &["I1", "I3", "I12"]) && is_one(&it["checker"], checkers);
    assert!(!is_good && found.iter().any(is_named), "{bug} is not found: {besides}");
}
