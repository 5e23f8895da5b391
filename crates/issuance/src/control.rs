//! The handle of the leader's work, held by every door of every server.
//!
//! It refuses to forward: where this server does not lead, the answer is `NOT_LEADER`, and the doors find the leader.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use certwright_core::command::Command;
use certwright_core::event::{Delivered, Stage, TokenGrant};
use certwright_core::ids::{Actor, AuthorityName, CertificateName, NodeId};
use certwright_core::log::Trace;
use certwright_core::policy::{Action, Resource};
use certwright_core::spec::AuthoritySpec;
use certwright_core::time::Timestamp;
use certwright_core::{Reason, Rejection, State};
use certwright_custody::{NodeSeal, SealedCustody};
use certwright_raft::{Log, ProposeError};
use certwright_seams::Seams;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::held::{self, Adopted};
use crate::leader::{self, Current};
use crate::metrics::Metrics;
use crate::order::{
    AgentJoin, Bootstrap, BootstrapAnswer, Call, CsrSubmission, Held, IdentityAnswer, IssueOrder, IssuedAnswer,
    NewToken, NodeAnswer, NodeJoin, Outcome, Rebased, ValidatedAnswer,
};
use crate::projector::Projection;
use crate::session::{Session, Tools, not_leader};
use crate::{authorities, checkpoints, direct, identities, rebase, retention, stored, succession, tokens};

/// How long a bootstrap waits for the first server to lead itself.
const BOOTSTRAP_PATIENCE: Duration = Duration::from_secs(30);

/// Renewals of an hour while they are held back, in per cent of all instances, if nobody says.
pub const RENEWALS_PERCENT: u8 = 5;

/// Octets of history that go at a time, if nobody says.
pub const TRIM_OCTETS: u64 = 64 * 1024 * 1024;

/// How the leader's work is started.
#[derive(Clone)]
pub struct ControlOptions {
    /// Where metrics are registered.
    pub registry: prometheus::Registry,
    /// The projection that the log was opened with: from now on it can look up what it projected before.
    pub projection: Option<Arc<Projection>>,
    /// Of the estate's instances, how many per cent may be renewed in an hour while renewals are held back; at 100 they
    /// never are.
    pub renewals_percent: u8,
    /// Octets of history that go at a time, at least: a segment of the log.
    pub trim_octets: u64,
    /// Makes a span of the scheduler's a child of that trace, when there is one, and answers the span's own place in
    /// its trace. Without an exporter of traces: what was given.
    pub adopt: fn(&tracing::Span, Trace) -> Trace,
    /// Makes a span of the scheduler's point at another trace that came before it.
    pub link: fn(&tracing::Span, Trace),
}

impl Default for ControlOptions {
    fn default() -> Self {
        Self {
            registry: prometheus::Registry::new(),
            projection: None,
            renewals_percent: RENEWALS_PERCENT,
            trim_octets: TRIM_OCTETS,
            adopt: |_, parent| parent,
            link: |_, _| {},
        }
    }
}

/// The handle; clones share it.
#[derive(Clone)]
pub struct Control {
    tools: Arc<Tools>,
    current: Arc<Current>,
    stopped: CancellationToken,
}

impl Control {
    /// Follows the log's leadership from now on: on this server's terms it opens the keys and starts the sequencer, the
    /// scheduler and the admission of servers, and stops and locks them when a term ends.
    pub fn start(
        log: Log<State>,
        custody: Arc<SealedCustody>,
        seal: Arc<NodeSeal>,
        seams: Seams,
        options: ControlOptions,
    ) -> Self {
        let metrics = Metrics::register(&options.registry, &log);
        let node_id = log.status().node_id;
        let ControlOptions { renewals_percent, trim_octets, adopt, link, .. } = options;
        let tools = Tools {
            node_id,
            log,
            custody,
            seal,
            seams,
            metrics,
            renewals_percent,
            trim_octets,
            contradicted: AtomicU64::new(0),
            adopt,
            link,
        };
        let tools = Arc::new(tools);
        if let Some(projection) = options.projection {
            // Weak, because the log holds the projection.
            let tools = Arc::downgrade(&tools);
            projection.find_with(Box::new(move |key| tools.upgrade()?.log.lookup(key)));
        }
        let current = Arc::new(watch::Sender::new(None));
        let stopped = CancellationToken::new();
        tokio::spawn(leader::follow(tools.clone(), current.clone(), stopped.clone()));
        tokio::spawn(retention::follow(tools.clone(), stopped.clone()));
        Self { tools, current, stopped }
    }

    /// Stops: what is queued is answered `NOT_LEADER`, what is in flight is waited for by its callers, keys are locked.
    pub fn stop(&self) {
        self.stopped.cancel();
    }

    /// Hands leadership, if this server has it, to one that can sign; what is under way is answered here still.
    pub async fn hand_over(&self) {
        succession::give_up(&self.tools).await;
    }

    /// Whether this server leads and can sign.
    pub fn is_leading(&self) -> bool {
        self.current.borrow().is_some()
    }

    /// Resolves when this server leads and can sign.
    pub async fn leading(&self) {
        // The sender is held by this very handle: it is not closed while we wait.
        let _ = self.current.subscribe().wait_for(Option::is_some).await;
    }

    fn session(&self) -> Result<Arc<Session>, Rejection> {
        self.current.borrow().clone().ok_or_else(not_leader)
    }

    async fn lead<T, W: Future<Output = Result<T, Rejection>>>(
        &self,
        work: impl FnOnce(Arc<Session>) -> W,
    ) -> Result<T, Rejection> {
        let session = self.session()?;
        // Boxed: the rooms' futures are large and deep, and every door holds one.
        Box::pin(work(session)).await
    }

    /// Decides and appends one command; answers when it is applied here.
    pub async fn execute(&self, call: Call, command: Command) -> Result<Outcome, Rejection> {
        self.lead(|session| async move { session.execute(call, command).await }).await
    }

    /// Signs one request without stored intent; answers when the certificate is in the log of a majority.
    pub async fn issue(&self, call: Call, order: IssueOrder) -> Result<IssuedAnswer, Rejection> {
        self.lead(|session| async move { direct::issue(&session, call, order).await }).await
    }

    /// Everything that [`Control::issue`] verifies, and nothing that it leaves behind.
    pub async fn validate(&self, call: Call, order: IssueOrder) -> Result<ValidatedAnswer, Rejection> {
        self.lead(|session| async move { direct::validate(&session, call, order).await }).await
    }

    /// Answers an open issuance with an agent's request. Idempotent by instance, generation and key.
    pub async fn submit_csr(&self, call: Call, submission: CsrSubmission) -> Result<Outcome, Rejection> {
        self.lead(|session| async move { stored::submit(&session, call, submission).await }).await
    }

    /// Records what the calling agent proved about its targets.
    pub async fn report(
        &self,
        call: Call,
        deliveries: Vec<(CertificateName, Delivered)>,
    ) -> Result<Outcome, Rejection> {
        let Actor::Agent(agent) = call.actor.clone() else {
            return Err(Rejection::new(Reason::PermissionDenied, format!("{} delivers nothing", call.actor)));
        };
        let stages: Vec<(Stage, bool)> =
            deliveries.iter().map(|(_, delivered)| (delivered.stage, delivered.failure.is_some())).collect();
        let outcome = self.execute(call, Command::RecordDeliveries { agent, deliveries }).await?;
        if !outcome.unchanged {
            for (stage, failed) in stages {
                self.tools.metrics.count_delivery(stage, failed);
            }
        }
        Ok(outcome)
    }

    /// Registers an agent that shows a token, and gives it its first identity.
    pub async fn admit_agent(&self, call: Call, join: AgentJoin) -> Result<IdentityAnswer, Rejection> {
        self.lead(|session| async move { identities::admit_agent(&session, call, join).await }).await
    }

    /// Registers a server that shows a token, and gives it its id and identity. It becomes a learner, gets the data
    /// key, proves that it can open it and votes, in its own time.
    pub async fn admit_node(&self, call: Call, join: NodeJoin) -> Result<NodeAnswer, Rejection> {
        self.lead(|session| async move { identities::admit_node(&session, call, join).await }).await
    }

    /// A new identity for the calling agent or administrator.
    pub async fn renew_identity(&self, call: Call, csr: Vec<u8>) -> Result<IdentityAnswer, Rejection> {
        self.lead(|session| async move { identities::renew(&session, call, csr).await }).await
    }

    /// Makes a CA key pair and its certificate.
    pub async fn create_authority(
        &self,
        call: Call,
        name: AuthorityName,
        spec: AuthoritySpec,
    ) -> Result<Outcome, Rejection> {
        self.lead(|session| async move { authorities::create(&session, call, name, spec).await }).await
    }

    /// Makes a join token; 15 minutes long when no duration is given.
    pub async fn create_token(
        &self,
        call: Call,
        grant: TokenGrant,
        duration: Option<Duration>,
    ) -> Result<NewToken, Rejection> {
        self.lead(|session| async move { tokens::create(&session, call, grant, duration).await }).await
    }

    /// Hands leadership to that server, or to whoever is furthest; answers who leads then.
    pub async fn transfer(&self, call: &Call, to: Option<NodeId>) -> Result<NodeId, Rejection> {
        self.lead(|session| async move { succession::transfer(&session, call, to).await }).await
    }

    /// Sets log time back to what the voters' clocks show, when it is ahead of them; `told` is what the caller's shows.
    pub async fn rebase_time(&self, call: Call, told: Timestamp) -> Result<Rebased, Rejection> {
        self.lead(|session| async move { rebase::rebase(&session, call, told).await }).await
    }

    /// Has every server compute the digest of its state right after one entry; answers its index.
    pub async fn request_digest(&self, call: &Call) -> Result<u64, Rejection> {
        self.session()?.allow(call, Action::Operate, &Resource::Cluster)?;
        self.tools.log.request_digest().await.map_err(|error| match error {
            ProposeError::NotLeader { .. } => not_leader(),
            other => Rejection::new(Reason::OutcomeUnknown, other.to_string()),
        })
    }

    /// Makes the cluster: itself, its data key, its system authority, the first server's and administrator's identity.
    /// Waits until this server leads. Whatever an earlier attempt did is kept.
    pub async fn bootstrap(&self, order: Bootstrap) -> Result<BootstrapAnswer, Rejection> {
        let patience = tokio::time::timeout(BOOTSTRAP_PATIENCE, self.leading()).await;
        patience.map_err(|_| Rejection::new(Reason::NoLeader, "this server did not become leader of itself"))?;
        self.lead(|session| async move { identities::bootstrap(&session, order).await }).await
    }

    /// Takes back a certificate that the calling agent holds and a restored log does not know, or opens the next one.
    pub async fn adopt(&self, call: Call, held: Held) -> Result<Adopted, Rejection> {
        self.lead(|session| async move { held::adopt(&session, call, held).await }).await
    }

    /// Lets the calling agent in under an identity, DER, that a restored log does not know.
    pub async fn readmit(&self, call: Call, identity: Vec<u8>) -> Result<(), Rejection> {
        self.lead(|session| async move { held::readmit(&session, call, identity).await }).await
    }

    /// Signs how the log stands, now.
    pub async fn checkpoint(&self) -> Result<(), Rejection> {
        self.lead(|session| async move { checkpoints::now(&session).await }).await
    }

    /// The log that the work is done on.
    pub fn log(&self) -> &Log<State> {
        &self.tools.log
    }
}
