//! Every input of every corpus, and every seed, once: what a fuzzer found stays found.
//!
//! It refuses corpora that are too large to be replayed with every test run.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::panic::{AssertUnwindSafe, catch_unwind};

use certwright_fuzz::{TARGETS, corpus};

#[test]
fn every_input_is_as_harmless_as_ever() {
    let mut failed = Vec::new();
    for target in TARGETS {
        let seeds = (0..).zip((target.seeds)()).map(|(number, seed): (u32, _)| (format!("seed-{number:02}"), seed));
        let inputs = corpus::load(target.name).unwrap();
        assert!(!inputs.is_empty() || target.name == "backup", "{} has no corpus", target.name);
        for (name, octets) in inputs.into_iter().chain(seeds) {
            if catch_unwind(AssertUnwindSafe(|| (target.run)(&octets))).is_err() {
                failed.push(format!("{}: {name}", target.name));
            }
        }
    }
    assert!(failed.is_empty(), "inputs that fail: {failed:#?}");
}

/// Seeds that are refused, or say nothing that could be taken, by their numbers; all others are sound and must be taken.
const REFUSED: &[(&str, &[usize])] = &[
    ("wal", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
    ("segment", &[5, 6]),
    ("snapshot", &[2]),
    ("backup", &[3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]),
    // The only server is removed.
    ("api", &[31]),
    // Nothing to be taken; a leaf that is a root; roots that are known; nothing.
    ("agent", &[6, 7, 8, 13]),
    ("manifest", &[5, 6, 7, 9, 10]),
    ("csr", &[6]),
    ("x509", &[4, 5]),
    ("text", &[11, 17]),
];

#[test]
fn what_is_sound_is_taken_and_nothing_else() {
    for target in TARGETS {
        let seeds = (target.seeds)().into_iter().enumerate();
        let refused: Vec<usize> = seeds.filter(|(_, seed)| !target.takes(seed)).map(|(number, _)| number).collect();
        let expected = REFUSED.iter().find(|(name, _)| *name == target.name).map_or(&[][..], |(_, seeds)| *seeds);
        assert_eq!(refused, expected, "seeds of {} that are refused", target.name);
    }
}

#[test]
fn corpora_stay_small_and_belong_to_a_target() {
    let mut octets = 0;
    for entry in std::fs::read_dir(corpus::path("x").parent().unwrap()).unwrap() {
        let entry = entry.unwrap();
        octets += entry.metadata().unwrap().len();
        let name = entry.file_name().to_string_lossy().into_owned();
        assert!(TARGETS.iter().any(|target| format!("{}.hex", target.name) == name), "{name} is nobody's corpus");
    }
    assert!(octets <= corpus::CORPORA_OCTETS_MAX, "{octets} octets of corpora");
}
