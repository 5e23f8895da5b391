//! Authorities: declared, intended, certified.

use std::sync::Arc;

use crate::command::Command;
use crate::event::Event;
use crate::ids::cluster_stream;
use crate::rejection::Reason;
use crate::spec::{AuthorityPurpose, AuthoritySpec, KeyAlgorithm};
use crate::tests::fixtures::*;
use crate::tests::harness::{World, given};

fn declare(name: &str, spec: AuthoritySpec) -> Command {
    Command::DeclareAuthority { name: authority(name), spec, public_key: vec![4; 91], sealed_key: sealed() }
}

fn intend(n: u64) -> Command {
    Command::IntendAuthorityCertificate { name: authority("sub"), serial: serial(n), tbs_hash: [n as u8; 32] }
}

fn record(n: u64) -> Command {
    Command::RecordAuthorityCertificate {
        name: authority("sub"),
        serial: serial(n),
        not_before: T0,
        not_after: T0.plus(std::time::Duration::from_secs(3600)),
        certificate: Arc::from([0x30, n as u8]),
    }
}

fn with_sub() -> World {
    let mut world = given(estate());
    world.must(&declare("sub", authority_spec(Some("root"))));
    world
}

#[test]
fn declare_keeps_the_sealed_key() {
    let declared = Event::AuthorityDeclared {
        name: authority("sub"),
        spec: authority_spec(Some("root")),
        public_key: vec![4; 91],
        sealed_key: sealed(),
    };
    given(estate())
        .when(declare("sub", authority_spec(Some("root"))))
        .guarded_by(&[cluster_stream(), authority("root").stream()])
        .then([(authority("sub").stream(), declared)]);
    given(estate()).when(declare("root", authority_spec(None))).then_unchanged();
    let other = AuthoritySpec { common_name: "Other".to_owned(), ..authority_spec(None) };
    given(estate()).when(declare("root", other)).then_rejected(Reason::AlreadyExists);
}

#[test]
fn a_parent_must_be_there_certified_of_the_same_purpose_and_allow_children() {
    let at = |reason, spec| given(estate()).when(declare("sub", spec)).then_rejected_at(reason, "parent");
    at(Reason::NotFound, authority_spec(Some("nobody")));
    at(Reason::InvalidSpec, AuthoritySpec { purpose: AuthorityPurpose::System, ..authority_spec(Some("root")) });
    // `sub` has no certificate yet.
    with_sub().when(declare("subsub", authority_spec(Some("sub")))).then_rejected_at(Reason::IssuerNotReady, "parent");
    let mut world = given(estate());
    world.must(&declare("sub", AuthoritySpec { path_len: Some(0), ..authority_spec(Some("root")) }));
    world.must(&intend(2));
    world.must(&record(2));
    world.when(declare("subsub", authority_spec(Some("sub")))).then_rejected_at(Reason::InvalidSpec, "parent");
}

#[test]
fn only_keys_that_authorities_may_have() {
    for algorithm in KeyAlgorithm::ALL {
        let command = declare("new", AuthoritySpec { key_algorithm: *algorithm, ..authority_spec(None) });
        let world = given(estate());
        match algorithm {
            KeyAlgorithm::EcdsaP256 | KeyAlgorithm::EcdsaP384 | KeyAlgorithm::Rsa2048 => {
                assert!(world.decide(&command).is_ok(), "{algorithm:?}");
            }
            _ => world.when(command).then_rejected_at(Reason::InvalidSpec, "keyAlgorithm"),
        }
    }
}

#[test]
fn the_intent_comes_before_the_certificate() {
    let stream = authority("sub").stream();
    let intended =
        |n: u64| (stream.clone(), Event::AuthorityCertificateIntended { serial: serial(n), tbs_hash: [n as u8; 32] });
    with_sub().when(record(2)).then_rejected(Reason::IssuanceNotOpen);
    let world = with_sub().when(intend(2)).guarded_by(&[authority("root").stream()]).then([intended(2)]);
    let world = world.when(intend(2)).then_unchanged();
    // A new leader drew another serial: the older intent was never signed for anybody.
    let world = world.when(intend(3)).then([intended(3)]);
    let mut world = {
        let rejection = world.decide(&record(2)).unwrap_err();
        assert_eq!(rejection.reason, Reason::Moved);
        world
    };
    let events = world.must(&record(3));
    assert!(matches!(&events[..], [Event::AuthorityCertified { serial: s, .. }] if *s == serial(3)));
    let certified = world.state.authorities.get(&authority("sub")).unwrap().clone();
    assert_eq!((certified.intended, certified.certified.unwrap().serial), (None, serial(3)));
    world.when(record(3)).then_unchanged();
}

#[test]
fn what_is_not_there_is_not_found() {
    given(estate()).when(intend(1)).then_rejected(Reason::NotFound);
    given(estate()).when(record(1)).then_rejected(Reason::NotFound);
}
