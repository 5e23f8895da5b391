//! What only the leader does: decide in order, schedule renewals, compose, lint and sign, and admit servers.
//!
//! It refuses transport and storage: doors hand it verified callers, `raft` keeps what it decides, `custody` holds the
//! keys. On a node that does not lead, every call answers `NOT_LEADER`.

pub mod chain;
pub mod control;
pub mod fault;
pub mod metrics;
pub mod order;
pub mod peer;
pub mod projector;

mod admission;
mod authorities;
mod checkpoints;
mod digest;
mod direct;
pub mod held;
mod identities;
mod issuers;
mod leader;
mod overlay;
mod rebase;
mod retention;
mod rotation;
mod scheduler;
mod sequencer;
mod session;
mod signing;
mod space;
mod stepwise;
mod stored;
mod succession;
mod tokens;
mod upgrade;

pub use control::{Control, ControlOptions};
pub use order::{
    AgentJoin, Bootstrap, BootstrapAnswer, Call, CsrSubmission, IdentityAnswer, IssueOrder, IssuedAnswer, NewToken,
    NodeAnswer, NodeJoin, Outcome, Rebased,
};
pub use peer::{Itself, PeerService};
pub use projector::Projection;

#[cfg(test)]
mod tests;
