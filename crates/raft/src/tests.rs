//! Whole logs over a toy fold: one node, and clusters over real loopback TLS.
//!
//! It refuses sleeps as proof: everything waited for has a condition.
#![allow(clippy::unwrap_used)]

mod backfill;
mod bounds;
mod clocks;
mod cluster;
mod failover;
mod membership;
mod planted;
mod restart;
mod retention;
mod simulated;
mod single;
mod snapshots;
mod succession;
mod suite;
mod tls;
mod transfer;
