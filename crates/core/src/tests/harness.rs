//! Given events, when a command, then events: `given(estate()).when(command).then([...])`.
//!
//! It refuses leniency: it checks guards and revisions as a replica does, and fails where a replica would skip.

use std::time::Duration;

use crate::command::Command;
use crate::decide::{Context, Decision, decide};
use crate::event::Event;
use crate::ids::Actor;
use crate::log::{Applied, Fold, Position, StreamId};
use crate::policy::{Action, AuthorizedActor, Resource, authorize};
use crate::rejection::{Reason, Rejection};
use crate::state::State;
use crate::tests::fixtures::T0;
use crate::time::Timestamp;

/// A state with a log's clock and index.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) state: State,
    pub(crate) index: u64,
    pub(crate) now: Timestamp,
    /// Everything applied, to replay it.
    pub(crate) log: Vec<(Position, Timestamp, StreamId, Option<u64>, Event)>,
}

pub(crate) fn actor() -> AuthorizedActor {
    authorize(&Actor::System, Action::Internal, &Resource::Cluster).unwrap()
}

/// A world in which these events happened, each in a transaction of its own.
pub(crate) fn given(events: impl IntoIterator<Item = (StreamId, Event)>) -> World {
    let mut world = World { now: T0, ..World::default() };
    for (stream, event) in events {
        world.happen(stream, event);
    }
    world
}

impl World {
    /// One more event, in a transaction of its own.
    pub(crate) fn happen(&mut self, stream: StreamId, event: Event) {
        self.index += 1;
        let free = matches!(event, Event::CertificateDelivered(_) | Event::CheckpointSigned(_));
        let revision = (!free).then(|| self.state.revision(&stream) + 1);
        self.apply(0, stream, revision, event);
    }

    fn apply(&mut self, ordinal: u32, stream: StreamId, revision: Option<u64>, event: Event) {
        let position = Position { index: self.index, ordinal };
        let applied = Applied { position, at: self.now, stream: &stream, revision, actor: "system" };
        self.state.apply(&applied, &event);
        let back = State::rebases(&event);
        self.log.push((position, self.now, stream, revision, event));
        self.now = back.map_or(self.now, |to| self.now.min(to));
    }

    /// Lets time pass.
    pub(crate) fn pass(&mut self, duration: Duration) -> &mut Self {
        self.now = self.now.plus(duration);
        self
    }

    /// Decides without applying.
    pub(crate) fn decide(&self, command: &Command) -> Result<Decision, Rejection> {
        decide(&self.state, &actor(), command, &Context { now: self.now, draw: [0; 32] })
    }

    /// Decides and applies as a strict replica does.
    pub(crate) fn run(&mut self, command: &Command) -> Result<Vec<Event>, Rejection> {
        let decision = self.decide(command)?;
        self.index += 1;
        for guard in &decision.guards {
            assert_eq!(self.state.revision(&guard.stream), guard.revision, "guard on {}", guard.stream);
        }
        let mut events = Vec::new();
        for append in decision.appends {
            if let Some(expected) = append.expected {
                assert_eq!(self.state.revision(&append.stream), expected, "append to {}", append.stream);
            }
            assert!(!append.events.is_empty());
            for (event, n) in append.events.into_iter().zip(1..) {
                events.push(event.clone());
                self.apply(0, append.stream.clone(), append.expected.map(|expected| expected + n), event);
            }
        }
        Ok(events)
    }

    /// The same, where the command must succeed.
    pub(crate) fn must(&mut self, command: &Command) -> Vec<Event> {
        self.run(command).unwrap_or_else(|rejection| panic!("{command:?}: {rejection:?}"))
    }

    pub(crate) fn when(self, command: Command) -> Outcome {
        let result = self.decide(&command);
        Outcome { world: self, command, result }
    }
}

/// What became of a command.
pub(crate) struct Outcome {
    world: World,
    command: Command,
    result: Result<Decision, Rejection>,
}

impl Outcome {
    /// Exactly these events in this order; returns the world after them.
    pub(crate) fn then(self, expected: impl IntoIterator<Item = (StreamId, Event)>) -> World {
        let decision = self.result.unwrap_or_else(|rejection| panic!("{:?}: {rejection:?}", self.command));
        let flat = decision.appends.iter().flat_map(|a| a.events.iter().map(|event| (a.stream.clone(), event.clone())));
        pretty_eq(&flat.collect::<Vec<_>>(), &expected.into_iter().collect::<Vec<_>>(), &self.command);
        let mut world = self.world;
        world.must(&self.command);
        world
    }

    /// Nothing to do.
    pub(crate) fn then_unchanged(self) -> World {
        self.then([])
    }

    /// Guards on these streams, no others.
    pub(crate) fn guarded_by(self, streams: &[StreamId]) -> Self {
        let decision = self.result.as_ref().expect("the command is accepted");
        let guards: Vec<_> = decision.guards.iter().map(|guard| guard.stream.clone()).collect();
        assert_eq!(guards, streams);
        self
    }

    /// Refused for this reason.
    pub(crate) fn then_rejected(self, reason: Reason) -> Rejection {
        match self.result {
            Err(rejection) => {
                assert_eq!(rejection.reason, reason, "{:?}: {rejection:?}", self.command);
                rejection
            }
            Ok(decision) => panic!("{:?} should be {}: {decision:?}", self.command, reason.code()),
        }
    }

    /// Refused for this reason, about this field.
    pub(crate) fn then_rejected_at(self, reason: Reason, field: &str) {
        let rejection = self.then_rejected(reason);
        assert_eq!(rejection.field.as_deref(), Some(field), "{rejection:?}");
    }
}

fn pretty_eq(actual: &[(StreamId, Event)], expected: &[(StreamId, Event)], command: &Command) {
    assert_eq!(actual, expected, "events of {command:?}");
}
