//! The agent itself: one loop that owns everything it knows, and bounded work off the loop.
//!
//! It refuses to block the loop on a target, and to lose what it knows when it is killed.

mod entry;
mod identity;
mod look;
mod outbox;
mod pump;
mod recovery;
mod results;
mod scope;
mod trust;
mod witness;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use certwright_core::ids::{InstanceId, TargetName};
use certwright_core::spec::Labels;
use certwright_core::time::Timestamp;
use certwright_proto::agent::v1::AgentMessage;
use certwright_seams::Seams;
use certwright_seams::exec::compute;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::connect::{ConnectError, Connector};
use crate::context::{Context, ContextError};
use crate::fault::Fault;
use crate::plan::{Attempt, Held, Now};
use crate::reload::{Hooks, ProcessHooks};
use crate::session::{self, Greeting, SessionEvent};
use crate::store::{Store, StoreError};
use crate::trust::TrustError;
use entry::Entry;
use identity::IdentityKeeper;
use look::Look;
use outbox::Outbox;
use scope::Missed;
use witness::Witness;
use work::{Finished, Progress, Worker};

/// How often the loop looks at what is not settled: the resolution of retries, and how soon a corrected clock is noticed.
const TICK: Duration = Duration::from_secs(1);
/// Between heartbeats.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(15);
/// Instances worked on at once; what waits for a served check costs little, disk work is bounded further inside.
const TASKS_MAX: usize = 32;
/// How often servers of a restored log are shown again what they do not know and wait for: they forget it when they are busy.
const STUCK_SAID_EVERY: Duration = Duration::from_secs(60);
/// Instances whose acknowledged reports are remembered in one tick; each waits for the disk.
const ACKNOWLEDGED_A_TICK: usize = 32;
/// How long a stop waits for work under way and for reports to leave.
const STOP_WAIT: Duration = Duration::from_secs(5);

/// Why an agent could not start.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The context cannot be used.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// The identity cannot be used.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The state directory cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The operator's trust bundle cannot be used.
    #[error(transparent)]
    Trust(#[from] TrustError),
}

/// How an agent runs.
#[derive(Clone)]
pub struct AgentOptions {
    /// The context file; rewritten when the identity is renewed.
    pub context_path: PathBuf,
    /// Its state directory.
    pub state_dir: PathBuf,
    /// Its labels.
    pub labels: Labels,
    /// PEM file of the only roots ever accepted; without it the servers' announcements count.
    pub trust_bundle: Option<PathBuf>,
    /// How hooks run.
    pub hooks: Arc<dyn Hooks>,
    /// What a test does at each step of a delivery.
    pub fault: Fault,
}

impl AgentOptions {
    /// Hooks as processes, no faults.
    pub fn new(context_path: PathBuf, state_dir: PathBuf, labels: Labels) -> Self {
        let hooks = Arc::new(ProcessHooks);
        Self { context_path, state_dir, labels, trust_bundle: None, hooks, fault: Fault::none() }
    }
}

/// A running agent's knowledge. Everything else is on disk.
pub struct Agent {
    options: AgentOptions,
    seams: Seams,
    store: Arc<Store>,
    connector: Connector,
    worker: Arc<Worker>,
    entries: BTreeMap<InstanceId, Entry>,
    /// What is held of instances whose assignment a power cut took, until it comes again.
    remembered: BTreeMap<InstanceId, Held>,
    /// Instances to plan now.
    ready: BTreeSet<InstanceId>,
    /// Instances to look at again at the next tick.
    unsettled: BTreeSet<InstanceId>,
    /// Instances whose CSR is being made or waits for its answer; at most [`IN_FLIGHT_MAX`].
    requesting: BTreeSet<InstanceId>,
    /// Who writes which directory.
    claims: BTreeMap<String, (InstanceId, TargetName)>,
    outbox: Outbox,
    /// Instances of which reports were acknowledged that is not on disk yet: after a power cut they are reported again.
    acknowledged: BTreeSet<InstanceId>,
    /// When that was shown last, by the monotonic clock.
    stuck_said_at: Duration,
    /// Where messages go while a stream is open.
    sender: Option<mpsc::Sender<AgentMessage>>,
    /// Whether the server has welcomed this agent on the open stream.
    welcomed: bool,
    /// What a complete scope has named so far, while one comes in.
    complete: Option<BTreeSet<InstanceId>>,
    /// What of this session could not be kept.
    missed: Missed,
    /// When to ask again for what was not stored.
    ask_again: Option<Attempt>,
    resume: watch::Sender<Option<String>>,
    /// Whether the token in `resume` is not on disk yet.
    resume_unsaved: bool,
    identity: IdentityKeeper,
    witness: Witness,
    look: Look,
    tasks: JoinSet<Finished>,
    /// Whose task each is, for tasks that end without saying so.
    running: BTreeMap<tokio::task::Id, Finished>,
    progress: (mpsc::Sender<Progress>, mpsc::Receiver<Progress>),
    heartbeat_at: Duration,
    /// Told once a session was welcomed, with the server's address.
    ready_signal: watch::Sender<Option<String>>,
}

impl Agent {
    /// Opens context and state directory and recovers what is there.
    pub async fn new(options: AgentOptions, seams: Seams) -> Result<Self, AgentError> {
        let (path, disk) = (options.context_path.clone(), seams.disk.clone());
        let context = compute(&*seams.exec, "files", move || Context::load(&*disk, &path)).await?;
        let connector = Connector::new(&context, &seams)?;
        let (root, disk) = (options.state_dir.clone(), seams.disk.clone());
        let store = Arc::new(compute(&*seams.exec, "files", move || Store::open(disk, &root)).await?);
        let trust = trust::open(&options, &seams, store.clone()).await?;
        let worker = Worker::new(&options, seams.clone(), store.clone(), trust);
        let witness = Witness::open(context.cluster_id, store.clone(), &seams).await?;
        let identity = IdentityKeeper::new(&connector, context, &options, store.clone());
        let mut agent = Self {
            options,
            store,
            connector,
            worker: Arc::new(worker),
            entries: BTreeMap::new(),
            remembered: BTreeMap::new(),
            ready: BTreeSet::new(),
            unsettled: BTreeSet::new(),
            requesting: BTreeSet::new(),
            claims: BTreeMap::new(),
            outbox: Outbox::default(),
            acknowledged: BTreeSet::new(),
            stuck_said_at: Duration::ZERO,
            sender: None,
            welcomed: false,
            complete: None,
            missed: Missed::Nothing,
            ask_again: None,
            resume: watch::Sender::new(None),
            resume_unsaved: false,
            identity,
            witness,
            look: Look::default(),
            tasks: JoinSet::new(),
            running: BTreeMap::new(),
            progress: mpsc::channel(TASKS_MAX),
            heartbeat_at: Duration::ZERO,
            ready_signal: watch::Sender::new(None),
            seams,
        };
        agent.recover().await?;
        Ok(agent)
    }

    /// Who it is: `agent/{name}`.
    pub fn name(&self) -> String {
        self.identity.name()
    }

    /// Changes from `None` to the server's address when the first session is welcomed.
    pub fn ready(&self) -> watch::Receiver<Option<String>> {
        self.ready_signal.subscribe()
    }

    /// Runs until `shutdown`; then finishes what is under way within [`STOP_WAIT`].
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), AgentError> {
        let greeting = Greeting {
            labels: self.options.labels.clone(),
            resume: self.resume.subscribe(),
            checkpoint: self.witness.mark(),
            refusals: self.witness.refusals(),
        };
        let mut events = session::start(self.connector.clone(), greeting, self.seams.clone());
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.pump();
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(progress) = self.progress.1.recv() => self.on_progress(progress).await,
                Some(finished) = self.tasks.join_next_with_id() => self.on_finished(finished).await,
                Some(event) = events.recv() => self.on_session(event).await,
                permit = reserve(self.sender.as_ref()), if self.welcomed && self.outbox.has_unsent() => {
                    match permit {
                        Some(permit) => {
                            if let Some(message) = self.outbox.next() { permit.send(message); }
                        }
                        None => self.sender = None,
                    }
                }
                _ = tick.tick() => self.on_tick().await,
            }
        }
        self.stop(events).await;
        Ok(())
    }

    async fn on_session(&mut self, event: SessionEvent) {
        match event {
            SessionEvent::Up { server, sender } => {
                self.sender = Some(sender);
                self.identity.on_server(server);
            }
            SessionEvent::Message(message) => self.on_message(*message).await,
            SessionEvent::Down => self.on_down(),
        }
    }

    /// What was under way is unanswered: it is sent again in the next session.
    fn on_down(&mut self) {
        self.sender = None;
        self.welcomed = false;
        self.witness.is_refusing = false;
        self.complete = None;
        self.outbox.on_down();
        self.identity.on_down();
        for entry in self.entries.values_mut() {
            entry.on_down();
        }
        let making = |instance: &InstanceId| self.entries.get(instance).is_some_and(Entry::is_making);
        self.requesting.retain(making);
    }

    async fn on_tick(&mut self) {
        self.ready.extend(std::mem::take(&mut self.unsettled));
        self.look();
        self.save_acknowledged(ACKNOWLEDGED_A_TICK).await;
        if self.resume_unsaved {
            self.save_resume().await;
        }
        if !self.welcomed {
            return;
        }
        let now = self.now();
        self.ask_again(now.monotonic);
        if now.monotonic.saturating_sub(self.stuck_said_at) >= STUCK_SAID_EVERY {
            self.say_stuck().await;
        }
        if now.monotonic >= self.heartbeat_at {
            self.heartbeat_at = now.monotonic + HEARTBEAT_INTERVAL;
            self.outbox.heartbeat(now.wall);
        }
        if self.identity.is_due(now)
            && let Some(message) = self.identity.request(&self.seams).await
        {
            self.outbox.identity(message);
        }
    }

    /// Stops taking work, lets what is under way end, says what there is to say, and remembers where to go on.
    async fn stop(mut self, mut events: mpsc::Receiver<SessionEvent>) {
        let deadline = tokio::time::sleep(STOP_WAIT);
        tokio::pin!(deadline);
        while !(self.tasks.is_empty() && (!self.welcomed || self.outbox.is_empty())) {
            tokio::select! {
                biased;
                () = &mut deadline => break,
                Some(progress) = self.progress.1.recv() => self.on_progress(progress).await,
                Some(finished) = self.tasks.join_next_with_id() => self.on_finished(finished).await,
                Some(event) = events.recv() => self.on_session(event).await,
                permit = reserve(self.sender.as_ref()), if self.welcomed && self.outbox.has_unsent() => {
                    if let (Some(permit), Some(message)) = (permit, self.outbox.next()) { permit.send(message); }
                }
            }
        }
        self.save_acknowledged(usize::MAX).await;
        self.save_resume().await;
        tracing::info!("stopped");
    }

    fn now(&self) -> Now {
        Now { wall: Timestamp::from_millis(self.seams.clock.wall_millis()), monotonic: self.seams.clock.monotonic() }
    }
}

/// Room for one message; `None` when the stream is gone.
async fn reserve(sender: Option<&mpsc::Sender<AgentMessage>>) -> Option<mpsc::OwnedPermit<AgentMessage>> {
    match sender {
        Some(sender) => sender.clone().reserve_owned().await.ok(),
        None => std::future::pending().await,
    }
}
