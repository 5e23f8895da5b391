//! Every fault of the table in docs/agent.md, against the real agent: over real TLS and gRPC, on a real file system.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    unreachable_pub,
    missing_docs,
    reason = "tests look at the machine from outside"
)]

#[path = "faults/checkpoints.rs"]
mod checkpoints;
#[path = "faults/delivery.rs"]
mod delivery;
#[path = "faults/disk.rs"]
mod disk;
#[path = "faults/estate.rs"]
mod estate;
#[path = "faults/hooks.rs"]
mod hooks;
#[path = "faults/joining.rs"]
mod joining;
#[path = "faults/kills.rs"]
mod kills;
#[path = "faults/memory.rs"]
mod memory;
#[path = "faults/pki.rs"]
mod pki;
#[path = "faults/rig.rs"]
mod rig;
#[path = "faults/session.rs"]
mod session;
#[path = "faults/target.rs"]
mod target;
#[path = "faults/trust.rs"]
mod trust;
