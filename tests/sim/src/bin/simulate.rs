//! `simulate`: runs seeds, each in a process of its own, as many at a time as there are cores, and says what happened.
//!
//! It refuses to hide a failure: each is printed with the command that repeats it, and the exit code is 1.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "it starts processes and watches their time")]

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use certwright_core::mutant::{self, Mutant};
use certwright_sim::{End, Options, Report, Violation, digest, run};
use clap::Parser;

/// Time on a core that one run may take: many times what it takes on a slow machine.
const RUN_TIME_MAX: Duration = Duration::from_secs(90);
/// So many times as long a run may wait for a core.
const STARVED_MAX: u32 = 10;

/// Runs the whole system in simulation, a seed after the other.
#[derive(Clone, Parser)]
struct Arguments {
    /// How many seeds to run.
    #[arg(long, default_value_t = 20)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Plant this bug.
    #[arg(long, env = "CERTWRIGHT_MUTANT", value_parser = mutant_of)]
    mutant: Option<Mutant>,
    /// Begin no further seed when a check has found something.
    #[arg(long)]
    until_found: bool,
    /// Leave the first server unseeded, so that no two runs are the same.
    #[arg(long)]
    control: bool,
    /// Print what happens in every run; RUST_LOG shows what the programs say.
    #[arg(long)]
    trace: bool,
    /// Run the first seed in this process and print its report.
    #[arg(long, hide = true)]
    alone: bool,
}

fn mutant_of(name: &str) -> Result<Mutant, String> {
    let names = || Mutant::ALL.iter().map(|it| it.name()).collect::<Vec<_>>().join(", ");
    Mutant::ALL.iter().copied().find(|it| it.name() == name).ok_or_else(|| format!("there are: {}", names()))
}

/// All runs together.
#[derive(Default)]
struct Tally {
    begun: u64,
    failed: Vec<u64>,
    violations: BTreeMap<u64, Vec<Violation>>,
    digests: BTreeMap<u64, String>,
    operations: u64,
    snapshots: u64,
    elapsed: Duration,
    faults: BTreeMap<String, u64>,
}

/// Virtual time in what `RUST_LOG` shows.
struct VirtualTime;

impl tracing_subscriber::fmt::time::FormatTime for VirtualTime {
    fn format_time(&self, writer: &mut tracing_subscriber::fmt::format::Writer<'_>) -> std::fmt::Result {
        write!(writer, "{:9.3}", turmoil::sim_elapsed().unwrap_or_default().as_secs_f64())
    }
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    if arguments.alone {
        return alone(&arguments);
    }
    let tally = Mutex::new(Tally::default());
    let work = || -> Result<()> {
        while let Some(seed) = next(&arguments, &tally) {
            let report = apart(&arguments, seed)?;
            note(&mut held(&tally), &arguments, report);
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|it| it.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a worker panicked"))))
    })?;
    let tally = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    say(&arguments, &tally)?;
    Ok(if tally.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn held(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

fn next(arguments: &Arguments, tally: &Mutex<Tally>) -> Option<u64> {
    let mut tally = held(tally);
    if tally.begun == arguments.seeds || arguments.until_found && !tally.violations.is_empty() {
        return None;
    }
    tally.begun += 1;
    Some(arguments.from + tally.begun - 1)
}

/// One run in this process.
fn alone(arguments: &Arguments) -> Result<ExitCode> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_timer(VirtualTime)
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
    if let Some(mutant) = arguments.mutant {
        mutant::plant(mutant);
    }
    std::thread::spawn(|| {
        let began = std::time::Instant::now();
        while worked() < RUN_TIME_MAX && began.elapsed() < RUN_TIME_MAX * STARVED_MAX {
            std::thread::sleep(Duration::from_millis(500));
        }
        eprintln!("virtual time stands still: something turns round without waiting");
        std::process::exit(3);
    });
    let report = run(Options { seed: arguments.from, is_control: arguments.control });
    writeln!(std::io::stdout(), "{}", serde_json::to_string(&report)?)?;
    Ok(ExitCode::SUCCESS)
}

/// How long the main thread was on a core, where the whole simulation happens: others may want the machine too.
fn worked() -> Duration {
    let told = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    let nanos = told.split_whitespace().next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.unwrap_or_default())
}

/// One run in a process of its own.
fn apart(arguments: &Arguments, seed: u64) -> Result<Report> {
    let mut child = Command::new(std::env::current_exe()?);
    child.args(["--alone", "--from", &seed.to_string()]);
    child.args(arguments.control.then_some("--control"));
    if let Some(mutant) = arguments.mutant {
        child.args(["--mutant", mutant.name()]);
    }
    let output = child.stderr(Stdio::piped()).output().context("cannot run a seed")?;
    if arguments.trace {
        std::io::stderr().write_all(&output.stderr)?;
    }
    let report = serde_json::from_slice(&output.stdout);
    let lost = |error: serde_json::Error| Report {
        seed,
        end: End::Panicked(format!("no report ({error}): {}", String::from_utf8_lossy(&output.stderr))),
        elapsed: Duration::ZERO,
        operations: 0,
        snapshots: 0,
        faults: BTreeMap::new(),
        trace: String::new(),
    };
    Ok(report.unwrap_or_else(lost))
}

fn note(tally: &mut Tally, arguments: &Arguments, report: Report) {
    tally.digests.insert(report.seed, digest(&report.trace));
    tally.operations += report.operations;
    tally.snapshots += report.snapshots;
    tally.elapsed += report.elapsed;
    for (fault, count) in &report.faults {
        *tally.faults.entry(fault.clone()).or_default() += count;
    }
    if arguments.trace {
        eprint!("{}", report.trace);
    }
    let what = match &report.end {
        End::Whole => {
            return eprintln!(
                "seed {}: whole, {:?} virtually, {} operations",
                report.seed, report.elapsed, report.operations
            );
        }
        End::Violated(violations) => violations.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n  "),
        End::Stuck(what) => format!("stuck: {what}"),
        End::Panicked(what) => format!("panicked: {what}"),
    };
    eprintln!("seed {}: FAILED after {:?} virtually\n  {what}", report.seed, report.elapsed);
    let mutant = arguments.mutant.map(|it| format!(" MUTANT={}", it.name())).unwrap_or_default();
    eprintln!("  repeat it: make simulate SEEDS=1 FROM={}{mutant} TRACE=1", report.seed);
    tally.failed.push(report.seed);
    if let End::Violated(violations) = report.end {
        tally.violations.insert(report.seed, violations);
    }
}

fn say(arguments: &Arguments, tally: &Tally) -> Result<()> {
    eprintln!("{} operations, {:?} of virtual time, faults: {:?}", tally.operations, tally.elapsed, tally.faults);
    let digests: String = tally.digests.iter().map(|(seed, digest)| format!("{seed} {digest}\n")).collect();
    let line = serde_json::json!({
        "seeds": tally.begun, "from": arguments.from, "failed": tally.failed, "trace_digest": digest(&digests),
        "operations": tally.operations, "snapshots": tally.snapshots, "faults": tally.faults, "violations": tally.violations,
    });
    Ok(writeln!(std::io::stdout(), "{line}")?)
}
