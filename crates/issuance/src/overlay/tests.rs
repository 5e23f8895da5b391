//! Claims: who conflicts with whom, who waits for whom, and that nobody is left behind.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use certwright_core::log::StreamId;

use super::{Claim, Lane, Mode, Overlay};

fn claim(parts: &[(&'static str, Mode)]) -> Claim {
    parts.iter().map(|(name, mode)| (Lane::Stream(StreamId::new(*name)), *mode)).collect()
}

const R: Mode = Mode::Shared;
const W: Mode = Mode::Exclusive;

#[test]
fn writers_conflict_with_everything_and_readers_with_writers_only() {
    for (first, second, together) in [(R, R, true), (R, W, false), (W, R, false), (W, W, false)] {
        let mut overlay = Overlay::default();
        assert!(overlay.claim(1, &claim(&[("a", first)])));
        assert_eq!(overlay.claim(2, &claim(&[("a", second)])), together, "{first:?} then {second:?}");
    }
}

#[test]
fn a_claim_is_taken_whole_or_not_at_all() {
    let mut overlay = Overlay::default();
    let held = claim(&[("a", W)]);
    assert!(overlay.claim(1, &held));
    assert!(!overlay.claim(2, &claim(&[("a", W), ("b", W)])));
    // Ticket 2 holds nothing of b, but waits for it: ticket 3 comes after it.
    assert!(!overlay.claim(3, &claim(&[("b", W)])));
    assert_eq!(overlay.release(&held), BTreeSet::from([2]));
}

#[test]
fn readers_do_not_overtake_a_writer_who_waits() {
    let mut overlay = Overlay::default();
    let reading = claim(&[("issuer", R)]);
    let writing = claim(&[("issuer", W)]);
    assert!(overlay.claim(1, &reading));
    assert!(!overlay.claim(2, &writing));
    assert!(!overlay.claim(3, &reading));
    assert_eq!(overlay.release(&reading), BTreeSet::from([2]));
    let waited = overlay.unpark(2);
    assert!(overlay.claim(2, &writing));
    assert!(overlay.awakened(&waited).is_empty(), "3 waits for 2 still");
    assert_eq!(overlay.release(&writing), BTreeSet::from([3]));
}

#[test]
fn one_who_leaves_without_claiming_lets_the_next_go() {
    let mut overlay = Overlay::default();
    let held = claim(&[("a", W)]);
    assert!(overlay.claim(1, &held));
    assert!(!overlay.claim(2, &claim(&[("a", W)])));
    assert!(!overlay.claim(3, &claim(&[("a", W)])));
    assert_eq!(overlay.release(&held), BTreeSet::from([2]));
    let waited = overlay.unpark(2);
    assert_eq!(overlay.awakened(&waited), BTreeSet::from([3]));
}

#[test]
fn a_decision_that_moved_elsewhere_keeps_its_place_and_frees_the_old_one() {
    let mut overlay = Overlay::default();
    let a = claim(&[("a", W)]);
    let b = claim(&[("b", W)]);
    assert!(overlay.claim(1, &a));
    assert!(overlay.claim(2, &b));
    assert!(!overlay.claim(3, &a));
    assert!(!overlay.claim(4, &a));
    assert_eq!(overlay.release(&a), BTreeSet::from([3]));
    let waited = overlay.unpark(3);
    assert!(!overlay.claim(3, &b), "decided again, it now needs b");
    assert_eq!(overlay.awakened(&waited), BTreeSet::from([4]));
    assert_eq!(overlay.release(&b), BTreeSet::from([3]));
}

#[test]
fn nothing_is_left_behind_when_all_is_released() {
    let mut overlay = Overlay::default();
    let first = claim(&[("a", R), ("b", W)]);
    let second = claim(&[("a", W), ("c", R)]);
    assert!(overlay.claim(1, &first));
    assert!(!overlay.claim(2, &second));
    assert_eq!(overlay.release(&first), BTreeSet::from([2]));
    let waited = overlay.unpark(2);
    assert!(overlay.claim(2, &second));
    assert!(overlay.awakened(&waited).is_empty());
    assert!(overlay.release(&second).is_empty());
    assert!(overlay.lanes.is_empty() && overlay.parked.is_empty());
}
