//! Reports of agents: what is news, what is dropped.

use crate::command::Command;
use crate::event::{Delivered, Event, Stage, Trigger};
use crate::ids::TargetName;
use crate::limits;
use crate::tests::fixtures::*;
use crate::tests::harness::{World, given};

/// The estate with generations 1 and 2 issued.
fn world() -> World {
    let mut world = given(estate());
    let stream = name("web").stream();
    for generation in [1, 2] {
        world.happen(stream.clone(), Event::IssuanceOpened { instance: web(), generation, trigger: Trigger::First });
        world.happen(stream.clone(), Event::CertificateIssued(Box::new(issued(web(), generation, 1))));
    }
    world
}

fn report(who: &str, reports: Vec<Delivered>) -> Command {
    let deliveries = reports.into_iter().map(|report| (name("web"), report)).collect();
    Command::RecordDeliveries { agent: agent(who), deliveries }
}

fn failed(stage: Stage) -> Delivered {
    Delivered { failure: Some(("EACCES".to_owned(), "no".to_owned())), ..files(2, stage) }
}

fn files(generation: u64, stage: Stage) -> Delivered {
    delivered(web(), generation, Some("files"), stage)
}

#[test]
fn what_is_news() {
    // (what was reported, what is reported now, whether it is news)
    let table = [
        (None, files(2, Stage::Written), true),
        (Some(files(2, Stage::Written)), files(2, Stage::Written), false),
        (Some(files(2, Stage::Written)), files(2, Stage::Received), false),
        (Some(files(2, Stage::Written)), files(2, Stage::Served), true),
        (Some(files(1, Stage::Served)), files(2, Stage::Received), true),
        (Some(files(2, Stage::Received)), files(1, Stage::Served), false),
        (Some(files(2, Stage::Served)), failed(Stage::Written), true),
        (Some(failed(Stage::Written)), failed(Stage::Written), false),
        (Some(failed(Stage::Written)), files(2, Stage::Written), true),
        (Some(failed(Stage::Written)), failed(Stage::Served), true),
    ];
    for (before, now, news) in table {
        let mut world = world();
        for report in before.iter().cloned() {
            world.happen(name("web").stream(), Event::CertificateDelivered(report));
        }
        let events = world.must(&report("a1", vec![now.clone()]));
        let expected = if news { vec![Event::CertificateDelivered(now.clone())] } else { vec![] };
        assert_eq!(events, expected, "{before:?} then {now:?}");
    }
}

#[test]
fn what_is_dropped() {
    let dropped = [
        ("another agent's", "a2", files(2, Stage::Written)),
        ("of no instance", "a1", delivered(instance(WEB, 9), 2, Some("files"), Stage::Written)),
        ("of no target", "a1", delivered(web(), 2, Some("elsewhere"), Stage::Written)),
        ("of a generation not issued", "a1", files(3, Stage::Written)),
    ];
    for (what, who, delivered) in dropped {
        assert_eq!(world().must(&report(who, vec![delivered])), vec![], "{what}");
    }
    let gone =
        Command::RecordDeliveries { agent: agent("a1"), deliveries: vec![(name("gone"), files(2, Stage::Written))] };
    world().when(gone).then_unchanged();
}

#[test]
fn reports_have_no_revision_and_do_not_echo_in_the_feed() {
    let mut world = world();
    let before = world.state.certificates.get(&name("web")).unwrap().clone();
    let position = world.state.applied;
    world.must(&report("a1", vec![files(2, Stage::Written), delivered(web(), 2, None, Stage::Verified)]));
    let after = world.state.certificates.get(&name("web")).unwrap();
    assert_eq!((after.revision, after.instances[0].changed), (before.revision, before.instances[0].changed));
    assert_eq!(after.instances[0].deliveries.len(), 2);
    let page = world.state.scope_since(&agent("a1"), position, 10).unwrap();
    assert_eq!(page.changes, vec![]);
}

#[test]
fn removed_targets_take_their_reports_with_them() {
    let mut world = world();
    world.must(&report("a1", vec![files(2, Stage::Written), delivered(web(), 2, None, Stage::Verified)]));
    let mut moved = spec(on("a1"));
    moved.targets[0].name = TargetName::parse("other").unwrap();
    world.happen(name("web").stream(), Event::CertificateUpdated { spec: moved.into() });
    let web = world.state.certificates.get(&name("web")).unwrap();
    let left: Vec<_> = web.instances[0].deliveries.iter().map(|delivery| delivery.target.clone()).collect();
    assert_eq!(left, vec![None]);
}

#[test]
fn failure_texts_are_bounded() {
    let long = |octets: usize| "x".repeat(octets + 1);
    let failure = Some((long(limits::REASON_OCTETS_MAX), long(limits::MESSAGE_OCTETS_MAX)));
    let events = world().must(&report("a1", vec![Delivered { failure, ..files(2, Stage::Written) }]));
    let [Event::CertificateDelivered(Delivered { failure: Some((reason, message)), .. })] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!((reason.len(), message.len()), (limits::REASON_OCTETS_MAX, limits::MESSAGE_OCTETS_MAX));
}
