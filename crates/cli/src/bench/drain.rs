//! `bench drain`: how soon a herd of certificates that are all due within a minute is renewed, and in which order.
//!
//! It refuses to decide or sign by itself: servers do what they always do, and every key is with an agent that has a session.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use certwright_agent::{Connector, Context};
use certwright_core::Reason;
use certwright_core::spec::KeyAlgorithm;
use certwright_core::time::Timestamp;
use certwright_custody::LeafKey;
use certwright_proto::agent::v1::agent_message::Kind as Up;
use certwright_proto::agent::v1::server_message::Kind as Down;
use certwright_proto::agent::v1::{Assignment, CsrSubmission, Report};
use certwright_seams::Seams;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::agents;
use super::estate::{self, Estate, Shape};
use super::session::{Session, Speaker};
use crate::client::Client;
use crate::dev::demo::Demo;
use crate::dev::fleet::Fleet;
use crate::dev::processes::resident_octets;
use crate::failure::Failure;
use crate::output::note;

/// Within which all become due.
const HERD: Duration = Duration::from_secs(60);
/// What the first life of a certificate has left when it becomes due; those due first end first.
const LEFT: Duration = Duration::from_secs(3600);
/// How long it takes at most, for each certificate, to put it on record and to start servers with it, and besides, for
/// sessions: a herd that is due before does not count.
const DECLARED_WITHIN_EACH: Duration = Duration::from_micros(500);
const STARTED_WITHIN: Duration = Duration::from_secs(30);
/// How long the herd may take.
const PATIENCE: Duration = Duration::from_secs(3600);
/// How long an agent stays away from a server that cannot tell it everything yet, or stopped before it had.
const COME_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What the agents have seen.
#[derive(Default)]
struct Board {
    live: AtomicUsize,
    /// Numbers of the certificates that came, in that order, and when the newest did.
    renewed: Mutex<(Vec<u64>, Option<Instant>)>,
    lost: Mutex<Option<Failure>>,
}

impl Board {
    fn renewed(&self, n: u64) {
        let mut renewed = self.renewed.lock().unwrap_or_else(PoisonError::into_inner);
        renewed.0.push(n);
        renewed.1 = Some(Instant::now());
    }

    fn count(&self) -> usize {
        self.renewed.lock().unwrap_or_else(PoisonError::into_inner).0.len()
    }

    fn check(&self) -> Result<(), Failure> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), Err)
    }
}

/// The certificates that become due, the agents that hold their keys, and who serves them.
#[derive(Clone, Copy)]
pub(super) struct Herd {
    pub(super) intents: u64,
    pub(super) agents: usize,
    pub(super) servers: u8,
}

/// Puts the herd on record, and waits until the agents have all of it.
pub(super) async fn measure(directory: &Path, herd: Herd, seams: &Seams) -> Result<Value, Failure> {
    let mut fleet = Fleet::empty(directory, seams.clone());
    let outcome = run(&mut fleet, directory, herd, seams).await;
    fleet.stop().await?;
    outcome
}

async fn run(fleet: &mut Fleet, directory: &Path, herd: Herd, seams: &Seams) -> Result<Value, Failure> {
    let Herd { intents, agents, servers } = herd;
    fleet.grow(1..=1).await?;
    Demo::new(directory, seams.clone(), PATIENCE)?.prepare().await?;
    let (context, client) = administrator(directory, seams)?;
    let contexts = agents::join_all(agents, &client, &context, seams).await?;
    fleet.stop().await?;
    let starting = DECLARED_WITHIN_EACH.mul_f64(intents as f64) + STARTED_WITHIN;
    let due = Timestamp::from_millis(seams.clock.wall_millis()).plus(starting);
    fill(&directory.join("server-1"), herd, due, seams).await?;
    fleet.restart("server-1")?;
    fleet.grow(2..=servers).await?;
    let (context, client) = administrator(directory, seams)?;
    let (board, mut sessions) = (Arc::new(Board::default()), JoinSet::new());
    for (number, agent) in contexts.into_iter().enumerate() {
        let server = context.servers[number % context.servers.len()].clone();
        sessions.spawn(session(Connector::new(&agent, seams)?, server, board.clone(), seams.clone()));
    }
    let opened = Instant::now();
    while board.live.load(Ordering::Relaxed) < agents {
        board.check()?;
        if opened.elapsed() > PATIENCE {
            return Err(Failure::timed_out(format!(
                "{} of {agents} sessions are live",
                board.live.load(Ordering::Relaxed)
            )));
        }
        sleep(LOOK_EVERY).await;
    }
    let early_millis = due.millis().saturating_sub(seams.clock.wall_millis());
    if early_millis == 0 {
        let text = "certificates were due before all sessions were live";
        return Err(Failure::finding(
            text,
            "the figures would not count: ask for fewer, or leave the machine more room",
        ));
    }
    note(&format!("{agents} sessions are live, {early_millis} ms before the first certificate is due"));
    sleep(Duration::from_millis(early_millis)).await;
    let (start, term, before) = (Instant::now(), term(&client).await?, resident_octets(directory, &*seams.disk)?);
    let (mut most, mut told) = (before, start);
    while board.count() < intents as usize {
        board.check()?;
        if start.elapsed() > PATIENCE {
            return Err(Failure::timed_out(format!("{} of {intents} are renewed", board.count())));
        }
        sleep(LOOK_EVERY).await;
        most = most.max(resident_octets(directory, &*seams.disk)?);
        if told.elapsed() > Duration::from_secs(10) {
            told = Instant::now();
            note(&format!("{} of {intents} are renewed after {} s", board.count(), start.elapsed().as_secs()));
        }
    }
    let (order, end) = board.renewed.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let seconds = end.map_or(Duration::ZERO, |end| end.duration_since(start)).as_secs_f64();
    let terms = self::term(&client).await?.saturating_sub(term);
    sessions.shutdown().await;
    Ok(json!({
        "intents": intents, "agents": agents, "servers": servers,
        "drained_s": seconds, "renewed_per_second": (intents as f64 / seconds).round() as u64,
        "leader_changes": terms, "out_of_order_p99": displacement(&order, 0.99), "out_of_order_max": displacement(&order, 1.0),
        "resident_octets_before": before, "resident_octets_max": most,
    }))
}

fn administrator(directory: &Path, seams: &Seams) -> Result<(Context, Client), Failure> {
    let context = Context::load(&*seams.disk, &directory.join("context"))?;
    let client = Client::with_context(&context, seams.clone(), PATIENCE)?;
    Ok((context, client))
}

async fn term(client: &Client) -> Result<u64, Failure> {
    Ok(crate::status::cluster(client).await?.nodes.iter().map(|node| node.term).max().unwrap_or_default())
}

/// Certificates in the order of their numbers: due one after the other within a minute, and gone an hour later in the same order.
async fn fill(data: &Path, Herd { intents, agents, .. }: Herd, due: Timestamp, seams: &Seams) -> Result<(), Failure> {
    let bare = estate::open(data, None, seams).await?;
    let shape = Shape {
        intents,
        agents: agents as u64,
        agent: |n| agents::agent(n as usize),
        life: Box::new(move |n, _| {
            let renew_at = due.plus(HERD.mul_f64(n as f64 / intents as f64));
            (renew_at, renew_at.plus(LEFT))
        }),
    };
    let start = Instant::now();
    let estate = Arc::new(Estate::new(bare.log.clone(), seams.entropy.clone(), shape));
    estate.declare().await?;
    note(&format!("{intents} certificates are on record after {} s", start.elapsed().as_secs()));
    let index = bare.log.status().applied_index;
    bare.log.wait_projected(index, PATIENCE).await.map_err(|error| Failure::internal(error.to_string()))?;
    bare.log.shutdown().await;
    Ok(())
}

/// By how many places, of the herd's certificates, one came after another that ends later; this quantile of all.
fn displacement(order: &[u64], quantile: f64) -> u64 {
    let mut furthest = 0;
    let mut behind: Vec<u64> = Vec::with_capacity(order.len());
    for n in order {
        furthest = furthest.max(*n);
        behind.push(furthest - n);
    }
    behind.sort_unstable();
    let place = (behind.len() as f64 * quantile).ceil() as usize;
    behind.get(place.saturating_sub(1)).copied().unwrap_or_default()
}

/// One agent's session, until it is over. As agents do, it comes again to a server that fetches what others have on record:
/// such a server is behind at first, and ends sessions when what it told from has given way to a snapshot.
async fn session(connector: Connector, server: String, board: Arc<Board>, seams: Seams) {
    loop {
        let mut is_live = false;
        let Err(failure) = converse(&connector, &server, &board, &seams, &mut is_live).await else { return };
        let comes_again = [Reason::Behind, Reason::NotReady, Reason::Unreachable]
            .iter()
            .any(|reason| failure.code() == reason.code());
        if is_live || !comes_again {
            board.lost.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
            return;
        }
        sleep(COME_AGAIN_AFTER).await;
    }
}

async fn converse(
    connector: &Connector,
    server: &str,
    board: &Board,
    seams: &Seams,
    is_live: &mut bool,
) -> Result<(), Failure> {
    let mut session = Session::open(connector, server, seams).await?;
    // What making a key costs an agent is not the servers' affair.
    let key = crate::issue::new_key(KeyAlgorithm::EcdsaP256)?;
    let (mut done, mut asked) = (BTreeSet::new(), BTreeMap::new());
    loop {
        match session.next().await? {
            Some(Down::Bookmark(bookmark)) if bookmark.complete && !*is_live => {
                *is_live = true;
                board.live.fetch_add(1, Ordering::Relaxed);
            }
            Some(Down::Assignment(assignment)) => {
                assigned(assignment, &key, &mut done, &mut asked, board, &session.speaker).await?;
            }
            Some(Down::CsrAnswer(answer)) => {
                let again = answer.retry_after.and_then(|after| Duration::try_from(after).ok());
                match (again, asked.get(&answer.instance)) {
                    (Some(after), Some(csr)) => {
                        tokio::spawn(say_later(after, Up::Csr(csr.clone()), session.speaker.clone()));
                    }
                    (None, Some(_)) if !answer.reason.is_empty() => {
                        let text = format!("a request was refused: {} {}", answer.reason, answer.message);
                        return Err(Failure::finding(text, "the figures would not count: look at the servers' logs"));
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }
}

/// As agents do when a server is busy.
async fn say_later(after: Duration, kind: Up, speaker: Speaker) {
    sleep(after).await;
    // A session that has ended has told its own end.
    let _ = speaker.say(kind).await;
}

/// Has a wanted certificate made, or says that one is served.
async fn assigned(
    assignment: Assignment,
    key: &LeafKey,
    done: &mut BTreeSet<u64>,
    asked: &mut BTreeMap<String, CsrSubmission>,
    board: &Board,
    speaker: &Speaker,
) -> Result<(), Failure> {
    let n =
        estate::number(&assignment.certificate).ok_or_else(|| Failure::internal("a certificate of another estate"))?;
    let issued = assignment.issued.as_ref().map_or(0, |issued| issued.generation);
    let Assignment { certificate, instance, wanted_generation: wanted, .. } = assignment;
    if wanted > issued {
        let csr = crate::issue::request(key, None, &estate::dns_names(n))?.into();
        let csr = CsrSubmission { certificate, instance: instance.clone(), generation: wanted, csr };
        asked.insert(instance, csr.clone());
        return speaker.say(Up::Csr(csr)).await;
    }
    if issued < 2 || !done.insert(n) {
        return Ok(());
    }
    board.renewed(n);
    asked.remove(&instance);
    let (target, stage) = (estate::TARGET.to_owned(), "served".to_owned());
    let report = Report { certificate, instance, generation: issued, target, stage, id: n + 1, ..Default::default() };
    speaker.say(Up::Report(report)).await
}
