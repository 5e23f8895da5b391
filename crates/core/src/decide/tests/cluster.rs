//! The cluster: bootstrap, nodes, data keys, identities.

use std::sync::Arc;
use std::time::Duration;

use crate::command::Command;
use crate::event::{Event, Identity, Issued, SealedKey, TokenGrant};
use crate::format::Format;
use crate::ids::{AdministratorName, ClusterId, NodeId, cluster_stream};
use crate::limits;
use crate::rejection::Reason;
use crate::tests::fixtures::*;
use crate::tests::harness::{World, given};
use crate::time::Timestamp;

const HOUR: Duration = Duration::from_secs(3600);

fn bootstrap(cluster: u8, id: NodeId) -> Command {
    Command::BootstrapCluster {
        cluster_id: ClusterId([cluster; 16]),
        epoch: 1,
        node: Box::new(node(id, 1)),
        data_key_id: 7,
        wrapped: vec![1, 2, 3],
    }
}

fn admit(id: NodeId, key: u8) -> Command {
    let identity = identity(200 + u64::from(key), key);
    Command::AdmitNode {
        token: token("t1"),
        secret_hash: [9; 32],
        node: Box::new(node(id, key)),
        identity,
        format: Format::NEWEST,
    }
}

fn with_token() -> World {
    let mut events = estate();
    events.push(token_created("t1", TokenGrant::Node));
    given(events)
}

fn on_cluster(event: Event) -> (crate::log::StreamId, Event) {
    (cluster_stream(), event)
}

#[test]
fn bootstrap_happens_once() {
    let world = given([]).when(bootstrap(5, 1)).then([
        bootstrapped(),
        joined(1, 1),
        on_cluster(Event::DataKeyWrapped { node_id: 1, data_key_id: 7, wrapped: vec![1, 2, 3] }),
        on_cluster(Event::DataKeyProved { node_id: 1, data_key_id: 7 }),
    ]);
    assert_eq!((world.state.cluster.revision, world.state.cluster.data_key_id), (4, 7));
    let world = world.when(bootstrap(5, 1)).then_unchanged();
    world.when(bootstrap(6, 1)).then_rejected(Reason::AlreadyExists);
    given([]).when(bootstrap(5, 2)).then_rejected(Reason::Moved);
}

#[test]
fn node_ids_come_from_the_counter_and_never_recur() {
    let world = with_token().when(admit(2, 2)).then([
        (token("t1").stream(), Event::TokenConsumed { spki_hash: [2; 32] }),
        joined(2, 2),
        on_cluster(Event::NodeIdentityIssued { node_id: 2, identity: identity(202, 2) }),
    ]);
    let mut world = world.when(admit(2, 2)).then_unchanged();
    assert_eq!(world.decide(&admit(3, 2)).unwrap_err().reason, Reason::Moved, "the key is bound to node 2");
    world.must(&Command::ProveDataKey { node_id: 1, data_key_id: 1 });
    world.must(&Command::RemoveNode { node_id: 2 });
    assert_eq!(world.decide(&admit(2, 2)).unwrap_err().reason, Reason::TokenUsed, "a removed node does not come back");
    world.happen(token_created("t2", TokenGrant::Node).0, token_created("t2", TokenGrant::Node).1);
    let again = |id| match admit(id, 2) {
        Command::AdmitNode { secret_hash, node, identity, format, .. } => {
            Command::AdmitNode { token: token("t2"), secret_hash, node, identity, format }
        }
        other => other,
    };
    assert_eq!(world.decide(&again(2)).unwrap_err().reason, Reason::Moved, "its id does not recur");
    assert!(world.decide(&again(3)).is_ok());
}

#[test]
fn admission_checks_token_counter_and_name() {
    with_token().when(admit(3, 3)).then_rejected(Reason::Moved);
    given(estate()).when(admit(2, 2)).then_rejected(Reason::TokenUnknown);
    let mut events = estate();
    events.push(token_created("t1", TokenGrant::Agent { name: None, labels: labels(&[]) }));
    given(events).when(admit(2, 2)).then_rejected(Reason::TokenForeign);
    // Node 1 is called node-1 and has key 1; another key takes the same name.
    let mut taken = node(2, 2);
    taken.name = node(1, 1).name;
    let identity = identity(202, 2);
    let (token, secret_hash, format) = (token("t1"), [9; 32], Format::NEWEST);
    let command = Command::AdmitNode { token, secret_hash, node: Box::new(taken), identity, format };
    with_token().when(command).then_rejected(Reason::AlreadyExists);
}

#[test]
fn the_last_node_stays() {
    let remove = |node_id| Command::RemoveNode { node_id };
    given(estate()).when(remove(1)).then_rejected(Reason::InUse);
    given(estate()).when(remove(9)).then_rejected(Reason::NotFound);
    let mut world = with_token();
    world.must(&admit(2, 2));
    // One that has joined and not yet proved to open the data key cannot take over what is sealed.
    assert_eq!(world.decide(&remove(1)).unwrap_err().reason, Reason::InUse);
    world.must(&Command::WrapDataKey { node_id: 2, data_key_id: 1, wrapped: vec![8] });
    world.must(&Command::ProveDataKey { node_id: 2, data_key_id: 1 });
    let world = world.when(remove(1)).then([on_cluster(Event::NodeRemoved { node_id: 1 })]);
    assert_eq!(world.decide(&remove(1)).unwrap_err().reason, Reason::NotFound, "it is gone");
    world.when(remove(2)).then_rejected(Reason::InUse);
}

#[test]
fn a_learner_joins_as_one_and_the_last_that_may_vote_stays_a_voter() {
    let role = |node_id, learner| Command::SetNodeRole { node_id, learner };
    let set = |node_id, learner| on_cluster(Event::NodeRoleSet { node_id, learner });
    let mut events = estate();
    events.push(token_created("t1", TokenGrant::Learner));
    let world = given(events).when(admit(2, 2)).then([
        (token("t1").stream(), Event::TokenConsumed { spki_hash: [2; 32] }),
        joined(2, 2),
        set(2, true),
        on_cluster(Event::NodeIdentityIssued { node_id: 2, identity: identity(202, 2) }),
    ]);
    let mut world = world.when(admit(2, 2)).then_unchanged().when(role(2, true)).then_unchanged();
    // Though it could open the data key, it does not vote: it is no heir.
    world.must(&Command::WrapDataKey { node_id: 2, data_key_id: 1, wrapped: vec![8] });
    world.must(&Command::ProveDataKey { node_id: 2, data_key_id: 1 });
    assert_eq!(world.decide(&role(1, true)).unwrap_err().reason, Reason::InUse);
    assert_eq!(world.decide(&Command::RemoveNode { node_id: 1 }).unwrap_err().reason, Reason::InUse);
    let world = world.when(role(2, false)).then([set(2, false)]).when(role(1, true)).then([set(1, true)]);
    world.when(role(9, true)).then_rejected(Reason::NotFound);
}

#[test]
fn renewals_are_held_once_and_released_once() {
    let hold = |ahead_millis| Command::HoldRenewals { ahead_millis };
    let held = on_cluster(Event::RenewalsHeld { ahead_millis: 9 });
    let world = given(estate()).when(Command::ReleaseRenewals).then_unchanged().when(hold(9)).then([held]);
    let world = world.when(hold(10)).then_unchanged();
    assert_eq!(world.state.cluster.hold.map(|hold| (hold.since, hold.ahead_millis)), Some((world.now, 9)));
    let world = world.when(Command::ReleaseRenewals).then([on_cluster(Event::RenewalsReleased)]);
    assert_eq!((world.state.cluster.hold, world.state.cluster.released_at), (None, Some(world.now)));
}

#[test]
fn a_format_is_taken_into_use_when_every_server_knows_it() {
    let raise =
        |format, known_by: &[NodeId]| Command::RaiseFormat { format: Format(format), known_by: known_by.into() };
    let raised = |format| on_cluster(Event::FormatRaised { format: Format(format) });
    let mut events = estate();
    events.extend([joined(2, 2), joined(3, 3), on_cluster(Event::NodeRemoved { node_id: 3 })]);
    let world = given(events).when(raise(1, &[])).then_unchanged();
    assert_eq!(world.decide(&raise(2, &[1])).unwrap_err().reason, Reason::Moved, "node 2 was not asked");
    let world = world.when(raise(2, &[1, 2])).then([raised(2)]);
    assert_eq!(world.state.cluster.format, Format(2));
    // It never falls, and who is left behind is not asked for what is so already.
    world
        .when(raise(1, &[]))
        .then_unchanged()
        .when(raise(2, &[]))
        .then_unchanged()
        .when(raise(3, &[2, 1]))
        .then([raised(3)]);
}

#[test]
fn nothing_is_written_that_a_server_could_not_read() {
    // In a cluster that knows less than the first format every event is a newer one.
    let mut world = given(estate());
    world.state.cluster.format = Format(0);
    let hold = Command::HoldRenewals { ahead_millis: 9 };
    assert_eq!(world.decide(&hold).unwrap_err().reason, Reason::UpgradePending);
    assert!(world.decide(&Command::ReleaseRenewals).is_ok(), "nothing to write, nothing to refuse");
    world.must(&Command::RaiseFormat { format: Format(2), known_by: vec![1] });
    world.must(&hold);
}

#[test]
fn a_server_that_could_not_read_the_log_does_not_get_in() {
    let with = |format| match admit(2, 2) {
        Command::AdmitNode { token, secret_hash, node, identity, .. } => {
            Command::AdmitNode { token, secret_hash, node, identity, format }
        }
        other => other,
    };
    let mut world = with_token();
    world.must(&Command::RaiseFormat { format: Format(2), known_by: vec![1] });
    let refused = world.decide(&with(Format::told(0))).unwrap_err();
    assert_eq!(refused.reason, Reason::BuildTooOld);
    assert!(refused.message.contains("format 2, and node-2 knows 1"), "{}", refused.message);
    assert!(world.decide(&with(Format(2))).is_ok(), "the token is still good");
}

/// A cluster in which everybody knows the newest format.
fn newest() -> World {
    let mut world = given(estate());
    world.must(&Command::RaiseFormat { format: Format::NEWEST, known_by: vec![1] });
    world
}

#[test]
fn log_time_is_set_back_when_it_is_ahead_by_more_than_it_makes_up_for() {
    let set_back = |to| Command::RebaseTime { to };
    for (ahead_millis, is_set_back) in [(0, false), (10_000, false), (10_001, true), (3_600_000, true)] {
        let world = newest();
        let (from, to) = (world.now, world.now.minus(Duration::from_millis(ahead_millis)));
        let rebased = is_set_back.then(|| on_cluster(Event::TimeRebased { from, to }));
        let world = world.when(set_back(to)).then(rebased);
        // Once is enough, and clocks that are ahead of it are no reason.
        world.when(set_back(to)).then_unchanged().when(set_back(from.plus(limits::REBASE_MIN))).then_unchanged();
    }
    let mut world = newest();
    world.state.cluster.format = Format(2);
    let to = world.now.minus(Duration::from_secs(60));
    world.when(set_back(to)).then_rejected(Reason::UpgradePending);
}

#[test]
fn nothing_begins_in_the_future() {
    let begins = |at| Identity { not_before: at, ..identity(500, 50) };
    let commands = |at: Timestamp| {
        let issued = Issued { not_before: at, not_after: at.plus(HOUR), ..issued(web(), 1, 1) };
        let direct = Issued { instance: None, renew_at: None, ..issued.clone() };
        [
            Command::RecordIssued { certificate: name("web"), issued: Box::new(issued), guards: vec![] },
            Command::RecordDirect { issued: Box::new(direct), guards: vec![] },
            Command::RecordNodeIdentity { node_id: 1, identity: begins(at) },
            Command::RecordAdministratorIdentity {
                name: AdministratorName::parse("ada").unwrap(),
                identity: begins(at),
            },
            Command::RecordAgentIdentity {
                agent: agent("a1"),
                proved: Some([1; 32]),
                identity: Identity { spki_hash: [1; 32], ..begins(at) },
            },
            Command::AdmitAgent {
                token: token("t1"),
                secret_hash: [9; 32],
                agent: agent("a9"),
                labels: labels(&[]),
                identity: begins(at),
            },
            Command::RecordAuthorityCertificate {
                name: authority("new"),
                serial: serial(7),
                not_before: at,
                not_after: at.plus(HOUR),
                certificate: Arc::from([0x30, 0x00]),
            },
        ]
    };
    let mut events = estate();
    events.push(token_created("t1", TokenGrant::Agent { name: None, labels: labels(&[]) }));
    let mut world = given(events);
    let trigger = crate::event::Trigger::First;
    world.must(&Command::OpenIssuance { certificate: name("web"), instance: web(), generation: 1, trigger });
    world.must(&Command::DeclareAuthority {
        name: authority("new"),
        spec: authority_spec(None),
        public_key: vec![4; 91],
        sealed_key: sealed(),
    });
    world.must(&Command::IntendAuthorityCertificate { name: authority("new"), serial: serial(7), tbs_hash: [3; 32] });
    let latest = world.now.plus(limits::BEGINS_AHEAD_MAX);
    for (early, late) in commands(latest).iter().zip(commands(latest.plus(Duration::from_millis(1)))) {
        assert!(world.decide(early).is_ok_and(|decision| !decision.appends.is_empty()), "{early:?}");
        assert_eq!(world.decide(&late).unwrap_err().reason, Reason::Moved, "{late:?}");
    }
}

#[test]
fn a_data_key_is_proved_after_it_was_wrapped() {
    let two = || {
        let mut events = estate();
        events.push(joined(2, 2));
        given(events)
    };
    let wrap = |data_key_id| Command::WrapDataKey { node_id: 2, data_key_id, wrapped: vec![8] };
    let prove = || Command::ProveDataKey { node_id: 2, data_key_id: 1 };
    two().when(prove()).then_rejected(Reason::Moved);
    two().when(wrap(2)).then_rejected(Reason::Moved);
    let world = two().when(wrap(1)).then([wrapped(2, 1)]).when(wrap(1)).then_unchanged();
    let proved = Event::DataKeyProved { node_id: 2, data_key_id: 1 };
    world.when(prove()).then([on_cluster(proved)]).when(prove()).then_unchanged();
    let nobody = Command::WrapDataKey { node_id: 9, data_key_id: 1, wrapped: vec![8] };
    given(estate()).when(nobody).then_rejected(Reason::NotFound);
}

/// Nodes 1, 2 and 3 hold data key 1; node 3 was removed.
fn somebody_left() -> World {
    let mut events = estate();
    events.extend([joined(2, 2), joined(3, 3), wrapped(2, 1), wrapped(3, 1)]);
    events.push(on_cluster(Event::NodeRemoved { node_id: 3 }));
    given(events)
}

#[test]
fn what_a_removed_node_could_open_is_remembered() {
    let world = somebody_left();
    let gone = &world.state.cluster.nodes[&3];
    assert_eq!(gone.wrapped, std::collections::BTreeMap::from([(1, vec![])]));
    assert_eq!(gone.proved, None);
}

#[test]
fn a_new_data_key_reaches_all_who_stay_at_once_and_nobody_else() {
    let rotate = |replaces, data_key_id, to: &[NodeId]| {
        let wrapped = to.iter().map(|id| (*id, vec![5])).collect();
        Command::RotateDataKey { replaces, data_key_id, wrapped }
    };
    somebody_left().when(rotate(2, 3, &[1, 2])).then_rejected(Reason::Moved);
    somebody_left().when(rotate(1, 1, &[1, 2])).then_rejected(Reason::Moved);
    somebody_left().when(rotate(1, 2, &[1])).then_rejected(Reason::Moved);
    somebody_left().when(rotate(1, 2, &[1, 2, 3])).then_rejected(Reason::NotFound);
    let rotated = Event::DataKeyRotated { data_key_id: 2, wrapped: vec![(1, vec![5]), (2, vec![5])] };
    let world = somebody_left().when(rotate(1, 2, &[1, 2])).then([on_cluster(rotated)]);
    let cluster = &world.state.cluster;
    assert_eq!(cluster.data_key_id, 2);
    let held = |id| cluster.nodes[&id].wrapped.keys().copied().collect::<Vec<_>>();
    assert_eq!((held(1), held(2), held(3)), (vec![1, 2], vec![1, 2], vec![1]));
    // The second attempt of a leader that did not hear of the first.
    world.when(rotate(1, 4, &[1, 2])).then_rejected(Reason::Moved);
}

#[test]
fn a_data_key_is_retired_when_nothing_is_sealed_under_it() {
    let rotated = Event::DataKeyRotated { data_key_id: 2, wrapped: vec![(1, vec![5]), (2, vec![5])] };
    let mut world = somebody_left();
    world.happen(cluster_stream(), rotated);
    let retire = |data_key_id| Command::RetireDataKey { data_key_id };
    let refused = |world: &World, command: &Command| world.decide(command).unwrap_err().reason;
    assert_eq!(refused(&world, &retire(2)), Reason::InUse);
    assert_eq!(refused(&world, &retire(1)), Reason::InUse);
    let seal = |data_key_id| SealedKey { data_key_id, sealed: vec![9] };
    let reseal = |data_key_id| Command::ResealAuthorityKey { name: authority("root"), sealed_key: seal(data_key_id) };
    assert_eq!(refused(&world, &reseal(1)), Reason::Moved);
    let resealed = (authority("root").stream(), Event::AuthorityKeyResealed { sealed_key: seal(2) });
    let world = world.when(reseal(2)).then([resealed]).when(reseal(2)).then_unchanged();
    let world = world.when(retire(1)).then([on_cluster(Event::DataKeyRetired { data_key_id: 1 })]);
    let held = world.state.cluster.nodes.values().map(|node| node.wrapped.keys().copied().collect::<Vec<_>>());
    assert_eq!(held.collect::<Vec<_>>(), [vec![2], vec![2], vec![]]);
    world.when(retire(1)).then_unchanged();
}

#[test]
fn identities_are_recorded_once() {
    let node_identity = || Command::RecordNodeIdentity { node_id: 1, identity: identity(70, 1) };
    let issued = Event::NodeIdentityIssued { node_id: 1, identity: identity(70, 1) };
    given(estate()).when(node_identity()).then([on_cluster(issued)]).when(node_identity()).then_unchanged();
    let nobody = Command::RecordNodeIdentity { node_id: 9, identity: identity(70, 1) };
    given(estate()).when(nobody).then_rejected(Reason::NotFound);

    let admin = AdministratorName::parse("admin").unwrap();
    let person = || Command::RecordAdministratorIdentity { name: admin.clone(), identity: identity(71, 4) };
    let issued = Event::AdministratorIdentityIssued { name: admin.clone(), identity: identity(71, 4) };
    given(estate()).when(person()).then([on_cluster(issued)]).when(person()).then_unchanged();
}
