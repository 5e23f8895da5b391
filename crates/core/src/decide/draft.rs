//! A decision in the making: guards and events, each stream at the revision that was read.
//!
//! It refuses a guard on a stream that the same decision appends to: the append's own revision guards it.

use super::Decision;
use crate::event::Event;
use crate::log::{Append, Fold, Guard, StreamId};
use crate::rejection::{Reason, Rejection};
use crate::state::State;
use crate::time::Timestamp;

pub(super) struct Draft<'a> {
    pub(super) state: &'a State,
    pub(super) now: Timestamp,
    decision: Decision,
}

impl<'a> Draft<'a> {
    pub(super) fn new(state: &'a State, now: Timestamp) -> Self {
        Self { state, now, decision: Decision::default() }
    }

    /// The stream must still be what was read when the decision takes effect.
    pub(super) fn guard(&mut self, stream: StreamId) {
        if !self.decision.guards.iter().any(|guard| guard.stream == stream) {
            let revision = self.state.revision(&stream);
            self.decision.guards.push(Guard { stream, revision });
        }
    }

    /// The guard of a command composed earlier must still hold, and is carried on.
    pub(super) fn hold(&mut self, guard: &Guard) -> Result<(), Rejection> {
        let revision = self.state.revision(&guard.stream);
        if revision != guard.revision {
            return Err(Rejection::new(
                Reason::Moved,
                format!("{} is at revision {revision}, the command was composed at {}", guard.stream, guard.revision),
            ));
        }
        self.guard(guard.stream.clone());
        Ok(())
    }

    /// Appends to a stream at the revision that was read.
    pub(super) fn push(&mut self, stream: StreamId, event: Event) {
        let known = self.decision.appends.iter_mut().rev();
        match known.into_iter().find(|append| append.stream == stream && append.expected.is_some()) {
            Some(append) => append.events.push(event),
            None => {
                let expected = Some(self.state.revision(&stream));
                self.decision.appends.push(Append { stream, expected, events: vec![event] });
            }
        }
    }

    /// Appends an event that has no revision: an acknowledgement, or the only one of its stream.
    pub(super) fn push_free(&mut self, stream: StreamId, event: Event) {
        self.decision.appends.push(Append { stream, expected: None, events: vec![event] });
    }

    /// Events so far.
    pub(super) fn len(&self) -> usize {
        self.decision.appends.iter().map(|append| append.events.len()).sum()
    }

    /// The decision; without events it needs no guards either.
    pub(super) fn finish(mut self) -> Decision {
        let Decision { guards, appends } = &mut self.decision;
        guards.retain(|guard| {
            !appends.is_empty()
                && !appends.iter().any(|append| append.stream == guard.stream && append.expected.is_some())
        });
        self.decision
    }
}
