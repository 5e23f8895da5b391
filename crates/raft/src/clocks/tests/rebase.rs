//! Log time was set back: what is believed of the clocks after that.

use super::*;

const YEAR: i64 = 365 * 24 * HOUR;

/// Of three, after clocks that were a year ahead took log time along and were set right.
fn poisoned() -> Fixture {
    let node = Fixture::new(&[1, 2, 3], 0);
    hear(&node, &[0, 0]);
    assert_eq!(node.ahead(), 0);
    node.clock.set_skew_millis(YEAR);
    for _ in 0..2 {
        node.pass(CLOCK_HASTE);
        hear(&node, &[YEAR, YEAR]);
        node.clocks.now();
    }
    assert_eq!(node.ahead(), YEAR);
    node.clock.set_skew_millis(0);
    node.pass(CLOCK_HASTE);
    hear(&node, &[0, 0]);
    assert_eq!(node.ahead(), YEAR, "time never falls by itself");
    node
}

/// The others' clocks, of those that voted in order.
fn hear(node: &Fixture, ahead_millis: &[i64]) {
    (2..).zip(ahead_millis).for_each(|(id, ahead)| node.hears(id, *ahead));
}

fn set_back(node: &Fixture) {
    node.clocks.rebased(Timestamp::from_millis(node.truth()));
}

#[test]
fn time_begins_anew_and_nothing_of_before_is_a_jump() {
    let node = poisoned();
    assert!(node.clocks.jump().is_some());
    set_back(&node);
    assert_eq!((node.ahead(), node.clocks.jump()), (0, None));
    for _ in 0..10 {
        node.pass(CLOCK_HASTE);
        hear(&node, &[0, 0]);
        node.clocks.look();
        assert_eq!((node.ahead(), node.clocks.jump()), (0, None));
    }
    // What goes wrong from now on is noticed.
    node.clock.set_skew_millis(HOUR);
    for _ in 0..2 {
        node.pass(CLOCK_HASTE);
        hear(&node, &[HOUR, HOUR]);
        node.clocks.now();
    }
    assert_eq!(node.clocks.jump().map(|jump| jump.ahead_millis() as i64), Some(HOUR));
}

#[test]
fn what_was_asked_before_is_not_heard() {
    let node = poisoned();
    let asked = node.clocks.monotonic();
    node.pass(Duration::from_millis(5));
    set_back(&node);
    node.pass(Duration::from_millis(5));
    for voter in [2, 3] {
        node.clocks.note(voter, node.truth() + YEAR as u64, asked, node.clocks.monotonic());
    }
    assert!(!node.clocks.is_known());
    assert_eq!(node.ahead(), 0);
}

/// Clocks that are behind may be the first to be heard: what the others show then is not ahead of them by a jump.
#[test]
fn nobody_is_a_majority_before_all_were_heard_or_had_the_time_to_answer() {
    for (voters, first, all) in [
        (&[1, 2, 3][..], &[0][..], &[0, 0][..]),
        (&[1, 2, 3], &[-YEAR], &[-YEAR, 0]),
        (&[1, 2, 3, 4, 5], &[-YEAR, -YEAR], &[-YEAR, -YEAR, 0, 0]),
        (&[1, 2, 3, 4, 5], &[-YEAR, -YEAR, 0], &[-YEAR, -YEAR, 0, 0]),
    ] {
        let node = Fixture::new(voters, 0);
        set_back(&node);
        node.clock.set_skew_millis(3_000);
        hear(&node, first);
        assert_eq!(node.ahead(), 0, "{first:?}: not all were heard");
        hear(&node, all);
        assert_eq!(node.ahead(), 3_000, "{all:?}");
        assert_eq!(node.clocks.jump(), None);
    }
    let node = Fixture::new(&[1, 2, 3], 3_000);
    set_back(&node);
    for _ in 0..2 {
        hear(&node, &[0]);
        assert_eq!(node.ahead(), 0, "the third one may yet answer");
        node.pass(CLOCK_FRESH);
    }
    node.pass(Duration::from_millis(1));
    hear(&node, &[0]);
    assert_eq!(node.ahead(), 3_000, "who is silent for so long is away");
}

#[test]
fn one_that_is_found_in_the_log_days_later_is_no_jump() {
    let node = Fixture::new(&[1, 2, 3], 0);
    node.clocks.rebased(Timestamp::from_millis(node.truth() - 3 * 24 * HOUR as u64));
    hear(&node, &[0, 0]);
    assert_eq!((node.ahead(), node.clocks.jump()), (0, None));
}

#[test]
fn time_is_set_back_only_to_what_all_who_are_known_agree_on() {
    let unknown = |known, voters| Err(ClocksApart::Unknown { known, voters });
    let apart = |voter, ahead_millis| Err(ClocksApart::Apart { voter, ahead_millis });
    for (voters, own, others, expected) in [
        (&[][..], 0, &[][..], unknown(1, 0)),
        (&[1], YEAR, &[], Ok(YEAR)),
        (&[1, 2], 0, &[], unknown(1, 2)),
        (&[1, 2], 0, &[400], Ok(0)),
        (&[1, 2, 3], 0, &[], unknown(1, 3)),
        (&[1, 2, 3], 0, &[0], Ok(0)),
        (&[1, 2, 3], 0, &[900, -900], Ok(0)),
        (&[1, 2, 3], 0, &[5_000, 0], Ok(0)),
        (&[1, 2, 3], 0, &[5_001, 0], apart(2, 5_001)),
        (&[1, 2, 3], YEAR, &[0, 0], apart(1, YEAR)),
        (&[1, 2, 3], YEAR, &[0, YEAR], apart(2, -YEAR)),
        (&[1, 2, 3, 4, 5], 0, &[0], unknown(2, 5)),
        (&[1, 2, 3, 4, 5], 0, &[0, -HOUR], apart(3, -HOUR)),
        // It need not vote itself.
        (&[2, 3], YEAR, &[0, 0], Ok(0)),
    ] {
        let node = Fixture::new(voters, own);
        hear(&node, others);
        let agreed = node.clocks.agreed().map(|at| at.millis() as i64 - node.truth() as i64);
        assert_eq!(agreed, expected, "own {own}, others {others:?}");
    }
}

#[test]
fn what_was_heard_long_ago_is_not_known() {
    let node = Fixture::new(&[1, 2, 3], 0);
    hear(&node, &[0, 0]);
    node.pass(CLOCK_FRESH + Duration::from_millis(1));
    assert_eq!(node.clocks.agreed(), Err(ClocksApart::Unknown { known: 1, voters: 3 }));
}
