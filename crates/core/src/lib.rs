//! The pure domain of certwright: what exists, what happened, and what may happen next.
//!
//! It refuses IO, clocks, randomness, async and wire formats: everything here is a function of its arguments,
//! so that every replica folds the same events to the same state and every decision can be tested as a table.

pub mod checkpoint;
pub mod command;
pub mod decide;
pub mod event;
pub mod format;
pub mod ids;
pub mod limits;
pub mod log;
pub mod mutant;
pub mod policy;
pub mod rejection;
pub mod renewal;
pub mod shard;
pub mod spec;
pub mod state;
pub mod time;
pub mod x509;

pub use decide::{Context, decide};
pub use event::Event;
pub use format::Format;
pub use rejection::{Reason, Rejection};
pub use state::State;

#[cfg(test)]
mod tests;
