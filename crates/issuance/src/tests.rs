//! The leader's work on a real log of one server, on a simulated machine in virtual time.
//!
//! It refuses sleeps as assertions: a test waits for an event, and time passes by itself while nothing happens.
#![allow(clippy::unwrap_used, missing_docs)]

mod authorities;
mod bootstrap;
mod checkpoints;
mod direct;
mod estate;
mod hold;
mod ordering;
mod rebase;
mod retention;
mod server;
mod stored;
