//! The estate: certificates as services have them, declared, issued, delivered and renewed by transactions in the log.
//!
//! It refuses to decide: what a leader would have decided is known, and what it would have signed is not looked at.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use certwright_api::NodeConfig;
use certwright_api::node::BareLog;
use certwright_core::State;
use certwright_core::event::{Delivered, Event, Issued, Stage, Trigger};
use certwright_core::ids::{
    AgentName, AuthorityName, CertificateName, InstanceId, IssuerName, Serial, TargetName, Uid,
};
use certwright_core::log::{Append, RequestId, StreamId, Trace, Transaction};
use certwright_core::spec::{
    CertificateSpec, Dialect, FilesSink, Holder, Labels, PrivateKeySpec, Reload, ReloadAction, Sink, Subject, Target,
    Usage,
};
use certwright_core::time::Timestamp;
use certwright_raft::Log;
use certwright_seams::{BoxFuture, Entropy, Seams};
use tokio::task::JoinSet;

use crate::failure::Failure;

/// Every certificate's target.
pub(super) const TARGET: &str = "nginx";
/// Transactions under way at once.
const CALLERS: usize = 512;
/// Octets of a certificate with a P-256 key and two names.
const CERTIFICATE_OCTETS: usize = 640;

/// The estate of a server whose log is open.
pub(super) struct Estate {
    log: Log<State>,
    entropy: Arc<dyn Entropy>,
    shape: Shape,
    epoch: u64,
    actor: Arc<str>,
    renewed: AtomicU64,
}

/// How many certificates there are, who holds which, and how long each lives.
pub(super) struct Shape {
    pub(super) intents: u64,
    /// Among how many agents they are dealt out, and the names of these.
    pub(super) agents: u64,
    pub(super) agent: fn(u64) -> String,
    /// From when on it is renewed, and until when it is valid, if it is issued at that moment.
    pub(super) life: Box<dyn Fn(u64, Timestamp) -> (Timestamp, Timestamp) + Send + Sync>,
}

/// The log of a server that does not run, when it can be written.
pub(super) async fn open(data: &Path, snapshot_octets: Option<u64>, seams: &Seams) -> Result<BareLog, Failure> {
    let mut config = NodeConfig::new(data.to_path_buf());
    config.snapshot_octets = snapshot_octets;
    let bare = BareLog::open(&config, seams).await?;
    // An error means that the log has stopped; the first transaction says so, too.
    let _ = bare.log.leadership().wait_for(|leadership| leadership.ready).await;
    Ok(bare)
}

/// What is done for each number.
type Work = fn(Arc<Estate>, u64) -> BoxFuture<'static, Result<(), Failure>>;

fn refused(error: impl std::fmt::Display) -> Failure {
    Failure::internal(format!("a transaction was refused: {error}"))
}

impl Estate {
    pub(super) fn new(log: Log<State>, entropy: Arc<dyn Entropy>, shape: Shape) -> Self {
        let epoch = log.read(|view| view.state.cluster.epoch);
        Self { log, entropy, shape, epoch, actor: "administrator/bench".into(), renewed: AtomicU64::new(0) }
    }

    /// Declares, issues and delivers every certificate.
    pub(super) async fn declare(self: &Arc<Self>) -> Result<(), Failure> {
        self.each(self.shape.intents, |estate, n| Box::pin(async move { estate.add(n).await })).await
    }

    /// Puts the agents on record; they never come.
    pub(super) async fn register(self: &Arc<Self>) -> Result<(), Failure> {
        self.each(self.shape.agents, |estate, n| Box::pin(async move { estate.register_one(n).await })).await
    }

    async fn register_one(&self, n: u64) -> Result<(), Failure> {
        let name = self.agent(n)?;
        let stream = name.stream();
        let registered = Event::AgentRegistered { name, labels: Labels::new(), spki_hash: self.draw() };
        self.append(vec![(stream, Some(0), vec![registered])]).await
    }

    async fn add(&self, n: u64) -> Result<(), Failure> {
        let (name, agent) = (name(n)?, self.agent(n % self.shape.agents)?);
        let (stream, spec) = (name.stream(), Arc::new(spec(n, &agent)?));
        let instance = InstanceId { certificate: Uid::here(self.epoch), number: 1 };
        let events = vec![Event::CertificateDeclared { name, spec }, Event::InstanceAdded { instance, agent }];
        self.append(vec![(stream, Some(0), events)]).await?;
        self.issue(n, Trigger::First).await
    }

    /// Renews one certificate after the other for as long as `more` says so.
    pub(super) async fn renew_while(
        self: &Arc<Self>,
        more: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Result<(), Failure> {
        let more = Arc::new(more);
        let mut callers = JoinSet::new();
        for _ in 0..CALLERS {
            let (estate, more) = (Arc::clone(self), Arc::clone(&more));
            callers.spawn(async move {
                while more() {
                    // In an order of no meaning, as renewals come.
                    let n = estate.renewed.fetch_add(1, Ordering::Relaxed).wrapping_mul(611_953) % estate.shape.intents;
                    estate.issue(n, Trigger::Due).await?;
                }
                Ok(())
            });
        }
        finished(callers).await
    }

    /// The same for each number below `count`, many at once.
    async fn each(self: &Arc<Self>, count: u64, work: Work) -> Result<(), Failure> {
        let next = Arc::new(AtomicU64::new(0));
        let mut callers = JoinSet::new();
        for _ in 0..CALLERS {
            let (estate, next) = (Arc::clone(self), Arc::clone(&next));
            callers.spawn(async move {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= count {
                        return Ok(());
                    }
                    work(Arc::clone(&estate), n).await?;
                }
            });
        }
        finished(callers).await
    }

    /// One generation: opened, issued, written to its target and served.
    async fn issue(&self, n: u64, trigger: Trigger) -> Result<(), Failure> {
        let name = name(n)?;
        let found = self.log.read(|view| {
            let certificate = view.state.certificates.get(&name)?;
            let instance = certificate.instances.first()?;
            Some((certificate.revision, instance.id, instance.next_generation(), view.at))
        });
        let (revision, instance, generation, now) = found.ok_or_else(|| refused(format!("{name} is not there")))?;
        let issued = self.issued(n, instance, generation, now)?;
        let delivered = Delivered {
            instance,
            generation,
            target: Some(target_name()?),
            stage: Stage::Served,
            failure: None,
            elapsed: Duration::from_millis(10),
        };
        let opened = Event::IssuanceOpened { instance, generation, trigger };
        let stream = name.stream();
        let events = vec![opened, Event::CertificateIssued(Box::new(issued))];
        let delivered = vec![Event::CertificateDelivered(delivered)];
        self.append(vec![(stream.clone(), Some(revision), events), (stream, None, delivered)]).await
    }

    fn issued(&self, n: u64, instance: InstanceId, generation: u64, now: Timestamp) -> Result<Issued, Failure> {
        let (renew_at, not_after) = (self.shape.life)(n, now);
        Ok(Issued {
            instance: Some(instance),
            generation,
            serial: Serial::from_random(self.draw()),
            issuer: IssuerName::parse("demo")?,
            authority: AuthorityName::parse("demo-ca")?,
            authority_serial: Serial::from_random([2; 20]),
            not_before: now,
            not_after,
            renew_at: Some(renew_at),
            spki_hash: self.draw(),
            certificate: Arc::from([0; CERTIFICATE_OCTETS]),
        })
    }

    fn agent(&self, n: u64) -> Result<AgentName, Failure> {
        Ok(AgentName::parse(&(self.shape.agent)(n))?)
    }

    async fn append(&self, appends: Vec<(StreamId, Option<u64>, Vec<Event>)>) -> Result<(), Failure> {
        let appends = appends.into_iter().map(|(stream, expected, events)| Append { stream, expected, events });
        let transaction = Transaction {
            request_id: RequestId(self.draw()),
            request_digest: self.draw(),
            actor: Arc::clone(&self.actor),
            trace: Trace::default(),
            guards: Vec::new(),
            appends: appends.collect(),
        };
        self.log.propose(transaction).await.map(drop).map_err(refused)
    }

    fn draw<const OCTETS: usize>(&self) -> [u8; OCTETS] {
        let mut octets = [0; OCTETS];
        self.entropy.fill(&mut octets);
        octets
    }
}

async fn finished(mut callers: JoinSet<Result<(), Failure>>) -> Result<(), Failure> {
    while let Some(ended) = callers.join_next().await {
        ended.map_err(|error| Failure::internal(error.to_string()))??;
    }
    Ok(())
}

fn name(n: u64) -> Result<CertificateName, Failure> {
    Ok(CertificateName::parse("payments-prod", &format!("service-{n}"))?)
}

/// The number of a certificate, by its resource name.
pub(super) fn number(certificate: &str) -> Option<u64> {
    certificate.rsplit_once("service-")?.1.parse().ok()
}

/// What it is for.
pub(super) fn dns_names(n: u64) -> [String; 2] {
    [format!("service-{n}.prod.demo.internal"), format!("service-{n}.demo.internal")]
}

fn target_name() -> Result<TargetName, Failure> {
    Ok(TargetName::parse(TARGET)?)
}

/// A certificate as a service has it: two names, a file target with a reload hook, a label.
fn spec(n: u64, agent: &AgentName) -> Result<CertificateSpec, Failure> {
    let argv = ["/usr/bin/systemctl", "reload", "nginx"].map(str::to_owned).to_vec();
    Ok(CertificateSpec {
        dialect: Dialect::Certwright,
        common_name: None,
        dns_names: dns_names(n).to_vec(),
        ip_addresses: vec![],
        uris: vec![],
        email_addresses: vec![],
        subject: Subject::default(),
        duration: None,
        renew_before: None,
        renew_before_percentage: None,
        usages: vec![Usage::DigitalSignature, Usage::ServerAuth],
        is_ca: false,
        private_key: PrivateKeySpec::default(),
        revision_history_limit: None,
        issuer: IssuerName::parse("demo")?,
        targets: vec![Target {
            name: target_name()?,
            holder: Holder::Agent(agent.clone()),
            sink: Sink::Files(FilesSink { directory: format!("/etc/tls/service-{n}"), ..FilesSink::default() }),
            reload: Some(Reload { action: ReloadAction::Exec(argv), test_exec: vec![], timeout_seconds: 30 }),
            served_check: None,
        }],
        labels: Labels::from([("team".to_owned(), "payments".to_owned())]),
        secret_name: None,
    })
}
