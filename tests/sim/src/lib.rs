//! Servers, agents and callers of the real code in one deterministic simulation: virtual time, a simulated network, disks
//! that lose what was not synced, and a nemesis that composes faults for every seed.
//!
//! It refuses real time, threads and sockets. Keys and signatures come from the real library, which nobody seeds: a seed
//! repeats what happens and when, not the octets of keys.

mod astray;
pub mod check;
pub mod client;
mod estate;
mod machine;
mod nemesis;
mod net;
mod retention;
pub mod stage;
mod story;
mod suspension;
mod trace;
pub mod workload;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use check::pairs::Consumer;
use serde::{Deserialize, Serialize};

pub use check::Violation;
use estate::{CLIENT, Estate, STRANGER};
pub use trace::digest;

/// Which run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Decides everything.
    pub seed: u64,
    /// The control: the first server draws from the machine's randomness, so that two runs must differ.
    pub is_control: bool,
}

/// How a run ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// Everything held.
    Whole,
    /// Something did not.
    Violated(Vec<Violation>),
    /// Something never came to an end.
    Stuck(String),
    /// The code gave up.
    Panicked(String),
}

/// What a run leaves behind.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// How it ended.
    pub end: End,
    /// Virtual time that it took.
    pub elapsed: Duration,
    /// Operations that callers had answered.
    pub operations: u64,
    /// Snapshots that were compared with a replay of the log.
    pub snapshots: u64,
    /// Faults by name.
    pub faults: BTreeMap<String, u64>,
    /// What happened, line by line.
    pub trace: String,
}

/// Runs one seed to its end. A process is good for one run: what libraries keep for the whole process would make a second
/// one another.
pub fn run(options: Options) -> Report {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let estate = Estate::new(options);
    let mut sim = estate.simulation();
    let told = estate.clone();
    sim.client(CLIENT, async move { Ok(story::tell(told).await?) });
    if estate.is_besieged() {
        let besieged = estate.clone();
        sim.client(STRANGER, async move {
            workload::strangers::besiege(&besieged).await;
            Ok(())
        });
    }
    let mut consumers: Vec<Consumer> = estate.consumers();
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        loop {
            let over = sim.step();
            for consumer in &mut consumers {
                let now = estate.machine(consumer.agent()).usual_time(sim.elapsed());
                consumer.look(now, &estate.verdict);
            }
            match over {
                Ok(true) => {
                    let newest = estate.newest.borrow();
                    consumers.iter().for_each(|it| it.check(newest.get(it.agent()), &estate.verdict));
                    check::disks::check(&estate);
                    workload::strangers::check(&estate);
                    return End::Whole;
                }
                Ok(false) => estate.obey(&mut sim),
                Err(error) => return End::Stuck(error.to_string()),
            }
        }
    }));
    let end = outcome.unwrap_or_else(|panic| End::Panicked(words(&*panic)));
    let violations = estate.verdict.violations();
    let elapsed = catch_unwind(AssertUnwindSafe(|| sim.elapsed())).unwrap_or_default();
    Report {
        seed: options.seed,
        end: if violations.is_empty() { end } else { End::Violated(violations) },
        elapsed,
        operations: estate.operations(),
        snapshots: estate.snapshots(),
        faults: estate.faults(),
        trace: estate.trace.lines(),
    }
}

/// What a panic said.
fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words").to_owned()
}
