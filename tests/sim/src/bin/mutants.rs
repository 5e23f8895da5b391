//! `mutants`: plants one bug after the other and says which check found it.
//!
//! It refuses to count a crash, a time-out or another check's finding, and a seed that fails without the bug.
#![allow(clippy::disallowed_types, reason = "it starts the simulation's own program, once for each bug")]

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use certwright_core::mutant::Mutant;
use clap::Parser;
use serde::Deserialize;

/// Proves that the checks bite.
#[derive(Parser)]
struct Arguments {
    /// This bug alone.
    #[arg(long)]
    only: Option<String>,
    /// How many seeds may pass before a bug counts as alive.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    from: u64,
}

/// The last line of `simulate`.
#[derive(Deserialize)]
struct Said {
    failed: Vec<u64>,
    violations: BTreeMap<u64, Vec<Violation>>,
}

#[derive(Clone, Deserialize)]
struct Violation {
    invariant: String,
    checker: String,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    // The others break nothing that the whole promises: unit tests find them.
    let all = || Mutant::ALL.iter().filter(|it| !it.invariants().is_empty());
    let is_wanted = |it: &&Mutant| arguments.only.as_deref().is_none_or(|only| only == it.name());
    let wanted: Vec<Mutant> = all().filter(is_wanted).copied().collect();
    if wanted.is_empty() {
        bail!("there is no such bug: there are {}", all().map(|it| it.name()).collect::<Vec<_>>().join(", "));
    }
    let mut alive = 0;
    for mutant in wanted {
        let line = match hunt(&arguments, mutant)? {
            Some((seed, found)) => serde_json::json!({
                "mutant": mutant.name(), "killed_by": found.checker, "invariant": found.invariant, "seed": seed,
            }),
            None => {
                alive += 1;
                serde_json::json!({ "mutant": mutant.name(), "killed_by": null, "invariant": null })
            }
        };
        writeln!(std::io::stdout(), "{line}")?;
    }
    Ok(if alive == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The first seed in which a check names an invariant that the bug breaks, and which passes without it.
fn hunt(arguments: &Arguments, mutant: Mutant) -> Result<Option<(u64, Violation)>> {
    let end = arguments.from + arguments.seeds;
    let mut from = arguments.from;
    while from < end {
        let said = simulate(&["--mutant", mutant.name(), "--until-found", "--from"], from, end - from)?;
        let named = |it: &&Violation| mutant.invariants().contains(&it.invariant.as_str());
        let mut found = said.violations.iter().filter_map(|(seed, all)| Some((*seed, all.iter().find(named)?.clone())));
        if let Some((seed, violation)) = found.next()
            && simulate(&["--from"], seed, 1)?.failed.is_empty()
        {
            return Ok(Some((seed, violation)));
        }
        let Some(last) = said.violations.keys().last() else { return Ok(None) };
        from = last + 1;
    }
    Ok(None)
}

fn simulate(arguments: &[&str], from: u64, seeds: u64) -> Result<Said> {
    let output = Command::new(sibling()?)
        .args(arguments)
        .arg(from.to_string())
        .args(["--seeds", &seeds.to_string()])
        .stderr(Stdio::null())
        .output()
        .context("cannot run simulate")?;
    let text = String::from_utf8(output.stdout)?;
    let last = text.lines().last().context("simulate says nothing")?;
    Ok(serde_json::from_str(last)?)
}

fn sibling() -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name("simulate");
    if !path.exists() {
        bail!("{} is not there: build it first", path.display());
    }
    Ok(path)
}
