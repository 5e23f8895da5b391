//! Seeds of a usual run, and that a seed says everything about its run.
//!
//! It refuses to look into a run: what `simulate` says last is all there is.
#![allow(clippy::unwrap_used, clippy::disallowed_types, missing_docs, reason = "tests fail loudly and start processes")]

use std::process::Command;

use serde_json::Value;

/// Seeds of a usual run.
const SEEDS: u64 = 200;
/// Seeds that are run twice.
const REPEATED: u64 = 6;
/// So many of them may differ: signatures are not seeded, and in one seed of some hundreds it matters how long they are.
const LENGTHS_DECIDE_MAX: usize = 1;
/// Runs in which callers got nothing done prove nothing: so many operations must be answered in each, on average.
const OPERATIONS_MIN: u64 = 50;

/// What `simulate` says last, and all that it said before.
fn simulate(seeds: u64, arguments: &[&str]) -> (Value, String) {
    let mut program = Command::new(env!("CARGO_BIN_EXE_simulate"));
    program.args(["--seeds", &seeds.to_string()]).args(arguments).env_remove("CERTWRIGHT_MUTANT");
    let output = program.output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    (serde_json::from_str(said.lines().last().unwrap()).unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn nothing_that_must_hold_is_broken() {
    let (last, said) = simulate(SEEDS, &[]);
    let failures: Vec<_> = said.split("\nseed ").filter(|text| text.contains("FAILED")).collect();
    assert_eq!(last["failed"], serde_json::json!([]), "{}", failures.join("\n"));
    assert!(last["operations"].as_u64().unwrap() > SEEDS * OPERATIONS_MIN, "{last}");
    assert!(last["snapshots"].as_u64().unwrap() > SEEDS, "snapshots were hardly ever compared: {last}");
}

#[test]
fn a_seed_is_the_same_run_every_time() {
    let digest = |seed: u64, more: &[&str]| {
        let seed = seed.to_string();
        simulate(1, &[&["--from", &seed], more].concat()).0["trace_digest"].clone()
    };
    let differ = |more: &[&str]| -> Vec<u64> {
        (1..=REPEATED).filter(|seed| digest(*seed, more) != digest(*seed, more)).collect()
    };
    let others = differ(&[]);
    assert!(others.len() <= LENGTHS_DECIDE_MAX, "not the same run: seeds {others:?}");
    // The control: with the generator of one server unseeded, the traces differ.
    assert_eq!(differ(&["--control"]).len() as u64, REPEATED, "an unseeded server makes no difference");
}
