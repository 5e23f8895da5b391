//! One term of leadership: what may be used while it lasts, and the one way into the sequencer.
//!
//! It refuses to outlive its term: when it is over, whatever waits is answered `NOT_LEADER` and nothing new is taken.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use certwright_core::command::Command;
use certwright_core::ids::{Actor, NodeId, Serial};
use certwright_core::log::{Position, RequestId, Revision, Trace};
use certwright_core::mutant::{self, Mutant};
use certwright_core::policy::{self, Action, AuthorizedActor, Resource};
use certwright_core::time::Timestamp;
use certwright_core::{Context, Event, Reason, Rejection, State};
use certwright_custody::{DataKey, NodeSeal, SealedCustody};
use certwright_raft::{Effective, Log, ReadError, View};
use certwright_seams::Seams;
use certwright_seams::exec::compute;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::Span;

use crate::issuers::IssuerCache;
use crate::metrics::Metrics;
use crate::order::{Call, Outcome};
use crate::sequencer::{Check, Job, Refusal, Settled};

/// What the rooms of the leader share, whatever the term.
pub(crate) struct Tools {
    pub(crate) node_id: NodeId,
    pub(crate) log: Log<State>,
    pub(crate) custody: Arc<SealedCustody>,
    pub(crate) seal: Arc<NodeSeal>,
    pub(crate) seams: Seams,
    pub(crate) metrics: Metrics,
    /// Of all instances, how many may be renewed in an hour while renewals are held back.
    pub(crate) renewals_percent: u8,
    /// Octets of history that go at a time, at least.
    pub(crate) trim_octets: u64,
    /// Where the log says that history begins and what is here folds to something else; 0 when there is no such place.
    pub(crate) contradicted: AtomicU64,
    pub(crate) adopt: fn(&Span, Trace) -> Trace,
    pub(crate) link: fn(&Span, Trace),
}

/// One term of leadership.
pub(crate) struct Session {
    pub(crate) tools: Arc<Tools>,
    pub(crate) over: CancellationToken,
    pub(crate) issuers: IssuerCache,
    /// One CA certificate at a time: two attempts at the same one would draw two serials for it.
    pub(crate) certifying: Semaphore,
    queue: mpsc::UnboundedSender<Job>,
    permits: Arc<Semaphore>,
}

/// One command on its way to the sequencer.
pub(crate) struct Ask {
    /// Who asks, under which id.
    pub(crate) call: Call,
    /// Digest of what was asked, which is not always the command.
    pub(crate) digest: [u8; 16],
    /// What shall happen.
    pub(crate) command: Command,
    /// What must still hold of state when it is decided; else `Refusal::Moved`.
    pub(crate) check: Option<Check>,
}

impl Ask {
    /// A command whose own content is what was asked.
    pub(crate) fn of(call: Call, command: Command) -> Self {
        let digest = if call.request_id.is_some() { crate::digest::of(&command) } else { [0; 16] };
        Self { call, digest, command, check: None }
    }

    /// A command that carries out something else that was asked.
    pub(crate) fn standing_for(call: Call, digest: [u8; 16], command: Command) -> Self {
        Self { call, digest, command, check: None }
    }

    /// The same, decided only while `check` holds.
    pub(crate) fn while_holds(mut self, check: Check) -> Self {
        self.check = Some(check);
        self
    }
}

impl Session {
    pub(crate) fn new(tools: Arc<Tools>, queue: mpsc::UnboundedSender<Job>, permits: usize) -> Self {
        Self {
            tools,
            over: CancellationToken::new(),
            issuers: IssuerCache::default(),
            certifying: Semaphore::new(1),
            queue,
            permits: Arc::new(Semaphore::new(permits)),
        }
    }

    /// The one place on the leader where rights are asked for, whatever the door.
    pub(crate) fn allow(&self, call: &Call, action: Action, resource: &Resource) -> Result<AuthorizedActor, Rejection> {
        let authorized = policy::authorize(&call.actor, action, resource)?;
        self.tools.log.read(|view| prove(view.state, &call.actor, call.key))?;
        Ok(authorized)
    }

    /// Decides and appends one command; `Refusal::Moved` when what it was composed under has moved.
    pub(crate) async fn submit(&self, ask: Ask) -> Result<Settled, Refusal> {
        let (action, resource) = policy::needed(&ask.command);
        let actor = self.allow(&ask.call, action, &resource)?;
        let Ok(permit) = self.permits.clone().try_acquire_owned() else {
            self.tools.metrics.overloaded.inc();
            return Err(Rejection::new(Reason::Overloaded, "too many commands are waiting on the leader").into());
        };
        let (answer, answered) = oneshot::channel();
        let keyed = ask.call.request_id.is_some();
        let job = Job {
            request: ask.call.request_id.unwrap_or_else(|| self.tools.draw_request()),
            keyed,
            digest: ask.digest,
            actor,
            key: ask.call.key,
            trace: ask.call.trace,
            command: ask.command,
            check: ask.check,
            validate_only: ask.call.validate_only,
            span: Span::current(),
            answer,
            _permit: permit,
        };
        self.queue.send(job).map_err(|_| not_leader())?;
        answered.await.map_err(|_| not_leader())?
    }

    /// The same for commands that stand on nothing but state.
    pub(crate) async fn execute(&self, call: Call, command: Command) -> Result<Outcome, Rejection> {
        let settled = self.submit(Ask::of(call, command)).await.map_err(Refusal::into_rejection)?;
        Ok(settled.outcome)
    }

    /// A command of the leader's own.
    pub(crate) async fn act(&self, trace: Trace, command: Command) -> Result<Outcome, Rejection> {
        self.execute(Call { trace, ..Call::by(Actor::System) }, command).await
    }

    /// Resolves when the cluster's stream has another revision than that one, or the log has stopped.
    pub(crate) async fn cluster_moves(&self, revision: Revision) {
        let mut applied = self.tools.log.applied();
        while self.tools.log.read(|view| view.state.cluster.revision) == revision {
            if applied.changed().await.is_err() {
                return;
            }
        }
    }

    /// The earlier outcome of a request with this id, digest and actor; `REQUEST_ID_REUSED` for other content.
    pub(crate) fn earlier(&self, call: &Call, digest: [u8; 16]) -> Result<Option<Position>, Rejection> {
        let Some(id) = call.request_id else { return Ok(None) };
        let actor = call.actor.to_string();
        match self.tools.log.read(|view| view.repeated(&actor, id)) {
            Some((known, position)) if known == digest => Ok(Some(position)),
            Some(_) => Err(reused()),
            None => Ok(None),
        }
    }
}

impl Tools {
    /// The time that decisions use: log time, or what would be stamped now when that is ahead.
    pub(crate) fn now(&self, view: &View<'_, State>) -> Timestamp {
        view.at.max(self.log.clock())
    }

    /// The same, from a view of its own.
    pub(crate) fn now_here(&self) -> Timestamp {
        self.log.read(|view| self.now(view))
    }

    /// What a decision may know besides state.
    pub(crate) fn context(&self, view: &View<'_, State>) -> Context {
        Context { now: self.now(view), draw: self.draw() }
    }

    /// The data key in use and those that it replaces, opened with this server's own seal; `None` before the cluster
    /// exists.
    pub(crate) fn data_keys(&self) -> Result<Option<(DataKey, Vec<DataKey>)>, Rejection> {
        let not_ready = |message: String| Rejection::new(Reason::NotReady, message);
        let held = self.log.read(|view| {
            let cluster = &view.state.cluster;
            let held = cluster.nodes.get(&self.node_id).map(|node| node.wrapped.clone()).unwrap_or_default();
            cluster.id.map(|id| (id, cluster.data_key_id, held))
        });
        let Some((cluster_id, in_use, mut held)) = held else { return Ok(None) };
        let open = |id: u64, wrapped: &[u8]| {
            let opened = self.seal.unwrap(cluster_id, self.node_id, id, wrapped);
            opened.map_err(|error| not_ready(format!("data key {id} does not open: {error}")))
        };
        let wrapped = held
            .remove(&in_use)
            .ok_or_else(|| not_ready(format!("data key {in_use} is not wrapped to this server yet")))?;
        let replaced = held.iter().map(|(id, wrapped)| open(*id, wrapped)).collect::<Result<_, _>>()?;
        Ok(Some((open(in_use, &wrapped)?, replaced)))
    }

    /// A fresh serial. Never kept for a second attempt.
    pub(crate) fn draw_serial(&self) -> Serial {
        if mutant::is(Mutant::SerialReuse) {
            let hour = self.now_here().millis() / 3_600_000;
            return Serial::from_random(std::array::from_fn(|place| hour.to_be_bytes()[place % 8]));
        }
        Serial::from_random(self.draw())
    }

    pub(crate) fn draw_request(&self) -> RequestId {
        RequestId(self.draw())
    }

    pub(crate) fn draw<const N: usize>(&self) -> [u8; N] {
        let mut octets = [0; N];
        self.seams.entropy.fill(&mut octets);
        octets
    }

    /// Runs CPU-bound work on the pool of signers; `None` when the pool is gone.
    pub(crate) async fn on_signers<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let (done, result) = oneshot::channel();
        let work = Box::new(move || {
            // The caller may be gone; then so is the need for a result.
            let _ = done.send(work());
        });
        self.seams.exec.run("sign", work).await;
        result.await.ok()
    }

    /// The transaction at a position, read on a worker: it may have to come from disk.
    pub(crate) async fn transaction(&self, position: Position) -> Result<Option<Effective<Event>>, ReadError> {
        let log = self.log.clone();
        compute(&*self.seams.exec, "read", move || log.transaction(position)).await
    }

    /// The event at a position that `pick` recognises, read from the log.
    pub(crate) async fn find_event<T>(
        &self,
        position: Position,
        pick: impl FnMut(&Event) -> Option<T>,
    ) -> Result<T, Rejection> {
        let found = self
            .transaction(position)
            .await
            .map_err(|error| Rejection::new(Reason::Internal, format!("cannot read the log at {position}: {error}")))?;
        if found.is_none() && self.log.kept().is_some_and(|kept| position.index < kept.first_index) {
            let message = format!("entry {} is older than the history that is kept: ask anew", position.index);
            return Err(Rejection::new(Reason::TokenTooOld, message));
        }
        let appends = found.iter().flat_map(|found| &found.transaction.appends);
        let events = appends.flat_map(|append| &append.events);
        events.filter_map(pick).next().ok_or_else(|| {
            Rejection::new(Reason::Internal, format!("the log holds something else at {position} than state says"))
        })
    }
}

/// A span below `parent`, or none where that is none: what is not sampled has no spans at all.
macro_rules! child_span {
    ($parent:expr, $name:literal) => {{
        let parent: &tracing::Span = &$parent;
        if parent.is_none() { tracing::Span::none() } else { tracing::info_span!(parent: parent, $name) }
    }};
}
pub(crate) use child_span;

/// Whether the caller is who it was when its connection was made. A name is worth what is applied here, on the leader:
/// the server that an agent talks to may not know yet that the agent was removed or has another key, and its connection
/// outlives both. Asked when a call arrives, and again under the very state in which it is decided.
pub(crate) fn prove(state: &State, actor: &Actor, key: Option<[u8; 32]>) -> Result<(), Rejection> {
    let Actor::Agent(name) = actor else { return Ok(()) };
    let known = state.agents.get(name).zip(key).is_some_and(|(agent, key)| agent.is_known_by(key));
    let message = || format!("no agent {name} with this key is registered; it was removed, or joined again elsewhere");
    if known { Ok(()) } else { Err(Rejection::new(Reason::Unauthenticated, message())) }
}

pub(crate) fn not_leader() -> Rejection {
    Rejection::new(Reason::NotLeader, "this server does not lead the cluster")
}

pub(crate) fn reused() -> Rejection {
    Rejection::new(Reason::RequestIdReused, "the request id was used for another request")
}
