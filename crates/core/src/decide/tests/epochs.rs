//! Epochs: opened once, without anybody who was a member, and what of before them still counts.

use crate::command::Command;
use crate::event::{EpochCause, EpochOpened, Event, Identity, Issued, TokenGrant, Trigger};
use crate::ids::{Generation, InstanceId, Uid};
use crate::log::{Fold as _, Position};
use crate::rejection::Reason;
use crate::tests::fixtures::*;
use crate::tests::harness::{World, given};
use crate::time::Timestamp;
use std::time::Duration;

/// Log time at which the backup ends: everything in the fixtures begins then, and an hour later the epoch.
fn opened(epoch: u64, after_index: u64, after: Timestamp) -> EpochOpened {
    let at = after.plus(Duration::from_secs(3600));
    EpochOpened { epoch, cause: EpochCause::Restored, after_index, after_chain: [3; 32], after, at }
}

fn open(epoch: u64, world: &World, data_key_id: u64) -> Command {
    let node = Box::new(node(world.state.cluster.last_node_id + 1, 40));
    let opened = opened(epoch, world.index, T0);
    Command::OpenEpoch { opened, node, wrapped: vec![(data_key_id, vec![8, 8])] }
}

/// The estate, restored.
fn restored() -> World {
    let mut world = given(estate());
    let (epoch, key) = (world.state.cluster.epoch + 1, world.state.cluster.data_key_id);
    world.must(&open(epoch, &world, key));
    world
}

/// Web's agent shows that generation.
fn adopt(generation: Generation, key: u8) -> Command {
    adopt_from(T0, generation, key)
}

/// One that begins then.
fn adopt_from(not_before: Timestamp, generation: Generation, key: u8) -> Command {
    let issued = Box::new(Issued { not_before, ..issued(web(), generation, key) });
    let spec_revision = given(estate()).state.certificates.get(&name("web")).unwrap().spec_revision;
    Command::AdoptHeld { certificate: name("web"), issued, spec_revision }
}

#[test]
fn a_generation_that_leaves_no_number_for_others_is_refused() {
    let world = restored();
    let open = |generation| Command::OpenIssuance {
        certificate: name("web"),
        instance: web(),
        generation,
        trigger: Trigger::Restored,
    };
    for generation in [crate::limits::LOST_GENERATIONS_MAX + 10, u64::MAX] {
        let Command::AdoptHeld { certificate, issued, spec_revision } = adopt(4, 7) else { unreachable!() };
        let adopt =
            Command::AdoptHeld { certificate, issued: Box::new(Issued { generation, ..*issued }), spec_revision };
        assert_eq!(world.decide(&adopt).unwrap_err().reason, Reason::GenerationConflict);
        assert_eq!(world.decide(&open(generation)).unwrap_err().reason, Reason::GenerationConflict);
    }
}

#[test]
fn one_new_server_goes_on_and_nobody_else() {
    let before = given(estate()).state.cluster;
    let cluster = restored().state.cluster;
    let newest = before.last_node_id + 1;
    assert_eq!((cluster.epoch, cluster.last_node_id), (before.epoch + 1, newest));
    let stay: Vec<_> = cluster.nodes.values().filter(|node| !node.removed).map(|node| node.record.id).collect();
    assert_eq!(stay, [newest]);
    assert_eq!(cluster.nodes[&newest].wrapped[&before.data_key_id], [8, 8]);
    assert_eq!(cluster.nodes[&newest].proved, Some(before.data_key_id));
}

#[test]
fn an_epoch_follows_the_one_before_and_needs_its_data_key() {
    let world = given(estate());
    let (epoch, key) = (world.state.cluster.epoch, world.state.cluster.data_key_id);
    for (epoch, key, reason) in
        [(epoch, key, Reason::Moved), (1 << 20, key, Reason::Moved), (epoch + 1, key + 1, Reason::NotReady)]
    {
        assert_eq!(world.decide(&open(epoch, &world, key)).unwrap_err().reason, reason);
    }
    given([]).when(open(1, &given([]), 0)).then_rejected(Reason::NotReady);
}

#[test]
fn tokens_of_before_admit_nobody() {
    let mut events = estate();
    events.push(token_created("t1", TokenGrant::Agent { name: None, labels: labels(&[]) }));
    let admit = |identity| Command::AdmitAgent {
        token: token("t1"),
        secret_hash: [9; 32],
        agent: agent("late"),
        labels: labels(&[]),
        identity,
    };
    let mut world = given(events);
    assert!(world.decide(&admit(identity(300, 30))).is_ok());
    let (epoch, key) = (world.state.cluster.epoch + 1, world.state.cluster.data_key_id);
    world.must(&open(epoch, &world, key));
    assert_eq!(world.decide(&admit(identity(300, 30))).unwrap_err().reason, Reason::TokenOldEpoch);
}

#[test]
fn what_an_agent_holds_is_taken_back_once_and_only_after_a_restore() {
    given(estate()).when(adopt(4, 7)).then_rejected(Reason::OldEpoch);
    let mut world = restored();
    let taken = world.must(&adopt(4, 7));
    assert!(matches!(&taken[..], [Event::CertificateIssued(issued)] if issued.generation == 4), "{taken:?}");
    assert!(world.must(&adopt(4, 7)).is_empty(), "the log knows it now");
    assert_eq!(world.decide(&adopt(4, 8)).unwrap_err().reason, Reason::GenerationConflict, "another one");
    assert_eq!(world.decide(&adopt(3, 8)).unwrap_err().reason, Reason::GenerationConflict, "an older one");
}

#[test]
fn what_was_issued_before_the_backup_is_not_taken_back() {
    let mut world = given(estate());
    let key = world.state.cluster.data_key_id;
    let (index, late) = (world.index, T0.plus(Duration::from_secs(100_000)));
    let node = Box::new(node(world.state.cluster.last_node_id + 1, 40));
    let opened = opened(world.state.cluster.epoch + 1, index, late);
    world.must(&Command::OpenEpoch { opened, node, wrapped: vec![(key, vec![])] });
    assert_eq!(world.decide(&adopt(4, 7)).unwrap_err().reason, Reason::OldEpoch);
}

#[test]
fn generations_are_skipped_only_after_a_restore() {
    let open = |generation| Command::OpenIssuance {
        certificate: name("web"),
        instance: web(),
        generation,
        trigger: Trigger::Restored,
    };
    given(estate()).when(open(5)).then_rejected(Reason::GenerationConflict);
    let mut world = restored();
    let events = world.must(&open(5));
    assert!(matches!(events[..], [Event::IssuanceOpened { generation: 5, .. }]), "{events:?}");
}

#[test]
fn an_agent_comes_back_under_a_younger_identity() {
    let readmit = |identity| Command::ReadmitAgent { agent: agent("a1"), identity };
    given(estate()).when(readmit(identity(500, 50))).then_rejected(Reason::OldEpoch);
    let mut world = restored();
    world.must(&readmit(identity(500, 50)));
    assert!(world.state.agents.get(&agent("a1")).unwrap().is_known_by([50; 32]));
    assert_eq!(world.decide(&readmit(identity(501, 51))).unwrap_err().reason, Reason::Unauthenticated, "no younger");
}

/// By clocks that were ahead, and have been set right: that it ends later says nothing.
#[test]
fn an_agent_comes_back_under_an_identity_older_than_one_of_the_future() {
    let readmit = |identity| Command::ReadmitAgent { agent: agent("a1"), identity };
    let ends = |at: Timestamp| Identity { not_after: at, ..identity(501, 51) };
    for (ahead, comes_back) in [(Duration::ZERO, false), (Duration::from_millis(1), true)] {
        let mut world = restored();
        let latest = world.now.plus(crate::limits::IDENTITY_DURATION).plus(ahead);
        world.happen(agent("a1").stream(), Event::AgentIdentityIssued { identity: ends(latest), readmitted: false });
        assert_eq!(world.decide(&readmit(identity(500, 50))).is_ok(), comes_back, "{ahead:?} ahead");
    }
}

#[test]
fn ids_do_not_recur_in_another_epoch() {
    let position = Position { index: 12, ordinal: 3 };
    let (first, second) = (Uid::new(position, 1), Uid::new(position, 2));
    assert_eq!(first, Uid(position));
    assert_ne!(first, second);
    let declared = |epoch| InstanceId { certificate: Uid::here(epoch), number: 1 }.resolved(position).certificate;
    assert_eq!((declared(1), declared(2)), (first, second));
    assert_eq!(restored().state.cluster.epoch_of(1), given(estate()).state.cluster.epoch);
    let world = restored();
    assert_eq!(world.state.cluster.epoch_of(world.index), world.state.cluster.epoch);
    assert!(world.state.revision(&crate::ids::cluster_stream()) > 0);
}

#[test]
fn only_what_was_issued_in_a_lost_epoch_is_taken_back() {
    let mut world = restored();
    // A second restore, of a backup made long after the first one.
    let (end, key) = (T0.plus(Duration::from_secs(1_000_000)), world.state.cluster.data_key_id);
    let node = Box::new(node(world.state.cluster.last_node_id + 1, 41));
    let opened = opened(world.state.cluster.epoch + 3, world.index, end);
    world.must(&Command::OpenEpoch { opened, node, wrapped: vec![(key, vec![])] });
    world.pass(Duration::from_secs(2_000_000));
    for (seconds, is_lost) in
        [(0, true), (3600, true), (3600 + 61, false), (999_000, false), (1_000_000, true), (1_003_600 + 61, false)]
    {
        let decided = world.decide(&adopt_from(T0.plus(Duration::from_secs(seconds)), 4, 7));
        assert_eq!(decided.err().map(|it| it.reason), (!is_lost).then_some(Reason::OldEpoch), "{seconds}");
    }
    let cluster = &world.state.cluster;
    let [first, second] = &cluster.epochs[..] else { panic!("{:?}", cluster.epochs) };
    let epochs = [0, first.after_index, first.after_index + 1, second.after_index, second.after_index + 1];
    assert_eq!(epochs.map(|index| cluster.epoch_of(index)), [1, 1, first.epoch, first.epoch, first.epoch + 3]);
}

#[test]
fn what_is_shown_is_compared_with_the_newest_specification_and_with_the_others() {
    let mut events = estate();
    events.push(registered("a2", &[]));
    let other = instance(WEB, 2);
    events.push((name("web").stream(), Event::InstanceAdded { instance: other, agent: agent("a2") }));
    let mut world = given(events);
    world.must(&open(world.state.cluster.epoch + 1, &world, world.state.cluster.data_key_id));
    let shown = |instance, spec_revision| {
        let issued = Box::new(Issued { instance: Some(instance), ..issued(web(), 4, 7) });
        Command::AdoptHeld { certificate: name("web"), issued, spec_revision }
    };
    let newest = world.state.certificates.get(&name("web")).unwrap().spec_revision;
    assert_eq!(world.decide(&shown(web(), newest + 1)).unwrap_err().reason, Reason::Moved);
    world.must(&shown(other, newest));
    let again = Issued { generation: 5, instance: Some(other), ..issued(web(), 4, 7) };
    let again = Command::AdoptHeld { certificate: name("web"), issued: Box::new(again), spec_revision: newest };
    assert_eq!(world.decide(&again).unwrap_err().reason, Reason::AlreadyExists, "under another number");
    assert_eq!(world.decide(&shown(web(), newest)).unwrap_err().reason, Reason::AlreadyExists, "it is another's");
}

#[test]
fn the_key_that_the_backup_knows_is_an_agents_no_more_when_it_comes_back_with_another() {
    let mut world = restored();
    world.must(&adopt(4, 7));
    let before = world.state.agents.get(&agent("a1")).unwrap().spki_hash;
    let due = |world: &World| world.state.due(T0, 10).len();
    assert_eq!(due(&world), 0);
    world.must(&Command::ReadmitAgent { agent: agent("a1"), identity: identity(500, 50) });
    assert!(!world.state.agents.get(&agent("a1")).unwrap().is_known_by(before));
    assert_eq!(due(&world), 0, "it has not lost the keys of its certificates");
}
