//! One server of the real code on a simulated disk, which outlives it.
//!
//! It refuses shortcuts: everything that tests do to it goes through `Control`, but for what no sound leader writes.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use certwright_core::event::{Event, NodeRecord, TokenGrant};
use certwright_core::ids::{
    Actor, AdministratorName, AgentName, AuthorityName, CertificateName, ClusterId, IssuerName, NodeName,
    cluster_stream,
};
use certwright_core::log::{Append, Fold, Position, RequestId, Trace, Transaction};
use certwright_core::spec::{
    AuthorityPurpose, AuthoritySpec, CertificateSpec, Dialect, FilesSink, Holder, IssuerKind, IssuerSpec, KeyAlgorithm,
    Labels, PrivateKeySpec, Sink, Subject, Target,
};
use certwright_core::state::State;
use certwright_core::time::Timestamp;
use certwright_core::x509::{AuthorityPlan, Names, Profile, compose, lint};
use certwright_core::{command::Command, ids::Serial, ids::TargetName};
use certwright_custody::{LeafKey, NodeSeal, SealedCustody};
use certwright_proto::storage::DomainCodec;
use certwright_raft::{Log, LogOptions, Member, MemoryStore};
use certwright_seams::Seams;
use certwright_seams::disk::Disk;
use certwright_seams::net::TcpNet;
use certwright_seams::sim::{InlineExec, SeededEntropy, SimClock, SimDisk};

use crate::control::RENEWALS_PERCENT;
use crate::{AgentJoin, Bootstrap, BootstrapAnswer, Call, Control, ControlOptions, Outcome, Projection};

/// 2026-01-01T00:00:00Z.
const BASE_MILLIS: u64 = 1_767_225_600_000;
const DATA: &str = "/data";

/// What outlives a server: its disk, its key and what it said of itself.
#[derive(Clone)]
pub(super) struct Machine {
    pub(super) disk: SimDisk,
    cluster_id: ClusterId,
    node_key: Arc<LeafKey>,
    admin_key: Arc<LeafKey>,
    seed: Arc<std::sync::atomic::AtomicU64>,
    /// Segments of the log, and between two snapshots.
    octets: (u64, u64),
    renewals_percent: u8,
}

/// One run of it.
pub(super) struct Server {
    pub(super) control: Control,
    pub(super) log: Log<State>,
    pub(super) registry: prometheus::Registry,
    pub(super) clock: Arc<SimClock>,
    seal: Arc<NodeSeal>,
    machine: Machine,
}

impl Machine {
    pub(super) fn new() -> Self {
        Self {
            disk: SimDisk::new(1),
            cluster_id: ClusterId([0xab; 16]),
            node_key: Arc::new(LeafKey::generate(KeyAlgorithm::EcdsaP256).unwrap()),
            admin_key: Arc::new(LeafKey::generate(KeyAlgorithm::EcdsaP256).unwrap()),
            seed: Arc::default(),
            octets: (1 << 20, 1 << 28),
            renewals_percent: RENEWALS_PERCENT,
        }
    }

    /// One with small segments and a snapshot now and then.
    pub(super) fn small() -> Self {
        Self { octets: (64 << 10, 16 << 10), ..Self::new() }
    }

    /// One that holds no renewals back.
    pub(super) fn unbraked(self) -> Self {
        Self { renewals_percent: 100, ..self }
    }

    /// Starts a server on what the disk holds. Each run draws other randomness, as real ones do.
    pub(super) async fn boot(&self) -> Server {
        show_log();
        let seed = self.seed.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let disk: Arc<dyn Disk> = Arc::new(self.disk.boot());
        let clock = Arc::new(SimClock::new(BASE_MILLIS));
        let seams = Seams {
            clock: clock.clone(),
            entropy: Arc::new(SeededEntropy::new(seed)),
            net: Arc::new(TcpNet),
            disk: disk.clone(),
            exec: Arc::new(InlineExec::default()),
        };
        let data = PathBuf::from(DATA);
        disk.create_dir_all(&data, 0o700).unwrap();
        let seal = Arc::new(NodeSeal::create_or_open(&*disk, &data, &*seams.entropy).unwrap());
        let registry = prometheus::Registry::new();
        let (segment_octets, snapshot_every_octets) = self.octets;
        let options = LogOptions::new(data, self.cluster_id.0, 1, 1);
        let options = LogOptions { strict: true, segment_octets, snapshot_every_octets, ..options };
        let identity = self.node_key.certified(vec![self_signed(&self.node_key).to_vec().into()]).unwrap();
        let projection = Arc::new(Projection::new(&registry));
        let control_options = ControlOptions {
            registry: registry.clone(),
            projection: Some(projection.clone()),
            trim_octets: segment_octets,
            renewals_percent: self.renewals_percent,
            ..ControlOptions::default()
        };
        let log = Log::open(
            options,
            seams.clone(),
            Arc::new(DomainCodec),
            projection,
            Box::new(MemoryStore::default()),
            identity,
        )
        .await
        .unwrap();
        log.initialize(self.member()).await.unwrap();
        let custody = Arc::new(SealedCustody::new(seams.entropy.clone(), seams.exec.clone()));
        let control = Control::start(log.clone(), custody, seal.clone(), seams, control_options);
        Server { control, log, registry, clock, seal, machine: self.clone() }
    }

    fn member(&self) -> Member {
        Member { node_id: 1, address: "127.0.0.1:1".into(), spki_hash: self.node_key.spki_hash() }
    }

    /// A server with a cluster of its own, a root `root`, an issuer `demo` and an agent `web`.
    pub(super) async fn estate(&self) -> (Server, LeafKey) {
        let server = self.boot().await;
        server.bootstrap().await.unwrap();
        server.create_authority("root", None).await;
        server.create_issuer("demo", issuer("root")).await;
        let key = server.admit("web").await;
        (server, key)
    }
}

impl Server {
    pub(super) fn order(&self) -> Bootstrap {
        let machine = &self.machine;
        Bootstrap {
            cluster_id: machine.cluster_id,
            epoch: 1,
            node: NodeRecord {
                id: 1,
                name: NodeName::parse("server-1").unwrap(),
                raft_address: "127.0.0.1:1".into(),
                api_address: "127.0.0.1:2".into(),
                http_address: "127.0.0.1:3".into(),
                spki_hash: machine.node_key.spki_hash(),
                hpke_public: self.seal.public().to_vec(),
            },
            node_spki: machine.node_key.public_key().spki_der().to_vec(),
            administrator_csr: request(&machine.admin_key, &[]),
        }
    }

    pub(super) async fn bootstrap(&self) -> Result<BootstrapAnswer, certwright_core::Rejection> {
        self.control.bootstrap(self.order()).await
    }

    pub(super) async fn create_authority(&self, name: &str, parent: Option<&str>) -> Outcome {
        let name = AuthorityName::parse(name).unwrap();
        self.control.create_authority(admin(), name, authority(parent)).await.unwrap()
    }

    pub(super) async fn create_issuer(&self, name: &str, spec: IssuerSpec) -> Outcome {
        let name = IssuerName::parse(name).unwrap();
        self.control.execute(admin(), Command::CreateIssuer { name, spec }).await.unwrap()
    }

    /// Registers an agent by a token made for it; answers its identity key.
    pub(super) async fn admit(&self, name: &str) -> LeafKey {
        let grant = TokenGrant::Agent { name: Some(AgentName::parse(name).unwrap()), labels: Labels::new() };
        let token = self.control.create_token(admin(), grant, None).await.unwrap();
        let key = LeafKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
        let join = AgentJoin {
            token: token.id,
            secret: token.secret,
            agent: AgentName::parse(name).unwrap(),
            labels: Labels::new(),
            csr: request(&key, &[]),
        };
        self.control.admit_agent(Call::by(Actor::Anonymous), join).await.unwrap();
        key
    }

    /// What a leader writes about the cluster that does not ask `decide`.
    pub(super) async fn forge(&self, event: Event) {
        let stream = cluster_stream();
        let expected = self.log.read(|view| view.state.revision(&stream));
        let transaction = Transaction {
            request_id: RequestId([7; 16]),
            request_digest: [0; 16],
            actor: "system".into(),
            trace: Trace::default(),
            guards: vec![],
            appends: vec![Append { stream, expected: Some(expected), events: vec![event] }],
        };
        self.log.propose(transaction).await.unwrap();
    }

    /// Every transaction in the log, and whether replicas refused it.
    pub(super) fn transactions(&self) -> Vec<(Position, Transaction<Event>, bool)> {
        let mut found = Vec::new();
        for index in 1..=self.log.status().applied_index {
            let Some(entry) = self.log.entry(index).unwrap() else { continue };
            for (ordinal, (tx, refused)) in entry.transactions.iter().zip(&entry.refused).enumerate() {
                found.push((Position { index, ordinal: ordinal as u32 }, tx.clone(), *refused));
            }
        }
        found
    }

    /// Every event in the log with its position.
    pub(super) fn events(&self) -> Vec<(Position, Event)> {
        let effective = self.transactions().into_iter().filter(|(.., refused)| !refused);
        let events = effective.flat_map(|(position, tx, _)| {
            let events: Vec<_> = tx.appends.into_iter().flat_map(|append| append.events).collect();
            events.into_iter().map(move |event| (position, event))
        });
        events.collect()
    }

    /// Waits until state is so.
    pub(super) async fn until<T>(&self, mut so: impl FnMut(&State) -> Option<T>) -> T {
        let mut applied = self.log.applied();
        loop {
            applied.mark_unchanged();
            if let Some(found) = self.log.read(|view| so(view.state)) {
                return found;
            }
            tokio::time::timeout(Duration::from_secs(600), applied.changed()).await.expect("it never came").unwrap();
        }
    }

    /// The process dies: nothing more reaches the disk.
    pub(super) async fn kill(self) {
        self.machine.disk.kill();
        self.control.stop();
        // Whatever it still tries fails; the next run starts from the disk alone.
        let _ = tokio::time::timeout(Duration::from_secs(30), self.log.shutdown()).await;
    }
}

pub(super) fn admin() -> Call {
    Call::by(Actor::Administrator(AdministratorName::parse("admin").unwrap()))
}

/// A call of the agent over a connection made with that key.
pub(super) fn agent(name: &str, key: &LeafKey) -> Call {
    Call { key: Some(key.spki_hash()), ..Call::by(Actor::Agent(AgentName::parse(name).unwrap())) }
}

pub(super) fn authority(parent: Option<&str>) -> AuthoritySpec {
    AuthoritySpec {
        common_name: "Test CA".into(),
        key_algorithm: KeyAlgorithm::EcdsaP256,
        parent: parent.map(|name| AuthorityName::parse(name).unwrap()),
        duration: Duration::from_secs(5 * 365 * 24 * 3600),
        path_len: None,
        purpose: AuthorityPurpose::Issuing,
    }
}

pub(super) fn issuer(authority: &str) -> IssuerSpec {
    IssuerSpec {
        kind: IssuerKind::Ca { authority: AuthorityName::parse(authority).unwrap() },
        max_duration: None,
        allowed_dns_suffixes: vec!["example.com".into()],
    }
}

pub(super) fn name(name: &str) -> CertificateName {
    CertificateName::parse("default", name).unwrap()
}

/// A wish for `{host}.example.com` of 100 s, on agent `web`.
pub(super) fn spec(host: &str) -> CertificateSpec {
    CertificateSpec {
        dialect: Dialect::Certwright,
        common_name: None,
        dns_names: vec![format!("{host}.example.com")],
        ip_addresses: vec![],
        uris: vec![],
        email_addresses: vec![],
        subject: Subject::default(),
        duration: Some(Duration::from_secs(100)),
        renew_before: None,
        renew_before_percentage: None,
        usages: vec![],
        is_ca: false,
        private_key: PrivateKeySpec::default(),
        revision_history_limit: None,
        issuer: IssuerName::parse("demo").unwrap(),
        targets: vec![Target {
            name: TargetName::parse("files").unwrap(),
            holder: Holder::Agent(AgentName::parse("web").unwrap()),
            sink: Sink::Files(FilesSink { directory: "/live/web".into(), ..FilesSink::default() }),
            reload: None,
            served_check: None,
        }],
        labels: Labels::new(),
        secret_name: None,
    }
}

pub(super) fn request(key: &LeafKey, dns_names: &[&str]) -> Vec<u8> {
    let dns_names = dns_names.iter().map(|name| (*name).to_owned()).collect();
    key.request(&Names { dns_names, ..Names::default() }).unwrap()
}

pub(super) fn p256() -> LeafKey {
    LeafKey::generate(KeyAlgorithm::EcdsaP256).unwrap()
}

/// A certificate for the TLS port, which these tests never use.
fn self_signed(key: &LeafKey) -> Arc<[u8]> {
    let spec = authority(None);
    let now = Timestamp::from_millis(BASE_MILLIS);
    let composed = compose::authority(&AuthorityPlan {
        serial: Serial::from_random([1; 20]),
        not_before: now,
        not_after: now.plus(spec.duration),
        spec: &spec,
        spki_der: key.public_key().spki_der(),
        issuer: None,
    });
    let linted = lint::lint(composed.unwrap(), &Profile::Authority { spec: &spec }).unwrap();
    let signature = key.sign(linted.tbs()).unwrap();
    linted.assemble(&signature).unwrap().der().clone()
}

/// With RUST_LOG set, tests show what the server says.
fn show_log() {
    if std::env::var_os("RUST_LOG").is_some() {
        // The first test of the process sets it for all.
        let _ = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_test_writer()
            .try_init();
    }
}
