//! A server is replaced while everything goes on: another one joins, the old one, whose disk rots in some runs, is taken
//! out, and from then on it must be nobody. I19.
//!
//! It refuses to switch the old one off: it goes on as long as it likes.

use std::cell::RefCell;
use std::path::Path;
use std::time::Duration;

use certwright_agent::Context;
use certwright_proto::v1;
use certwright_proto::v1::certificates_client::CertificatesClient;
use certwright_proto::v1::cluster_client::ClusterClient;
use certwright_seams::{Disk, Entropy, Seams};
use tokio::time::{Instant, sleep};

use super::name_of;
use crate::client::{Client, Stuck};
use crate::estate::{Estate, Order};
use crate::machine::VOLUME;

/// How soon after its removal nobody listens to a server any more.
const REFUSED_WITHIN: Duration = Duration::from_secs(5);
/// How soon a leader that has a quorum confirms a read.
const ANSWERED_WITHIN: Duration = Duration::from_secs(1);
/// Longest wait before the replacement begins.
const BEGIN_MILLIS_MAX: u64 = 8000;
const CHECKER: &str = "replacement";

/// Who was replaced.
#[derive(Default)]
pub(crate) struct Replaced(RefCell<Option<Removed>>);

#[derive(Clone)]
struct Removed {
    server: String,
    /// Where the log was when nobody had to listen to it any more.
    index: u64,
    /// What it told after its disk had rotted.
    told: Vec<v1::Event>,
}

/// Replaces one server by the one that stands by, in runs that have one.
pub(crate) async fn replace(
    estate: &Estate,
    context: &Context,
    seams: &Seams,
    client: &Client,
    replaced: &Replaced,
) -> Result<(), Stuck> {
    let Some(spare) = estate.spare() else { return Ok(()) };
    let draw = estate.draw(6);
    sleep(Duration::from_millis(draw.next_u64() % BEGIN_MILLIS_MAX)).await;
    let servers = estate.servers();
    let old = servers[draw.next_u64() as usize % servers.len()].clone();
    estate.give_token(spare, client.token("node", "").await?);
    client.voters(servers.len() + 1).await?;
    estate.enter(spare);
    estate.trace.tell(CHECKER, format_args!("{spare} votes"));
    let mut told = Vec::new();
    if draw.next_u64().is_multiple_of(2) && rot(estate, &old, &draw) {
        sleep(Duration::from_secs(2)).await;
        told = Client::of(context, seams, &old).events_once().await.unwrap_or_default();
    }
    client.remove_node(&old).await?;
    estate.leave(&old);
    estate.count();
    estate.trace.tell(CHECKER, format_args!("{old} is out"));
    let index = loop {
        sleep(REFUSED_WITHIN).await;
        let asked = Instant::now();
        // Whoever is behind would say less.
        let end = client.cluster(true).await?.token.and_then(|token| certwright_proto::token::read(&token).ok());
        // While no leader has a quorum nobody can end the change by which it loses its vote, and it is told the log.
        if asked.elapsed() < ANSWERED_WITHIN {
            break end.map_or(0, |end| end.position.index);
        }
    };
    replaced.0.replace(Some(Removed { server: old, index, told }));
    Ok(())
}

/// Flips a bit in an older file of a server's log and starts the server again; whether there is such a file.
fn rot(estate: &Estate, server: &str, draw: &impl Entropy) -> bool {
    let (disk, log) = (&estate.machine(server).disk, Path::new(VOLUME).join("server/log"));
    let names = disk.list(&log).unwrap_or_default();
    let mut segments: Vec<_> =
        names.into_iter().filter(|name| name.extension().is_some_and(|it| it == "seg")).collect();
    // In the newest one it looks like a torn write: whoever tears the end of a log tears what was acknowledged.
    segments.pop();
    let Some(name) = segments.get(draw.next_u64() as usize % segments.len().max(1)) else { return false };
    let path = log.join(name);
    let octets = disk.read(&path, u64::MAX).map_or(0, |octets| octets.len() as u64);
    let (offset, bit) = (draw.next_u64() % octets.max(1), draw.next_u64() % 8);
    if disk.flip(&path, offset, 1 << bit).is_err() {
        return false;
    }
    estate.fault("bit rot");
    estate.order(Order::Kill(server.to_owned()));
    estate.order(Order::Start(server.to_owned()));
    true
}

/// Tries to get anything out of the server that was removed, and through it.
pub(crate) async fn check(
    estate: &Estate,
    context: &Context,
    seams: &Seams,
    replaced: &Replaced,
) -> Option<(String, Vec<v1::Event>)> {
    let Removed { server, index, told } = replaced.0.borrow().clone()?;
    let client = Client::of(context, seams, &server);
    let wrong = |what: &str| estate.verdict.report("I19", CHECKER, format_args!("{server} was removed, yet {what}"));
    let confirmed = v1::GetClusterRequest { min_token: None, linearizable: true };
    let read = async |channel| ClusterClient::new(channel).get_cluster(confirmed.clone()).await;
    if client.once(read).await.is_some() {
        wrong("a quorum confirms its reads");
    }
    let request = v1::RenewCertificateRequest { name: name_of(&estate.agents()[0]), request_id: client.request_id() };
    let write = async |channel| CertificatesClient::new(channel).renew_certificate(request.clone()).await;
    if client.once(write).await.is_some() {
        wrong("what it is told to do is done");
    }
    let last = client.events_once().await.and_then(|events| events.last().map(|event| event.index));
    if let Some(last) = last.filter(|last| *last > index) {
        wrong(&format!("it tells entry {last}, and the log was at {index} five seconds later"));
    }
    Some((server, told))
}
