//! The machines of a simulation: a disk, a clock and an address each, and the software that runs on them.
//!
//! It refuses to know what a test wants: it starts machines, cuts their power and starts them again.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use certwright_agent::{Agent, AgentOptions, Context};
use certwright_api::bootstrap::{Administrator, bootstrap};
use certwright_api::node::{Advertise, Listen, Node, NodeConfig};
use certwright_core::ids::{Actor, NodeName};
use certwright_core::spec::KeyEncoding;
use certwright_raft::MemoryStore;
use certwright_seams::sim::{InlineExec, SeededEntropy, SimClock, SimDisk};
use certwright_seams::{Disk, Entropy, Seams};
use certwright_tests::simnet::SimNet;
use tokio_util::sync::CancellationToken;

/// The servers.
pub(super) const SERVERS: [&str; 3] = ["server-1", "server-2", "server-3"];
/// The agent.
pub(super) const AGENT: &str = "agent-1";
/// Every machine's data.
const DATA: &str = "/data";
/// Octets of one file of a server's log, the least that it takes: usual ones of three servers are a gigabyte of memory.
const SEGMENT_OCTETS: u64 = 64 * 1024;
/// Where the clocks start: some day in 2026.
const BASE_MILLIS: u64 = 1_790_000_000_000;
/// How far a clock may be from the others, to either side.
const SKEW_MILLIS_MAX: u64 = 500;
/// What a run may take at most, virtually.
const DURATION_MAX: Duration = Duration::from_secs(300);
/// How often a machine looks for its token.
const POLL: Duration = Duration::from_millis(10);

/// What the story asks of whoever drives the simulation.
enum Order {
    PowerCut(String),
    PowerOn(String),
}

/// What machines and story tell each other outside the network, as people would.
#[derive(Default)]
struct Desk {
    administrator: Option<Vec<u8>>,
    tokens: BTreeMap<String, String>,
    orders: VecDeque<Order>,
    starts: BTreeMap<String, u64>,
}

/// The machines.
pub(super) struct Estate {
    seed: u64,
    disks: BTreeMap<&'static str, SimDisk>,
    desk: Mutex<Desk>,
}

/// The API address of a server.
pub(super) fn api(server: &str) -> String {
    format!("{server}:7443")
}

impl Estate {
    /// Machines with empty disks.
    pub(super) fn new(seed: u64) -> Rc<Self> {
        let disk = |(name, number)| {
            let disk = SimDisk::new(seed.wrapping_mul(100).wrapping_add(number));
            // The volume is there before the software is.
            disk.create_dir_all(Path::new(DATA), 0o700).unwrap();
            disk.sync_dir(Path::new("/")).unwrap();
            (name, disk)
        };
        let disks = SERVERS.into_iter().chain([AGENT]).zip(1..).map(disk).collect();
        Rc::new(Self { seed, disks, desk: Mutex::default() })
    }

    /// The network with every machine on it.
    pub(super) fn simulation(self: &Rc<Self>) -> turmoil::Sim<'static> {
        let draw = SeededEntropy::new(self.seed);
        let mut sim = turmoil::Builder::new()
            .rng_seed(self.seed)
            .enable_random_order()
            .simulation_duration(DURATION_MAX)
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(Duration::from_millis(2 + draw.next_u64() % 30))
            .tcp_capacity(4096)
            .build();
        for name in SERVERS {
            let estate = self.clone();
            sim.host(name, move || serve(estate.clone(), name));
        }
        let estate = self.clone();
        sim.host(AGENT, move || deliver(estate.clone()));
        sim
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap()
    }

    /// A generator of the story's own.
    pub(super) fn entropy(&self) -> SeededEntropy {
        SeededEntropy::new(self.seed ^ 0x5707)
    }

    /// A machine's disk as it is now, whoever runs.
    pub(super) fn disk(&self, name: &str) -> &SimDisk {
        &self.disks[name]
    }

    /// The seams of a program that starts now: another start draws other numbers.
    pub(super) fn seams(&self, name: &str) -> Seams {
        let start = {
            let mut desk = self.desk();
            let starts = desk.starts.entry(name.to_owned()).or_default();
            *starts += 1;
            *starts
        };
        let machine = name.bytes().fold(self.seed, |sum, octet| sum.wrapping_mul(31).wrapping_add(u64::from(octet)));
        let skew = SeededEntropy::new(machine).next_u64() % (2 * SKEW_MILLIS_MAX);
        let clock = SimClock::driven_by(BASE_MILLIS, Arc::new(|| turmoil::sim_elapsed().unwrap_or_default()));
        clock.set_skew_millis(skew as i64 - SKEW_MILLIS_MAX as i64);
        let disk = self.disks.get(name).cloned().unwrap_or_else(|| SimDisk::new(self.seed));
        Seams {
            clock: Arc::new(clock),
            entropy: Arc::new(SeededEntropy::new(machine.wrapping_add(start << 32))),
            net: Arc::new(SimNet),
            disk: Arc::new(disk.boot()),
            exec: Arc::new(InlineExec),
        }
    }

    /// The administrator's context once the cluster exists.
    pub(super) async fn administrator(&self) -> Context {
        loop {
            if let Some(octets) = &self.desk().administrator {
                return Context::parse(octets).unwrap();
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Hands a machine the token with which it joins.
    pub(super) fn give_token(&self, name: &str, token: String) {
        self.desk().tokens.insert(name.to_owned(), token);
    }

    async fn token(&self, name: &str) -> String {
        loop {
            if let Some(token) = self.desk().tokens.get(name) {
                return token.clone();
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Cuts a machine's power at the end of this tick.
    pub(super) fn cut_power(&self, name: &str) {
        self.desk().orders.push_back(Order::PowerCut(name.to_owned()));
    }

    /// Starts a machine again.
    pub(super) fn power_on(&self, name: &str) {
        self.desk().orders.push_back(Order::PowerOn(name.to_owned()));
    }

    /// Does what was asked for, between two ticks.
    pub(super) fn obey(&self, sim: &mut turmoil::Sim<'_>) {
        let orders = std::mem::take(&mut self.desk().orders);
        for order in orders {
            match order {
                Order::PowerCut(name) => {
                    // The disk first: what a program does while it is dropped no longer reaches it.
                    self.disk(&name).crash();
                    sim.crash(name.as_str());
                }
                Order::PowerOn(name) => sim.bounce(name.as_str()),
            }
        }
    }
}

fn config(name: &str) -> NodeConfig {
    let address = |port| Some(std::net::SocketAddr::from(([0, 0, 0, 0], port)));
    let named = |port| Some(format!("{name}:{port}"));
    NodeConfig {
        name: Some(NodeName::parse(name).unwrap()),
        listen: Listen { api: address(7443), raft: address(7444), http: address(7480) },
        advertise: Advertise { api: named(7443), raft: named(7444), http: named(7480) },
        segment_octets: Some(SEGMENT_OCTETS),
        projection: |_| Ok(Box::new(MemoryStore::default())),
        strict: true,
        ..NodeConfig::new(Path::new(DATA).join("server"))
    }
}

fn context_of(administrator: &Administrator) -> Context {
    Context {
        cluster_id: administrator.cluster_id,
        actor: Actor::parse(&administrator.name).unwrap(),
        servers: SERVERS.map(api).to_vec(),
        ca_pem: administrator.ca_pem.clone(),
        certificate_pem: administrator.certificate_pem.clone(),
        key_pem: administrator.key.to_pem(KeyEncoding::Pkcs8).unwrap(),
    }
}

/// A server, as `certwright server --bootstrap` or `--join` runs it, also the second time.
async fn serve(estate: Rc<Estate>, name: &'static str) -> turmoil::Result {
    let (seams, config) = (estate.seams(name), config(name));
    if name == SERVERS[0] {
        let keep = |administrator: &Administrator| {
            estate.desk().administrator = Some(context_of(administrator).format().to_vec());
            Ok(())
        };
        bootstrap(&config, seams.clone(), keep).await?;
    } else {
        let token = estate.token(name).await;
        certwright_api::join(&config, seams.clone(), &api(SERVERS[0]), &token).await?;
    }
    let mut node = Node::start(config, seams).await?;
    Err(format!("{name}: {} ended", node.ended().await).into())
}

/// An agent, as `certwright agent --join` runs it, also the second time.
async fn deliver(estate: Rc<Estate>) -> turmoil::Result {
    let token = estate.token(AGENT).await;
    let seams = estate.seams(AGENT);
    let path = Path::new(DATA).join("agent.context");
    if !seams.disk.exists(&path)? {
        let context = certwright_agent::join::join(&api(SERVERS[0]), &token, AGENT, &BTreeMap::new(), &seams).await?;
        context.save(&*seams.disk, &path)?;
    }
    let options = AgentOptions::new(path, Path::new(DATA).join("agent"), BTreeMap::new());
    Agent::new(options, seams).await?.run(CancellationToken::new()).await?;
    Err("the agent ended".into())
}
