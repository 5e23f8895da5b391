//! What happens in every run: a cluster is founded and joined, callers work while the nemesis does, everything heals,
//! and then it must be whole.
//!
//! It refuses sleeps as proof: it waits for what must come, each with a deadline.

use std::rc::Rc;
use std::time::Duration;

use certwright_agent::Context;
use certwright_proto::v1;
use certwright_seams::Seams;
use tokio::time::{Instant, sleep, timeout};

use crate::check::promises::Promises;
use crate::check::{history, watch};
use crate::client::{Client, PAUSE, Stuck};
use crate::estate::{CLIENT, Estate};
use crate::nemesis;
use crate::workload::registers::Registers;
use crate::workload::watcher::Watcher;
use crate::workload::{self, ISSUER, Window};

/// Callers of the registers.
const CALLERS: u64 = 3;
/// A leader that a quorum confirms, once everything works again.
const LEADER_WITHIN: Duration = Duration::from_secs(5);
/// All servers at the same state.
const EQUAL_WITHIN: Duration = Duration::from_secs(30);

/// Tells it.
pub(crate) async fn tell(estate: Rc<Estate>) -> Result<(), Stuck> {
    let (context, seams) = (estate.administrator().await, estate.seams(CLIENT));
    let client = Client::new(&context, &seams);
    found(&estate, &Client::of(&context, &seams, &estate.servers()[0])).await?;
    estate.trace.tell("story", format_args!("founded"));

    let (registers, promises, watcher) = (Registers::default(), Promises::default(), Watcher::default());
    registers.declare(&client).await?;
    let following = watcher.follow(&estate, &client);
    let work = async {
        work(&estate, &context, &seams, &registers, &promises).await?;
        settle(&estate, &client).await?;
        judge(&estate, &context, &seams, &promises, &watcher).await?;
        registers.check(&estate);
        Ok(())
    };
    tokio::select! {
        biased;
        done = work => done,
        () = following => unreachable!("it follows for ever"),
    }
}

/// Servers, agents, authorities, issuer, and a certificate for each agent.
async fn found(estate: &Estate, client: &Client) -> Result<(), Stuck> {
    for (number, server) in estate.servers().iter().enumerate().skip(1) {
        estate.give_token(server, client.token("node", "").await?);
        client.voters(number + 1).await?;
    }
    for agent in estate.agents() {
        estate.give_token(agent, client.token("agent", agent).await?);
    }
    client.authority("demo-root", "").await?;
    client.authority(ISSUER, "demo-root").await?;
    client.issuer(ISSUER).await?;
    for agent in estate.agents() {
        let declared = client.certificate(workload::certificate(agent)).await?;
        declared.map_err(|reason| Stuck(format!("declare a certificate: {reason:?}")))?;
    }
    Ok(())
}

/// Callers and nemesis at the same time.
async fn work(
    estate: &Estate,
    context: &Context,
    seams: &Seams,
    registers: &Registers,
    promises: &Promises,
) -> Result<(), Stuck> {
    let window = Window::default();
    let caller = || Client::new(context, seams);
    let (ordering, renewing, racing, striking) = (caller(), caller(), caller(), caller());
    let using: Vec<Client> = (0..CALLERS).map(|_| caller()).collect();
    let register = using.iter().zip(0..).map(|(client, number)| registers.use_them(estate, client, number, &window));
    let nemesis = async {
        let done = nemesis::disturb(estate, &striking).await;
        window.close();
        estate.trace.tell("story", format_args!("healed"));
        done
    };
    tokio::try_join!(
        nemesis,
        workload::orders(estate, &ordering, promises, &window),
        workload::renewals(estate, &renewing, &window),
        workload::race(estate, &racing, &window),
        futures_util::future::try_join_all(register),
    )?;
    Ok(())
}

/// Waits until the estate is whole: a leader, every server voting, nothing due or under way.
async fn settle(estate: &Estate, client: &Client) -> Result<(), Stuck> {
    let healed = Instant::now();
    timeout(LEADER_WITHIN, client.cluster(true))
        .await
        .map_err(|_| Stuck(format!("no leader {LEADER_WITHIN:?} after everything works again")))??;
    client.voters(estate.servers().len()).await?;
    while healed.elapsed() < EQUAL_WITHIN {
        let seen = client.cluster(true).await?;
        if seen.due == 0 && seen.open_issuances == 0 && are_delivered(estate, client, seen.token).await? {
            return Ok(());
        }
        sleep(PAUSE).await;
    }
    Err(Stuck("what was due is not done".to_owned()))
}

/// Whether every agent says that what was issued last is in place.
async fn are_delivered(estate: &Estate, client: &Client, token: Option<v1::Token>) -> Result<bool, Stuck> {
    for agent in estate.agents() {
        let status = client.get(&workload::name_of(agent), token.clone()).await?.status.unwrap_or_default();
        let is_ready = status.conditions.iter().any(|it| it.r#type == "Ready" && it.status == "True");
        let Some(instance) = status.instances.first().filter(|_| is_ready) else { return Ok(false) };
        estate.newest.borrow_mut().insert(agent.clone(), instance.serial.clone());
    }
    Ok(true)
}

/// Looks at everything.
async fn judge(
    estate: &Estate,
    context: &Context,
    seams: &Seams,
    promises: &Promises,
    watcher: &Watcher,
) -> Result<(), Stuck> {
    let client = Client::new(context, seams);
    let digests = client.digests(estate.servers().len(), EQUAL_WITHIN).await?.digests;
    let first = digests.values().next();
    if digests.values().any(|digest| Some(digest) != first) {
        estate.verdict.report("I4", "digests", format_args!("{digests:?}"));
    }
    // Before the histories, so that it cannot have heard of anything that they do not hold yet.
    let told = watcher.told();
    let mut histories: Vec<(String, Vec<v1::Event>)> = Vec::new();
    for server in estate.servers() {
        histories.push((server.clone(), Client::of(context, seams, server).events().await?));
    }
    history::check(&estate.verdict, &histories);
    let (_, longest) = histories.iter().max_by_key(|(_, events)| events.len()).expect("there are servers");
    promises.check(estate, longest);
    watch::check(&estate.verdict, &told, longest);
    for event in longest {
        let stream = if event.stream.starts_with("direct/") { "direct" } else { &event.stream };
        let (at, place) = (event.at.unwrap_or_default(), history::place(event));
        estate.trace.tell("log", format_args!("{place:?} {stream} {} {at:?} {}", event.r#type, event.actor));
    }
    Ok(())
}
