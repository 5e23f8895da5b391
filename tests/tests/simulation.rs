//! Three real servers and a real agent inside turmoil: virtual time, a simulated network, disks that lose what was not
//! synced; for every seed the leader's power is cut while it works.
//!
//! It refuses exact replay: keys and signatures come from the real library, so a seed repeats the course of a run (what
//! happens when, latencies, skews, timers, what a power cut leaves), not its octets. `SEED=7 cargo test -p certwright-tests
//! --test simulation` runs seed 7 alone, `RUST_LOG` shows what it does.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests fail loudly and measure wall time")]

#[path = "simulation/administrator.rs"]
mod administrator;
#[path = "simulation/checks.rs"]
mod checks;
#[path = "simulation/estate.rs"]
mod estate;
#[path = "simulation/story.rs"]
mod story;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use estate::Estate;

/// Seeds of a usual run.
const SEEDS: u64 = 20;

/// The seeds to run: `SEED` alone, or all of them.
fn seeds() -> Vec<u64> {
    match std::env::var("SEED") {
        Ok(seed) => vec![seed.parse().expect("SEED is a number")],
        Err(_) => (1..=SEEDS).collect(),
    }
}

/// Runs one seed; the virtual time that it took.
fn run(seed: u64) -> Duration {
    let estate = Estate::new(seed);
    let mut sim = estate.simulation();
    let told = estate.clone();
    sim.client("administrator", async move { story::tell(&told).await });
    loop {
        match sim.step() {
            Ok(true) => return sim.elapsed(),
            Ok(false) => estate.obey(&mut sim),
            Err(error) => panic!("after {:?}: {error}", sim.elapsed()),
        }
    }
}

#[test]
fn the_leader_loses_its_power_and_nothing_acknowledged_is_lost() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .without_time()
        .with_ansi(false)
        .init();
    let mut failed = Vec::new();
    for seed in seeds() {
        let start = Instant::now();
        match catch_unwind(AssertUnwindSafe(|| run(seed))) {
            Ok(virtually) => println!("seed {seed}: {virtually:?} in {:?}", start.elapsed()),
            Err(_) => {
                println!("seed {seed}: FAILED after {:?}", start.elapsed());
                failed.push(seed);
            }
        }
    }
    assert!(failed.is_empty(), "repeat with SEED=N; these seeds failed: {failed:?}");
}
