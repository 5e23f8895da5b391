//! Cuts: consistent, cheap to hold, and enough to rebuild everything.

use crate::command::{Command, Etag};
use crate::event::{Event, Stage, Trigger};
use crate::ids::TokenId;
use crate::log::Fold;
use crate::state::State;
use crate::tests::fixtures::*;
use crate::tests::harness::{World, given};

fn busy() -> World {
    let mut events = estate();
    events.extend([registered("a2", &[("zone", "b")]), declared("open", spec(selecting(&[("zone", "b")])))]);
    let mut world = given(events);
    world.must(&Command::ReconcileCertificate { name: name("open") });
    world.must(&Command::RenewCertificate { name: name("open") });
    let stream = name("web").stream();
    world.happen(stream.clone(), Event::IssuanceOpened { instance: web(), generation: 1, trigger: Trigger::First });
    world.happen(stream.clone(), Event::CertificateIssued(Box::new(issued(web(), 1, 1))));
    world.happen(stream, Event::CertificateDelivered(delivered(web(), 1, Some("files"), Stage::Served)));
    world.happen(declared("waiting", spec(on("nobody"))).0, declared("waiting", spec(on("nobody"))).1);
    world.happen(declared("unsettled", spec(on("a2"))).0, declared("unsettled", spec(on("a2"))).1);
    world
}

#[test]
fn a_rebuilt_state_is_the_live_one() {
    let world = busy();
    let rebuilt = State::from_parts(world.state.cut());
    assert_eq!(rebuilt.cut(), world.state.cut());
    assert_eq!(rebuilt.summary(), world.state.summary());
    assert_eq!(rebuilt.unsettled(10), vec![name("unsettled")]);
    assert_eq!(rebuilt.open_issuances(&agent("a2")).len(), 1);
}

#[test]
fn a_cut_stays_what_it_was() {
    let mut world = busy();
    let cut = world.state.cut();
    let before = format!("{cut:?}");
    world.must(&Command::DeleteCertificate { name: name("web"), etag: Etag::default() });
    world.must(&Command::RemoveAgent { agent: agent("a2"), etag: Etag::default() });
    let id = prepare_token(&mut world);
    world.must(&Command::RevokeToken { id, etag: Etag::default() });
    assert_eq!(format!("{cut:?}"), before);
    assert_ne!(format!("{:?}", world.state.cut()), before);
}

fn prepare_token(world: &mut World) -> TokenId {
    let (stream, event) = token_created("t1", crate::event::TokenGrant::Node);
    world.happen(stream, event);
    token("t1")
}

#[test]
fn names_are_held_once() {
    let world = busy();
    let rebuilt = State::from_parts(world.state.cut());
    for state in [&world.state, &rebuilt] {
        let one = state.certificates.get(&name("web")).unwrap();
        let other = state.certificates.get(&name("open")).unwrap();
        assert!(std::ptr::eq(one.name.namespace.as_str(), other.name.namespace.as_str()), "the namespace");
        let registered = state.agents.get(&agent("a1")).unwrap();
        assert!(std::ptr::eq(one.instances[0].agent.as_str(), registered.name.as_str()), "the agent");
    }
}
