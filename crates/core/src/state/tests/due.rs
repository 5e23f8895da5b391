//! What is due, in which order.

use std::time::Duration;

use crate::event::{Event, Issued, Trigger};
use crate::ids::{CertificateName, InstanceId};
use crate::limits;
use crate::tests::fixtures::*;
use crate::tests::harness::{World, given};
use crate::time::Timestamp;

fn after(seconds: u64) -> Timestamp {
    T0.plus(Duration::from_secs(seconds))
}

/// One more certificate on `a1`, issued to expire and be renewed at these seconds; or not issued.
fn add(world: &mut World, certificate: &str, times: Option<(u64, u64)>) -> InstanceId {
    let (stream, event) = declared(certificate, spec(on("a1")));
    world.happen(stream.clone(), event);
    let id = instance(world.index, 1);
    world.happen(stream.clone(), Event::InstanceAdded { instance: id, agent: agent("a1") });
    if let Some((renew_at, not_after)) = times {
        world.happen(stream.clone(), Event::IssuanceOpened { instance: id, generation: 1, trigger: Trigger::First });
        let issued = Issued { renew_at: Some(after(renew_at)), not_after: after(not_after), ..issued(id, 1, 1) };
        world.happen(stream, Event::CertificateIssued(Box::new(issued)));
    }
    id
}

fn world() -> World {
    let mut events = estate();
    events.truncate(6);
    given(events)
}

fn names(world: &World, limit: usize) -> Vec<String> {
    let all = world.state.due(world.now, usize::MAX).len();
    assert_eq!(world.state.due_count(world.now), all);
    world.state.due(world.now, limit).into_iter().map(|(_, name, ..)| name.name.to_string()).collect()
}

#[test]
fn least_life_left_first() {
    let mut world = world();
    add(&mut world, "long", Some((100, 10_000)));
    add(&mut world, "short", Some((110, 120)));
    add(&mut world, "medium", Some((105, 150)));
    add(&mut world, "later", Some((5000, 9000)));
    assert_eq!(names(&world, 10), Vec::<String>::new());
    world.pass(Duration::from_secs(115));
    assert_eq!(names(&world, 10), ["short", "medium", "long"]);
    // Nothing happened yet that moved entries to the queue; the same order after something did.
    world.happen(registered("a9", &[]).0, registered("a9", &[]).1);
    assert_eq!(names(&world, 10), ["short", "medium", "long"]);
    assert_eq!(names(&world, 2), ["short", "medium"]);
}

#[test]
fn what_was_never_issued_is_as_urgent_as_what_expires_in_a_minute() {
    let mut world = world();
    let patience = limits::FIRST_ISSUANCE_PATIENCE.as_secs();
    add(&mut world, "new", None);
    add(&mut world, "dark-before", Some((0, patience - 1)));
    add(&mut world, "dark-after", Some((0, patience + 1)));
    assert_eq!(names(&world, 10), ["dark-before", "new", "dark-after"]);
    let due = world.state.due(world.now, 10);
    assert_eq!(due.iter().map(|due| due.3).collect::<Vec<_>>(), [Trigger::Due, Trigger::First, Trigger::Due]);
}

#[test]
fn a_herd_is_worked_off_in_order_of_expiry_though_few_move_at_a_time() {
    let mut world = world();
    let herd = 10 * crate::state::indexes::due::MOVES_PER_EVENT as u64;
    // Due in one order, expiring in the other.
    for n in 0..herd {
        add(&mut world, &format!("c{n:04}"), Some((1000 + n, 20_000 - n)));
    }
    world.pass(Duration::from_secs(10_000));
    // Enough events for all of them to have moved.
    for n in 0..20 {
        world.happen(registered(&format!("b{n}"), &[]).0, registered(&format!("b{n}"), &[]).1);
    }
    let mut order = Vec::new();
    while let Some((_, name, id, _)) = world.state.due(world.now, 1).pop() {
        world.happen(name.stream(), Event::IssuanceOpened { instance: id, generation: 2, trigger: Trigger::Due });
        order.push(name);
    }
    let expected: Vec<CertificateName> = (0..herd).rev().map(|n| name(&format!("c{n:04}"))).collect();
    assert_eq!(order, expected);
    assert_eq!(world.state.next_due(), None);
}

#[test]
fn while_renewals_are_held_back_what_is_missing_does_not_wait() {
    let mut world = world();
    for n in 0..50 {
        add(&mut world, &format!("c{n:02}"), Some((100, 200 + n)));
    }
    world.pass(Duration::from_secs(10_000));
    add(&mut world, "new", None);
    let held = |world: &World, renewals| {
        let due = world.state.due_held(world.now, 10, renewals).into_iter();
        due.map(|(_, name, ..)| name.name.to_string()).collect::<Vec<_>>()
    };
    // Some are in the queue by now, some in the calendar still.
    assert_eq!(held(&world, 0), ["new"]);
    assert_eq!(held(&world, 3), ["c00", "c01", "c02", "new"], "the least life left first");
    assert_eq!(held(&world, 50).len(), 10);
}

#[test]
fn a_hold_counts_the_renewals_of_an_hour() {
    let mut world = world();
    let id = add(&mut world, "one", Some((100, 200)));
    let open = |trigger| Event::IssuanceOpened { instance: id, generation: 2, trigger };
    let left = |world: &World| world.state.cluster.hold.unwrap().left(3, world.now);
    world.happen(crate::ids::cluster_stream(), Event::RenewalsHeld { ahead_millis: 1 });
    assert_eq!(left(&world), 3);
    world.happen(name("one").stream(), open(Trigger::Due));
    world.happen(name("one").stream(), open(Trigger::Requested));
    world.happen(name("one").stream(), open(Trigger::SpecChanged));
    assert_eq!(left(&world), 2, "only those whose time came");
    for _ in 0..4 {
        world.happen(name("one").stream(), open(Trigger::Due));
    }
    assert_eq!(left(&world), 0);
    world.pass(Duration::from_secs(3599));
    assert_eq!(left(&world), 0);
    world.pass(Duration::from_secs(1));
    assert_eq!(left(&world), 3, "another hour");
    world.happen(name("one").stream(), open(Trigger::Due));
    assert_eq!(left(&world), 2);
}

#[test]
fn the_next_due_time() {
    let mut world = world();
    assert_eq!(world.state.next_due(), None);
    let id = add(&mut world, "one", Some((100, 200)));
    add(&mut world, "two", Some((50, 200)));
    assert_eq!(world.state.next_due(), Some(after(50)));
    world.pass(Duration::from_secs(60));
    world.happen(
        name("one").stream(),
        Event::IssuanceOpened { instance: id, generation: 2, trigger: Trigger::Requested },
    );
    assert_eq!(world.state.next_due(), Some(Timestamp::EPOCH), "one is due already");
    let (_, two, id, _) = world.state.due(world.now, 1).remove(0);
    world.happen(two.stream(), Event::IssuanceOpened { instance: id, generation: 2, trigger: Trigger::Due });
    assert_eq!(world.state.next_due(), None, "an open issuance is not due");
}

#[test]
fn a_failed_issuance_waits_for_its_retry_and_a_new_specification_does_not() {
    let mut world = world();
    let id = add(&mut world, "one", None);
    let stream = name("one").stream();
    world.happen(stream.clone(), Event::IssuanceOpened { instance: id, generation: 1, trigger: Trigger::First });
    let (reason, message) = ("X".to_owned(), String::new());
    world.happen(
        stream.clone(),
        Event::IssuanceFailed { instance: id, generation: 1, reason, message, retry_at: after(500) },
    );
    assert_eq!((names(&world, 1).len(), world.state.next_due()), (0, Some(after(500))));
    let mut wanted = spec(on("a1"));
    wanted.dns_names.push("www.example.test".to_owned());
    world.happen(stream, Event::CertificateUpdated { spec: wanted.into() });
    assert_eq!(names(&world, 1), ["one"]);
    assert_eq!(world.state.counts().failing, 0);
}

#[test]
fn what_says_something_old_is_as_urgent_as_what_was_never_issued() {
    let mut world = world();
    let patience = limits::FIRST_ISSUANCE_PATIENCE.as_secs();
    add(&mut world, "outdated", Some((8000, 10_000)));
    add(&mut world, "dark-before", Some((0, patience - 1)));
    add(&mut world, "dark-after", Some((0, patience + 1)));
    let mut wanted = spec(on("a1"));
    wanted.dns_names.push("www.example.test".to_owned());
    world.happen(name("outdated").stream(), Event::CertificateUpdated { spec: wanted.into() });
    assert_eq!(names(&world, 10), ["dark-before", "outdated", "dark-after"]);
}
