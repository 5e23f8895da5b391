//! Log time is set back: what changes by it, and what stays.

use std::time::Duration;

use crate::event::{EpochCause, EpochOpened, Event, Issued, TokenGrant, Trigger};
use crate::ids::{InstanceId, cluster_stream};
use crate::limits::{FIRST_ISSUANCE_PATIENCE, REBASES_MAX, RETRY_MAX};
use crate::log::{Fold as _, Position};
use crate::state::indexes::due::{Lane, MOVES_PER_EVENT};
use crate::state::{Rebase, State};
use crate::tests::fixtures::*;
use crate::tests::harness::{World, given};
use crate::time::Timestamp;

const HOUR: Duration = Duration::from_secs(3600);
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// The estate without certificates.
fn world() -> World {
    let mut events = estate();
    events.truncate(7);
    given(events)
}

/// Log time goes back by that much.
fn set_back(world: &mut World, by: Duration) {
    let (from, to) = (world.now, world.now.minus(by));
    world.happen(cluster_stream(), Event::TimeRebased { from, to });
    assert_eq!(world.now, to);
}

/// One more certificate on `a1`, issued now for an hour.
fn issue(world: &mut World, certificate: &str) -> InstanceId {
    let (stream, event) = declared(certificate, spec(on("a1")));
    world.happen(stream.clone(), event);
    let id = instance(world.index, 1);
    world.happen(stream, Event::InstanceAdded { instance: id, agent: agent("a1") });
    issue_again(world, certificate, id, 1);
    id
}

fn issue_again(world: &mut World, certificate: &str, id: InstanceId, generation: u64) {
    let stream = name(certificate).stream();
    world.happen(stream.clone(), Event::IssuanceOpened { instance: id, generation, trigger: Trigger::Due });
    let (not_before, not_after) = (world.now, world.now.plus(HOUR));
    let renew_at = Some(world.now.plus(HOUR / 2));
    let issued = Issued { not_before, not_after, renew_at, ..issued(id, generation, 1) };
    world.happen(stream, Event::CertificateIssued(Box::new(issued)));
}

fn due(world: &World) -> Vec<String> {
    let all = world.state.due(world.now, usize::MAX);
    assert_eq!(world.state.due_count(world.now), all.len());
    all.into_iter().map(|(_, name, ..)| name.name.to_string()).collect()
}

#[test]
fn what_had_become_due_is_due_in_its_own_time_again() {
    let mut world = world();
    let count = 3 * MOVES_PER_EVENT;
    for number in 0..count {
        issue(&mut world, &format!("c{number:02}"));
    }
    world.pass(YEAR);
    assert_eq!(due(&world).len(), count);
    world.happen(registered("a2", &[]).0, registered("a2", &[]).1);
    assert!(world.state.indexes.due.queue_len(Lane::Renewals) > 0, "some have moved to the queue");
    set_back(&mut world, YEAR);
    assert_eq!(due(&world), Vec::<String>::new());
    let rebuilt = State::from_parts(world.state.cut());
    assert_eq!(rebuilt.summary(), world.state.summary());
    world.pass(HOUR / 2);
    assert_eq!(due(&world).len(), count);
}

#[test]
fn what_was_issued_by_the_time_taken_back_is_renewed_at_once_and_held_back() {
    let mut world = world();
    let (old, new) = (issue(&mut world, "old"), issue(&mut world, "new"));
    world.pass(YEAR);
    issue_again(&mut world, "new", new, 2);
    let before = world.state.certificates.get(&name("new")).unwrap().instance(new).unwrap().clone();
    set_back(&mut world, YEAR);
    let after = world.state.certificates.get(&name("new")).unwrap().instance(new).unwrap().clone();
    let (was, is) = (before.current.unwrap(), after.current.unwrap());
    assert_eq!((is.not_before, is.not_after, is.renew_at), (was.not_before, was.not_after, world.now));
    assert_eq!(after.changed, before.changed, "its agent was sent nothing else");
    assert_eq!(due(&world), ["new"]);
    assert!(world.state.due_held(world.now, 10, 0).is_empty(), "it waits for the brake");
    // What is served is an older one: it does not wait behind everything else because its end is a year away.
    world.pass(HOUR / 2 + FIRST_ISSUANCE_PATIENCE);
    assert_eq!(due(&world), ["new", "old"]);
    let current = world.state.certificates.get(&name("old")).unwrap().instance(old).unwrap().current.unwrap();
    assert_eq!(current.renew_at, current.not_before.plus(HOUR / 2), "that one stays as it was issued");
}

#[test]
fn deadlines_that_the_time_taken_back_had_set_keep_what_was_left_of_them() {
    let second = Duration::from_secs(1);
    // By how much time went back, when the deadline was set before that, how long it was to last, and what is left then.
    for (by, set_ago, lasts, left) in [
        (YEAR, second, 10 * second, Some(9 * second)),
        (YEAR, 5 * second, 2 * second, Some(Duration::ZERO)),
        (YEAR, second, RETRY_MAX, Some(RETRY_MAX - second)),
        (HOUR / 4, 60 * second, RETRY_MAX, Some(RETRY_MAX - 60 * second)),
        (YEAR, YEAR - second, RETRY_MAX, Some(Duration::ZERO)),
        // Set by a right time.
        (YEAR, YEAR, 10 * second, None),
        (HOUR / 4, HOUR / 2, RETRY_MAX, None),
    ] {
        let mut world = world();
        let id = issue(&mut world, "web");
        world.pass(YEAR * 2);
        let end = world.now;
        world.now = end.minus(set_ago);
        let retry_at = world.now.plus(lasts);
        let stream = name("web").stream();
        world.happen(stream.clone(), Event::IssuanceOpened { instance: id, generation: 2, trigger: Trigger::Due });
        let (reason, message) = ("X".to_owned(), "why".to_owned());
        world.happen(stream, Event::IssuanceFailed { instance: id, generation: 2, reason, message, retry_at });
        let grant = TokenGrant::Node;
        let created = Event::TokenCreated { id: token("t1"), secret_hash: [9; 32], grant, expires_at: retry_at };
        world.happen(token("t1").stream(), created);
        world.now = end;
        set_back(&mut world, by);
        let instance = world.state.certificates.get(&name("web")).unwrap().instance(id).unwrap();
        let expected = left.map_or(retry_at, |left| world.now.plus(left));
        assert_eq!(instance.retry_at, Some(expected), "set {set_ago:?} ago for {lasts:?}, {by:?} back");
        let ends = world.state.tokens.get(&token("t1")).unwrap().expires_at;
        assert_eq!(ends, expected, "set {set_ago:?} ago for {lasts:?}, {by:?} back");
    }
}

#[test]
fn renewals_are_held_back_from_then_on_whatever_was_before() {
    for was_held in [false, true] {
        let mut world = world();
        if was_held {
            world.happen(cluster_stream(), Event::RenewalsHeld { ahead_millis: 5 });
        } else {
            world.happen(cluster_stream(), Event::RenewalsReleased);
        }
        world.pass(YEAR);
        if !was_held {
            world.happen(cluster_stream(), Event::RenewalsReleased);
        }
        set_back(&mut world, YEAR);
        let hold = world.state.cluster.hold.unwrap();
        assert_eq!((hold.since, hold.hour, hold.begun), (world.now, world.now, 0));
        assert_eq!(hold.ahead_millis, YEAR.as_millis() as u64);
        assert_eq!(world.state.cluster.released_at, (!was_held).then_some(world.now), "not of the future");
    }
}

#[test]
fn an_epoch_did_not_begin_in_the_future() {
    let mut world = world();
    let after = world.now;
    world.pass(YEAR);
    let at = world.now;
    let opened = EpochOpened { epoch: 2, cause: EpochCause::Restored, after_index: 7, after_chain: [0; 32], after, at };
    world.happen(cluster_stream(), Event::EpochOpened(Box::new(opened)));
    set_back(&mut world, YEAR / 2);
    let epoch = world.state.cluster.opened().unwrap();
    assert_eq!((epoch.after, epoch.at), (after, world.now));
}

#[test]
fn moments_of_entries_never_fall_by_the_time_that_holds_now() {
    let at = |hours: u32| T0.plus(HOUR * hours);
    let mut world = world();
    let before = world.index;
    world.now = at(100);
    set_back(&mut world, HOUR * 90);
    let (first, between) = (world.index, world.index + 1);
    world.now = at(50);
    world.happen(registered("a2", &[]).0, registered("a2", &[]).1);
    set_back(&mut world, HOUR * 10);
    let second = world.index;
    let cluster = &world.state.cluster;
    let rebase = |index, from, to| Rebase { index, from: at(from), to: at(to) };
    assert_eq!(cluster.rebases, [rebase(first, 100, 10), rebase(second, 50, 40)]);
    for (index, stamped, corrected) in [
        (before, 5, 5),
        (before, 99, 10),
        (first, 100, 10),
        (between, 30, 30),
        (between, 50, 40),
        (second, 50, 40),
        (second + 1, 41, 41),
        (second + 1, 99, 99),
    ] {
        assert_eq!(cluster.corrected(index, at(stamped)), at(corrected), "{index}, stamped {stamped}");
    }
}

#[test]
fn of_many_times_the_newest_are_remembered() {
    let mut world = world();
    for _ in 0..=REBASES_MAX {
        world.pass(HOUR);
        set_back(&mut world, HOUR / 2);
    }
    assert_eq!(world.state.cluster.rebases.len(), REBASES_MAX);
    assert_eq!(world.state.cluster.rebases.last().unwrap().index, world.index);
    assert_eq!(world.state.cluster.corrected(1, Timestamp::from_millis(u64::MAX)), T0.plus(HOUR));
    assert_eq!(world.state.applied, Position { index: world.index, ordinal: 0 });
}
