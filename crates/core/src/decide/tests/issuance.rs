//! Opened, failed, issued, direct.

use std::time::Duration;

use crate::command::Command;
use crate::event::{Event, Issued, Trigger};
use crate::ids::{Generation, direct_stream};
use crate::limits;
use crate::log::{Fold, Guard, StreamId};
use crate::rejection::Reason;
use crate::tests::fixtures::*;
use crate::tests::harness::{World, given};
use crate::{ids::InstanceId, renewal};

fn open(generation: Generation) -> Command {
    Command::OpenIssuance { certificate: name("web"), instance: web(), generation, trigger: Trigger::First }
}

fn fail(generation: Generation) -> Command {
    let (reason, message) = ("POLICY_DENIED".to_owned(), "no".to_owned());
    Command::FailIssuance { certificate: name("web"), instance: web(), generation, reason, message }
}

fn record(issued: Issued, guards: Vec<Guard>) -> Command {
    Command::RecordIssued { certificate: name("web"), issued: Box::new(issued), guards }
}

fn opened(generation: Generation) -> (StreamId, Event) {
    let event = Event::IssuanceOpened { instance: web(), generation, trigger: Trigger::First };
    (name("web").stream(), event)
}

fn issued_event(issued: Issued) -> (StreamId, Event) {
    (name("web").stream(), Event::CertificateIssued(Box::new(issued)))
}

/// The estate with generation 1 open.
fn with_open() -> World {
    let mut world = given(estate());
    world.must(&open(1));
    world
}

/// The estate with generation 1 issued for key 1.
fn with_issued() -> World {
    let mut world = with_open();
    world.must(&record(issued(web(), 1, 1), vec![]));
    world
}

fn guard(world: &World, stream: StreamId) -> Guard {
    let revision = world.state.revision(&stream);
    Guard { stream, revision }
}

#[test]
fn open_takes_the_next_generation_only() {
    given(estate()).when(open(1)).then([opened(1)]);
    given(estate()).when(open(0)).then_rejected(Reason::GenerationConflict);
    given(estate()).when(open(2)).then_rejected(Reason::GenerationConflict);
    with_open().when(open(1)).then_unchanged();
    with_open().when(open(2)).then_rejected(Reason::GenerationConflict);
    with_issued().when(open(1)).then_rejected(Reason::GenerationConflict);
    with_issued().when(open(2)).then([opened(2)]);
}

#[test]
fn commands_about_an_instance_that_is_not_there_are_refused() {
    let elsewhere: InstanceId = instance(WEB, 2);
    let command =
        Command::OpenIssuance { certificate: name("web"), instance: elsewhere, generation: 1, trigger: Trigger::First };
    given(estate()).when(command).then_rejected(Reason::NotFound);
    given(estate()).when(record(issued(elsewhere, 1, 1), vec![])).then_rejected(Reason::NotFound);
    let nameless = Issued { instance: None, ..issued(web(), 1, 1) };
    given(estate()).when(record(nameless, vec![])).then_rejected(Reason::Internal);
}

#[test]
fn a_certificate_is_recorded_once_for_each_generation() {
    with_open().when(record(issued(web(), 1, 1), vec![])).then([issued_event(issued(web(), 1, 1))]);
    // The same key again, even with another serial: it was answered already.
    let again = Issued { serial: serial(99), ..issued(web(), 1, 1) };
    with_issued().when(record(again, vec![])).then_unchanged();
    with_issued().when(record(issued(web(), 1, 2), vec![])).then_rejected(Reason::GenerationConflict);
    with_issued().when(record(issued(web(), 2, 2), vec![])).then_rejected(Reason::IssuanceNotOpen);
    given(estate()).when(record(issued(web(), 1, 1), vec![])).then_rejected(Reason::IssuanceNotOpen);
    let mut world = with_issued();
    world.must(&open(2));
    world.must(&record(issued(web(), 2, 2), vec![]));
    world.when(record(issued(web(), 1, 1), vec![])).then_rejected(Reason::GenerationConflict);
}

#[test]
fn a_renewal_time_is_fixed_when_it_is_missing() {
    let bare = Issued { renew_at: None, ..issued(web(), 1, 1) };
    let (from, to) = (bare.not_before, bare.not_after);
    let expected = renewal::renew_at(&spec(on("a1")), web(), 1, from, to);
    with_open().when(record(bare.clone(), vec![])).then([issued_event(Issued { renew_at: Some(expected), ..bare })]);
}

#[test]
fn guards_are_carried_on_or_moved() {
    let world = with_open();
    let guards = vec![
        guard(&world, issuer("demo").stream()),
        guard(&world, authority("root").stream()),
        guard(&world, name("web").stream()),
    ];
    let streams = [issuer("demo").stream(), authority("root").stream()];
    world.when(record(issued(web(), 1, 1), guards.clone())).guarded_by(&streams).then([issued_event(issued(
        web(),
        1,
        1,
    ))]);

    for moved in ["issuer", "authority"] {
        let mut world = with_open();
        match moved {
            "issuer" => world.happen(
                issuer("demo").stream(),
                Event::IssuerUpdated { spec: crate::spec::IssuerSpec { max_duration: None, ..issuer_spec("root") } },
            ),
            _ => world.happen(
                authority("root").stream(),
                Event::AuthorityCertificateIntended { serial: serial(5), tbs_hash: [0; 32] },
            ),
        }
        world.when(record(issued(web(), 1, 1), guards.clone())).then_rejected(Reason::Moved);
    }
}

#[test]
fn the_certificates_own_guard_holds_until_what_it_says_changes() {
    // Another instance's issuance moves the stream, and does not matter.
    let mut world = with_open();
    let guards = vec![guard(&world, name("web").stream())];
    world.happen(name("web").stream(), Event::InstanceAdded { instance: instance(WEB, 2), agent: agent("a2") });
    world.when(record(issued(web(), 1, 1), guards.clone())).then([issued_event(issued(web(), 1, 1))]);
    // A change of targets does not matter either.
    let mut world = with_open();
    let mut wanted = spec(on("a1"));
    wanted.targets.push(target("more", on("a1")));
    world.happen(name("web").stream(), Event::CertificateUpdated { spec: wanted.clone().into() });
    world.when(record(issued(web(), 1, 1), guards.clone())).then([issued_event(issued(web(), 1, 1))]);
    // A change of names does.
    let mut world = with_open();
    wanted.dns_names.push("www.example.test".to_owned());
    world.happen(name("web").stream(), Event::CertificateUpdated { spec: wanted.into() });
    world.when(record(issued(web(), 1, 1), guards)).then_rejected(Reason::Moved);
}

#[test]
fn a_certificate_of_another_issuer_than_is_wanted_is_moved() {
    let mut elsewhere = issued(web(), 1, 1);
    elsewhere.issuer = issuer("other");
    with_open().when(record(elsewhere, vec![])).then_rejected(Reason::Moved);
}

#[test]
fn failures_back_off_twofold_up_to_the_longest_wait() {
    let mut world = given(estate());
    let mut waits = Vec::new();
    for _ in 0..14 {
        world.must(&open(1));
        let events = world.must(&fail(1));
        let [Event::IssuanceFailed { retry_at, .. }] = &events[..] else { panic!("{events:?}") };
        waits.push(retry_at.since(world.now));
        assert_eq!(world.state.due(world.now, 1), vec![], "not before the retry");
        world.pass(retry_at.since(world.now));
        assert_eq!(world.state.due(world.now, 1).len(), 1, "due again at the retry");
    }
    for (n, wait) in waits.iter().enumerate() {
        let full = (limits::RETRY_FIRST * 2u32.pow(n as u32)).min(limits::RETRY_MAX);
        assert!(*wait <= full && *wait >= full * 3 / 4, "wait {n} is {wait:?} of {full:?}");
    }
    let failed = world.state.certificates.get(&name("web")).unwrap().instances[0].clone();
    assert_eq!((failed.failures, failed.last_failure.unwrap().0.as_str()), (14, "POLICY_DENIED"));
    world.must(&open(1));
    world.must(&record(issued(web(), 1, 1), vec![]));
    let healed = world.state.certificates.get(&name("web")).unwrap().instances[0].clone();
    assert_eq!((healed.failures, healed.last_failure, healed.retry_at), (0, None, None));
}

#[test]
fn only_what_is_open_fails() {
    given(estate()).when(fail(1)).then_rejected(Reason::IssuanceNotOpen);
    with_open().when(fail(2)).then_rejected(Reason::IssuanceNotOpen);
    with_issued().when(fail(1)).then_rejected(Reason::IssuanceNotOpen);
}

#[test]
fn failure_texts_are_bounded() {
    let long = |octets: usize| "x".repeat(octets + 1);
    let command = Command::FailIssuance {
        certificate: name("web"),
        instance: web(),
        generation: 1,
        reason: long(limits::REASON_OCTETS_MAX),
        message: long(limits::MESSAGE_OCTETS_MAX),
    };
    let mut world = with_open();
    let events = world.must(&command);
    let [Event::IssuanceFailed { reason, message, .. }] = &events[..] else { panic!("{events:?}") };
    assert_eq!((reason.len(), message.len()), (limits::REASON_OCTETS_MAX, limits::MESSAGE_OCTETS_MAX));
}

#[test]
fn a_direct_issuance_is_one_event_of_its_own_stream() {
    let direct = Issued { instance: None, renew_at: None, ..issued(web(), 1, 1) };
    let world = with_open();
    let guards = vec![guard(&world, issuer("demo").stream()), guard(&world, authority("root").stream())];
    let command = Command::RecordDirect { issued: Box::new(direct.clone()), guards };
    let decision = world.decide(&command).unwrap();
    assert_eq!(decision.appends[0].expected, None, "a once stream has no revision");
    let octets_before = format!("{:?}", world.state.cut());
    let world = world
        .when(command)
        .guarded_by(&[issuer("demo").stream(), authority("root").stream()])
        .then([(direct_stream(&direct.serial), Event::CertificateIssued(Box::new(direct.clone())))]);
    let strip = |text: String| text.split("applied").next().unwrap().to_owned();
    assert_eq!(strip(format!("{:?}", world.state.cut())), strip(octets_before), "state remembers nothing of it");

    let unknown = Issued { issuer: issuer("nobody"), ..direct.clone() };
    let command = Command::RecordDirect { issued: Box::new(unknown), guards: vec![] };
    with_open().when(command).then_rejected(Reason::IssuerNotFound);
    let stale = vec![Guard { stream: issuer("demo").stream(), revision: 0 }];
    let command = Command::RecordDirect { issued: Box::new(direct), guards: stale };
    with_open().when(command).then_rejected(Reason::Moved);
}

#[test]
fn an_unanswered_issuance_stays_open_and_blocks_nothing_else() {
    let mut world = with_open();
    world.happen(declared("api", spec(on("a1"))).0, declared("api", spec(on("a1"))).1);
    world.must(&Command::ReconcileCertificate { name: name("api") });
    world.pass(Duration::from_secs(3600 * 24 * 365));
    let due = world.state.due(world.now, 10);
    assert_eq!(due.iter().map(|due| due.1.clone()).collect::<Vec<_>>(), vec![name("api")]);
    assert_eq!(world.state.open_issuances(&agent("a1")), vec![(name("web"), web(), 1, Trigger::First)]);
}
