//! What all doors share: the log, the leader's rooms, who this server is, and how a read waits for the state it needs.
//!
//! It refuses state of its own: everything that must survive is in the log.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use certwright_core::ids::{AgentName, ClusterId, NodeId, NodeName};
use certwright_core::log::Position;
use certwright_core::mutant::{self, Mutant};
use certwright_core::{Reason, Rejection, State};
use certwright_issuance::Itself;
use certwright_issuance::control::Control;
use certwright_proto::{token, v1};
use certwright_raft::{Log, ReadError, View};
use certwright_seams::Seams;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::forward::Forwarder;
use crate::history;
use crate::limits::{ADMISSIONS_MAX, BEHIND_WAIT, Bounds, SILENCE_MAX};
use crate::metrics::Metrics;
use crate::node::Rooms;
use crate::refuse;
use crate::rounds::Rounds;
use crate::session::news::News;
use crate::session::{Chains, RefusedLogs};

/// What all doors share.
pub(crate) struct Doors {
    pub(crate) log: Log<State>,
    pub(crate) control: Control,
    pub(crate) itself: Itself,
    pub(crate) seams: Seams,
    pub(crate) cluster: ClusterId,
    pub(crate) epoch: u64,
    pub(crate) node_id: NodeId,
    pub(crate) name: NodeName,
    pub(crate) forwarder: Forwarder,
    pub(crate) metrics: Metrics,
    pub(crate) bounds: Bounds,
    /// Set when this server begins to stop: streams end, nothing new is taken.
    pub(crate) draining: CancellationToken,
    /// How far the log is, as the leader says: asked once for all who wait here.
    pub(crate) read_indexes: Rounds<Result<v1::Token, Status>>,
    /// What became of this server's own schedule of backups.
    pub(crate) backup: Arc<crate::backup::schedule::Record>,
    /// Backups being written.
    pub(crate) backups: Arc<Semaphore>,
    /// Admissions of agents that are not known here.
    pub(crate) admissions: Semaphore,
    /// How the log stood where agents' checkpoints end.
    pub(crate) chains: Chains,
    /// What agents said of servers' logs.
    pub(crate) refused_logs: RefusedLogs,
    /// Sessions that wait for something to tell.
    pub(crate) news: News,
    /// Agents with a session here and how many they have.
    sessions: Mutex<BTreeMap<AgentName, usize>>,
}

/// Who this server is.
pub(crate) struct Who {
    pub(crate) cluster: ClusterId,
    pub(crate) epoch: u64,
    pub(crate) node_id: NodeId,
    pub(crate) name: NodeName,
    /// Where its data lies.
    pub(crate) data: PathBuf,
}

impl Doors {
    pub(crate) fn new(rooms: Rooms, seams: Seams, who: Who, metrics: Metrics, bounds: Bounds) -> Self {
        let (sessions, refused_logs) = (metrics.sessions.clone(), RefusedLogs::default());
        let refused = refused_logs.clone();
        let backup = Arc::<crate::backup::schedule::Record>::default();
        let scheduled = backup.clone();
        let itself = Itself {
            log: rooms.log.clone(),
            seal: rooms.seal,
            name: who.name.clone(),
            seams: seams.clone(),
            data: who.data,
            sessions: Arc::new(move || u64::try_from(sessions.get()).unwrap_or_default()),
            refused_logs: Arc::new(move || refused.told()),
            backups: Arc::new(move || scheduled.get()),
        };
        Self {
            log: rooms.log,
            control: rooms.control,
            itself,
            seams,
            cluster: who.cluster,
            epoch: who.epoch,
            node_id: who.node_id,
            name: who.name,
            forwarder: Forwarder::default(),
            metrics,
            bounds,
            draining: CancellationToken::new(),
            read_indexes: Rounds::default(),
            backup,
            backups: Arc::new(Semaphore::new(1)),
            admissions: Semaphore::new(ADMISSIONS_MAX),
            chains: Chains::default(),
            refused_logs,
            news: News::default(),
            sessions: Mutex::default(),
        }
    }

    /// The token of a position.
    pub(crate) fn token(&self, position: Position) -> v1::Token {
        token::encode(self.cluster, self.epoch, position)
    }

    /// The position of a token that a caller sent, if it sent one.
    pub(crate) fn position(&self, token: Option<&v1::Token>) -> Result<Option<Position>, Rejection> {
        token::decode_optional(token, self.cluster, self.epoch)
    }

    /// Waits until this server has applied what the token asks for; `BEHIND` when that takes too long.
    pub(crate) async fn catch_up(&self, min_token: Option<&v1::Token>) -> Result<(), Rejection> {
        match self.position(min_token)? {
            Some(_) if mutant::is(Mutant::MinTokenIgnored) => Ok(()),
            Some(position) => self.log.wait_applied(position.index, BEHIND_WAIT).await.map_err(read_failed),
            None => Ok(()),
        }
    }

    /// A local read of at least the state that `min_token` names.
    pub(crate) async fn read<R>(
        &self,
        min_token: Option<&v1::Token>,
        read: impl FnOnce(&View<'_, State>) -> Result<R, Rejection>,
    ) -> Result<R, Status> {
        self.catch_up(min_token).await.map_err(refuse::status)?;
        self.log.read(read).map_err(refuse::status)
    }

    /// Why this server should get no callers now.
    pub(crate) fn readiness(&self) -> Result<(), &'static str> {
        if self.draining.is_cancelled() {
            return Err("stopping");
        }
        let leadership = *self.log.leadership().borrow();
        match leadership {
            it if it.is_self && !it.ready => Err("taking over leadership"),
            it if it.leader.is_none() || self.in_touch().is_err() => Err("no leader"),
            _ => Ok(()),
        }
    }

    /// `NOT_READY` while this server stops.
    pub(crate) fn open(&self) -> Result<(), Rejection> {
        match self.draining.is_cancelled() {
            true => Err(Rejection::new(Reason::NotReady, "this server is stopping")),
            false => Ok(()),
        }
    }

    /// Refuses whoever wants to wait here for news while this server itself hears none: cut off, or removed without knowing.
    pub(crate) fn in_touch(&self) -> Result<(), Rejection> {
        let silence = self.log.silence();
        if silence <= SILENCE_MAX {
            return Ok(());
        }
        let message = format!("this server has heard of no leader for {} s: go to another one", silence.as_secs());
        Err(Rejection::new(Reason::NoLeader, message))
    }

    /// The first entry of the history that is kept.
    pub(crate) fn first_kept(&self) -> u64 {
        self.log.kept().map_or(0, |kept| kept.first_index)
    }

    /// What was asked for is older than the history that is kept.
    pub(crate) fn too_old(&self, what: impl std::fmt::Display) -> Rejection {
        let (first, at) = self.log.kept().map_or((0, None), |kept| (kept.first_index, kept.at));
        let before = first.saturating_sub(1);
        let at = at.map(|at| history::corrected(self, before, at));
        let since = at.map(|at| format!(", after {at}")).unwrap_or_default();
        let message = format!(
            "{what} is older than the history that is kept: that begins with entry {first}{since}; the state then is what is \
             shown as of index {before}, and events are watched from index {first} on"
        );
        Rejection::object(Reason::TokenTooOld, format!("history/{first}"), message)
    }

    /// A read that the log could not answer; as [`read_failed`], with what is known of where history begins.
    pub(crate) fn unread(&self, what: impl std::fmt::Display, error: ReadError) -> Rejection {
        match error {
            ReadError::TooOld { first } if first == self.first_kept() => self.too_old(what),
            error => read_failed(error),
        }
    }

    /// Notes an agent's session until the guard is dropped; `OVERLOADED` when there are too many.
    pub(crate) fn connect(self: &Arc<Self>, agent: AgentName) -> Result<Connected, Rejection> {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let limit = self.bounds.sessions;
        if sessions.len() >= limit && !sessions.contains_key(&agent) {
            return Err(Rejection::new(Reason::Overloaded, format!("this server has {limit} sessions")));
        }
        *sessions.entry(agent.clone()).or_default() += 1;
        self.metrics.sessions.set(sessions.len() as i64);
        Ok(Connected { doors: self.clone(), agent })
    }

    /// Whether the agent has a session with this server.
    pub(crate) fn is_connected(&self, agent: &AgentName) -> bool {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).contains_key(agent)
    }
}

/// An agent's session as long as it lasts.
pub(crate) struct Connected {
    doors: Arc<Doors>,
    agent: AgentName,
}

impl Drop for Connected {
    fn drop(&mut self) {
        let mut sessions = self.doors.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = sessions.get_mut(&self.agent) {
            *count -= 1;
            if *count == 0 {
                sessions.remove(&self.agent);
            }
        }
        self.doors.metrics.sessions.set(sessions.len() as i64);
    }
}

/// A read that the log could not answer.
pub(crate) fn read_failed(error: ReadError) -> Rejection {
    let reason = match &error {
        ReadError::NotLeader { .. } | ReadError::NoQuorum => Reason::NoLeader,
        ReadError::Behind { .. } => Reason::Behind,
        ReadError::TooOld { .. } => Reason::TokenTooOld,
        ReadError::Storage(_) => Reason::StorageFailed,
        ReadError::Gap | ReadError::Stopped => Reason::NotReady,
    };
    Rejection::new(reason, error.to_string())
}
