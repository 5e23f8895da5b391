//! cert-manager's rule to the second, and the bounds of jitter and backoff.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::tests::fixtures::{T0, instance, on, spec, web};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn cert_manager(before: Option<Duration>, percentage: Option<u8>) -> CertificateSpec {
    CertificateSpec {
        dialect: Dialect::CertManager,
        renew_before: before,
        renew_before_percentage: percentage,
        ..spec(on("a1"))
    }
}

#[test]
fn cert_managers_table() {
    // (renewBefore, percentage, lifetime issued, renewal after notBefore)
    let table = [
        (None, None, 90 * DAY, 60 * DAY),
        (None, None, HOUR, Duration::from_secs(2400)),
        (Some(30 * DAY), None, 90 * DAY, 60 * DAY),
        (Some(5 * 60 * Duration::from_secs(1)), None, HOUR, Duration::from_secs(3300)),
        // As long as the lifetime that was really issued, or longer: a third of it.
        (Some(HOUR), None, HOUR, Duration::from_secs(2400)),
        (Some(30 * DAY), None, 3 * DAY, 2 * DAY),
        (Some(Duration::ZERO), None, 3 * DAY, 2 * DAY),
        (None, Some(25), 4 * HOUR, 3 * HOUR),
        (None, Some(1), 100 * HOUR, 99 * HOUR),
        (None, Some(99), 100 * HOUR, HOUR),
        // Cut to whole seconds: a third of 100 s is 33.333 s.
        (None, None, Duration::from_secs(100), Duration::from_secs(66)),
    ];
    for (before, percentage, lifetime, expected) in table {
        let spec = cert_manager(before, percentage);
        let at = renew_at(&spec, web(), 1, T0, T0.plus(lifetime));
        assert_eq!(at.since(T0), expected, "{before:?} {percentage:?} {lifetime:?}");
    }
}

#[test]
fn our_own_renew_a_little_earlier_and_not_together() {
    let spec = spec(on("a1"));
    let end = T0.plus(90 * DAY);
    let times: Vec<Timestamp> = (1..=200).map(|n| renew_at(&spec, instance(n, 1), 1, T0, end)).collect();
    let (plain, earliest) = (T0.plus(60 * DAY), T0.plus(60 * DAY).minus(30 * DAY * 5 / 100));
    assert!(times.iter().all(|at| *at <= plain && *at >= earliest));
    let (first, last) = (times.iter().min().unwrap(), times.iter().max().unwrap());
    assert!(last.since(*first) > DAY, "spread over {:?}", last.since(*first));
    assert_eq!(times[0], renew_at(&spec, instance(1, 1), 1, T0, end), "the same on every replica");
    assert_ne!(times[0], renew_at(&spec, instance(1, 1), 2, T0, end), "another generation, another time");
}

proptest! {
    #[test]
    fn renewal_is_inside_the_lifetime(
        seconds in 10u64..100_000_000, before in prop::option::of(1u64..100_000_000), percentage in prop::option::of(1u8..100),
        index in any::<u64>(), generation in any::<u64>(),
    ) {
        let mut spec = spec(on("a1"));
        spec.renew_before = before.map(Duration::from_secs);
        spec.renew_before_percentage = percentage;
        let (from, to) = (T0, T0.plus(Duration::from_secs(seconds)));
        let at = renew_at(&spec, instance(index, 1), generation, from, to);
        let lead = lead(&spec, from, to);
        prop_assert!(at >= from && at < to);
        prop_assert!(at <= to.minus(lead));
        prop_assert!(at == from || at.plus(Duration::from_secs(1)) >= to.minus(lead + lead * 5 / 100));
    }

    #[test]
    fn backoff_is_bounded(failures in any::<u32>(), index in any::<u64>()) {
        let wait = backoff(instance(index, 1), failures);
        prop_assert!(wait >= limits::RETRY_FIRST * 3 / 4 && wait <= limits::RETRY_MAX);
    }
}

#[test]
fn validity_is_back_dated_by_a_tenth_but_not_much() {
    let second = Duration::from_secs(1);
    // (duration, back-dating)
    let table =
        [(10 * second, second), (30 * second, 3 * second), (300 * second, 30 * second), (90 * DAY, 30 * second)];
    for (duration, backdate) in table {
        let (from, to) = validity(T0, duration);
        assert_eq!((T0.since(from), to.since(T0)), (backdate, duration), "{duration:?}");
    }
    // Whole seconds, as the certificate will carry them.
    let (from, to) = validity(T0.plus(Duration::from_millis(1700)), 15 * second);
    assert_eq!((from, to), (T0, T0.plus(16 * second)));
}
