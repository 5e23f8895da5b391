//! `bench size`: what a server with many certificates on record takes: memory, snapshots, restart, failover.
//!
//! It refuses figures of a state made by hand: every certificate is in the log, the snapshot and the projection.

mod snapshot;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use certwright_agent::{Connector, Context};
use certwright_core::spec::KeyAlgorithm;
use certwright_proto::v1::certificates_client::CertificatesClient;
use certwright_raft::SNAPSHOT_EVERY_OCTETS;
use certwright_seams::Seams;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::estate::{self, Estate, Shape};
use super::failover;
use crate::dev::demo::Demo;
use crate::dev::fleet::Fleet;
use crate::dev::processes::resident_octets;
use crate::failure::Failure;
use crate::output::note;

/// Log between two snapshots of a small estate, for each certificate; at most what a server has by default.
const SNAPSHOT_OCTETS_EACH: u64 = 256;
/// Certificates on one host.
const CERTIFICATES_PER_AGENT: u64 = 100;
const DAY: Duration = Duration::from_secs(24 * 3600);
/// How long anything may take: issuing after a start, projecting what is left.
const PATIENCE: Duration = Duration::from_secs(600);
/// Until the allocator has given back what only the start needed: it waits ten seconds itself, and then goes slowly.
const SETTLED_AFTER: Duration = Duration::from_secs(30);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Callers while leaders are killed.
const CALLERS: usize = 8;
/// The server that is filled.
const FIRST: &str = "server-1";

/// Fills a server, measures it alone, then as one of three.
pub(super) async fn measure(directory: &Path, intents: u64, kills: usize, seams: &Seams) -> Result<Value, Failure> {
    let mut fleet = Fleet::empty(directory, seams.clone());
    let outcome = stages(&mut fleet, directory, intents, kills, seams).await;
    fleet.stop().await?;
    outcome
}

async fn stages(
    fleet: &mut Fleet,
    directory: &Path,
    intents: u64,
    kills: usize,
    seams: &Seams,
) -> Result<Value, Failure> {
    fleet.grow(1..=1).await?;
    Demo::new(directory, seams.clone(), PATIENCE)?.prepare().await?;
    first_certificate(directory, seams).await?;
    let empty = resident_octets(directory, &*seams.disk)?;
    fleet.stop().await?;
    let mut value = fill(&directory.join(FIRST), intents, seams).await?;
    value["intents"] = intents.into();
    let restart_ms = restart(fleet, directory, seams).await?;
    fleet.kill(FIRST).await?;
    value["restart_ms"] = restart_ms.into();
    value["restart_after_kill_ms"] = restart(fleet, directory, seams).await?.into();
    value["resident_octets_after_start"] = resident_octets(directory, &*seams.disk)?.into();
    tokio::time::sleep(SETTLED_AFTER).await;
    let full = resident_octets(directory, &*seams.disk)?;
    value["resident_octets"] = full.into();
    value["resident_octets_per_intent"] = (full.saturating_sub(empty) / intents).into();
    note(&format!("{value}"));
    if kills == 0 {
        return Ok(value);
    }
    let start = Instant::now();
    fleet.grow(2..=2).await?;
    value["join_ms"] = millis(start).into();
    fleet.grow(3..=3).await?;
    value["failover"] = failover::kill_leaders(fleet, directory, CALLERS, kills, seams).await?;
    Ok(value)
}

/// Everything that goes into the log while no server runs on it.
async fn fill(data: &Path, intents: u64, seams: &Seams) -> Result<Value, Failure> {
    let snapshot_octets = SNAPSHOT_EVERY_OCTETS.min(intents * SNAPSHOT_OCTETS_EACH);
    let bare = Arc::new(estate::open(data, Some(snapshot_octets), seams).await?);
    let shape = Shape {
        intents,
        agents: intents.div_ceil(CERTIFICATES_PER_AGENT),
        agent: |n| format!("region-a-host-{n}"),
        life: Box::new(|_, now| (now.plus(60 * DAY), now.plus(90 * DAY))),
    };
    let estate = Arc::new(Estate::new(bare.log.clone(), seams.entropy.clone(), shape));
    let start = Instant::now();
    estate.register().await?;
    estate.declare().await?;
    let seconds = start.elapsed().as_secs_f64();
    note(&format!("{intents} certificates are on record after {seconds:.0} s"));
    let mut value = snapshot::measure(&bare, &estate, data, snapshot_octets, seams).await?;
    value["intents_per_second"] = ((intents as f64 / seconds).round() as u64).into();
    let index = bare.log.status().applied_index;
    bare.log.wait_projected(index, PATIENCE).await.map_err(|error| Failure::internal(error.to_string()))?;
    bare.log.shutdown().await;
    Ok(value)
}

/// From the start of the process to the first certificate that it issues.
async fn restart(fleet: &mut Fleet, directory: &Path, seams: &Seams) -> Result<u64, Failure> {
    let start = Instant::now();
    fleet.restart(FIRST)?;
    first_certificate(directory, seams).await?;
    Ok(millis(start))
}

async fn first_certificate(directory: &Path, seams: &Seams) -> Result<(), Failure> {
    let context = Context::load(&*seams.disk, &directory.join("context"))?;
    let connector = Connector::new(&context, seams)?;
    let key = crate::issue::new_key(KeyAlgorithm::EcdsaP256)?;
    let csr: Arc<[u8]> = crate::issue::request(&key, None, &["bench.demo.internal".to_string()])?.into();
    let end = Instant::now() + PATIENCE;
    loop {
        match CertificatesClient::new(connector.channel()).issue(super::order(&csr, 0)).await {
            Ok(_) => return Ok(()),
            Err(status) if Instant::now() > end => return Err(status.into()),
            Err(_) => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}

fn millis(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// What a snapshot did: how long its cut kept entries from being applied, how long it took to write, how large it is.
fn figures(pause_ms: f64, write_ms: u64, octets: u64, gaps_ms: (f64, f64), tail_octets: u64) -> Value {
    json!({
        "cut_pause_ms": pause_ms, "snapshot_ms": write_ms, "snapshot_octets": octets,
        "apply_gap_ms": gaps_ms.0, "apply_gap_while_written_ms": gaps_ms.1, "tail_octets": tail_octets,
    })
}
