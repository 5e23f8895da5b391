//! `bench failover`: how long nobody gets a certificate when the leader's process is killed.
//!
//! It refuses to count answers to what was asked before the process was gone: the dead leader may have given them.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use certwright_agent::{Connector, Context};
use certwright_core::spec::KeyAlgorithm;
use certwright_proto::v1;
use certwright_proto::v1::certificates_client::CertificatesClient;
use certwright_seams::Seams;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::quantile_millis;
use crate::client::Client;
use crate::dev::demo::Demo;
use crate::dev::fleet::Fleet;
use crate::failure::Failure;
use crate::output::note;

/// Certificates between two kills: callers and servers are warm.
const BETWEEN: usize = 50;
/// How long anything may take: a kill that is not survived within it is a fault.
const PATIENCE: Duration = Duration::from_secs(60);
/// Entries that a server may be behind when the next leader is killed: one that has not caught up is still down.
const BEHIND_MAX: u64 = 1000;
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Before a caller whose attempt failed tries again, as clients do.
const RETRY: Duration = Duration::from_millis(20);

/// When each answered attempt was sent, and when it was answered.
type Answers = Arc<Mutex<Vec<(Instant, Instant)>>>;

/// Kills leader after leader.
pub(super) async fn measure(
    directory: &Path,
    servers: u8,
    callers: usize,
    kills: usize,
    seams: &Seams,
) -> Result<Value, Failure> {
    let mut fleet = Fleet::start(directory, servers, seams.clone()).await?;
    let outcome = kill_leaders(&mut fleet, directory, callers, kills, seams).await;
    fleet.stop().await?;
    let mut value = outcome?;
    value["servers"] = servers.into();
    Ok(value)
}

/// Kills that many leaders of a fleet under load and waits for each to serve again.
pub(super) async fn kill_leaders(
    fleet: &mut Fleet,
    directory: &Path,
    callers: usize,
    kills: usize,
    seams: &Seams,
) -> Result<Value, Failure> {
    Demo::new(directory, seams.clone(), PATIENCE)?.prepare().await?;
    let context = Context::load(&*seams.disk, &directory.join("context"))?;
    let key = crate::issue::new_key(KeyAlgorithm::EcdsaP256)?;
    let csr: Arc<[u8]> = crate::issue::request(&key, None, &["bench.demo.internal".to_string()])?.into();
    let (answers, mut calling) = (Answers::default(), JoinSet::new());
    let connector = Connector::new(&context, seams)?;
    for caller in 0..callers {
        calling.spawn(call(caller, connector.clone(), csr.clone(), answers.clone()));
    }
    let mut micros = Vec::with_capacity(kills);
    for kill in 1..=kills {
        let before = count(&answers);
        until("certificates flow", async || (count(&answers) >= before + BETWEEN).then_some(())).await?;
        let leader = until("all servers are well", async || well(&context, seams).await).await?;
        fleet.kill(&leader).await?;
        let died = Instant::now();
        let next = until("the next certificate", async || first_after(&answers, died)).await?;
        let took = next.duration_since(died);
        note(&format!("{kill} of {kills}: {leader} killed, next certificate after {} ms", took.as_millis()));
        micros.push(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        fleet.restart(&leader)?;
    }
    calling.shutdown().await;
    micros.sort_unstable();
    Ok(json!({
        "kills": kills, "p50_ms": quantile_millis(&micros, 0.50), "p99_ms": quantile_millis(&micros, 0.99),
        "max_ms": quantile_millis(&micros, 1.0), "certificates": count(&answers), "callers": callers,
    }))
}

/// The leader's name, once every server answers and could lead.
async fn well(context: &Context, seams: &Seams) -> Option<String> {
    let client = Client::with_context(context, seams.clone(), PATIENCE).ok()?;
    let cluster = crate::status::cluster(&client).await.ok()?;
    let end = cluster.nodes.iter().map(|node| node.last_log_index).max().unwrap_or_default();
    let is_close = |node: &v1::Node| node.applied_index + BEHIND_MAX >= end;
    let all = cluster.nodes.iter().all(|node| node.unsealed && node.role != "unreachable" && is_close(node));
    (all && !cluster.leader.is_empty()).then_some(cluster.leader)
}

fn count(answers: &Answers) -> usize {
    answers.lock().unwrap_or_else(PoisonError::into_inner).len()
}

fn first_after(answers: &Answers, died: Instant) -> Option<Instant> {
    let answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
    answers.iter().rev().take(1000).filter(|(sent, _)| *sent > died).map(|(_, answered)| *answered).min()
}

async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> Result<T, Failure> {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return Ok(answer);
        }
        if Instant::now() > end {
            return Err(Failure::timed_out(format!("waited {} s for this: {what}", PATIENCE.as_secs())));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// One caller: each request is repeated under its id, by whichever server answers, until it has its certificate.
async fn call(caller: usize, connector: Connector, csr: Arc<[u8]>, answers: Answers) {
    let mut channel = connector.channel();
    for number in 0_u64.. {
        let request =
            v1::IssueRequest { request_id: format!("{:016x}{number:016x}", caller + 1), ..super::order(&csr, 0) };
        loop {
            let sent = Instant::now();
            match CertificatesClient::new(channel.clone()).issue(request.clone()).await {
                Ok(_) => {
                    answers.lock().unwrap_or_else(PoisonError::into_inner).push((sent, Instant::now()));
                    break;
                }
                Err(_) => {
                    tokio::time::sleep(RETRY).await;
                    channel = connector.channel();
                }
            }
        }
    }
}
