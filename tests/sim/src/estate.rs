//! The estate of one run: servers, agents and clients on their machines and on one network, and what drives them.
//!
//! It refuses to know what happens: the story tells that, the nemesis disturbs it.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use certwright_agent::{Agent, AgentOptions, Context};
use certwright_api::bootstrap::{Administrator, bootstrap};
use certwright_api::node::{Advertise, Listen, Node, NodeConfig};
use certwright_core::ids::{Actor, NodeName};
use certwright_core::mutant::{self, Mutant};
use certwright_core::spec::KeyEncoding;
use certwright_core::time::Timestamp;
use certwright_raft::MemoryStore;
use certwright_seams::sim::SeededEntropy;
use certwright_seams::{Entropy, Seams};
use memchr::memmem;
use tokio_util::sync::CancellationToken;

use crate::Options;
use crate::check::Verdict;
use crate::check::pairs::Consumer;
use crate::machine::{Machine, VOLUME};
use crate::stage::Stage;
use crate::trace::Trace;

/// The machine from which people and programs call.
pub(crate) const CLIENT: &str = "client";
/// The machine of somebody who has no business here.
pub(crate) const STRANGER: &str = "stranger";
/// Octets of one file of a server's log, the least that it takes: usual ones of three servers are a gigabyte of memory.
const SEGMENT_OCTETS: u64 = 64 * 1024;
/// Octets of log between two snapshots: a few in every run.
const SNAPSHOT_OCTETS: u64 = 48 * 1024;
/// What a run may take at most, virtually.
const DURATION_MAX: Duration = Duration::from_secs(1200);
/// How often a machine looks for its token.
const POLL: Duration = Duration::from_millis(10);
/// How soon a program that ended by itself is started again, as service managers do.
const RESTART_AFTER: Duration = Duration::from_secs(1);

/// What is asked of whoever drives the simulation, who does it between two ticks.
pub(crate) enum Order {
    /// The process dies; what it wrote stays.
    Kill(String),
    /// The power goes, and what was not synced.
    PowerCut(String),
    /// Whatever should run on that machine is started.
    Start(String),
    /// The same, if somebody took that machine down before this is carried out.
    Revive(String),
    /// Nothing gets from the first to the second.
    Block(String, String),
    /// Everything between them waits until the network is mended.
    Hold(String, String),
    /// Messages between them take at least that long.
    Slow(String, String, Duration),
    /// The network is as it was.
    Mend,
}

/// What machines, people and nemesis tell each other outside the network.
#[derive(Default)]
struct Desk {
    administrator: Option<Vec<u8>>,
    tokens: BTreeMap<String, String>,
    orders: VecDeque<Order>,
    down: std::collections::BTreeSet<String>,
    stops: BTreeMap<String, CancellationToken>,
}

/// All of it.
pub(crate) struct Estate {
    options: Options,
    /// Every machine that is meant for a server.
    hosts: Vec<String>,
    /// Those of them whose servers are members.
    servers: RefCell<Vec<String>>,
    /// Not a member yet; there in some runs.
    spare: Option<String>,
    /// Besieged by strangers; in some runs.
    is_besieged: bool,
    agents: Vec<String>,
    machines: BTreeMap<String, Machine>,
    latency_max: Duration,
    desk: RefCell<Desk>,
    operations: Cell<u64>,
    snapshots: Cell<u64>,
    faults: RefCell<BTreeMap<String, u64>>,
    /// What every agent should have delivered in the end.
    pub(crate) newest: RefCell<BTreeMap<String, String>>,
    /// What happened, as far as it must be the same when the run is repeated.
    pub(crate) trace: Trace,
    /// What was found to be wrong.
    pub(crate) verdict: Verdict,
}

/// The API address of a server.
pub(crate) fn api(server: &str) -> String {
    format!("{server}:7443")
}

impl Estate {
    /// Machines with empty disks: three servers or, in every fourth run, five; one agent or two. In every fourth run one
    /// more server stands by, in every fourth there are strangers.
    pub(crate) fn new(options: Options) -> Rc<Self> {
        let draw = SeededEntropy::new(options.seed ^ 0xe57a7e);
        let named = |kind: &str, count: u64| (1..=count).map(|it| format!("{kind}-{it}")).collect::<Vec<_>>();
        let count = if draw.next_u64().is_multiple_of(4) { 5 } else { 3 };
        let agents = named("agent", 1 + draw.next_u64() % 2);
        let latency_max = Duration::from_millis(2 + draw.next_u64() % 30);
        let spare = draw.next_u64().is_multiple_of(4).then(|| format!("server-{}", count + 1));
        let is_besieged = draw.next_u64().is_multiple_of(4);
        let servers = named("server", count);
        let hosts: Vec<String> = servers.iter().chain(&spare).cloned().collect();
        let names = hosts.iter().chain(&agents).cloned().chain([CLIENT.to_owned()]);
        Rc::new(Self {
            machines: names.map(|name| (name.clone(), Machine::new(options.seed, &name))).collect(),
            latency_max,
            options,
            hosts,
            servers: RefCell::new(servers),
            spare,
            is_besieged,
            agents,
            desk: RefCell::default(),
            operations: Cell::default(),
            snapshots: Cell::default(),
            faults: RefCell::default(),
            newest: RefCell::default(),
            trace: Trace::default(),
            verdict: Verdict::default(),
        })
    }

    /// The network with servers and agents on it.
    pub(crate) fn simulation(self: &Rc<Self>) -> turmoil::Sim<'static> {
        let mut sim = turmoil::Builder::new()
            .rng_seed(self.options.seed)
            .enable_random_order()
            .simulation_duration(DURATION_MAX)
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(self.latency_max)
            .tcp_capacity(4096)
            .build();
        for name in &self.hosts {
            let (estate, host) = (self.clone(), name.clone());
            let program = move || supervised(estate.clone(), host.clone(), serve(estate.clone(), host.clone()));
            sim.host(name.as_str(), program);
        }
        for name in &self.agents {
            let (estate, host) = (self.clone(), name.clone());
            let program = move || supervised(estate.clone(), host.clone(), deliver(estate.clone(), host.clone()));
            sim.host(name.as_str(), program);
        }
        sim
    }

    /// Names of the servers that are members.
    pub(crate) fn servers(&self) -> Vec<String> {
        self.servers.borrow().clone()
    }

    /// Every machine that is meant for a server.
    pub(crate) fn hosts(&self) -> &[String] {
        &self.hosts
    }

    /// The server that stands by, if this run has one.
    pub(crate) fn spare(&self) -> Option<&String> {
        self.spare.as_ref()
    }

    /// A server became a member.
    pub(crate) fn enter(&self, name: &str) {
        self.servers.borrow_mut().push(name.to_owned());
    }

    /// A server was removed.
    pub(crate) fn leave(&self, name: &str) {
        self.servers.borrow_mut().retain(|it| it != name);
    }

    /// Whether strangers are about in this run.
    pub(crate) fn is_besieged(&self) -> bool {
        self.is_besieged
    }

    /// Names of the agents.
    pub(crate) fn agents(&self) -> &[String] {
        &self.agents
    }

    /// All machines are suspended together.
    pub(crate) fn sleep(&self, time: Duration) {
        self.machines.values().for_each(|machine| machine.sleep(time));
    }

    /// A machine, whatever runs on it.
    pub(crate) fn machine(&self, name: &str) -> &Machine {
        &self.machines[name]
    }

    /// A generator of one part of the run's own.
    pub(crate) fn draw(&self, part: u64) -> SeededEntropy {
        SeededEntropy::new(self.options.seed.wrapping_mul(0x9e37_79b9).wrapping_add(part))
    }

    /// The seams of a program that starts on a machine now.
    pub(crate) fn seams(&self, name: &str) -> Seams {
        let is_seeded = !(self.options.is_control && name == self.hosts[0]);
        self.machine(name).seams(is_seeded)
    }

    /// Where an agent delivers a certificate.
    pub(crate) fn live(certificate: &str) -> PathBuf {
        Path::new(VOLUME).join("live").join(certificate)
    }

    /// Counts an operation that was answered.
    pub(crate) fn count(&self) {
        self.operations.set(self.operations.get() + 1);
    }

    /// Counts a fault.
    pub(crate) fn fault(&self, name: &str) {
        *self.faults.borrow_mut().entry(name.to_owned()).or_default() += 1;
    }

    /// Faults so far, by name.
    pub(crate) fn faults(&self) -> BTreeMap<String, u64> {
        self.faults.borrow().clone()
    }

    /// Somebody who looks at what every agent delivers.
    pub(crate) fn consumers(&self) -> Vec<Consumer> {
        let consumer =
            |agent: &String| Consumer::new(agent, Arc::new(self.machine(agent).disk.clone()), Self::live(agent));
        self.agents.iter().map(consumer).collect()
    }

    /// Operations answered so far.
    pub(crate) fn operations(&self) -> u64 {
        self.operations.get()
    }

    /// So many snapshots were compared with a replay.
    pub(crate) fn count_snapshots(&self, count: usize) {
        self.snapshots.set(self.snapshots.get() + count as u64);
    }

    /// Snapshots compared.
    pub(crate) fn snapshots(&self) -> u64 {
        self.snapshots.get()
    }

    /// The administrator's context once the cluster exists.
    pub(crate) async fn administrator(&self) -> Context {
        loop {
            if let Some(octets) = &self.desk.borrow().administrator {
                return Context::parse(octets).expect("a context that was just written");
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Hands a machine the token with which it joins.
    pub(crate) fn give_token(&self, name: &str, token: String) {
        self.desk.borrow_mut().tokens.insert(name.to_owned(), token);
    }

    async fn token(&self, name: &str) -> String {
        loop {
            if let Some(token) = self.desk.borrow().tokens.get(name) {
                return token.clone();
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Has something done at the end of this tick.
    pub(crate) fn order(&self, order: Order) {
        self.desk.borrow_mut().orders.push_back(order);
    }

    /// Has the program on a machine stop in good order, if one runs; it is started again as any other that ended.
    pub(crate) fn stop(&self, name: &str) {
        if let Some(stop) = self.desk.borrow().stops.get(name) {
            stop.cancel();
        }
    }

    /// Whether somebody took that machine down and has not started it since.
    fn is_down(&self, name: &str) -> bool {
        self.desk.borrow().down.contains(name)
    }

    /// Does what was asked for, between two ticks.
    pub(crate) fn obey(&self, sim: &mut turmoil::Sim<'_>) {
        loop {
            let Some(order) = self.desk.borrow_mut().orders.pop_front() else { return };
            match order {
                Order::Kill(name) | Order::PowerCut(name) if self.is_down(&name) => {}
                Order::Kill(name) => {
                    self.machine(&name).disk.kill();
                    sim.crash(name.as_str());
                    self.desk.borrow_mut().down.insert(name);
                }
                Order::PowerCut(name) => {
                    // The disk first: what a program does while it is dropped no longer reaches it.
                    self.machine(&name).disk.crash();
                    sim.crash(name.as_str());
                    self.desk.borrow_mut().down.insert(name);
                }
                Order::Revive(name) if !self.is_down(&name) => {}
                Order::Start(name) | Order::Revive(name) => {
                    self.machine(&name).disk.kill();
                    self.desk.borrow_mut().down.remove(&name);
                    sim.bounce(name.as_str());
                }
                Order::Block(from, to) => sim.partition_oneway(from.as_str(), to.as_str()),
                Order::Hold(one, other) => sim.hold(one.as_str(), other.as_str()),
                Order::Slow(one, other, least) => {
                    sim.set_link_max_message_latency(one.as_str(), other.as_str(), least + self.latency_max);
                }
                Order::Mend => self.mend(sim),
            }
        }
    }

    fn mend(&self, sim: &turmoil::Sim<'_>) {
        let names: Vec<&str> = self.machines.keys().map(String::as_str).collect();
        for (place, one) in names.iter().enumerate() {
            for other in &names[place + 1..] {
                sim.release(*one, *other);
                sim.repair(*one, *other);
                sim.set_link_max_message_latency(*one, *other, self.latency_max);
            }
        }
    }
}

/// Runs a program; when it ends by itself, whatever it says, it is started again.
async fn supervised(
    estate: Rc<Estate>,
    name: String,
    program: impl Future<Output = Result<String, String>>,
) -> turmoil::Result {
    let end = match program.await {
        Ok(end) | Err(end) => end,
    };
    estate.trace.tell(&name, format_args!("ended: {}", end.split(':').next().unwrap_or_default()));
    tracing::info!(%name, %end, "a program ended");
    tokio::time::sleep(RESTART_AFTER).await;
    estate.order(Order::Start(name));
    std::future::pending().await
}

impl Stage for Estate {
    fn servers(&self) -> Vec<String> {
        self.servers()
    }

    fn agents(&self) -> &[String] {
        self.agents()
    }

    fn draw(&self, part: u64) -> SeededEntropy {
        self.draw(part)
    }

    fn kept_by(&self, octets: &[u8]) -> Option<usize> {
        let log = Path::new(VOLUME).join("server/log");
        let kept = |server: &&String| {
            let mut is_found = false;
            let look = |seen: &[u8]| is_found |= memmem::find(seen, octets).is_some();
            // A server without a log keeps nothing.
            let _ = self.machine(server).disk.durable(&log, look);
            is_found
        };
        Some(self.servers().iter().filter(kept).count())
    }

    fn true_time(&self) -> Timestamp {
        self.machine(CLIENT).usual_time(turmoil::sim_elapsed().unwrap_or_default())
    }

    fn count(&self) {
        self.count();
    }

    fn tell(&self, who: &str, what: fmt::Arguments<'_>) {
        self.trace.tell(who, what);
    }

    fn verdict(&self) -> &Verdict {
        &self.verdict
    }
}

fn config(name: &str) -> NodeConfig {
    let address = |port| Some(std::net::SocketAddr::from(([0, 0, 0, 0], port)));
    let named = |port| Some(format!("{name}:{port}"));
    NodeConfig {
        name: Some(NodeName::parse(name).expect("a name")),
        listen: Listen { api: address(7443), raft: address(7444), http: address(7480) },
        advertise: Advertise { api: named(7443), raft: named(7444), http: named(7480) },
        segment_octets: Some(SEGMENT_OCTETS),
        snapshot_octets: Some(SNAPSHOT_OCTETS),
        projection: |_| Ok(Box::new(MemoryStore::default())),
        // A planted bug must be found by a check, not by an assertion of the code.
        strict: !Mutant::ALL.iter().any(|it| mutant::is(*it)),
        ..NodeConfig::new(Path::new(VOLUME).join("server"))
    }
}

fn context_of(administrator: &Administrator, servers: &[String]) -> Context {
    Context {
        cluster_id: administrator.cluster_id,
        actor: Actor::parse(&administrator.name).expect("an administrator's name"),
        servers: servers.iter().map(|server| api(server)).collect(),
        ca_pem: administrator.ca_pem.clone(),
        certificate_pem: administrator.certificate_pem.clone(),
        key_pem: administrator.key.to_pem(KeyEncoding::Pkcs8).expect("a fresh key"),
    }
}

/// A server, as `certwright server --bootstrap` or `--join` runs it, also the second time.
async fn serve(estate: Rc<Estate>, name: String) -> Result<String, String> {
    let (seams, config) = (estate.seams(&name), config(&name));
    if name == estate.hosts[0] {
        let keep = |administrator: &Administrator| {
            let context = context_of(administrator, &estate.hosts);
            estate.desk.borrow_mut().administrator = Some(context.format().to_vec());
            Ok(())
        };
        bootstrap(&config, seams.clone(), keep).await.map_err(|error| error.to_string())?;
    } else {
        let token = estate.token(&name).await;
        // Another one whenever it is started again.
        let server = &estate.hosts[(estate.machine(&name).starts() as usize - 1) % estate.hosts.len()];
        let joined = certwright_api::join(&config, seams.clone(), &api(server), &token).await;
        joined.map_err(|error| error.to_string())?;
    }
    let mut node = Node::start(config, seams).await.map_err(|error| error.to_string())?;
    let stop = CancellationToken::new();
    estate.desk.borrow_mut().stops.insert(name, stop.clone());
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        what = node.ended() => return Err(format!("{what} ended")),
    }
    node.stop().await;
    Ok("stopped".to_owned())
}

/// An agent, as `certwright agent --join` runs it, also the second time.
async fn deliver(estate: Rc<Estate>, name: String) -> Result<String, String> {
    let token = estate.token(&name).await;
    let seams = estate.seams(&name);
    let path = Path::new(VOLUME).join("agent.context");
    if !seams.disk.exists(&path).map_err(|error| error.to_string())? {
        let server = api(&estate.hosts[0]);
        let joined = certwright_agent::join::join(&server, &token, &name, &BTreeMap::new(), &seams).await;
        let context = joined.map_err(|error| error.to_string())?;
        context.save(&*seams.disk, &path).map_err(|error| error.to_string())?;
    }
    let options = AgentOptions::new(path, Path::new(VOLUME).join("agent"), BTreeMap::new());
    let agent = Agent::new(options, seams).await.map_err(|error| error.to_string())?;
    agent.run(CancellationToken::new()).await.map_err(|error| error.to_string())?;
    Ok("ended".to_owned())
}
