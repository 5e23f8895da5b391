//! Create, update, delete, renew, reconcile.

use std::sync::Arc;
use std::time::Duration;

use crate::command::{Command, Etag};
use crate::event::{Event, Trigger};
use crate::ids::Uid;
use crate::log::Position;
use crate::rejection::Reason;
use crate::spec::{CertificateSpec, IssuerKind, KeyEncoding};
use crate::tests::fixtures::*;
use crate::tests::harness::given;

fn create(certificate: &str, spec: CertificateSpec) -> Command {
    Command::CreateCertificate { name: name(certificate), spec: Arc::new(spec) }
}

fn update(etag: &str, spec: CertificateSpec) -> Command {
    Command::UpdateCertificate { name: name("web"), etag: Etag(etag.to_owned()), spec: Arc::new(spec) }
}

fn added(certificate: &str, id: crate::ids::InstanceId, who: &str) -> (crate::log::StreamId, Event) {
    (name(certificate).stream(), Event::InstanceAdded { instance: id, agent: agent(who) })
}

#[test]
fn create_declares_and_pairs_with_registered_agents() {
    let world = given(estate())
        .when(create("api", spec(on("a1"))))
        .guarded_by(&[issuer("demo").stream()])
        .then([declared("api", spec(on("a1"))), added("api", instance(0, 1), "a1")]);
    let api = world.state.certificates.get(&name("api")).unwrap();
    let uid = Uid(Position { index: WEB + 2, ordinal: 0 });
    assert_eq!((api.uid, api.instances[0].id.certificate), (uid, uid), "the uid is the position of the declaration");
    assert_eq!((api.revision, api.spec_revision, api.next_instance), (2, 1, 2));
}

#[test]
fn create_for_an_agent_that_is_not_there_waits_for_it() {
    given(estate()).when(create("api", spec(on("later")))).then([declared("api", spec(on("later")))]);
}

#[test]
fn create_by_selector_pairs_with_every_agent_that_matches() {
    let mut events = estate();
    events.extend([registered("a2", &[("zone", "a"), ("tier", "web")]), registered("a3", &[("zone", "b")])]);
    given(events).when(create("api", spec(selecting(&[("zone", "a")])))).then([
        declared("api", spec(selecting(&[("zone", "a")]))),
        added("api", instance(0, 1), "a1"),
        added("api", instance(0, 2), "a2"),
    ]);
}

#[test]
fn create_is_refused() {
    let mut other_issuer = spec(on("a1"));
    other_issuer.issuer = issuer("nobody");
    let mut nameless = spec(on("a1"));
    nameless.dns_names.clear();
    given(estate()).when(create("web", spec(on("a1")))).then_rejected(Reason::AlreadyExists);
    given(estate()).when(create("web", spec(on("a2")))).then_rejected(Reason::AlreadyExists);
    given(estate()).when(create("api", other_issuer)).then_rejected_at(Reason::IssuerNotFound, "spec.issuerRef.name");
    given(estate()).when(create("api", nameless)).then_rejected_at(Reason::InvalidSpec, "spec.dnsNames");
}

#[test]
fn update_with_an_equal_specification_is_unchanged() {
    given(estate()).when(update("", spec(on("a1")))).then_unchanged();
}

#[test]
fn update_changes_what_is_said_and_issues_again() {
    let mut wanted = spec(on("a1"));
    wanted.dns_names.push("www.example.test".to_owned());
    let mut world = given(estate());
    issue(&mut world, 1, 1);
    let world = world
        .when(update("", wanted.clone()))
        .then([(name("web").stream(), Event::CertificateUpdated { spec: Arc::new(wanted) })]);
    let due = world.state.due(T0, 10);
    assert_eq!(due.len(), 1);
    assert_eq!(due[0].3, Trigger::SpecChanged);
}

#[test]
fn a_change_of_targets_or_of_the_file_does_not_issue_again() {
    let mut world = given(estate());
    issue(&mut world, 1, 1);
    let mut moved = spec(on("a1"));
    moved.targets.push(target("more", on("a1")));
    moved.renew_before = Some(Duration::from_secs(60));
    moved.private_key.encoding = KeyEncoding::Pkcs1;
    moved.labels = labels(&[("team", "edge")]);
    let world = world
        .when(update("", moved.clone()))
        .then([(name("web").stream(), Event::CertificateUpdated { spec: Arc::new(moved) })]);
    assert_eq!(world.state.due(T0, 10), vec![]);
}

#[test]
fn update_moves_instances_with_the_holders() {
    let mut events = estate();
    events.push(registered("a2", &[]));
    given(events).when(update("", spec(on("a2")))).then([
        (name("web").stream(), Event::CertificateUpdated { spec: Arc::new(spec(on("a2"))) }),
        (name("web").stream(), Event::InstanceRemoved { instance: web() }),
        added("web", instance(WEB, 2), "a2"),
    ]);
}

#[test]
fn update_and_delete_heed_the_etag() {
    let mut wanted = spec(on("a1"));
    wanted.dns_names.push("www.example.test".to_owned());
    let current = given(estate()).state.certificates.get(&name("web")).unwrap().etag().0;
    assert_eq!(current, format!("{WEB}-0.2"));
    let delete = |etag: &str| Command::DeleteCertificate { name: name("web"), etag: Etag(etag.to_owned()) };
    for stale in ["8-0.1", "8-0.3", "9-0.2", "x"] {
        given(estate()).when(update(stale, wanted.clone())).then_rejected(Reason::EtagMismatch);
        given(estate()).when(delete(stale)).then_rejected(Reason::EtagMismatch);
    }
    given(estate())
        .when(update(&current, wanted.clone()))
        .then([(name("web").stream(), Event::CertificateUpdated { spec: Arc::new(wanted) })]);
    given(estate()).when(delete(&current)).then([(name("web").stream(), Event::CertificateDeleted)]);
}

#[test]
fn what_is_not_there_is_not_found() {
    let nobody = name("nobody");
    for command in [
        Command::UpdateCertificate { name: nobody.clone(), etag: Etag::default(), spec: Arc::new(spec(on("a1"))) },
        Command::DeleteCertificate { name: nobody.clone(), etag: Etag::default() },
        Command::RenewCertificate { name: nobody.clone() },
        Command::ReconcileCertificate { name: nobody },
    ] {
        given(estate()).when(command).then_rejected(Reason::NotFound);
    }
}

#[test]
fn a_recreated_certificate_is_another_one() {
    let mut world = given(estate());
    world.must(&Command::DeleteCertificate { name: name("web"), etag: Etag::default() });
    let etag = given(estate()).state.certificates.get(&name("web")).unwrap().etag();
    world.must(&create("web", spec(on("a1"))));
    let recreated = world.state.certificates.get(&name("web")).unwrap();
    assert_eq!(recreated.revision, 2, "its stream begins anew");
    assert_ne!(recreated.etag(), etag);
    assert_ne!(recreated.instances[0].id, web());
}

#[test]
fn renew_opens_a_generation_of_every_instance_that_has_none_open() {
    let renew = Command::RenewCertificate { name: name("web") };
    let opened = |generation| {
        let event = Event::IssuanceOpened { instance: web(), generation, trigger: Trigger::Requested };
        (name("web").stream(), event)
    };
    given(estate()).when(renew.clone()).then([opened(1)]).when(renew.clone()).then_unchanged();
    let mut world = given(estate());
    issue(&mut world, 1, 1);
    world.when(renew).then([opened(2)]);
}

#[test]
fn renew_without_instances_is_unchanged() {
    let mut events = estate();
    events.push(declared("api", spec(on("later"))));
    given(events).when(Command::RenewCertificate { name: name("api") }).then_unchanged();
}

#[test]
fn reconcile_puts_right_what_is_unsettled() {
    let mut events = estate();
    // An agent was registered and another removed without their certificates following.
    events.push(declared("api", spec(on("a2"))));
    events.push(registered("a2", &[]));
    events.push((agent("a1").stream(), Event::AgentRemoved));
    let mut world = given(events);
    assert_eq!(world.state.unsettled(10), vec![name("api"), name("web")]);
    let mut reconcile = |certificate| world.must(&Command::ReconcileCertificate { name: name(certificate) });
    assert_eq!(reconcile("api"), vec![Event::InstanceAdded { instance: instance(WEB + 2, 1), agent: agent("a2") }]);
    assert_eq!(reconcile("web"), vec![Event::InstanceRemoved { instance: web() }]);
    assert_eq!(reconcile("web"), vec![]);
    assert_eq!(world.state.unsettled(10), vec![]);
}

#[test]
fn an_issuer_that_only_the_schema_knows_is_no_issuer_yet() {
    let command = Command::CreateIssuer {
        name: issuer("le"),
        spec: crate::spec::IssuerSpec { kind: IssuerKind::Reserved("acme".to_owned()), ..issuer_spec("root") },
    };
    given(estate()).when(command).then_rejected_at(Reason::NotYetSupported, "spec.acme");
}

/// Opens and records a generation of the estate's certificate.
fn issue(world: &mut crate::tests::harness::World, generation: u64, key: u8) {
    let stream = name("web").stream();
    world.happen(stream.clone(), Event::IssuanceOpened { instance: web(), generation, trigger: Trigger::First });
    world.happen(stream, Event::CertificateIssued(Box::new(issued(web(), generation, key))));
}
