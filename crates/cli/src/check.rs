//! `check`: is everything as it should be, one named check after the other, with the way out of what is not.
//!
//! It refuses to change anything, and to call a finding good because it is usual.

mod cluster;
mod estate;
mod report;

use std::process::ExitCode;
use std::time::Duration;

use certwright_agent::Context;
use certwright_proto::v1;
use tokio::time::Instant;

use crate::args::{CheckArgs, FailOn, Global};
use crate::client::{self, Client};
use crate::failure::Failure;

/// How often servers are asked before their round trips and clocks are judged: the quickest answer counts.
const SAMPLES: usize = 3;
/// Between two looks with `--wait`.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Findings of one check that are named; the rest is counted.
const NAMED_MAX: usize = 5;

/// How bad something is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Level {
    /// As it should be.
    Good,
    /// It works, and somebody should look.
    Warn,
    /// It does not work, or soon will not.
    Error,
}

/// One check's outcome.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Check {
    /// Its stable name.
    name: &'static str,
    level: Level,
    /// What was seen.
    detail: String,
    /// What to do; empty when all is good.
    hint: String,
}

impl FailOn {
    const fn level(self) -> Level {
        match self {
            Self::Warn => Level::Warn,
            Self::Error => Level::Error,
        }
    }
}

impl Check {
    /// Good as `good` says, unless something was found.
    fn new(name: &'static str, good: String, found: Vec<(Level, String)>, hint: impl Into<String>) -> Self {
        let level = found.iter().map(|(level, _)| *level).max().unwrap_or(Level::Good);
        if level == Level::Good {
            return Self { name, level, detail: good, hint: String::new() };
        }
        let count = found.len();
        let mut sorted = found;
        // What is worst is named first; among equals the order in which it was found.
        sorted.sort_by_key(|(level, _)| std::cmp::Reverse(*level));
        let mut named: Vec<String> = sorted.into_iter().take(NAMED_MAX).map(|(_, text)| text).collect();
        if count > NAMED_MAX {
            named.push(format!("and {} more", count - NAMED_MAX));
        }
        Self { name, level, detail: named.join("; "), hint: hint.into() }
    }
}

/// Runs the verb.
pub async fn run(global: &Global, args: CheckArgs) -> Result<ExitCode, Failure> {
    let client = Client::new(global)?;
    let context = client::context(global, client.seams())?;
    let bad = args.fail_on.level();
    let is_good = |checks: &[Check]| checks.iter().all(|check| check.level < bad);
    let mut checks = look(&client, &context).await?;
    while args.wait && !is_good(&checks) && Instant::now() + LOOK_EVERY < client.deadline() {
        tokio::time::sleep(LOOK_EVERY).await;
        let began = Instant::now();
        checks = match look(&client, &context).await {
            Err(failure) if client.is_late(began, &failure) => break,
            looked => looked?,
        };
    }
    report::print(global.output, &checks, bad)?;
    let failed: Vec<&str> = checks.iter().filter(|check| check.level >= bad).map(|check| check.name).collect();
    if failed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    let message = format!("{} of {} checks found something: {}", failed.len(), checks.len(), failed.join(", "));
    Err(match args.wait {
        true => Failure::timed_out(message),
        false => Failure::finding(message, "do what the checks' hints say"),
    })
}

/// Everything, once.
async fn look(client: &Client, context: &Context) -> Result<Vec<Check>, Failure> {
    let mut cluster = crate::status::cluster(client).await?;
    for _ in 1..SAMPLES {
        let again = crate::status::cluster(client).await?;
        if again.answered_by == cluster.answered_by {
            quickest(&mut cluster, &again);
        }
    }
    let now = crate::get::now(client);
    let mut checks = cluster::checks(&cluster, now);
    checks.extend(estate::checks(client, context, &cluster, now).await?);
    Ok(checks)
}

/// Keeps, of each server, what its quickest answer says of distance and clock.
fn quickest(cluster: &mut v1::GetClusterResponse, again: &v1::GetClusterResponse) {
    for node in &mut cluster.nodes {
        let Some(other) = again.nodes.iter().find(|other| other.node_id == node.node_id) else { continue };
        let quicker = other.clock_offset_millis.is_some() && other.round_trip_micros < node.round_trip_micros;
        if quicker || node.clock_offset_millis.is_none() {
            node.clock_offset_millis = other.clock_offset_millis;
            node.round_trip_micros = other.round_trip_micros;
        }
    }
}
