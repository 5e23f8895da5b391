//! Three real servers and a real agent inside turmoil: virtual time, a simulated network, disks that lose what was not
//! synced; for every seed the leader's power is cut while it works.
//!
//! It refuses exact replay: keys and signatures come from the real library, so a seed repeats the course of a run (what
//! happens when, latencies, skews, timers, what a power cut leaves), not its octets. `SEED=7 cargo test -p certwright-tests
//! --test simulation` runs seed 7 alone, `RUST_LOG` shows what it does.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests fail loudly and measure wall time"
)]

#[path = "simulation/administrator.rs"]
mod administrator;
#[path = "simulation/checks.rs"]
mod checks;
#[path = "simulation/estate.rs"]
mod estate;
#[path = "simulation/story.rs"]
mod story;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use estate::Estate;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

/// Seeds of a usual run.
const SEEDS: u64 = 20;

/// The seeds to run: `SEED` alone (or from one to another, `SEED=21-40`), or all of them.
fn seeds() -> Vec<u64> {
    let number = |text: &str| text.parse::<u64>().expect("SEED is a number or two with a dash");
    match std::env::var("SEED") {
        Ok(seed) => match seed.split_once('-') {
            Some((first, last)) => (number(first)..=number(last)).collect(),
            None => vec![number(&seed)],
        },
        Err(_) => (1..=SEEDS).collect(),
    }
}

fn next(waiting: &Mutex<std::vec::IntoIter<u64>>) -> Option<u64> {
    waiting.lock().unwrap().next()
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

/// Virtual time in what `RUST_LOG` shows.
struct VirtualTime;

impl FormatTime for VirtualTime {
    fn format_time(&self, writer: &mut Writer<'_>) -> std::fmt::Result {
        write!(writer, "{:9.3}", turmoil::sim_elapsed().unwrap_or_default().as_secs_f64())
    }
}

#[test]
fn the_leader_loses_its_power_and_nothing_acknowledged_is_lost() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    tracing_subscriber::fmt().with_env_filter(filter).with_timer(VirtualTime).with_ansi(false).init();
    let (waiting, failed) = (Mutex::new(seeds().into_iter()), Mutex::new(Vec::new()));
    let work = || {
        while let Some(seed) = next(&waiting) {
            let start = Instant::now();
            match catch_unwind(AssertUnwindSafe(|| run(seed))) {
                Ok(virtually) => println!("seed {seed}: {virtually:?} in {:?}", start.elapsed()),
                Err(_) => {
                    println!("seed {seed}: FAILED after {:?}", start.elapsed());
                    failed.lock().unwrap().push(seed);
                }
            }
        }
    };
    // Simulations share nothing: each has one thread, and the machine as many as it has cores.
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "these seeds failed, repeat one with SEED=N: {failed:?}");
}
