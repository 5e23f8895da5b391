//! Tables of the plan: given a wish, what is held and the time, then these actions and nothing else.
#![allow(clippy::unwrap_used)]

use super::*;

fn target(name: &str) -> TargetWish {
    TargetWish { name: TargetName::parse(name).unwrap(), digest: 1, served_check: false, directory: None }
}

fn names(names: &[&str]) -> Vec<TargetName> {
    names.iter().map(|name| TargetName::parse(name).unwrap()).collect()
}

/// Issued generation `g`, valid in the seconds 1000..2000.
fn issued(generation: u64) -> IssuedFacts {
    IssuedFacts {
        generation,
        serial: format!("{generation:02X}"),
        not_before: Timestamp::from_seconds(1000),
        not_after: Timestamp::from_seconds(2000),
    }
}

fn wish(wanted_generation: u64, issued_generation: u64, targets: &[&str]) -> Wish {
    Wish {
        revision: 5,
        wanted_generation,
        issued: (issued_generation > 0).then(|| issued(issued_generation)),
        targets: targets.iter().map(|name| target(name)).collect(),
    }
}

fn installed(generation: u64) -> Installed {
    Installed {
        generation,
        serial: format!("{generation:02X}"),
        version: format!("{generation}-{generation:02X}"),
        digest: 1,
        stage: Stage::Written,
    }
}

fn held(keys: &[u64], targets: &[(&str, u64)]) -> Held {
    Held {
        keys: keys.iter().copied().collect(),
        targets: targets.iter().map(|(name, g)| (TargetName::parse(name).unwrap(), Arc::new(installed(*g)))).collect(),
        ..Held::default()
    }
}

fn at(seconds: u64) -> Now {
    Now { wall: Timestamp::from_seconds(1500), monotonic: Duration::from_secs(seconds) }
}

fn on_wall(seconds: u64) -> Now {
    Now { wall: Timestamp::from_seconds(seconds), monotonic: Duration::from_secs(100) }
}

/// Actions without the texts of failures.
fn told(plan: &Plan) -> Vec<String> {
    plan.actions
        .iter()
        .map(|action| match action {
            Action::Request { generation } => format!("request {generation}"),
            Action::Refuse { generation, failure } => format!("refuse {generation} {}", failure.reason.code()),
            Action::Deliver { generation, install, check } => format!("deliver {generation} {install:?} {check:?}"),
            Action::DropKeys { below } => format!("drop keys below {below}"),
        })
        .collect()
}

#[track_caller]
fn then(plan: &Plan, actions: &[&str], settled: bool) {
    assert_eq!(told(plan), actions);
    assert_eq!(plan.settled, settled, "settled");
}

#[test]
fn requests() {
    let wanted = wish(1, 0, &["a"]);
    let none = Held::default();
    let sent = |generation, at| Request::Sent { generation, at: Duration::from_secs(at) };
    let refused = |generation, revision| Request::Refused { generation, revision, retry_at: Duration::from_secs(50) };
    for (given, request, connected, now, actions) in [
        ("nothing sent", Request::Idle, true, 0, &["request 1"][..]),
        ("no session", Request::Idle, false, 0, &[]),
        ("being made", Request::Making, true, 0, &[]),
        ("sent just now", sent(1, 10), true, 69, &[]),
        ("sent long ago", sent(1, 10), true, 70, &["request 1"]),
        ("an older one was sent", sent(0, 10), true, 11, &["request 1"]),
        ("refused under this revision", refused(1, 5), true, 49, &[]),
        ("refused, and the wait is over", refused(1, 5), true, 50, &["request 1"]),
        ("refused under an older revision", refused(1, 4), true, 0, &["request 1"]),
        ("another generation was refused", refused(0, 5), true, 0, &["request 1"]),
    ] {
        let plan = plan(&wanted, &none, request, connected, at(now));
        assert_eq!(told(&plan), actions, "{given}");
        assert!(!plan.settled, "{given}: an open issuance is never settled");
    }
}

#[test]
fn a_generation_already_issued_is_not_requested_again() {
    let plan = plan(&wish(3, 3, &["a"]), &held(&[3], &[("a", 3)]), Request::Idle, true, at(0));
    then(&plan, &[], true);
}

#[test]
fn what_is_issued_goes_to_the_targets_that_lack_it() {
    let given = |targets| plan(&wish(0, 2, &["a", "b"]), &held(&[2], targets), Request::Idle, true, at(0));
    then(&given(&[]), &["deliver 2 [a, b] []"], false);
    then(&given(&[("a", 2), ("b", 1)]), &["deliver 2 [b] []"], false);
    then(&given(&[("a", 2), ("b", 2)]), &[], true);
}

#[test]
fn delivery_needs_no_session() {
    then(&plan(&wish(0, 1, &["a"]), &held(&[1], &[]), Request::Idle, false, at(0)), &["deliver 1 [a] []"], false);
}

#[test]
fn a_target_whose_specification_changed_is_written_again() {
    let mut wish = wish(0, 2, &["a"]);
    wish.targets[0].digest = 9;
    then(&plan(&wish, &held(&[2], &[("a", 2)]), Request::Idle, true, at(0)), &["deliver 2 [a] []"], false);
}

#[test]
fn an_older_generation_is_refused_once_and_replaces_nothing() {
    let wish = wish(0, 2, &["a", "b"]);
    let mut held = held(&[2], &[("a", 3)]);
    then(&plan(&wish, &held, Request::Idle, true, at(0)), &["refuse 2 OLDER_GENERATION"], true);
    held.refused = Some((2, FailureReason::OlderGeneration));
    then(&plan(&wish, &held, Request::Idle, true, at(0)), &[], true);
}

#[test]
fn dates_are_those_of_the_agents_clock() {
    let wish = wish(0, 1, &["a"]);
    let held = held(&[1], &[]);
    for (now, action) in [
        (1000 - 86_400, "refuse 1 NOT_YET_VALID"),
        (999, "refuse 1 NOT_YET_VALID"),
        (1000, "deliver 1 [a] []"),
        (1999, "deliver 1 [a] []"),
        (2000, "refuse 1 EXPIRED"),
        (2000 + 86_400, "refuse 1 EXPIRED"),
    ] {
        // Never settled: a corrected clock must be noticed.
        then(&plan(&wish, &held, Request::Idle, true, on_wall(now.max(0) as u64)), &[action], false);
    }
}

#[test]
fn a_refusal_is_said_once_and_forgotten_when_the_clock_is_right() {
    let wish = wish(0, 1, &["a"]);
    let mut held = held(&[1], &[]);
    held.refused = Some((1, FailureReason::NotYetValid));
    then(&plan(&wish, &held, Request::Idle, true, on_wall(900)), &[], false);
    then(&plan(&wish, &held, Request::Idle, true, on_wall(1500)), &["deliver 1 [a] []"], false);
    then(&plan(&wish, &held, Request::Idle, true, on_wall(2500)), &["refuse 1 EXPIRED"], false);
}

#[test]
fn an_installed_certificate_that_expires_is_left_alone() {
    then(&plan(&wish(0, 1, &["a"]), &held(&[1], &[("a", 1)]), Request::Idle, true, on_wall(9000)), &[], true);
}

#[test]
fn a_failed_target_waits_and_the_others_do_not() {
    let wish = wish(0, 2, &["a", "b"]);
    let mut held = held(&[2], &[]);
    let attempt = Attempt { generation: 2, failures: 1, retry_at: Duration::from_secs(10) };
    held.attempts.insert(TargetName::parse("a").unwrap(), attempt);
    then(&plan(&wish, &held, Request::Idle, true, at(9)), &["deliver 2 [b] []"], false);
    then(&plan(&wish, &held, Request::Idle, true, at(10)), &["deliver 2 [a, b] []"], false);
    // A newer generation does not wait for the failures of the older.
    held.attempts.insert(TargetName::parse("a").unwrap(), Attempt { generation: 1, ..attempt });
    then(&plan(&wish, &held, Request::Idle, true, at(9)), &["deliver 2 [a, b] []"], false);
}

#[test]
fn what_is_written_is_looked_at_until_it_is_served() {
    let mut wish = wish(0, 2, &["a", "b"]);
    wish.targets[0].served_check = true;
    let mut held = held(&[2], &[("a", 2), ("b", 2)]);
    then(&plan(&wish, &held, Request::Idle, true, at(0)), &["deliver 2 [] [a]"], false);
    Arc::make_mut(held.targets.get_mut(&names(&["a"])[0]).unwrap()).stage = Stage::Served;
    then(&plan(&wish, &held, Request::Idle, true, at(0)), &[], true);
}

#[test]
fn keys_go_when_every_target_has_a_newer_generation() {
    let wish = wish(4, 3, &["a", "b"]);
    let sent = Request::Sent { generation: 4, at: Duration::ZERO };
    let given = |targets| plan(&wish, &held(&[2, 3, 4], targets), sent, true, at(0));
    then(&given(&[("a", 3), ("b", 2)]), &["deliver 3 [b] []"], false);
    then(&given(&[("a", 3), ("b", 3)]), &["drop keys below 3"], false);
}

#[test]
fn waits_double_up_to_their_bound() {
    let mut attempt = None;
    let waits: Vec<u64> = (0..7)
        .map(|_| {
            let next = Attempt::after(attempt, 1, Duration::ZERO);
            attempt = Some(next);
            next.retry_at.as_secs()
        })
        .collect();
    assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
    assert_eq!(Attempt::after(attempt, 2, Duration::ZERO).retry_at, RETRY_FIRST);
}

#[test]
fn lost_files_are_written_again_and_still_keep_older_generations_away() {
    let mut held = held(&[2], &[("a", 2), ("b", 2)]);
    held.lost = names(&["b"]).into_iter().collect();
    assert_eq!(told(&plan(&wish(0, 2, &["a", "b"]), &held, Request::Idle, true, at(0))), ["deliver 2 [b] []"]);
    assert_eq!(told(&plan(&wish(0, 1, &["a", "b"]), &held, Request::Idle, true, at(0))), ["refuse 1 OLDER_GENERATION"]);
}

mod properties {
    //! What must hold of every plan, whatever is told and held.

    use proptest::prelude::*;

    use super::*;

    fn any_held() -> impl Strategy<Value = Held> {
        let targets = proptest::collection::btree_map(prop_oneof!["a", "b"], (0u64..5, 0u64..3), 0..3);
        let attempts = proptest::collection::btree_map(prop_oneof!["a", "b"], (0u64..5, 0u64..100), 0..3);
        let lost = proptest::collection::btree_set(prop_oneof!["a", "b"], 0..3);
        let keys = proptest::collection::btree_set(0u64..5, 0..4);
        (keys, targets, lost, attempts).prop_map(|(keys, targets, lost, attempts)| {
            let name = |name: String| TargetName::parse(&name).unwrap();
            let target = |(target, (generation, digest)): (String, (u64, u64))| {
                (name(target), Arc::new(Installed { digest, ..installed(generation) }))
            };
            let attempt = |(target, (generation, seconds)): (String, (u64, u64))| {
                (name(target), Attempt { generation, failures: 1, retry_at: Duration::from_secs(seconds) })
            };
            Held {
                keys,
                targets: targets.into_iter().map(target).collect(),
                lost: lost.into_iter().map(name).collect(),
                attempts: attempts.into_iter().map(attempt).collect(),
                refused: None,
            }
        })
    }

    proptest! {
        #[test]
        fn nothing_older_early_or_late_is_installed(
            wanted in 0u64..5,
            issued in 0u64..5,
            held in any_held(),
            wall in 0u64..3000,
            monotonic in 0u64..200,
            connected: bool,
        ) {
            let wish = wish(wanted, issued, &["a", "b"]);
            let now = Now { wall: Timestamp::from_seconds(wall), monotonic: Duration::from_secs(monotonic) };
            let plan = plan(&wish, &held, Request::Idle, connected, now);
            for action in &plan.actions {
                match action {
                    Action::Deliver { generation, install, .. } => {
                        prop_assert!(held.targets.values().all(|held| held.generation <= *generation));
                        prop_assert!(install.is_empty() || (1000..2000).contains(&wall));
                    }
                    Action::Request { generation } => prop_assert!(connected && *generation > issued),
                    Action::DropKeys { below } => prop_assert!(*below <= issued, "a key that may be needed"),
                    Action::Refuse { .. } => {}
                }
            }
            let everywhere = wish.targets.iter().all(|target| {
                let right = |held: &Arc<Installed>| held.generation == issued && held.digest == target.digest;
                !held.lost.contains(&target.name) && held.targets.get(&target.name).is_some_and(right)
            });
            if plan.settled && issued > 0 && held.targets.values().all(|held| held.generation <= issued) {
                prop_assert!(everywhere, "settled, and a target lacks the issued generation");
            }
        }
    }
}
