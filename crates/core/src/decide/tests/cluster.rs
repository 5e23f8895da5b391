//! The cluster: bootstrap, nodes, data keys, identities.

use crate::command::Command;
use crate::event::{Event, TokenGrant};
use crate::ids::{AdministratorName, ClusterId, NodeId, cluster_stream};
use crate::rejection::Reason;
use crate::tests::fixtures::*;
use crate::tests::harness::{World, given};

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
    Command::AdmitNode { token: token("t1"), secret_hash: [9; 32], node: Box::new(node(id, key)), identity }
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
    world.must(&Command::RemoveNode { node_id: 2 });
    assert_eq!(world.decide(&admit(2, 2)).unwrap_err().reason, Reason::TokenUsed, "a removed node does not come back");
    world.happen(token_created("t2", TokenGrant::Node).0, token_created("t2", TokenGrant::Node).1);
    let again = |id| match admit(id, 2) {
        Command::AdmitNode { secret_hash, node, identity, .. } => {
            Command::AdmitNode { token: token("t2"), secret_hash, node, identity }
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
    let command = Command::AdmitNode { token: token("t1"), secret_hash: [9; 32], node: Box::new(taken), identity };
    with_token().when(command).then_rejected(Reason::AlreadyExists);
}

#[test]
fn the_last_node_stays() {
    let remove = |node_id| Command::RemoveNode { node_id };
    given(estate()).when(remove(1)).then_rejected(Reason::InUse);
    given(estate()).when(remove(9)).then_rejected(Reason::NotFound);
    let mut world = with_token();
    world.must(&admit(2, 2));
    let world = world.when(remove(1)).then([on_cluster(Event::NodeRemoved { node_id: 1 })]);
    let world = world.when(remove(1)).then_unchanged();
    world.when(remove(2)).then_rejected(Reason::InUse);
}

#[test]
fn a_data_key_is_proved_after_it_was_wrapped() {
    let wrap = || Command::WrapDataKey { node_id: 1, data_key_id: 2, wrapped: vec![8] };
    let prove = || Command::ProveDataKey { node_id: 1, data_key_id: 2 };
    given(estate()).when(prove()).then_rejected(Reason::Moved);
    let wrapped = Event::DataKeyWrapped { node_id: 1, data_key_id: 2, wrapped: vec![8] };
    let world = given(estate()).when(wrap()).then([on_cluster(wrapped)]).when(wrap()).then_unchanged();
    let proved = Event::DataKeyProved { node_id: 1, data_key_id: 2 };
    world.when(prove()).then([on_cluster(proved)]).when(prove()).then_unchanged();
    let nobody = Command::WrapDataKey { node_id: 9, data_key_id: 2, wrapped: vec![8] };
    given(estate()).when(nobody).then_rejected(Reason::NotFound);
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
