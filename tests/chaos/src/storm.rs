//! Faults: every kind in its turn strikes a cluster of three servers and an agent at work, ends, and everything is looked
//! at.
//!
//! It refuses a fault in whose time hardly anything was asked: that would prove nothing.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use certwright_agent::Context;
use certwright_proto::v1;
use certwright_seams::sim::SeededEntropy;
use certwright_seams::{Entropy, Seams};
use certwright_sim::check::pairs::Consumer;
use certwright_sim::check::{Violation, history, watch};
use certwright_sim::client::Client;
use certwright_sim::stage::Stage;
use certwright_sim::workload;
use certwright_sim::workload::watcher::Watcher;
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::cluster::{Cluster, Load, PAUSE, administrator, furnish};
use crate::gate::Gates;
use crate::network::{Network, on, real, told};
use crate::room::{Folder, faketime, system};
use crate::server::{Entry, Launch, Server, program};

pub mod fault;

use fault::Fault;

const SERVERS: usize = 3;
const AGENT: &str = "agent-1";
const LOAD: Load = Load { ordering: 4, pause_millis_max: 150 };
/// So much room has each server's disk: more than a cycle takes. Small files of the log, so that a full disk is met within
/// seconds.
const DISK: &str = "size=64m";
const SEGMENT_OCTETS: u64 = 256 * 1024;
/// Operations that must be answered between the moment when a fault strikes and the one when it ends.
const OPERATIONS_MIN: u64 = 50;
/// A fault lasts so much longer at most, until they are.
const ENOUGH_WITHIN: Duration = Duration::from_secs(30);
/// Callers work so long before and after a fault.
const CALM: Duration = Duration::from_millis(500);
/// A leader that a quorum confirms, once everything works again. The machine may be busy with something else.
const LEADER_WITHIN: Duration = Duration::from_secs(20);
/// Everything due is done by then.
const DONE_WITHIN: Duration = Duration::from_secs(60);

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// How often every kind strikes.
    pub cycles: u64,
    /// Only this one.
    pub only: Option<Fault>,
    /// Longest pause of a process.
    pub pause_max: Duration,
    /// Decides whom what strikes, and how hard.
    pub seed: u64,
    /// A bug to plant in the servers.
    pub mutant: Option<String>,
}

/// What came of one kind of fault.
#[derive(Default, Debug, Serialize)]
pub struct Struck {
    times: u64,
    /// Operations that were answered from before it struck until everything was looked at.
    operations: u64,
    /// Of these while it lasted.
    during: u64,
    /// Fewest while it lasted once.
    during_min: u64,
    /// Longest time from the end of a fault until a quorum confirmed a leader.
    leader_millis_max: u128,
}

/// What came of it.
#[derive(Default, Debug, Serialize)]
pub struct Outcome {
    /// By kind.
    pub faults: BTreeMap<String, Struck>,
    /// Operations that were answered and checked.
    pub operations: u64,
    /// Events that one watcher was told over all its connections.
    pub watched: usize,
    /// Whole pairs that one consumer has seen, each newer than the one before.
    pub pairs: usize,
    /// What should not be.
    pub violations: Vec<Violation>,
}

/// Servers, agent, network and what strikes them.
pub struct Scene<'a> {
    cluster: Cluster,
    servers: RefCell<Vec<Server>>,
    agent: RefCell<Option<Child>>,
    consumer: RefCell<Consumer>,
    place: PathBuf,
    network: &'a Network,
    gates: &'a Gates,
    draw: SeededEntropy,
    pause_max: Duration,
    token: String,
}

fn hosts() -> Vec<String> {
    (1..=SERVERS).map(host).chain([AGENT.to_owned()]).collect()
}

fn host(number: usize) -> String {
    format!("server-{number}")
}

/// A program's clock is what this file says.
fn clock_file(place: &Path, host: &str) -> PathBuf {
    place.join(format!("{host}.clock"))
}

fn clock(place: &Path, host: &str) -> Vec<(String, String)> {
    let set = |name: &str, value: String| (name.to_owned(), value);
    vec![
        set("LD_PRELOAD", faketime().unwrap_or_default().display().to_string()),
        set("FAKETIME_TIMESTAMP_FILE", clock_file(place, host).display().to_string()),
        set("FAKETIME_CACHE_DURATION", "1".into()),
        set("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
        set("DONT_FAKE_MONOTONIC", "1".into()),
    ]
}

/// Strikes until every kind has had its turns, each cycle a new cluster, or until something is wrong.
pub async fn run(options: &Options, folder: &Folder) -> Result<Outcome> {
    let (network, gates) = (Network::new(&hosts())?, Gates::open(&hosts(), SERVERS)?);
    let mut outcome = Outcome::default();
    for cycle in 0..options.cycles {
        let (seed, place) = (options.seed + cycle, folder.path().join(format!("cluster-{cycle}")));
        let scene = Scene::found(options, seed, &place, &network, &gates).await.context("founding a cluster")?;
        let done = scene.play(options, &mut outcome).await;
        outcome.operations += scene.cluster.operations();
        outcome.pairs += scene.consumer.borrow().pairs();
        outcome.violations = scene.cluster.verdict.violations();
        eprintln!("seed {seed}: {} violations", outcome.violations.len());
        if !outcome.violations.is_empty() {
            break;
        }
        done?;
        drop(scene);
        std::fs::remove_dir_all(place)?;
    }
    Ok(outcome)
}

impl<'a> Scene<'a> {
    async fn found(options: &Options, seed: u64, place: &Path, network: &'a Network, gates: &'a Gates) -> Result<Self> {
        std::fs::create_dir_all(place)?;
        for host in hosts() {
            std::fs::write(clock_file(place, &host), "+0\n")?;
        }
        let planted = options.mutant.clone().map(|name| ("CERTWRIGHT_MUTANT".to_owned(), name));
        let server = |number: usize| {
            let (name, disk) = (host(number), place.join(host(number)));
            std::fs::create_dir_all(&disk)?;
            system("mount", &["-t", "tmpfs", "-o", DISK, "none", disk.to_str().unwrap_or_default()])?;
            let launch = Launch {
                under: on(&name),
                program: program(if options.mutant.is_some() { "planted" } else { "certwright" })?,
                environment: clock(place, &name).into_iter().chain(planted.clone()).collect(),
                segment_octets: Some(SEGMENT_OCTETS),
                // A server that was given a snapshot does not tell the history before it, and could not be compared.
                snapshot_octets: None,
                listen: real(number),
                advertise: told(number),
            };
            Ok::<_, anyhow::Error>(Server::new(&name, disk.join("data"), place.join(format!("{name}.log")), launch))
        };
        let mut servers = vec![server(1)?];
        servers[0].start(Entry::Founds)?;
        let context = administrator(&mut servers[0]).await?;
        let client = Client::new(&context, &Seams::system());
        for number in 2..=SERVERS {
            let token = client.token("node", "").await?;
            servers.push(server(number)?);
            let first = servers[0].api();
            servers[number - 1].start(Entry::Joins(&first, &token))?;
            client.voters(number).await?;
        }
        furnish(&client).await?;
        let token = client.token("agent", AGENT).await?;
        let declared = client.certificate(workload::certificate(AGENT, &place.join("live"))).await?;
        declared.map_err(|reason| anyhow::anyhow!("declaring a certificate: {reason:?}"))?;
        let context = Context { servers: servers.iter().map(Server::api).collect(), ..context };
        let names = servers.iter().map(|it| it.name.clone()).collect();
        let mut cluster = Cluster::new(context, names, seed, LOAD, Box::new(|_| None));
        cluster.agents = vec![AGENT.to_owned()];
        let consumer = RefCell::new(Consumer::new(AGENT, Seams::system().disk, place.join("live")));
        let (servers, agent) = (RefCell::new(servers), RefCell::default());
        let (place, draw, pause_max) = (place.to_owned(), SeededEntropy::new(seed), options.pause_max);
        let scene = Self { cluster, servers, agent, consumer, place, network, gates, draw, pause_max, token };
        scene.start_agent()?;
        Ok(scene)
    }

    fn start_agent(&self) -> Result<()> {
        let log = std::fs::File::options().create(true).append(true).open(self.place.join("agent-1.log"))?;
        let (words, own) = (on(AGENT), |name: &str| self.place.join(name));
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg(program("certwright-agent")?).arg("--context").arg(own("agent.context"));
        command.arg("--state").arg(own("agent-state")).args(["--join", &format!("{}:7443", told(1)), "--name", AGENT]);
        command.env("CERTWRIGHT_TOKEN", &self.token).envs(clock(&self.place, AGENT));
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        self.agent.replace(Some(child));
        Ok(())
    }

    fn kill_agent(&self) {
        if let Some(mut agent) = self.agent.take() {
            let _ = agent.kill();
            let _ = agent.wait();
        }
    }

    /// One cycle, before a watcher and a consumer.
    async fn play(&self, options: &Options, outcome: &mut Outcome) -> Result<()> {
        let (watcher, following) = (Watcher::default(), self.cluster.client());
        let strikes = async {
            self.strike_all(options, outcome).await?;
            if self.cluster.is_whole() {
                outcome.watched += self.hear(&watcher).await?;
            }
            Ok(())
        };
        tokio::select! {
            biased;
            done = strikes => done,
            () = watcher.follow(&self.cluster, &following) => unreachable!("it follows for ever"),
            never = self.consume() => never,
        }
    }

    fn look(&self) {
        self.consumer.borrow_mut().look(self.cluster.true_time(), &self.cluster.verdict);
    }

    /// Looks at what the agent delivers, all the time.
    async fn consume(&self) -> Result<()> {
        loop {
            self.look();
            sleep(PAUSE).await;
        }
    }

    async fn strike_all(&self, options: &Options, outcome: &mut Outcome) -> Result<()> {
        self.settle().await.context("before the first fault")?;
        for fault in Fault::ALL.iter().filter(|it| options.only.is_none_or(|only| only == **it)) {
            self.strike(*fault, outcome.faults.entry(fault.name().to_owned()).or_default()).await?;
            if !self.cluster.is_whole() {
                break;
            }
        }
        Ok(())
    }

    async fn strike(&self, fault: Fault, struck: &mut Struck) -> Result<()> {
        let before = self.cluster.operations();
        let (began, mut during, mut took) = (Instant::now(), 0, Duration::ZERO);
        let disturbance = async {
            sleep(CALM).await;
            during = fault.strike(self).await.with_context(|| fault.name())?;
            (took, _) = self.settle().await.with_context(|| format!("after {}", fault.name()))?;
            sleep(CALM).await;
            Ok(())
        };
        self.cluster.work(disturbance).await?;
        // Nobody renews any more but the scheduler, every few seconds: nothing is replaced before anybody can see it.
        let (_, newest) = self.settle().await?;
        self.look();
        self.consumer.borrow().check(Some(&newest), &self.cluster.verdict);
        self.cluster.judge().await?;
        let operations = self.cluster.operations() - before;
        struck.during_min = if struck.times == 0 { during } else { struck.during_min.min(during) };
        struck.times += 1;
        struck.operations += operations;
        struck.during += during;
        struck.leader_millis_max = struck.leader_millis_max.max(took.as_millis());
        eprintln!(
            "{} in {:.1?}, {operations} operations, {during} while it lasted, a leader after {took:.1?}",
            fault.name(),
            began.elapsed()
        );
        if during < OPERATIONS_MIN && self.cluster.is_whole() {
            bail!("{}: only {during} operations while it lasted: that proves nothing", fault.name());
        }
        Ok(())
    }

    /// The watcher must be told everything that is there now, and nothing else. Answers how much it was told.
    async fn hear(&self, watcher: &Watcher) -> Result<usize> {
        let history = self.cluster.judge().await?;
        let (first, last) = (history.first().map(history::place), history.last().map(history::place));
        watcher.make_haste();
        let end = Instant::now() + DONE_WITHIN;
        let told = loop {
            let told = watcher.told();
            let heard = || told.iter().flatten().map(history::place);
            if heard().next_back() >= last && heard().next() == first {
                break told;
            }
            if Instant::now() > end {
                let (from, to) = (heard().next(), heard().next_back());
                let what = format_args!("told from {from:?} to {to:?} of {first:?} to {last:?}");
                self.cluster.verdict.report("I8", "watcher", what);
                break told;
            }
            sleep(100 * PAUSE).await;
        };
        watch::check(&self.cluster.verdict, &told, &self.cluster.judge().await?);
        Ok(told.iter().map(Vec::len).sum())
    }

    /// Waits until there is a leader, all servers vote and the agent has what was issued last. Answers how long it took
    /// until there was a leader, and the serial of what was issued last.
    async fn settle(&self) -> Result<(Duration, String)> {
        let (client, began) = (self.cluster.client(), Instant::now());
        tokio::time::timeout(LEADER_WITHIN, client.cluster(true)).await.context("no leader in time")??;
        let took = began.elapsed();
        client.voters(SERVERS).await?;
        let name = workload::name_of(AGENT);
        while began.elapsed() < DONE_WITHIN {
            let seen = client.cluster(true).await?;
            let status = client.get(&name, seen.token).await?.status.unwrap_or_default();
            // Ready is also what was ready before the newest one was issued.
            if let Some(instance) = status.instances.first().filter(|it| is_delivered(it)) {
                return Ok((took, instance.serial.clone()));
            }
            sleep(10 * PAUSE).await;
        }
        bail!("the agent has not delivered what was issued last")
    }

    /// The number of the server that leads. While leadership is handed over nobody does.
    async fn leader(&self) -> Result<usize> {
        let began = Instant::now();
        while began.elapsed() < LEADER_WITHIN {
            let seen = self.cluster.client().cluster(true).await?;
            if let Some(place) = self.cluster.names.iter().position(|name| *name == seen.leader) {
                return Ok(place + 1);
            }
            sleep(PAUSE).await;
        }
        bail!("nobody leads within {LEADER_WITHIN:?}")
    }

    /// Some server that does not lead, and the other one.
    async fn followers(&self) -> Result<(usize, usize, usize)> {
        let leader = self.leader().await?;
        let others: Vec<usize> = (1..=SERVERS).filter(|it| *it != leader).collect();
        let first = self.draw.next_u64() as usize % 2;
        Ok((leader, others[first], others[1 - first]))
    }

    fn signal(&self, number: usize, signal: Signal) -> Result<()> {
        let process = self.servers.borrow()[number - 1].process();
        signal_to(process, signal)
    }

    fn signal_agent(&self, signal: Signal) -> Result<()> {
        signal_to(self.agent.borrow().as_ref().map(Child::id), signal)
    }

    fn kill(&self, number: usize) {
        self.servers.borrow_mut()[number - 1].kill();
    }

    fn start(&self, number: usize) -> Result<()> {
        self.servers.borrow_mut()[number - 1].start(Entry::Belongs)
    }

    fn set_clock(&self, host: &str, seconds: i64) -> Result<()> {
        Ok(std::fs::write(clock_file(&self.place, host), format!("{seconds:+}\n"))?)
    }

    /// Some time between the two.
    fn some(&self, least: Duration, most: Duration) -> Duration {
        let range = most.saturating_sub(least).as_millis() as u64;
        least + Duration::from_millis(self.draw.next_u64() % (range + 1))
    }
}

/// Whether the newest generation is where it should be, and no other one is under way.
fn is_delivered(instance: &v1::InstanceStatus) -> bool {
    let is_there = |it: &v1::DeliveryStatus| {
        it.generation == instance.generation && it.stage == "written" && it.failure_reason.is_empty()
    };
    instance.issuing_generation == 0 && instance.deliveries.iter().any(is_there)
}

fn signal_to(process: Option<u32>, signal: Signal) -> Result<()> {
    let pid = process.and_then(|it| Pid::from_raw(it as i32)).context("it does not run")?;
    Ok(kill_process(pid, signal)?)
}

impl Drop for Scene<'_> {
    fn drop(&mut self) {
        self.kill_agent();
        // A folder cannot be removed while something is mounted in it, nor unmounted while a server uses it.
        for server in std::mem::take(&mut *self.servers.borrow_mut()) {
            let disk = self.place.join(&server.name);
            drop(server);
            let _ = system("umount", &[disk.to_str().unwrap_or_default()]);
        }
    }
}
