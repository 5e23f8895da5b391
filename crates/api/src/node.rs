//! One server: opens its data, joins consensus, serves its three ports, and stops in good order.
//!
//! It refuses to create anything: `bootstrap` and `join` prepare the data directory, `Node` runs what is there.

mod ports;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use certwright_core::ids::{ClusterId, NodeName};
use certwright_core::{Reason, Rejection, State};
use certwright_custody::{NodeSeal, SealedCustody};
use certwright_issuance::control::{Control, ControlOptions, RENEWALS_PERCENT, TRIM_OCTETS};
use certwright_issuance::projector::Projection;
use certwright_proto::storage::DomainCodec;
use certwright_raft::{Log, LogOptions, Member, OpenError, ProjectionError, ProjectionStore, SledStore};
use certwright_seams::Seams;
use certwright_seams::net::Listener;
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::backup::schedule::{self, Schedule};
use crate::data_dir::{DataDir, Phase, Record};
use crate::doors::{Doors, Who};
use crate::limits::{Bounds, DRAIN_TIMEOUT};
use crate::metrics::Metrics;
use crate::session::news;
use crate::tls::{self, ServerIdentity};

/// Where a server listens; what is absent is taken from the data directory, or from the usual ports at first.
#[derive(Clone, Copy, Debug, Default)]
pub struct Listen {
    /// gRPC for clients and agents; 127.0.0.1:7443 at first.
    pub api: Option<SocketAddr>,
    /// Consensus and forwarding between servers; 127.0.0.1:7444 at first.
    pub raft: Option<SocketAddr>,
    /// Liveness, readiness, metrics; 127.0.0.1:7480 at first.
    pub http: Option<SocketAddr>,
}

/// How others reach a server, `host:port`; where it listens when absent. Fixed at bootstrap or join.
#[derive(Clone, Debug, Default)]
pub struct Advertise {
    /// The API port.
    pub api: Option<String>,
    /// The internal port.
    pub raft: Option<String>,
    /// The HTTP port.
    pub http: Option<String>,
}

/// Timers of consensus.
#[derive(Clone, Copy, Debug)]
pub struct Timers {
    /// Shortest and longest wait for a leader, milliseconds.
    pub election_millis: (u64, u64),
    /// Between heartbeats, milliseconds.
    pub heartbeat_millis: u64,
}

impl Default for Timers {
    fn default() -> Self {
        Self::for_round_trips(Duration::from_millis(100))
    }
}

impl Timers {
    /// Timers for servers whose slowest round trip takes no longer than that: an answer to a heartbeat comes before the next
    /// one, and a leader is missed after five round trips at the earliest.
    pub fn for_round_trips(longest: Duration) -> Self {
        let millis = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX).clamp(10, 60_000);
        Self { election_millis: (5 * millis, 10 * millis), heartbeat_millis: millis + millis / 2 }
    }
}

/// Opens the projection of a server, in that directory when it is kept on disk.
pub type OpenProjection = fn(&Path) -> Result<Box<dyn ProjectionStore>, ProjectionError>;

/// How a server is started.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Its data directory.
    pub data: PathBuf,
    /// Its name for people; fixed at bootstrap or join, `server-1` when absent.
    pub name: Option<NodeName>,
    /// Where it listens.
    pub listen: Listen,
    /// How others reach it.
    pub advertise: Advertise,
    /// Timers of consensus.
    pub timers: Timers,
    /// Octets of one file of the log; the log's own choice when absent.
    pub segment_octets: Option<u64>,
    /// A snapshot is cut when that many octets of log were applied; the log's own choice when absent.
    pub snapshot_octets: Option<u64>,
    /// Where the projection is kept: sled, which knows no disk but the machine's, or memory in simulation.
    pub projection: OpenProjection,
    /// Of the estate's instances, how many per cent may be renewed in an hour while renewals are held back.
    pub renewals_percent: u8,
    /// Backups that it makes by itself.
    pub backups: Option<Schedule>,
    /// What may be under way or open at once.
    pub bounds: Bounds,
    /// Panic where a replica refuses a transaction; for tests.
    pub strict: bool,
}

impl NodeConfig {
    /// The usual configuration for a data directory.
    pub fn new(data: PathBuf) -> Self {
        Self {
            data,
            name: None,
            listen: Listen::default(),
            advertise: Advertise::default(),
            timers: Timers::default(),
            segment_octets: None,
            snapshot_octets: None,
            projection: |path| Ok(Box::new(SledStore::open(path)?)),
            renewals_percent: RENEWALS_PERCENT,
            backups: None,
            bounds: Bounds::default(),
            strict: false,
        }
    }
}

/// A running server.
pub struct Node {
    doors: Arc<Doors>,
    record: Record,
    addresses: Addresses,
    identity: Arc<ServerIdentity>,
    shutdown: CancellationToken,
    tasks: JoinSet<&'static str>,
    // Last: the lock on the directory outlives everything that writes into it.
    _data: DataDir,
}

/// Where a server in fact listens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Addresses {
    /// The API port.
    pub api: SocketAddr,
    /// The internal port.
    pub raft: SocketAddr,
    /// The HTTP port.
    pub http: SocketAddr,
}

impl Node {
    /// Starts the server that lives in a data directory. `NOT_INITIALIZED` when none does.
    pub async fn start(config: NodeConfig, seams: Seams) -> Result<Self, Rejection> {
        let data = DataDir::open(&config.data, seams.disk.clone())?;
        let mut record = member_record(&data)?;
        data.check_log(&record)?;
        let cluster = record.cluster()?;
        let (certified, system_authority) = certified(&data)?;
        let listeners = Listeners::bind(&config.listen, &record, &seams).await?;
        let addresses = listeners.addresses()?;

        let registry = prometheus::Registry::new();
        let rooms = Rooms::open(&config, &record, &data, certified.clone(), &registry, &seams).await?;
        data.remember_log(&mut record)?;
        rooms.log.trust(known_peers(&data)?);
        let who = Who {
            cluster,
            epoch: record.epoch,
            node_id: record.node_id,
            name: record.node_name()?,
            data: config.data.clone(),
        };
        let metrics = Metrics::register(&registry);
        let doors = Arc::new(Doors::new(rooms, seams.clone(), who, metrics, config.bounds));
        let identity = ServerIdentity::new(certified);
        let shutdown = CancellationToken::new();
        let tls = tls::server_config(identity.clone(), system_authority, seams.clock.clone())?;
        tokio::spawn(news::run(doors.clone()));
        let tasks = ports::serve(&doors, listeners, tls, &shutdown);
        if let Some(schedule) = config.backups.clone() {
            tokio::spawn(schedule::run(doors.clone(), schedule, doors.draining.clone()));
        }
        tracing::info!(node = record.node_id, name = %record.name, api = %addresses.api, "serving");
        Ok(Self { doors, record, addresses, identity, shutdown, tasks, _data: data })
    }

    /// Where it listens.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Who it is.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The certificate it shows on the API port; exchangeable while it serves.
    pub fn identity(&self) -> &Arc<ServerIdentity> {
        &self.identity
    }

    /// Waits until the cluster has a leader and this server knows it.
    pub async fn ready(&self) {
        let mut leadership = self.doors.log.leadership();
        // An error means that the log has stopped, which `ended` reports.
        let _ = leadership.wait_for(|it| it.ready || (it.leader.is_some() && !it.is_self)).await;
    }

    /// Resolves when a port or the log ended by itself, with its name.
    pub async fn ended(&mut self) -> &'static str {
        match self.tasks.join_next().await {
            Some(Ok(name)) => name,
            Some(Err(error)) => {
                tracing::error!(%error, "a task of the server failed");
                "a task"
            }
            None => std::future::pending().await,
        }
    }

    /// Stops in good order: streams are told to go elsewhere, leadership is handed over, then everything ends.
    pub async fn stop(mut self) {
        tracing::info!("stopping");
        self.doors.draining.cancel();
        // Before the ports close: whoever leads is asked through them, and nobody has to wait out an election.
        self.doors.control.hand_over().await;
        let drained = async { while self.tasks.join_next().await.is_some() {} };
        self.shutdown.cancel();
        if tokio::time::timeout(DRAIN_TIMEOUT, drained).await.is_err() {
            tracing::debug!("some connections did not end in time and are cut");
        }
        self.doors.log.shutdown().await;
        self.tasks.shutdown().await;
    }
}

/// The log of a server that does not run, opened without its doors and the leader's rooms: for measurements.
pub struct BareLog {
    /// The log; its entries are decided by whoever holds it.
    pub log: Log<State>,
    registry: prometheus::Registry,
    // Last: the lock on the directory outlives everything that writes into it.
    _data: DataDir,
}

impl BareLog {
    /// Opens the log of the server that lives in a data directory.
    pub async fn open(config: &NodeConfig, seams: &Seams) -> Result<Self, Rejection> {
        let data = DataDir::open(&config.data, seams.disk.clone())?;
        let record = member_record(&data)?;
        data.check_log(&record)?;
        let (identity, _) = certified(&data)?;
        let registry = prometheus::Registry::new();
        let (log, _) = open_log(config, &record, &data, identity, &registry, seams).await?;
        Ok(Self { log, registry, _data: data })
    }

    /// How often a histogram without labels was told something, and the sum of that; the value of a counter twice.
    pub fn metric(&self, name: &str) -> (f64, f64) {
        let families = self.registry.gather();
        let metrics = families.iter().filter(|family| family.name() == name).flat_map(|family| family.get_metric());
        metrics.fold((0.0, 0.0), |(count, sum), metric| {
            let (counter, histogram) = (metric.get_counter().get_value(), metric.get_histogram());
            (count + counter + histogram.get_sample_count() as f64, sum + counter + histogram.get_sample_sum())
        })
    }
}

/// The log and the leader's rooms, opened; shared by `Node` and `bootstrap`.
pub(crate) struct Rooms {
    pub(crate) log: Log<State>,
    pub(crate) control: Control,
    pub(crate) seal: Arc<NodeSeal>,
}

impl Rooms {
    pub(crate) async fn open(
        config: &NodeConfig,
        record: &Record,
        data: &DataDir,
        identity: Arc<CertifiedKey>,
        registry: &prometheus::Registry,
        seams: &Seams,
    ) -> Result<Self, Rejection> {
        let seal = Arc::new(open_seal(data, seams)?);
        let (log, looked_up) = open_log(config, record, data, identity, registry, seams).await?;
        let custody = Arc::new(SealedCustody::new(seams.entropy.clone(), seams.exec.clone()));
        let options = ControlOptions {
            renewals_percent: config.renewals_percent,
            trim_octets: config.segment_octets.unwrap_or(TRIM_OCTETS),
            registry: registry.clone(),
            projection: Some(looked_up),
            adopt: crate::trace::adopt,
            link: crate::trace::link,
        };
        let control = Control::start(log.clone(), custody, seal.clone(), seams.clone(), options);
        Ok(Self { log, control, seal })
    }
}

async fn open_log(
    config: &NodeConfig,
    record: &Record,
    data: &DataDir,
    identity: Arc<CertifiedKey>,
    registry: &prometheus::Registry,
    seams: &Seams,
) -> Result<(Log<State>, Arc<Projection>), Rejection> {
    let ClusterId(cluster_id) = record.cluster()?;
    let mut options = LogOptions::new(data.path().to_path_buf(), cluster_id, record.node_id, record.epoch);
    options.election_millis = config.timers.election_millis;
    options.heartbeat_millis = config.timers.heartbeat_millis;
    options.segment_octets = config.segment_octets.unwrap_or(options.segment_octets);
    options.snapshot_every_octets = config.snapshot_octets.unwrap_or(options.snapshot_every_octets);
    options.strict = config.strict;
    options.registry = registry.clone();
    let projection = (config.projection)(&data.path().join("projection"))
        .map_err(|error| Rejection::new(Reason::StorageFailed, format!("cannot open the projection: {error}")))?;
    let looked_up = Arc::new(Projection::new(registry));
    let log = Log::open(options, seams.clone(), Arc::new(DomainCodec), looked_up.clone(), projection, identity)
        .await
        .map_err(open_failed)?;
    Ok((log, looked_up))
}

/// The server's certificate with its key, and the authority that issued it.
fn certified(data: &DataDir) -> Result<(Arc<CertifiedKey>, CertificateDer<'static>), Rejection> {
    let chain = data.certificates()?.ok_or_else(|| not_initialized(data))?;
    let chain = tls::certificates(&chain)?;
    let system_authority = chain.last().cloned().ok_or_else(|| not_initialized(data))?;
    Ok((tls::certified_key(chain, &data.node_key()?)?, system_authority))
}

pub(crate) fn open_seal(data: &DataDir, seams: &Seams) -> Result<NodeSeal, Rejection> {
    NodeSeal::create_or_open(&*seams.disk, data.path(), &*seams.entropy)
        .map_err(|error| Rejection::new(Reason::ForeignData, format!("the server's seal cannot be opened: {error}")))
}

/// The three ports, bound before anything else is touched.
struct Listeners {
    api: Box<dyn Listener>,
    raft: Box<dyn Listener>,
    http: Box<dyn Listener>,
}

impl Listeners {
    async fn bind(listen: &Listen, record: &Record, seams: &Seams) -> Result<Self, Rejection> {
        let stored = |text: &str| {
            text.parse::<SocketAddr>().map_err(|_| crate::data_dir::foreign("node.json", "an address is malformed"))
        };
        let api = listen.api.map_or_else(|| stored(&record.api_listen), Ok)?;
        let raft = listen.raft.map_or_else(|| stored(&record.raft_listen), Ok)?;
        let http = listen.http.map_or_else(|| stored(&record.http_listen), Ok)?;
        Ok(Self { api: bind(seams, api).await?, raft: bind(seams, raft).await?, http: bind(seams, http).await? })
    }

    fn addresses(&self) -> Result<Addresses, Rejection> {
        let failed = |error: io::Error| Rejection::new(Reason::Internal, format!("a listener has no address: {error}"));
        Ok(Addresses {
            api: self.api.local_addr().map_err(failed)?,
            raft: self.raft.local_addr().map_err(failed)?,
            http: self.http.local_addr().map_err(failed)?,
        })
    }
}

async fn bind(seams: &Seams, address: SocketAddr) -> Result<Box<dyn Listener>, Rejection> {
    seams
        .net
        .listen(address)
        .await
        .map_err(|error| Rejection::new(Reason::PortInUse, format!("cannot listen on {address}: {error}")))
}

fn member_record(data: &DataDir) -> Result<Record, Rejection> {
    match data.record()? {
        Some(record) if record.phase == Phase::Member => Ok(record),
        Some(record) if record.phase == Phase::Restoring => Err(data.unfinished()),
        _ => Err(not_initialized(data)),
    }
}

fn known_peers(data: &DataDir) -> Result<Vec<Member>, Rejection> {
    let malformed = || crate::data_dir::foreign("peers.json", "a key hash is not 64 hex digits");
    let member = |peer: crate::data_dir::KnownPeer| {
        let spki_hash = hex::decode(&peer.spki_hash).ok().and_then(|it| it.try_into().ok()).ok_or_else(malformed)?;
        Ok(Member { node_id: peer.node_id, address: peer.raft_address, spki_hash })
    };
    data.peers()?.into_iter().map(member).collect()
}

fn not_initialized(data: &DataDir) -> Rejection {
    Rejection::new(Reason::NotInitialized, format!("{} holds no server yet", data.path().display()))
}

fn open_failed(error: OpenError) -> Rejection {
    let reason = match &error {
        OpenError::Io(_) => Reason::StorageFailed,
        OpenError::Foreign(_) | OpenError::Decode(_) | OpenError::Tls(_) => Reason::ForeignData,
        OpenError::Options(_) => Reason::Usage,
        OpenError::Consensus(_) => Reason::Internal,
    };
    Rejection::new(reason, error.to_string())
}
