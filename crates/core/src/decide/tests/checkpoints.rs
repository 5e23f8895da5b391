//! Checkpoints of the log: the key, what it signs, and the data key under which it is sealed.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};

use crate::command::Command;
use crate::event::{Event, SealedKey, SignedCheckpoint};
use crate::ids::{ClusterId, checkpoints_stream, cluster_stream};
use crate::log::StreamId;
use crate::rejection::Reason;
use crate::tests::fixtures::*;
use crate::tests::harness::{World, given};

fn pair(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
}

fn sealed(data_key_id: u64) -> SealedKey {
    SealedKey { data_key_id, sealed: vec![1, 2, 3] }
}

fn record_key(seed: u8, data_key_id: u64) -> Command {
    let public_key = pair(seed).public_key().as_ref().try_into().unwrap();
    Command::RecordCheckpointKey { public_key, sealed_key: sealed(data_key_id) }
}

fn key_made(seed: u8) -> (StreamId, Event) {
    let public_key = pair(seed).public_key().as_ref().try_into().unwrap();
    (checkpoints_stream(), Event::CheckpointKeyMade { public_key, sealed_key: sealed(1) })
}

/// A checkpoint as a leader of that cluster signs it.
fn signed(seed: u8, cluster: u8, epoch: u64, index: u64) -> SignedCheckpoint {
    let mut signed = SignedCheckpoint { epoch, index, chain: [index as u8; 32], at: T0, signature: [0; 64] };
    let message = signed.of(ClusterId([cluster; 16])).message();
    signed.signature = pair(seed).sign(&message).as_ref().try_into().unwrap();
    signed
}

fn appended(signed: SignedCheckpoint) -> [(StreamId, Event); 1] {
    [(checkpoints_stream(), Event::CheckpointSigned(Box::new(signed)))]
}

fn with_key() -> World {
    let mut events = estate();
    events.push(key_made(7));
    given(events)
}

/// Cluster and epoch of the estate.
fn here() -> (u8, u64) {
    let cluster = given(estate()).state.cluster;
    (cluster.id.unwrap().0[0], cluster.epoch)
}

#[test]
fn the_key_is_made_once() {
    let world = given(estate()).when(record_key(7, 1)).guarded_by(&[cluster_stream()]).then([key_made(7)]);
    assert_eq!(world.state.cluster.checkpoints.revision, 1);
    let world = world.when(record_key(8, 1)).then_unchanged();
    let public_key = world.state.cluster.checkpoints.key.as_ref().unwrap().public_key;
    assert_eq!(public_key, pair(7).public_key().as_ref());
    given(estate()).when(record_key(7, 99)).then_rejected(Reason::Moved);
}

#[test]
fn checkpoints_are_appended_in_order_and_leave_no_revision() {
    let (cluster, epoch) = here();
    let record = |index| Command::RecordCheckpoint { signed: signed(7, cluster, epoch, index) };
    let world = with_key().when(record(9)).guarded_by(&[]).then(appended(signed(7, cluster, epoch, 9)));
    let checkpoints = &world.state.cluster.checkpoints;
    assert_eq!((checkpoints.revision, world.state.cluster.revision), (1, given(estate()).state.cluster.revision));
    assert_eq!(checkpoints.last.unwrap().0.index, 9);
    assert_eq!(checkpoints.last.unwrap().1.index, world.index);
    let world = world.when(record(9)).then_unchanged().when(record(8)).then_unchanged();
    let world = world.when(record(12)).then(appended(signed(7, cluster, epoch, 12)));
    assert_eq!(world.state.cluster.checkpoints.last.unwrap().0.index, 12);
}

#[test]
fn what_the_key_did_not_sign_is_refused() {
    let (cluster, epoch) = here();
    let good = signed(7, cluster, epoch, 9);
    let record = |signed| Command::RecordCheckpoint { signed };
    with_key().when(record(SignedCheckpoint { index: 10, ..good })).then_rejected(Reason::Internal);
    with_key().when(record(SignedCheckpoint { chain: [0; 32], ..good })).then_rejected(Reason::Internal);
    with_key().when(record(signed(8, cluster, epoch, 9))).then_rejected(Reason::Internal);
    with_key().when(record(signed(7, cluster + 1, epoch, 9))).then_rejected(Reason::Internal);
    with_key().when(record(signed(7, cluster, epoch + 1, 9))).then_rejected(Reason::Moved);
    given(estate()).when(record(good)).then_rejected(Reason::NotReady);
}

#[test]
fn the_key_follows_the_data_key_and_holds_the_old_one_until_then() {
    let mut world = with_key();
    let rotate = Command::RotateDataKey { replaces: 1, data_key_id: 2, wrapped: vec![(1, vec![5])] };
    world.must(&rotate);
    let reseal = |data_key_id| Command::ResealCheckpointKey { sealed_key: sealed(data_key_id) };
    let resealed = Event::AuthorityKeyResealed { sealed_key: sealed(2) };
    for authority in world.state.authorities.iter().map(|it| it.name.clone()).collect::<Vec<_>>() {
        world.happen(authority.stream(), resealed.clone());
    }
    let retire = Command::RetireDataKey { data_key_id: 1 };
    let refused = world.decide(&retire).unwrap_err();
    assert!(refused.reason == Reason::InUse && refused.to_string().contains("checkpoints"), "{refused}");
    assert_eq!(world.decide(&reseal(1)).unwrap_err().reason, Reason::Moved);
    let event = (checkpoints_stream(), Event::CheckpointKeyResealed { sealed_key: sealed(2) });
    let mut world = world.when(reseal(2)).guarded_by(&[cluster_stream()]).then([event]);
    world.must(&retire);
    world.when(reseal(2)).then_unchanged();
    given(estate()).when(reseal(1)).then_rejected(Reason::NotReady);
}
