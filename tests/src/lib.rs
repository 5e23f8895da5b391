//! Harnesses for whole-system tests: real processes, real sockets, real peers.
//!
//! It refuses to reach into the product: everything here goes through its binaries, its API and its files.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    missing_docs,
    reason = "a harness fails loudly and runs outside the simulation"
)]

pub mod before;
pub mod fleet;
pub mod handshake;
pub mod load;
pub mod otlp;
pub mod peers;
pub mod people;
pub mod program;
