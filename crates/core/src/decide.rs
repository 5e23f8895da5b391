//! Decisions: what a command amounts to, given what exists. Pure; the leader runs them, tests run them as tables.
//!
//! It refuses to change anything: a decision is a list of guards and events, or a rejection.

use crate::command::Command;
use crate::event::Event;
use crate::log::{Append, Guard};
use crate::policy::AuthorizedActor;
use crate::rejection::Rejection;
use crate::state::State;
use crate::time::Timestamp;

/// What a decision may know besides state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Context {
    /// Log time now: the `at` of the log or later.
    pub now: Timestamp,
    /// Randomness drawn for this decision.
    pub draw: [u8; 32],
}

/// What a command amounts to. No appends: it is so already.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Decision {
    /// Streams read whose change would change the decision.
    pub guards: Vec<Guard>,
    /// Events by stream.
    pub appends: Vec<Append<Event>>,
}

/// Decides one command.
pub fn decide(
    _state: &State,
    _actor: &AuthorizedActor,
    _command: &Command,
    _context: &Context,
) -> Result<Decision, Rejection> {
    Ok(Decision::default())
}
