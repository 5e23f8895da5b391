//! Real servers, as separate processes, under what machines do to them: power cuts, broken networks, pauses, full disks
//! and wrong clocks.
//!
//! It refuses checks of its own where the simulation has them: callers and checkers are the same.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a harness fails loudly and runs outside the simulation"
)]

pub mod cluster;
pub mod cuts;
pub mod drive;
pub mod gate;
pub mod network;
pub mod room;
pub mod server;
pub mod storm;
pub mod volume;
