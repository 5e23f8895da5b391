//! Servers of the real thing in one process: their ports, TLS, files and fsync.
//!
//! It refuses shortcuts into a server, and sleeps as proof: it waits for conditions, each with a deadline.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs, reason = "tests fail loudly")]

#[path = "servers/checkpoints.rs"]
mod checkpoints;
#[path = "servers/clock.rs"]
mod clock;
#[path = "servers/followers.rs"]
mod followers;
#[path = "servers/format.rs"]
mod format;
#[path = "servers/full.rs"]
mod full;
#[path = "servers/life.rs"]
mod life;
#[path = "servers/limits.rs"]
mod limits;
#[path = "servers/one.rs"]
mod one;
#[path = "servers/removal.rs"]
mod removal;
#[path = "servers/retention.rs"]
mod retention;
#[path = "servers/session.rs"]
mod session;
#[path = "servers/strangers.rs"]
mod strangers;
#[path = "servers/support.rs"]
mod support;
#[path = "servers/three.rs"]
mod three;
