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

use crate::astray::{Callers, go_astray};
use crate::check::promises::Promises;
use crate::check::{history, watch};
use crate::client::{Client, PAUSE, Stuck};
use crate::estate::{CLIENT, Estate};
use crate::nemesis;
use crate::retention::let_go;
use crate::stage::Stage;
use crate::suspension::suspend;
use crate::workload::policy::Granted;
use crate::workload::registers::Registers;
use crate::workload::replacement::Replaced;
use crate::workload::watcher::Watcher;
use crate::workload::{self, ISSUER, Window, churn, policy, replacement};

/// Callers of the registers.
const CALLERS: u64 = 3;
/// A leader that a quorum confirms, once everything works again.
const LEADER_WITHIN: Duration = Duration::from_secs(5);
/// All servers at the same state.
const EQUAL_WITHIN: Duration = Duration::from_secs(30);

/// Tells it.
pub(crate) async fn tell(estate: Rc<Estate>) -> Result<(), Stuck> {
    let (context, seams) = (estate.administrator().await, estate.seams(CLIENT));
    let scene = Scene { estate, context, seams, memory: Memory::default() };
    let (client, watcher) = (scene.caller(), Watcher::default());
    found(&scene.estate, &scene.caller_of(&scene.estate.servers()[0])).await?;
    scene.memory.registers.declare(&client).await?;
    scene.estate.trace.tell("story", format_args!("founded"));
    let following = watcher.follow(&*scene.estate, &client);
    let work = async {
        scene.work().await?;
        scene.settle(&client).await?;
        suspend(&scene.estate, &client).await?;
        scene.settle(&client).await?;
        let ahead = go_astray(&scene.estate, &scene.callers(), &scene.memory.promises, &watcher).await?;
        scene.settle(&client).await?;
        scene.judge(&client, &watcher).await?;
        let callers: Vec<_> = scene.estate.servers().into_iter().map(|it| (it.clone(), scene.caller_of(&it))).collect();
        match let_go(&scene.estate, &callers, &client, ahead).await? {
            true => scene.settle(&client).await,
            false => Ok(()),
        }
    };
    tokio::select! {
        biased;
        done = work => done,
        () = following => unreachable!("it follows for ever"),
    }
}

/// Servers, agents, authorities, issuers, and a certificate for each agent.
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
    client.issuer(ISSUER, ISSUER, &[]).await?;
    policy::declare(client).await?;
    for agent in estate.agents() {
        let declared = client.certificate(workload::certificate(agent, &Estate::live(agent))).await?;
        declared.map_err(|reason| Stuck(format!("declare a certificate: {reason:?}")))?;
    }
    Ok(())
}

/// What callers remember of what they were told.
#[derive(Default)]
struct Memory {
    registers: Registers,
    promises: Promises,
    granted: Granted,
    replaced: Replaced,
    removed: churn::Removed,
}

/// One run after its founding.
struct Scene {
    estate: Rc<Estate>,
    context: Context,
    seams: Seams,
    memory: Memory,
}

impl Scene {
    fn caller(&self) -> Client {
        Client::new(&self.context, &self.seams)
    }

    fn caller_of(&self, server: &str) -> Client {
        Client::of(&self.context, &self.seams, server)
    }

    fn callers(&self) -> Callers {
        let [operating, striking, ordering, renewing, creating] = std::array::from_fn(|_| self.caller());
        Callers { operating, striking, ordering, renewing, creating }
    }

    /// Callers and nemesis at the same time.
    async fn work(&self) -> Result<(), Stuck> {
        let (estate, memory, window) = (&*self.estate, &self.memory, Window::default());
        let using: Vec<Client> = (0..CALLERS).map(|_| self.caller()).collect();
        let readers: Vec<Client> = estate.servers().iter().map(|it| self.caller_of(it)).collect();
        let use_them = |(client, number)| memory.registers.use_them(estate, client, &readers, number, &window);
        let registers = using.iter().zip(0..).map(use_them);
        let [striking, ordering, renewing, racing] = std::array::from_fn(|_| self.caller());
        let [changing, asking, removing, replacing] = std::array::from_fn(|_| self.caller());
        let nemesis = async {
            let done = nemesis::disturb(estate, &striking).await;
            window.close();
            estate.trace.tell("story", format_args!("healed"));
            done
        };
        tokio::try_join!(
            nemesis,
            workload::orders(estate, &ordering, &memory.promises, &window),
            workload::renewals(estate, &renewing, &window),
            workload::race(estate, &racing, &window),
            policy::change(estate, &changing, &window),
            policy::orders(estate, &asking, &memory.granted, &window),
            churn::churn(estate, &self.seams, &removing, &memory.removed, &window),
            replacement::replace(estate, &self.context, &self.seams, &replacing, &memory.replaced),
            futures_util::future::try_join_all(registers),
        )?;
        Ok(())
    }

    /// Waits until the estate is whole: a leader, every server voting, nothing due or under way.
    async fn settle(&self, client: &Client) -> Result<(), Stuck> {
        let healed = Instant::now();
        timeout(LEADER_WITHIN, client.cluster(true))
            .await
            .map_err(|_| Stuck(format!("no leader {LEADER_WITHIN:?} after everything works again")))??;
        client.voters(self.estate.servers().len()).await?;
        loop {
            let seen = client.cluster(true).await?;
            let are_delivered = self.are_delivered(client, seen.token.clone()).await?;
            if seen.due == 0 && seen.open_issuances == 0 && are_delivered {
                return Ok(());
            }
            if healed.elapsed() >= EQUAL_WITHIN {
                return Err(Stuck(format!("what was due is not done, delivered: {are_delivered}: {seen:?}")));
            }
            sleep(PAUSE).await;
        }
    }

    /// Whether every agent says that what was issued last is in place.
    async fn are_delivered(&self, client: &Client, token: Option<v1::Token>) -> Result<bool, Stuck> {
        for agent in self.estate.agents() {
            let status = client.get(&workload::name_of(agent), token.clone()).await?.status.unwrap_or_default();
            // Being ready is not enough: a generation of before that is in place keeps the condition.
            let is_in_place = |instance: &&v1::InstanceStatus| {
                let newest = |it: &&v1::DeliveryStatus| !it.target.is_empty() && it.generation == instance.generation;
                instance.deliveries.iter().find(newest).is_some_and(|it| it.stage == "written" || it.stage == "served")
            };
            let Some(instance) = status.instances.first().filter(is_in_place) else { return Ok(false) };
            self.estate.newest.borrow_mut().insert(agent.clone(), instance.serial.clone());
        }
        Ok(true)
    }

    /// Looks at everything.
    async fn judge(&self, client: &Client, watcher: &Watcher) -> Result<(), Stuck> {
        let (estate, memory) = (&*self.estate, &self.memory);
        let digests = client.digests(estate.servers().len(), EQUAL_WITHIN).await?.digests;
        let first = digests.values().next();
        if digests.values().any(|digest| Some(digest) != first) {
            estate.verdict.report("I4", "digests", format_args!("{digests:?}"));
        }
        churn::check(estate, &self.seams, &memory.removed).await;
        let told_before = replacement::check(estate, &self.context, &self.seams, &memory.replaced).await;
        let now = estate.true_time();
        client.token("agent", "late").await?;
        // Before the histories, so that it cannot have heard of anything that they do not hold yet.
        let told = watcher.told();
        let mut histories: Vec<(String, Vec<v1::Event>)> = told_before.into_iter().collect();
        for server in estate.servers() {
            let history = self.caller_of(&server).events().await?;
            histories.push((server, history));
        }
        history::check(&estate.verdict, &histories);
        let (_, longest) = histories.iter().max_by_key(|(_, events)| events.len()).expect("there are servers");
        history::check_time(&estate.verdict, longest, now);
        memory.promises.check(estate, longest);
        policy::check(estate, &memory.granted, longest);
        watch::check(&estate.verdict, &told, longest);
        memory.registers.check(estate);
        for event in longest {
            let stream = if event.stream.starts_with("direct/") { "direct" } else { &event.stream };
            let (at, place) = (event.at.unwrap_or_default(), history::place(event));
            estate.trace.tell("log", format_args!("{place:?} {stream} {} {at:?} {}", event.r#type, event.actor));
        }
        Ok(())
    }
}
