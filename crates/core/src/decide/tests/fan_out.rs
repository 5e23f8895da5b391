//! Selectors that fan out: bounded in one transaction, completed by reconciliation, bounded at last.

use std::sync::Arc;

use crate::command::{Command, Etag};
use crate::event::Event;
use crate::limits;
use crate::rejection::Reason;
use crate::tests::fixtures::*;
use crate::tests::harness::{World, given};

fn agents(count: usize) -> World {
    let mut world = given(estate());
    for n in 0..count {
        let (stream, event) = registered(&format!("fleet-{n}"), &[("fleet", "yes")]);
        world.happen(stream, event);
    }
    world
}

fn create() -> Command {
    Command::CreateCertificate { name: name("all"), spec: Arc::new(spec(selecting(&[("fleet", "yes")]))) }
}

fn reconcile(world: &mut World) -> usize {
    let mut rounds = 0;
    while let Some(certificate) = world.state.unsettled(1).pop() {
        let events = world.must(&Command::ReconcileCertificate { name: certificate });
        assert!(!events.is_empty(), "what is unsettled can be settled");
        assert!(events.len() <= limits::RECONCILE_MAX);
        rounds += 1;
    }
    rounds
}

#[test]
fn one_transaction_pairs_a_bounded_number_and_reconciliation_the_rest() {
    let count = 2 * limits::RECONCILE_MAX + 1;
    let mut world = agents(count);
    let events = world.must(&create());
    assert_eq!(events.len(), 1 + limits::RECONCILE_MAX);
    assert_eq!(world.state.unsettled(10), vec![name("all")]);
    assert_eq!(reconcile(&mut world), 2);
    assert_eq!(world.state.certificates.get(&name("all")).unwrap().instances.len(), count);
}

#[test]
fn a_certificate_has_at_most_so_many_instances() {
    let mut world = agents(limits::INSTANCES_MAX);
    world.must(&create());
    reconcile(&mut world);
    // One more agent: there is no room, and nobody tries for ever.
    let (stream, event) = registered("fleet-more", &[("fleet", "yes")]);
    world.happen(stream, event);
    assert_eq!(world.state.unsettled(10), vec![]);
    assert_eq!(world.decide(&create()).unwrap_err().reason, Reason::AlreadyExists);
    let second = Command::CreateCertificate { name: name("two"), spec: Arc::new(spec(selecting(&[("fleet", "yes")]))) };
    let rejection = world.decide(&second).unwrap_err();
    assert_eq!((rejection.reason, rejection.field.as_deref()), (Reason::InvalidSpec, Some("spec.targets")));
    // One goes: the one that waited gets its room.
    world.must(&Command::RemoveAgent { agent: agent("fleet-0"), etag: Etag::default() });
    assert_eq!(world.state.unsettled(10), vec![name("all")]);
    reconcile(&mut world);
    let all = world.state.certificates.get(&name("all")).unwrap();
    assert!(all.instance_of(&agent("fleet-more")).is_some());
    assert_eq!(all.instances.len(), limits::INSTANCES_MAX);
}

#[test]
fn who_found_no_place_in_a_certificate_that_is_full_waits_no_longer() {
    let mut world = agents(limits::INSTANCES_MAX);
    world.must(&create());
    // One more comes while places are being given out, and is paired at once.
    let (stream, event) = registered("early", &[("fleet", "yes")]);
    world.happen(stream, event);
    let uid = world.state.certificates.get(&name("all")).unwrap().uid;
    let number = world.state.certificates.get(&name("all")).unwrap().next_instance;
    let instance = crate::ids::InstanceId { certificate: uid, number };
    world.happen(name("all").stream(), Event::InstanceAdded { instance, agent: agent("early") });
    reconcile(&mut world);
    assert_eq!(world.state.certificates.get(&name("all")).unwrap().instances.len(), limits::INSTANCES_MAX);
    assert_eq!(world.state.unsettled(10), vec![]);
}

#[test]
fn an_agent_that_many_certificates_name_is_paired_a_few_at_a_time() {
    let mut world = given(estate());
    let count = limits::RECONCILE_MAX + 1;
    for n in 0..count {
        let (stream, event) = declared(&format!("c{n}"), spec(on("late")));
        world.happen(stream, event);
    }
    let (stream, event) = token_created("t1", crate::event::TokenGrant::Agent { name: None, labels: labels(&[]) });
    world.happen(stream, event);
    let events = world.must(&Command::AdmitAgent {
        token: token("t1"),
        secret_hash: [9; 32],
        agent: agent("late"),
        labels: labels(&[]),
        identity: identity(5, 5),
    });
    let added = events.iter().filter(|event| matches!(event, Event::InstanceAdded { .. })).count();
    assert_eq!(added, limits::RECONCILE_MAX);
    assert_eq!(reconcile(&mut world), 1);
    assert_eq!(world.state.instances_of_agent(&agent("late")), count);
    let events = world.must(&Command::RemoveAgent { agent: agent("late"), etag: Etag::default() });
    assert_eq!(events.len(), 1 + limits::RECONCILE_MAX);
    assert_eq!(reconcile(&mut world), 1);
    assert_eq!(world.state.instances_of_agent(&agent("late")), 0);
}
