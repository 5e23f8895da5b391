//! Whole-system tests on real processes: three servers, agents, TLS and fsync, real peers.
//!
//! It refuses simulated parts; those are in simulation.rs.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_types, reason = "tests fail loudly")]

#[path = "fleet/canary.rs"]
mod canary;
#[path = "fleet/chaos.rs"]
mod chaos;
#[path = "fleet/clock.rs"]
mod clock;
#[path = "fleet/joiner.rs"]
mod joiner;
#[path = "fleet/metrics.rs"]
mod metrics;
#[path = "fleet/nginx.rs"]
mod nginx;
#[path = "fleet/profiles.rs"]
mod profiles;
#[path = "fleet/python.rs"]
mod python;
#[path = "fleet/removal.rs"]
mod removal;
#[path = "fleet/restore.rs"]
mod restore;
#[path = "fleet/rolling.rs"]
mod rolling;
#[path = "fleet/traces.rs"]
mod traces;
#[path = "fleet/upgrade.rs"]
mod upgrade;
