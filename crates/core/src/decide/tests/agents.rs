//! Agents: admitted, labelled, renewed, removed.

use crate::command::{Command, Etag};
use crate::event::{Event, TokenGrant, Trigger};
use crate::limits;
use crate::rejection::Reason;
use crate::spec::Labels;
use crate::tests::fixtures::*;
use crate::tests::harness::{World, given};

fn admit(who: &str, key: u8, serial: u64, labels: Labels) -> Command {
    let identity = identity(serial, key);
    Command::AdmitAgent { token: token("t1"), secret_hash: [9; 32], agent: agent(who), labels, identity }
}

fn with_token(name: Option<&str>, granted: &[(&str, &str)]) -> World {
    let mut events = estate();
    events.push(token_created("t1", TokenGrant::Agent { name: name.map(agent), labels: labels(granted) }));
    given(events)
}

fn consumed(key: u8) -> (crate::log::StreamId, Event) {
    (token("t1").stream(), Event::TokenConsumed { spki_hash: [key; 32] })
}

fn identified(who: &str, n: u64, key: u8) -> (crate::log::StreamId, Event) {
    (agent(who).stream(), Event::AgentIdentityIssued { identity: identity(n, key), readmitted: false })
}

#[test]
fn admission_is_one_transaction_and_certificates_follow() {
    let mut world = with_token(None, &[("tier", "edge"), ("zone", "b")]);
    world.happen(declared("api", spec(on("new"))).0, declared("api", spec(on("new"))).1);
    let holder = selecting(&[("tier", "edge"), ("zone", "b")]);
    world.happen(declared("edge", spec(holder.clone())).0, declared("edge", spec(holder)).1);
    let registered = Event::AgentRegistered {
        name: agent("new"),
        // What the token grants, whatever of it the agent asks for.
        labels: labels(&[("tier", "edge"), ("zone", "b")]),
        spki_hash: [2; 32],
    };
    let added = |certificate: &str, index| {
        let event = Event::InstanceAdded { instance: instance(index, 1), agent: agent("new") };
        (name(certificate).stream(), event)
    };
    let world = world.when(admit("new", 2, 50, labels(&[("zone", "b")]))).then([
        consumed(2),
        (agent("new").stream(), registered),
        identified("new", 50, 2),
        added("api", WEB + 3),
        added("edge", WEB + 4),
    ]);
    assert_eq!(world.state.unsettled(10), vec![]);
    assert_eq!(world.state.instances_of_agent(&agent("new")), 2);
}

/// Targets select by label: an agent that chose its own would be sent what is meant for others.
#[test]
fn an_agent_carries_no_label_that_its_token_does_not_grant() {
    for asked in [&[("tier", "core")][..], &[("tier", "edge"), ("zone", "b")], &[("tier", "")]] {
        let world = with_token(None, &[("tier", "edge")]);
        world.when(admit("new", 2, 50, labels(asked))).then_rejected(Reason::PermissionDenied);
    }
}

#[test]
fn the_same_key_repeats_a_lost_reply() {
    let mut world = with_token(None, &[]);
    world.must(&admit("new", 2, 50, Labels::new()));
    let world = world.when(admit("new", 2, 51, Labels::new())).then([identified("new", 51, 2)]);
    world.when(admit("new", 2, 51, Labels::new())).then_unchanged();
}

#[test]
fn another_key_needs_a_token_for_exactly_this_agent() {
    with_token(None, &[]).when(admit("a1", 2, 50, Labels::new())).then_rejected(Reason::AlreadyExists);
    let mut world = with_token(Some("a1"), &[]);
    let stream = name("web").stream();
    world.happen(stream.clone(), Event::IssuanceOpened { instance: web(), generation: 1, trigger: Trigger::First });
    world.happen(stream, Event::CertificateIssued(Box::new(issued(web(), 1, 1))));
    assert_eq!(world.state.due(T0, 10), vec![]);
    let registered = Event::AgentRegistered { name: agent("a1"), labels: Labels::new(), spki_hash: [2; 32] };
    let world = world.when(admit("a1", 2, 50, Labels::new())).then([
        consumed(2),
        (agent("a1").stream(), registered),
        identified("a1", 50, 2),
    ]);
    // The keys went with the old machine: what it held is issued anew.
    let due = world.state.due(T0, 10);
    assert_eq!(due.iter().map(|due| (due.2, due.3)).collect::<Vec<_>>(), vec![(web(), Trigger::SpecChanged)]);
}

#[test]
fn a_removed_agent_does_not_come_back_with_its_old_token() {
    let mut world = with_token(None, &[]);
    world.must(&admit("new", 2, 50, Labels::new()));
    world.must(&Command::RemoveAgent { agent: agent("new"), etag: Etag::default() });
    world.when(admit("new", 2, 51, Labels::new())).then_rejected(Reason::TokenUsed);
}

#[test]
fn labels_move_instances() {
    let mut events = estate();
    events.push(declared("zone-a", spec(selecting(&[("zone", "a")]))));
    events.push(declared("zone-b", spec(selecting(&[("zone", "b")]))));
    let mut world = given(events);
    world.must(&Command::ReconcileCertificate { name: name("zone-a") });
    let set = |pairs: &[(&str, &str)]| Command::SetAgentLabels {
        agent: agent("a1"),
        etag: Etag::default(),
        labels: labels(pairs),
    };
    let world = world.when(set(&[("zone", "a")])).then_unchanged();
    let world = world.when(set(&[("zone", "b")])).then([
        (agent("a1").stream(), Event::AgentLabelsChanged { labels: labels(&[("zone", "b")]) }),
        (name("zone-a").stream(), Event::InstanceRemoved { instance: instance(WEB + 2, 1) }),
        (name("zone-b").stream(), Event::InstanceAdded { instance: instance(WEB + 3, 1), agent: agent("a1") }),
    ]);
    assert_eq!(world.state.unsettled(10), vec![]);
    let too_many: Labels = (0..=limits::LABELS_MAX).map(|n| (format!("l{n}"), String::new())).collect();
    let command = Command::SetAgentLabels { agent: agent("a1"), etag: Etag::default(), labels: too_many };
    world.when(command).then_rejected_at(Reason::InvalidSpec, "labels");
}

#[test]
fn a_condition_on_another_version_is_refused() {
    let etag = Etag("1-0.7".into());
    let set = Command::SetAgentLabels { agent: agent("a1"), etag: etag.clone(), labels: labels(&[("zone", "b")]) };
    given(estate()).when(set).then_rejected(Reason::EtagMismatch);
    let remove = |etag| Command::RemoveAgent { agent: agent("a1"), etag };
    given(estate()).when(remove(etag)).then_rejected(Reason::EtagMismatch);
    let mut world = given(estate());
    let etag = world.state.agents.get(&agent("a1")).unwrap().etag();
    world.must(&remove(etag));
}

#[test]
fn removal_takes_the_instances_away() {
    let remove = || Command::RemoveAgent { agent: agent("a1"), etag: Etag::default() };
    let world = given(estate()).when(remove()).then([
        (agent("a1").stream(), Event::AgentRemoved),
        (name("web").stream(), Event::InstanceRemoved { instance: web() }),
    ]);
    assert_eq!(world.state.unsettled(10), vec![]);
    world.when(remove()).then_rejected(Reason::NotFound);
}

/// A renewal for a key by whoever proved another.
fn renewal(n: u64, key: u8, proved: u8) -> Command {
    Command::RecordAgentIdentity { agent: agent("a1"), proved: Some([proved; 32]), identity: identity(n, key) }
}

#[test]
fn identities_are_recorded_once() {
    let present = given(estate()).state.agents.get(&agent("a1")).unwrap().spki_hash[0];
    let world = given(estate()).when(renewal(60, 3, present)).then([identified("a1", 60, 3)]);
    assert_eq!(
        world.state.agents.get(&agent("a1")).unwrap().spki_hash,
        [3; 32],
        "a renewed identity may have a new key"
    );
    world.when(renewal(60, 3, 3)).then_unchanged();
    let nobody =
        Command::RecordAgentIdentity { agent: agent("nobody"), proved: Some([1; 32]), identity: identity(1, 1) };
    given(estate()).when(nobody).then_rejected(Reason::NotFound);
}

#[test]
fn the_key_before_gets_only_the_present_one_certified() {
    let present = given(estate()).state.agents.get(&agent("a1")).unwrap().spki_hash[0];
    let renewed = || given(estate()).when(renewal(60, 30, present)).then([identified("a1", 60, 30)]);
    assert_eq!(renewed().state.agents.get(&agent("a1")).unwrap().previous_spki_hash, Some([present; 32]));
    renewed().when(renewal(61, 31, present)).then_rejected(Reason::Unauthenticated);
    // The answer was lost: the same key is asked for again.
    let world = renewed().when(renewal(61, 30, present)).then([identified("a1", 61, 30)]);
    assert_eq!(world.state.agents.get(&agent("a1")).unwrap().previous_spki_hash, Some([present; 32]));
    let world = world.when(renewal(62, 31, 30)).then([identified("a1", 62, 31)]);
    assert_eq!(world.state.agents.get(&agent("a1")).unwrap().previous_spki_hash, Some([30; 32]));
}
