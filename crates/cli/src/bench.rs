//! `bench`: certificates per second that are stored, synced and replicated, read back from a follower.
//!
//! It refuses to count what it cannot read back.

mod agents;
mod drain;
mod estate;
mod failover;
mod session;
mod size;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use certwright_agent::{Connector, Context};
use certwright_core::spec::KeyAlgorithm;
use certwright_proto::v1;
use certwright_proto::v1::certificates_client::CertificatesClient;
use certwright_proto::v1::events_client::EventsClient;
use certwright_proto::v1::issue_stream_response::Result as Answer;
use certwright_seams::Seams;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use self::drain::Herd;
use crate::args::{BenchVerb, Format, Global};
use crate::client::Client;
use crate::dev::demo::Demo;
use crate::dev::fleet::Fleet;
use crate::failure::Failure;
use crate::output::{self, note};

/// Callers that share one HTTP/2 connection.
const CALLERS_A_CONNECTION: usize = 64;
/// Not counted, so that connections and caches are warm.
const WARM_UP: Duration = Duration::from_secs(1);
/// How long a follower may take to have everything.
const READ_BACK_WITHIN: Duration = Duration::from_secs(60);

/// What one caller saw.
#[derive(Default)]
struct Seen {
    serials: Vec<String>,
    micros: Vec<u64>,
    errors: u64,
    first_error: Option<String>,
    index_max: u64,
}

/// Runs the verb.
pub async fn run(global: &Global, verb: BenchVerb) -> Result<ExitCode, Failure> {
    let seams = Seams::system();
    let mut name = [0; 6];
    seams.entropy.fill(&mut name);
    let directory = std::env::temp_dir().join(format!("certwright-bench-{}", hex::encode(name)));
    seams.disk.create_dir_all(&directory, 0o700).map_err(|error| Failure::file(directory.display(), error))?;
    let outcome = match verb {
        BenchVerb::Issue { servers, callers, seconds, stream } => {
            measure(&directory, servers, usize::from(callers), u64::from(seconds), stream, &seams).await
        }
        BenchVerb::Failover { servers, callers, kills } => {
            failover::measure(&directory, servers, usize::from(callers), usize::from(kills), &seams).await
        }
        BenchVerb::Agents { servers, agents } => {
            agents::measure(&directory, servers, usize::from(agents), &seams).await
        }
        BenchVerb::Drain { intents, agents, servers } => {
            let herd = Herd { intents: u64::from(intents), agents: usize::from(agents), servers };
            drain::measure(&directory, herd, &seams).await
        }
        BenchVerb::Size { intents, kills } => {
            size::measure(&directory, u64::from(intents), usize::from(kills), &seams).await
        }
    };
    seams.disk.remove_dir_all(&directory).map_err(|error| Failure::file(directory.display(), error))?;
    let value = outcome?;
    match global.output {
        Format::Yaml => output::value(global.output, &value)?,
        _ => output::line(&value.to_string())?,
    }
    let missing = value.get("read_back").is_some_and(|read_back| value["certificates"] != *read_back);
    if value.get("errors").is_some_and(|errors| *errors != 0) || missing {
        let text = format!("{} errors, {} of {} read back", value["errors"], value["read_back"], value["certificates"]);
        return Err(Failure::finding(text, "the figures do not count; look at the first error above"));
    }
    Ok(ExitCode::SUCCESS)
}

async fn measure(
    directory: &Path,
    servers: u8,
    callers: usize,
    seconds: u64,
    stream: bool,
    seams: &Seams,
) -> Result<serde_json::Value, Failure> {
    let mut fleet = Fleet::start(directory, servers, seams.clone()).await?;
    let outcome = async {
        Demo::new(directory, seams.clone(), READ_BACK_WITHIN)?.prepare().await?;
        let context = Context::load(&*seams.disk, &directory.join("context"))?;
        let client = Client::with_context(&context, seams.clone(), Duration::from_secs(seconds) + READ_BACK_WITHIN)?;
        let cluster = crate::status::cluster(&client).await?;
        let leader = cluster.nodes.iter().find(|node| node.role == "leader");
        let leader = leader.ok_or_else(|| Failure::finding("there is no leader", "run it again"))?.api_address.clone();
        let follower =
            cluster.nodes.iter().find(|node| node.role == "follower").map_or(&leader, |node| &node.api_address).clone();
        let connector = Connector::new(&context, seams)?;
        let seen = load(&connector, &leader, callers, Duration::from_secs(seconds), stream).await?;
        let read_back = read_back(&connector, &follower, &seen).await?;
        Ok(report(seen, seconds, servers, callers, stream, read_back))
    }
    .await;
    fleet.stop().await?;
    outcome
}

/// All callers at once, for the time asked.
async fn load(
    connector: &Connector,
    leader: &str,
    callers: usize,
    time: Duration,
    stream: bool,
) -> Result<Seen, Failure> {
    let mut channels = Vec::new();
    for _ in 0..callers.div_ceil(CALLERS_A_CONNECTION) {
        channels.push(connector.connect_to(leader).await?);
    }
    let key = crate::issue::new_key(KeyAlgorithm::EcdsaP256)?;
    let csr: Arc<[u8]> = crate::issue::request(&key, None, &["bench.demo.internal".to_string()])?.into();
    note(&format!(
        "{callers} callers for {} s, {} ...",
        time.as_secs(),
        if stream { "streamed" } else { "one call each" }
    ));
    let start = Instant::now() + WARM_UP;
    let end = start + time;
    let mut tasks = JoinSet::new();
    for caller in 0..callers {
        let (channel, csr) = (channels[caller % channels.len()].clone(), csr.clone());
        tasks.spawn(async move {
            if stream { streamed(channel, csr, start, end).await } else { unary(channel, csr, start, end).await }
        });
    }
    let mut all = Seen::default();
    while let Some(seen) = tasks.join_next().await {
        let seen = seen.map_err(|error| Failure::internal(error.to_string()))?;
        all.serials.extend(seen.serials);
        all.micros.extend(seen.micros);
        all.errors += seen.errors;
        all.index_max = all.index_max.max(seen.index_max);
        all.first_error = all.first_error.or(seen.first_error);
    }
    if let Some(error) = &all.first_error {
        note(&format!("first error: {error}"));
    }
    Ok(all)
}

fn order(csr: &Arc<[u8]>, id: u64) -> v1::IssueRequest {
    v1::IssueRequest {
        issuer: "demo".to_string(),
        csr: csr.to_vec().into(),
        duration: Some(prost_types::Duration { seconds: 3600, nanos: 0 }),
        id,
        ..Default::default()
    }
}

impl Seen {
    fn issued(&mut self, issued: v1::IssueResponse, sent: Instant, start: Instant) {
        self.index_max = self.index_max.max(issued.index);
        if sent >= start {
            self.micros.push(u64::try_from(sent.elapsed().as_micros()).unwrap_or(u64::MAX));
            self.serials.push(issued.serial);
        }
    }

    fn error(&mut self, text: String) {
        self.errors += 1;
        self.first_error.get_or_insert(text);
    }
}

/// One caller with one call after the other.
async fn unary(channel: Channel, csr: Arc<[u8]>, start: Instant, end: Instant) -> Seen {
    let mut client = CertificatesClient::new(channel);
    let mut seen = Seen::default();
    while Instant::now() < end {
        let sent = Instant::now();
        match client.issue(order(&csr, 0)).await {
            Ok(answer) => seen.issued(answer.into_inner(), sent, start),
            Err(status) => seen.error(status.to_string()),
        }
    }
    seen
}

/// One caller with a stream of its own, one request in flight.
async fn streamed(channel: Channel, csr: Arc<[u8]>, start: Instant, end: Instant) -> Seen {
    let mut seen = Seen::default();
    let (send, receive) = tokio::sync::mpsc::channel(1);
    // The first request goes first: the server may answer the stream's headers only when it has something to say.
    let mut sent = Instant::now();
    let _ = send.send(order(&csr, 0)).await;
    let mut answers = match CertificatesClient::new(channel).issue_stream(ReceiverStream::new(receive)).await {
        Ok(answers) => answers.into_inner(),
        Err(status) => {
            seen.error(status.to_string());
            return seen;
        }
    };
    for id in 1.. {
        match answers.message().await {
            Ok(Some(v1::IssueStreamResponse { result: Some(Answer::Issued(issued)), .. })) => {
                seen.issued(issued, sent, start)
            }
            Ok(Some(v1::IssueStreamResponse { result: Some(Answer::Failure(failure)), .. })) => {
                seen.error(format!("{}: {}", failure.reason, failure.message));
            }
            other => {
                seen.error(format!("the stream ended early: {other:?}"));
                break;
            }
        }
        if Instant::now() >= end {
            break;
        }
        sent = Instant::now();
        if send.send(order(&csr, id)).await.is_err() {
            seen.error("the stream was closed".to_string());
            break;
        }
    }
    seen
}

/// How many of the serials a follower has in its log.
async fn read_back(connector: &Connector, follower: &str, seen: &Seen) -> Result<usize, Failure> {
    let wanted: BTreeSet<&str> = seen.serials.iter().map(String::as_str).collect();
    let channel = connector.connect_to(follower).await?;
    let end = Instant::now() + READ_BACK_WITHIN;
    loop {
        let request = v1::WatchRequest {
            from_index: 1,
            to_index: seen.index_max,
            stream_prefix: "direct/".to_string(),
            ..Default::default()
        };
        let mut events = EventsClient::new(channel.clone()).watch(request).await?.into_inner();
        let mut found = BTreeSet::new();
        while let Some(answer) = events.message().await? {
            if let Some(serial) = answer.event.as_ref().and_then(|event| event.stream.strip_prefix("direct/"))
                && let Some(serial) = wanted.get(serial)
            {
                found.insert(*serial);
            }
        }
        if found.len() == wanted.len() || Instant::now() > end {
            return Ok(found.len());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn report(
    mut seen: Seen,
    seconds: u64,
    servers: u8,
    callers: usize,
    stream: bool,
    read_back: usize,
) -> serde_json::Value {
    seen.micros.sort_unstable();
    let quantile = |share: f64| quantile_millis(&seen.micros, share);
    json!({
        "certificates_per_second": (seen.serials.len() as f64 / seconds as f64 * 10.0).round() / 10.0,
        "p50_ms": quantile(0.50), "p99_ms": quantile(0.99), "servers": servers, "errors": seen.errors, "read_back": read_back,
        "certificates": seen.serials.len(), "callers": callers, "mode": if stream { "stream" } else { "unary" }, "seconds": seconds,
    })
}

/// Milliseconds below which that share of them lies; they are sorted.
fn quantile_millis(micros: &[u64], share: f64) -> f64 {
    let place = (micros.len() as f64 * share) as usize;
    micros.get(place.min(micros.len().saturating_sub(1))).map_or(0.0, |micros| *micros as f64 / 1000.0)
}
