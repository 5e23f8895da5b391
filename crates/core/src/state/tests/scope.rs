//! Agents' feeds: nothing missed, nothing echoed, bounded tombstones.

use std::collections::BTreeMap;

use crate::command::{Command, Etag};
use crate::event::{Event, Stage, Trigger};
use crate::ids::{AgentName, CertificateName, InstanceId};
use crate::limits;
use crate::log::{Fold, Position};
use crate::state::{ScopeChange, ScopeCursor, State};
use crate::tests::fixtures::*;
use crate::tests::harness::{World, given};

/// What an agent knows, kept by reading pages of this size.
struct Reader {
    agent: AgentName,
    page: usize,
    known: BTreeMap<InstanceId, CertificateName>,
    seen: Position,
}

impl Reader {
    fn new(who: &str, page: usize) -> Self {
        Self { agent: agent(who), page, known: BTreeMap::new(), seen: Position::START }
    }

    fn take(&mut self, changes: Vec<ScopeChange>) {
        for change in changes {
            match change {
                ScopeChange::Present { certificate, instance } => {
                    self.known.insert(instance, certificate);
                }
                ScopeChange::Gone { instance, .. } => {
                    self.known.remove(&instance);
                }
            }
        }
    }

    /// Reads the complete scope from states that may move between pages.
    fn complete(&mut self, mut state: impl FnMut() -> State) {
        self.known.clear();
        let mut cursor: Option<ScopeCursor> = None;
        loop {
            let state = state();
            let page = state.scope_complete(&self.agent, cursor.take(), self.page).unwrap();
            self.take(page.changes);
            self.seen = state.applied;
            cursor = page.next;
            if cursor.is_none() {
                return;
            }
        }
    }

    /// Reads what changed; false when that is not known any more.
    fn resume(&mut self, state: &State) -> bool {
        let mut cursor = ScopeCursor::from(self.seen);
        loop {
            let Some(page) = state.scope_since(&self.agent, cursor.clone(), self.page) else {
                return false;
            };
            self.take(page.changes);
            match page.next {
                Some(next) => cursor = next,
                None => break,
            }
        }
        self.seen = state.applied;
        true
    }

    fn check(&self, state: &State) {
        let held = state.certificates.iter().filter_map(|certificate| {
            certificate.instance_of(&self.agent).map(|instance| (instance.id, certificate.name.clone()))
        });
        assert_eq!(self.known, held.collect::<BTreeMap<_, _>>());
    }
}

fn copy(state: &State) -> State {
    State::from_parts(state.cut())
}

fn create(world: &mut World, certificate: &str) {
    world.must(&Command::CreateCertificate { name: name(certificate), spec: spec(on("a1")).into() });
}

fn delete(world: &mut World, certificate: &str) {
    world.must(&Command::DeleteCertificate { name: name(certificate), etag: Etag::default() });
}

fn changes(world: &World, since: Position) -> Vec<ScopeChange> {
    world.state.scope_since(&agent("a1"), since, 100).unwrap().changes
}

fn present(certificate: &str, instance: InstanceId) -> ScopeChange {
    ScopeChange::Present { certificate: name(certificate), instance }
}

#[test]
fn whatever_the_agent_can_see_moves_in_its_feed_and_nothing_else() {
    let stream = name("web").stream();
    let mut more = spec(on("a1"));
    more.labels = labels(&[("team", "edge")]);
    let rows = [
        ("opened", Event::IssuanceOpened { instance: web(), generation: 1, trigger: Trigger::First }, true),
        (
            "failed",
            Event::IssuanceFailed {
                instance: web(),
                generation: 1,
                reason: "X".to_owned(),
                message: String::new(),
                retry_at: T0,
            },
            true,
        ),
        ("opened again", Event::IssuanceOpened { instance: web(), generation: 1, trigger: Trigger::First }, true),
        ("abandoned", Event::IssuanceAbandoned { instance: web(), generation: 1, reason: "X".to_owned() }, true),
        ("opened once more", Event::IssuanceOpened { instance: web(), generation: 1, trigger: Trigger::First }, true),
        ("issued", Event::CertificateIssued(Box::new(issued(web(), 1, 1))), true),
        ("delivered", Event::CertificateDelivered(delivered(web(), 1, Some("files"), Stage::Written)), false),
        ("updated", Event::CertificateUpdated { spec: more.into() }, true),
        ("another's", Event::InstanceAdded { instance: instance(WEB, 2), agent: agent("a2") }, false),
    ];
    let mut world = given(estate());
    for (what, event, visible) in rows {
        let before = world.state.applied;
        world.happen(stream.clone(), event);
        let expected = if visible { vec![present("web", web())] } else { vec![] };
        assert_eq!(changes(&world, before), expected, "{what}");
        let moved = world.state.scope_changed(&agent("a1")) == world.state.applied;
        assert_eq!(moved, visible, "{what}");
    }
    let before = world.state.applied;
    world.happen(stream, Event::InstanceRemoved { instance: web() });
    let gone = ScopeChange::Gone { certificate: name("web"), instance: web() };
    assert_eq!(changes(&world, before), vec![gone]);
}

#[test]
fn a_deleted_and_recreated_certificate_is_gone_and_there() {
    let mut world = given(estate());
    let before = world.state.applied;
    delete(&mut world, "web");
    create(&mut world, "web");
    let gone = ScopeChange::Gone { certificate: name("web"), instance: web() };
    assert_eq!(changes(&world, before), vec![gone, present("web", instance(WEB + 3, 1))]);
}

#[test]
fn pages_of_any_size_read_the_same() {
    let mut world = given(estate());
    (0..20).for_each(|n| create(&mut world, &format!("c{n}")));
    for page in [1, 2, 3, 7, 20, 21, 22, 100] {
        let mut reader = Reader::new("a1", page);
        reader.complete(|| copy(&world.state));
        reader.check(&world.state);
    }
    let mut reader = Reader::new("a1", 3);
    assert!(reader.resume(&world.state), "from the very beginning, nothing was forgotten");
    reader.check(&world.state);
    (0..5).for_each(|n| delete(&mut world, &format!("c{n}")));
    assert!(reader.resume(&world.state));
    reader.check(&world.state);
}

#[test]
fn a_complete_scope_may_be_read_while_it_changes() {
    let mut world = given(estate());
    (0..20).for_each(|n| create(&mut world, &format!("c{n}")));
    let first = |world: &World, cursor| world.state.scope_complete(&agent("a1"), cursor, 4).unwrap();
    let mut reader = Reader::new("a1", 4);
    let mut cursor = None;
    // Between pages: one that was read goes, one that was not read goes, one that was read changes, one is new.
    for round in 0.. {
        let page = first(&world, cursor.take());
        reader.take(page.changes);
        reader.seen = world.state.applied;
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
        if round < 3 {
            delete(&mut world, &format!("c{round}"));
            delete(&mut world, &format!("c{}", 19 - round));
            world.must(&Command::RenewCertificate { name: name("web") });
            create(&mut world, &format!("new{round}"));
        }
    }
    reader.check(&world.state);
    create(&mut world, "last");
    assert!(reader.resume(&world.state));
    reader.check(&world.state);
}

#[test]
fn tombstones_are_bounded_and_older_readers_are_told() {
    let mut world = given(estate());
    let count = limits::TOMBSTONES_MAX + 1;
    (0..count).for_each(|n| create(&mut world, &format!("c{n}")));
    let mut old = Reader::new("a1", 100);
    old.complete(|| copy(&world.state));
    delete(&mut world, "c0");
    let mut newer = Reader::new("a1", 100);
    newer.complete(|| copy(&world.state));
    (1..count - 1).for_each(|n| delete(&mut world, &format!("c{n}")));
    assert!(old.resume(&world.state), "exactly as many as are remembered");
    old.check(&world.state);
    old.seen = newer.seen;
    // One more: the oldest is forgotten. Who has not read it must begin again, who has read it goes on.
    let before = Reader { seen: Position { index: newer.seen.index - 1, ordinal: 0 }, ..Reader::new("a1", 100) };
    delete(&mut world, &format!("c{}", count - 1));
    assert!(world.state.scope_since(&before.agent, before.seen, 1).is_none());
    assert!(newer.resume(&world.state));
    newer.check(&world.state);
}

#[test]
fn after_a_rebuild_feeds_begin_at_the_cut() {
    let mut world = given(estate());
    create(&mut world, "one");
    let before = world.state.applied;
    delete(&mut world, "one");
    world.state = copy(&world.state);
    assert!(world.state.scope_since(&agent("a1"), before, 10).is_none());
    assert!(world.state.scope_since(&agent("nobody"), before, 10).is_none(), "whoever had a scope then");
    let at_the_cut = world.state.applied;
    assert_eq!(changes(&world, at_the_cut), vec![]);
    create(&mut world, "two");
    assert_eq!(changes(&world, at_the_cut).len(), 1);
}

#[test]
fn an_agent_that_comes_back_does_not_resume_what_was_another_life() {
    for with_instances in [true, false] {
        let mut world = given(estate());
        let before = world.state.applied;
        if with_instances {
            world.must(&Command::RemoveAgent { agent: agent("a1"), etag: Etag::default() });
        } else {
            delete(&mut world, "web");
            world.must(&Command::RemoveAgent { agent: agent("a1"), etag: Etag::default() });
        }
        world.happen(registered("a1", &[]).0, registered("a1", &[]).1);
        assert!(world.state.scope_since(&agent("a1"), before, 10).is_none());
        assert!(world.state.scope_complete(&agent("a1"), None, 10).is_some());
    }
}

#[test]
fn a_state_taken_over_from_a_snapshot_may_have_forgotten_what_left() {
    let mut world = given(estate());
    create(&mut world, "web2");
    let told = world.state.applied;
    assert!(world.state.scope_changed(&agent("a1")) <= told);
    delete(&mut world, "web2");
    let after = copy(&world.state);
    for held in ["a1", "a2"] {
        assert_eq!(after.scope_changed(&agent(held)), after.applied, "{held} has to look");
        assert!(after.scope_since(&agent(held), told, 100).is_none(), "{held} is told that it cannot know");
    }
    assert!(after.scope_since(&agent("a1"), after.applied, 100).is_some());
}
