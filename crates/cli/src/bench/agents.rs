//! `bench agents`: how soon many sessions are live, what one costs a server, and how soon an event reaches its agent.
//!
//! It refuses to measure the agents' own files: sessions are real, with identity, certificate and requests each, and write
//! nothing.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use certwright_agent::{Connector, Context};
use certwright_core::spec::KeyAlgorithm;
use certwright_proto::agent::v1::agent_message::Kind as Up;
use certwright_proto::agent::v1::server_message::Kind as Down;
use certwright_proto::agent::v1::{Assignment, CsrSubmission};
use certwright_proto::v1;
use certwright_proto::v1::certificates_client::CertificatesClient;
use certwright_proto::v1::tokens_client::TokensClient;
use certwright_seams::Seams;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep};

use super::quantile_millis;
use super::session::{Session, Speaker};
use crate::client::Client;
use crate::dev::demo::Demo;
use crate::dev::fleet::Fleet;
use crate::dev::processes::resident_octets;
use crate::failure::Failure;
use crate::output::note;

/// Agents that join, certificates that are declared, and sessions that are opened at once.
const AT_ONCE: usize = 64;
/// How long everything may take.
const PATIENCE: Duration = Duration::from_secs(900);
/// Between two renewals that are asked for.
const RENEW_EVERY: Duration = Duration::from_millis(10);
/// How long sessions stay idle before their memory is looked at.
const IDLE: Duration = Duration::from_secs(5);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What one agent has been through.
#[derive(Default)]
struct Progress {
    /// From connecting to the whole scope.
    live_micros: Option<u64>,
    /// The newest generation it holds.
    issued: u64,
    /// When its next generation was asked for by the administrator.
    asked: Option<Instant>,
    /// From there to the agent hearing of it, and to its certificate.
    heard_micros: Option<u64>,
    held_micros: Option<u64>,
    lost: Option<Failure>,
}

type Board = Arc<Vec<Mutex<Progress>>>;

/// Opens that many sessions and renews every agent's certificate.
pub(super) async fn measure(directory: &Path, servers: u8, agents: usize, seams: &Seams) -> Result<Value, Failure> {
    let mut fleet = Fleet::start(directory, servers, seams.clone()).await?;
    let outcome = run(directory, servers, agents, seams).await;
    fleet.stop().await?;
    outcome
}

async fn run(directory: &Path, servers: u8, agents: usize, seams: &Seams) -> Result<Value, Failure> {
    Demo::new(directory, seams.clone(), PATIENCE)?.prepare().await?;
    let context = Context::load(&*seams.disk, &directory.join("context"))?;
    let client = Client::with_context(&context, seams.clone(), PATIENCE)?;
    let contexts = join_all(agents, &client, &context, seams).await?;
    stream::iter(0..agents).map(|number| declare(number, &client)).buffered(AT_ONCE).try_collect::<Vec<()>>().await?;
    let board: Board = Arc::new((0..agents).map(|_| Mutex::default()).collect());
    let before = resident_octets(directory, &*seams.disk)?;
    let began = Instant::now();
    let mut sessions = JoinSet::new();
    for (number, context) in contexts.iter().enumerate() {
        let (connector, server) =
            (Connector::new(context, seams)?, context.servers[number % context.servers.len()].clone());
        sessions.spawn(session(number, connector, server, board.clone(), seams.clone()));
    }
    until(&board, |it| it.live_micros.is_some()).await?;
    let live = began.elapsed();
    note(&format!("{agents} sessions live after {:.1} s", live.as_secs_f64()));
    until(&board, |it| it.issued > 0).await?;
    note(&format!("{agents} certificates issued after {:.1} s", began.elapsed().as_secs_f64()));
    sleep(IDLE).await;
    let idle = resident_octets(directory, &*seams.disk)?.saturating_sub(before) / agents as u64;
    let mut pace = interval(RENEW_EVERY);
    for number in 0..agents {
        pace.tick().await;
        at(&board, number).asked = Some(Instant::now());
        let request = v1::RenewCertificateRequest { name: name(number), request_id: client.request_id() };
        let call = |channel, request| async move { CertificatesClient::new(channel).renew_certificate(request).await };
        client.call(request, call).await?;
    }
    until(&board, |it| it.held_micros.is_some()).await?;
    sessions.shutdown().await;
    let sorted = |of: fn(&Progress) -> Option<u64>| {
        let mut micros: Vec<u64> = (0..agents).filter_map(|number| of(&at(&board, number))).collect();
        micros.sort_unstable();
        micros
    };
    let (lives, heard, held) = (sorted(|it| it.live_micros), sorted(|it| it.heard_micros), sorted(|it| it.held_micros));
    Ok(json!({
        "agents": agents, "servers": servers, "all_live_s": live.as_secs_f64(),
        "live_p99_ms": quantile_millis(&lives, 0.99), "renewals": heard.len(),
        "asked_to_heard_p50_ms": quantile_millis(&heard, 0.50), "asked_to_heard_p99_ms": quantile_millis(&heard, 0.99),
        "asked_to_held_p50_ms": quantile_millis(&held, 0.50), "asked_to_held_p99_ms": quantile_millis(&held, 0.99),
        "resident_octets_a_session": idle,
    }))
}

/// Identities of that many agents.
pub(super) async fn join_all(
    agents: usize,
    client: &Client,
    administrator: &Context,
    seams: &Seams,
) -> Result<Vec<Context>, Failure> {
    let began = Instant::now();
    let joined = stream::iter(0..agents).map(|number| join(number, client, administrator, seams));
    let contexts = joined.buffered(AT_ONCE).try_collect().await?;
    note(&format!("{agents} agents joined after {} s", began.elapsed().as_secs()));
    Ok(contexts)
}

fn at(board: &Board, number: usize) -> std::sync::MutexGuard<'_, Progress> {
    board[number].lock().unwrap_or_else(PoisonError::into_inner)
}

/// An agent's name.
pub(super) fn agent(number: usize) -> String {
    format!("bench-{number}")
}

fn name(number: usize) -> String {
    format!("namespaces/default/certificates/{}", agent(number))
}

/// An agent's identity, by a token of its own.
async fn join(number: usize, client: &Client, administrator: &Context, seams: &Seams) -> Result<Context, Failure> {
    let request = v1::CreateTokenRequest {
        role: "agent".to_owned(),
        agent: agent(number),
        request_id: client.request_id(),
        ..Default::default()
    };
    let call = |channel, request| async move { TokensClient::new(channel).create_token(request).await };
    let token = client.call(request, call).await?.secret;
    let server = &administrator.servers[number % administrator.servers.len()];
    let labels = Default::default();
    let mut context = certwright_agent::join::join(server, &token, &agent(number), &labels, seams).await?;
    context.servers = administrator.servers.clone();
    Ok(context)
}

/// A certificate for that agent.
async fn declare(number: usize, client: &Client) -> Result<(), Failure> {
    let files = v1::FilesSink { directory: format!("/bench/{number}"), ..Default::default() };
    let target =
        v1::Target { name: "files".to_owned(), agent: agent(number), files: Some(files), ..Default::default() };
    let spec = v1::CertificateSpec {
        dns_names: vec![format!("{}.demo.internal", agent(number))],
        issuer: "demo".to_owned(),
        targets: vec![target],
        ..Default::default()
    };
    let certificate = v1::Certificate { name: name(number), spec: Some(spec), ..Default::default() };
    let request = v1::CreateCertificateRequest {
        certificate: Some(certificate),
        request_id: client.request_id(),
        ..Default::default()
    };
    let call = |channel, request| async move { CertificatesClient::new(channel).create_certificate(request).await };
    client.call(request, call).await.map(drop)
}

/// One agent's session, until it is over.
async fn session(number: usize, connector: Connector, server: String, board: Board, seams: Seams) {
    if let Err(failure) = converse(number, &connector, &server, &board, &seams).await {
        at(&board, number).lost = Some(failure);
    }
}

async fn converse(
    number: usize,
    connector: &Connector,
    server: &str,
    board: &Board,
    seams: &Seams,
) -> Result<(), Failure> {
    let began = Instant::now();
    let mut session = Session::open(connector, server, seams).await?;
    loop {
        match session.next().await? {
            Some(Down::Bookmark(bookmark)) if bookmark.complete => {
                at(board, number).live_micros.get_or_insert(micros(began));
            }
            Some(Down::Assignment(assignment)) => assigned(number, assignment, board, &session.speaker).await?,
            _ => {}
        }
    }
}

/// Notes what came, and asks for what is wanted.
async fn assigned(number: usize, assignment: Assignment, board: &Board, speaker: &Speaker) -> Result<(), Failure> {
    let issued = assignment.issued.as_ref().map_or(0, |issued| issued.generation);
    let wanted = assignment.wanted_generation;
    {
        let mut progress = at(board, number);
        if let Some(asked) = progress.asked {
            if wanted > progress.issued || issued > progress.issued {
                progress.heard_micros.get_or_insert(micros(asked));
            }
            if issued > progress.issued {
                progress.held_micros.get_or_insert(micros(asked));
            }
        }
        progress.issued = progress.issued.max(issued);
    }
    if wanted <= issued {
        return Ok(());
    }
    let names = [format!("{}.demo.internal", agent(number))];
    let csr = crate::issue::request(&crate::issue::new_key(KeyAlgorithm::EcdsaP256)?, None, &names)?;
    let Assignment { certificate, instance, .. } = assignment;
    speaker.say(Up::Csr(CsrSubmission { certificate, instance, generation: wanted, csr: csr.into() })).await
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// Waits until it is true of every agent; the first session that is lost ends it.
async fn until(board: &Board, is_done: impl Fn(&Progress) -> bool) -> Result<(), Failure> {
    let end = Instant::now() + PATIENCE;
    let mut next = 0;
    while next < board.len() {
        if let Some(failure) = at(board, next).lost.take() {
            return Err(failure.about(format!("the session of {} was lost", agent(next))));
        }
        if is_done(&at(board, next)) {
            next += 1;
        } else if Instant::now() > end {
            return Err(Failure::timed_out(format!("{} is not there yet", agent(next))));
        } else {
            sleep(LOOK_EVERY).await;
        }
    }
    Ok(())
}
