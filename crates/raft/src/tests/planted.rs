//! Bugs planted in the conditions under which a leader that died is followed at once: a test finds each.
//!
//! It refuses to take a test's word that fails without the bug, or that ends in any other way than by failing.
#![allow(clippy::disallowed_types, reason = "it starts its own program, once for each bug")]

use std::process::Command;

use certwright_core::mutant::{CAN_BE_PLANTED, Mutant};

/// Each bug, and the test that finds it.
const FOUND_BY: [(Mutant, &str); 7] = [
    (Mutant::DeathBySilence, "tests::succession::only_a_closed_port_is_proof"),
    (Mutant::DeathByHearsay, "tests::succession::who_hears_the_leader_goes_by_its_lease_whatever_others_say"),
    (Mutant::DeathInEveryTerm, "peer::deaths::tests::a_lease_is_void_for_who_has_proved_the_death_and_is_not_linked"),
    (Mutant::DeathByMinority, "handle::witness::tests::less_than_a_majority_of_every_set_or_one_objection_is_doubt"),
    (
        Mutant::DeathDespiteObjection,
        "handle::witness::tests::less_than_a_majority_of_every_set_or_one_objection_is_doubt",
    ),
    (Mutant::ShortestLogFollows, "handle::witness::tests::the_longest_log_leads_then_the_lowest_id"),
    (Mutant::LearnerFollows, "handle::witness::tests::a_learner_never_leads"),
];

/// The last line of the one test, run with that bug planted or with none.
fn run(test: &str, bug: Option<Mutant>) -> String {
    let mut program = Command::new(std::env::current_exe().unwrap());
    program.args(["--exact", test, "--test-threads", "1"]).env_remove("CERTWRIGHT_MUTANT");
    if let Some(bug) = bug {
        program.env("CERTWRIGHT_MUTANT", bug.name());
    }
    let said = String::from_utf8_lossy(&program.output().unwrap().stdout).into_owned();
    said.lines().rfind(|line| line.starts_with("test result")).unwrap_or_default().to_owned()
}

#[test]
fn every_bug_in_the_conditions_of_following_a_leader_is_found() {
    if !CAN_BE_PLANTED {
        assert!(std::env::var_os("CI").is_none(), "bugs cannot be planted in this build: nothing was tested");
        eprintln!("bugs cannot be planted in this build, nothing is tested: run the whole workspace's tests");
        return;
    }
    let mut unfound: Vec<_> = Mutant::ALL.iter().filter(|it| it.invariants().is_empty()).copied().collect();
    for (bug, test) in FOUND_BY {
        let (sound, planted) = (run(test, None), run(test, Some(bug)));
        assert!(sound.contains("ok. 1 passed"), "{test}: {sound}");
        assert!(planted.contains("0 passed; 1 failed"), "{test} with {}: {planted}", bug.name());
        unfound.retain(|it| *it != bug);
    }
    assert!(unfound.is_empty(), "nothing looks for {unfound:?}");
}
