//! `chaos`: strikes real servers and says what came of it; the last line is JSON.
//!
//! It refuses to count what it could not do as done: without root, FUSE or tools it fails and says so.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "it starts processes and reads real time")]

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use certwright_chaos::drive::DriveKind;
use certwright_chaos::storm::fault::Fault;
use certwright_chaos::{cuts, room, server, storm};
use clap::{Args, Parser, Subcommand};

/// Violations that are printed; the last line has all.
const TOLD_MAX: usize = 10;

/// Real servers under real faults.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Cuts the power and looks what is left
    Cuts(Cuts),
    /// Kills, pauses, cuts off, slows, fills and shifts three servers and an agent
    Faults(Faults),
}

#[derive(Args)]
struct Cuts {
    /// How often
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    /// Of so many servers at the same instant
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=5))]
    servers: u8,
    /// On such disks
    #[arg(long, value_enum, default_value_t = DriveKind::Fuse)]
    drive: DriveKind,
    /// Decides when the power goes and what is left
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A bug to plant in the servers
    #[arg(long, value_name = "NAME")]
    mutant: Option<String>,
}

#[derive(Args)]
struct Faults {
    /// How often every kind strikes, each time a new cluster
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    cycles: u64,
    /// This kind alone, by the name that reports give it
    #[arg(long, value_parser = kind)]
    only: Option<Fault>,
    /// Longest pause of a process, in seconds
    #[arg(long, default_value_t = 60)]
    pause_max: u64,
    /// Decides whom what strikes, and how hard
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A bug to plant in the servers
    #[arg(long, value_name = "NAME")]
    mutant: Option<String>,
}

fn kind(name: &str) -> Result<Fault, String> {
    let found = Fault::ALL.iter().find(|it| it.name() == name);
    found.copied().ok_or_else(|| Fault::ALL.iter().map(|it| it.name()).collect::<Vec<_>>().join(", "))
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    if let Some(why) = room::missing() {
        bail!("real faults cannot be made here: {why}");
    }
    room::enter()?;
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut folder = room::Folder::new()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = match &arguments.what {
        What::Cuts(asked) => runtime.block_on(cut(asked, &folder)),
        What::Faults(asked) => runtime.block_on(strike(asked, &folder)),
    };
    let is_good = matches!(&outcome, Ok((_, true)));
    let is_meant = match &arguments.what {
        What::Cuts(asked) => asked.mutant.is_some(),
        What::Faults(asked) => asked.mutant.is_some(),
    };
    if !is_good && !is_meant {
        folder.keep();
        eprintln!("logs of the servers are kept: {}", folder.path().display());
    }
    writeln!(std::io::stdout(), "{}", outcome?.0)?;
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn strike(asked: &Faults, folder: &room::Folder) -> Result<(String, bool)> {
    let (cycles, only, seed) = (asked.cycles, asked.only, asked.seed);
    let (pause_max, mutant) = (Duration::from_secs(asked.pause_max), asked.mutant.clone());
    let options = storm::Options { cycles, only, pause_max, seed, mutant };
    let outcome = storm::run(&options, folder).await?;
    for violation in outcome.violations.iter().take(TOLD_MAX) {
        eprintln!("{violation}");
    }
    Ok((serde_json::to_string(&outcome)?, outcome.violations.is_empty()))
}

async fn cut(asked: &Cuts, folder: &room::Folder) -> Result<(String, bool)> {
    let options = cuts::Options {
        cuts: asked.count,
        servers: usize::from(asked.servers),
        drive: asked.drive,
        seed: asked.seed,
        program: server::program(if asked.mutant.is_some() { "planted" } else { "certwright" })?,
        environment: asked.mutant.iter().map(|name| ("CERTWRIGHT_MUTANT".to_owned(), name.clone())).collect(),
    };
    let outcome = cuts::run(&options, folder).await?;
    for violation in outcome.violations.iter().take(TOLD_MAX) {
        eprintln!("{violation}");
    }
    Ok((serde_json::to_string(&outcome)?, outcome.violations.is_empty()))
}
