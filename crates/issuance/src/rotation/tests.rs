//! The steps of a rotation as a table of what state says.
#![allow(clippy::unwrap_used)]

use certwright_core::event::{Event, NodeRecord, SealedKey};
use certwright_core::ids::{AuthorityName, ClusterId, NodeId, NodeName, checkpoints_stream, cluster_stream};
use certwright_core::log::{Applied, Fold, Position, StreamId};
use certwright_core::spec::{AuthorityPurpose, AuthoritySpec, KeyAlgorithm};
use certwright_core::state::State;
use certwright_core::time::Timestamp;

use super::{Step, is_resealed, steps};

#[derive(Default)]
struct World {
    state: State,
    index: u64,
}

impl World {
    fn happen(&mut self, stream: StreamId, event: Event) {
        self.index += 1;
        let position = Position { index: self.index, ordinal: 0 };
        let revision = Some(self.state.revision(&stream) + 1);
        let at = Timestamp::from_millis(self.index);
        self.state.apply(&Applied { position, at, stream: &stream, revision, actor: "system" }, &event);
    }

    fn cluster(&mut self, event: Event) {
        self.happen(cluster_stream(), event);
    }

    fn steps(&self) -> Vec<Step> {
        steps(&self.state, 1)
    }
}

fn name(name: &str) -> AuthorityName {
    AuthorityName::parse(name).unwrap()
}

fn sealed(data_key_id: u64) -> SealedKey {
    SealedKey { data_key_id, sealed: vec![] }
}

fn node(id: NodeId) -> NodeRecord {
    NodeRecord {
        id,
        name: NodeName::parse(&format!("server-{id}")).unwrap(),
        raft_address: String::new(),
        api_address: String::new(),
        http_address: String::new(),
        spki_hash: [id as u8; 32],
        hpke_public: vec![],
    }
}

fn declared(authority: &str) -> Event {
    let spec = AuthoritySpec {
        common_name: authority.into(),
        key_algorithm: KeyAlgorithm::EcdsaP256,
        parent: None,
        duration: std::time::Duration::from_secs(3600),
        path_len: None,
        purpose: AuthorityPurpose::Issuing,
    };
    Event::AuthorityDeclared { name: name(authority), spec, public_key: vec![], sealed_key: sealed(5) }
}

fn rotated(data_key_id: u64, to: &[NodeId]) -> Event {
    Event::DataKeyRotated { data_key_id, wrapped: to.iter().map(|id| (*id, vec![])).collect() }
}

/// Three nodes that hold data key 5, two authorities.
fn world() -> World {
    let mut world = World::default();
    world.cluster(Event::ClusterBootstrapped { cluster_id: ClusterId([1; 16]), epoch: 1 });
    for id in 1..=3 {
        world.cluster(Event::NodeJoined(Box::new(node(id))));
        world.cluster(Event::DataKeyWrapped { node_id: id, data_key_id: 5, wrapped: vec![1] });
    }
    for authority in ["one", "two"] {
        world.happen(name(authority).stream(), declared(authority));
    }
    world
}

#[test]
fn the_key_for_checkpoints_is_sealed_again_too() {
    let mut world = world();
    let made = Event::CheckpointKeyMade { public_key: [7; 32], sealed_key: sealed(5) };
    world.happen(checkpoints_stream(), made);
    world.cluster(Event::NodeRemoved { node_id: 3 });
    world.cluster(rotated(4, &[1, 2]));
    for authority in ["one", "two"] {
        world.happen(name(authority).stream(), Event::AuthorityKeyResealed { sealed_key: sealed(4) });
    }
    assert_eq!(world.steps(), [Step::ResealCheckpointKey]);
    assert!(!is_resealed(&world.state));
    world.happen(checkpoints_stream(), Event::CheckpointKeyResealed { sealed_key: sealed(4) });
    assert_eq!(world.steps(), [Step::Retire(5)]);
    assert!(is_resealed(&world.state));
}

#[test]
fn each_step_follows_from_state() {
    let mut world = world();
    assert_eq!(world.steps(), []);
    world.cluster(Event::NodeRemoved { node_id: 3 });
    assert_eq!(world.steps(), [Step::Rotate]);
    // Its id need not be the greater one.
    world.cluster(rotated(4, &[1, 2]));
    assert_eq!(world.steps(), [Step::Reseal(name("one")), Step::Reseal(name("two"))]);
    world.happen(name("one").stream(), Event::AuthorityKeyResealed { sealed_key: sealed(4) });
    assert_eq!(world.steps(), [Step::Reseal(name("two"))]);
    // Another leaves meanwhile: first things first, or a third key would have to open both.
    world.cluster(Event::NodeRemoved { node_id: 2 });
    assert_eq!(world.steps(), [Step::Reseal(name("two"))]);
    world.happen(name("two").stream(), Event::AuthorityKeyResealed { sealed_key: sealed(4) });
    assert_eq!(world.steps(), [Step::Retire(5)]);
    world.cluster(Event::DataKeyRetired { data_key_id: 5 });
    assert_eq!(world.steps(), [Step::Rotate]);
    world.cluster(rotated(9, &[1]));
    for authority in ["one", "two"] {
        world.happen(name(authority).stream(), Event::AuthorityKeyResealed { sealed_key: sealed(9) });
    }
    assert_eq!(world.steps(), [Step::Retire(4)]);
    world.cluster(Event::DataKeyRetired { data_key_id: 4 });
    assert_eq!(world.steps(), []);
}

#[test]
fn a_node_that_never_held_the_key_leaves_it_alone() {
    let mut world = world();
    world.cluster(Event::NodeJoined(Box::new(node(4))));
    world.cluster(Event::NodeRemoved { node_id: 4 });
    assert_eq!(world.steps(), []);
}

#[test]
fn a_leader_that_is_removed_makes_no_new_key() {
    let mut world = world();
    world.cluster(Event::NodeRemoved { node_id: 1 });
    assert_eq!(world.steps(), []);
    assert_eq!(steps(&world.state, 2), [Step::Rotate]);
}
