//! One agent's session: its scope flows down as state, its CSRs and reports flow up to the leader.
//!
//! It refuses history and older state: an agent is told what is, never less than it already knew.

mod admission;
mod assignment;
mod checkpoint;
pub(crate) mod news;
mod scope;
mod trust;
mod upstream;

use std::sync::Arc;
use std::time::Duration;

use certwright_core::ids::{Actor, AgentName, Uid};
use certwright_core::limits::REFUSAL_PATH_OCTETS_MAX;
use certwright_core::log::Position;
use certwright_core::mutant::{self, Mutant};
use certwright_core::policy::{Action, Resource};
use certwright_core::{Reason, Rejection, rejection};
use certwright_proto::agent::v1::agent_message::Kind as Up;
use certwright_proto::agent::v1::server_message::Kind as Down;
use certwright_proto::agent::v1::{AgentMessage, Draining, Heartbeat, Hello, ServerMessage, Welcome};
use certwright_proto::status::from_status;
use certwright_raft::ReadError;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::doors::{Connected, Doors, read_failed};
use crate::limits::{BEHIND_WAIT, BOOKMARK_INTERVAL, HELLO_TIMEOUT, OUTBOUND_QUEUE_MAX};
use crate::listener::Caller;
use crate::{auth, refuse, trace};

pub(crate) use admission::ReadmitAgent;
use admission::{admit, registered, removed};
pub(crate) use checkpoint::{Chains, RefusedLogs};
use news::Subscription;
pub(crate) use upstream::{AdoptHeld, RenewAgentIdentity, Report, SubmitCsr};

/// How long the agent has to read that this server is going away before the stream ends.
const DRAINING_PAUSE: Duration = Duration::from_millis(100);

type Outbound = mpsc::Sender<Result<ServerMessage, Status>>;

/// One agent's session.
struct Session {
    doors: Arc<Doors>,
    agent: AgentName,
    out: Outbound,
    /// What it proved when the session was opened: its key, and where the agent of that name was registered.
    key: Option<[u8; 32]>,
    uid: Uid,
}

/// The stream is over; nobody is left to be told.
struct Over;

/// From where an agent goes on, and which checkpoint it was told.
type Greeted = (Option<Position>, checkpoint::Told);

/// Opens a session: checks who it is, then serves it in a task of its own.
pub(crate) async fn open(
    doors: &Arc<Doors>,
    request: Request<Streaming<AgentMessage>>,
) -> Result<Response<ReceiverStream<Result<ServerMessage, Status>>>, Status> {
    let caller = auth::caller(&request)?;
    let Actor::Agent(agent) = caller.actor.clone() else {
        // Strangers are told to say who they are, everybody else that this is not theirs.
        auth::allow(&caller, Action::Session, &Resource::Agents)?;
        return Err(refuse::status(Rejection::new(Reason::PermissionDenied, "sessions are for agents")));
    };
    auth::allow(&caller, Action::Session, &Resource::Agent(agent.clone()))?;
    doors.open().map_err(refuse::status)?;
    let uid = admit(doors, &agent, &caller, trace::of(request.metadata())).await?;
    doors.in_touch().map_err(refuse::status)?;
    let connected = doors.connect(agent.clone()).map_err(refuse::status)?;
    let (out, outgoing) = mpsc::channel(OUTBOUND_QUEUE_MAX);
    let session = Session { doors: doors.clone(), agent, out, key: caller.spki_hash, uid };
    tokio::spawn(session.run(caller, request.into_inner(), connected));
    Ok(Response::new(ReceiverStream::new(outgoing)))
}

impl Session {
    async fn run(self, caller: Caller, mut incoming: Streaming<AgentMessage>, _connected: Connected) {
        let session = Arc::new(self);
        tracing::debug!(agent = %session.agent, "session opened");
        match session.greet(&mut incoming).await {
            Ok((after, told)) => {
                let upstream = upstream::serve(session.clone(), caller, incoming);
                tokio::select! {
                    biased;
                    () = upstream => {}
                    _ = session.feed(after, told) => {}
                }
            }
            Err(Some(rejection)) => {
                let _ = session.out.send(Err(refuse::status(rejection))).await;
            }
            Err(None) => {}
        }
        tracing::debug!(agent = %session.agent, "session ended");
    }

    /// Hello and welcome; says from where the agent goes on, `None` for the complete scope, and which checkpoint it was
    /// told.
    async fn greet(&self, incoming: &mut Streaming<AgentMessage>) -> Result<Greeted, Option<Rejection>> {
        let first = tokio::time::timeout(HELLO_TIMEOUT, incoming.message()).await;
        let hello = match first {
            Ok(Ok(Some(AgentMessage { kind: Some(Up::Hello(hello)), .. }))) => hello,
            Ok(Ok(Some(_))) => return Err(Some(Rejection::new(Reason::InvalidSpec, "a session begins with hello"))),
            Err(_) => return Err(Some(Rejection::new(Reason::InvalidSpec, "no hello came in time"))),
            Ok(Ok(None)) => return Err(None),
            Ok(Err(status)) => return Err(Some(from_status(&status).into())),
        };
        self.compare_labels(&hello);
        if let Some(mark) = hello.checkpoint.as_ref().filter(|mark| mark.epoch < self.doors.epoch) {
            let (agent, seen, now) = (&self.agent, mark.epoch, self.doors.epoch);
            tracing::warn!(%agent, seen, now, "an agent of an epoch before this one comes back");
            self.doors.metrics.agents_of_older_epochs.inc();
        }
        let after = self.resume(&hello).await.map_err(Some)?;
        let (checkpoint, applied_index) = self.newest_checkpoint();
        let recalled = match &hello.checkpoint {
            Some(mark) => Some(self.recall(mark).await),
            None => None,
        };
        let told = self.told(checkpoint.as_ref());
        let welcome = Welcome {
            complete: after.is_none(),
            server: self.doors.name.to_string(),
            clock: Some(now(&self.doors)),
            servers: self.servers(),
            checkpoint,
            applied_index,
            recalled,
        };
        self.send(Down::Welcome(welcome), String::new()).await.map_err(|Over| None)?;
        Ok((after, told))
    }

    /// Says so when the agent was started with a label that it does not carry: its targets would never come, and only an
    /// administrator may change that. What an agent says of itself is never taken over.
    fn compare_labels(&self, hello: &Hello) {
        let carried = self.doors.log.read(|view| view.state.agents.get(&self.agent).map(|it| it.labels.clone()));
        let carried = carried.unwrap_or_default();
        if let Some((key, value)) = hello.labels.iter().find(|(key, value)| carried.get(*key) != Some(value)) {
            let [key, value] = [key, value].map(|it| rejection::told(it.clone(), REFUSAL_PATH_OCTETS_MAX));
            tracing::warn!(agent = %self.agent, key, value, "the agent was started with a label that it does not carry");
        }
    }

    /// Where the agent's token leads. A token of another cluster or epoch, or one too old, leads to the complete scope;
    /// one of the future means that this server is behind.
    async fn resume(&self, hello: &Hello) -> Result<Option<Position>, Rejection> {
        let Ok(Some(position)) = self.doors.position(hello.resume.as_ref()) else { return Ok(None) };
        match self.doors.log.wait_applied(position.index, BEHIND_WAIT).await {
            Ok(()) => {}
            Err(ReadError::Behind { .. }) if mutant::is(Mutant::OlderGenerationTaken) => return Ok(None),
            Err(error) => return Err(read_failed(error)),
        }
        let remembered = self.doors.log.read(|view| view.state.scope_since(&self.agent, position, 1).is_some());
        Ok(remembered.then_some(position))
    }

    /// Tells the agent what changes until the stream or this server ends.
    async fn feed(&self, after: Option<Position>, mut checkpoint: checkpoint::Told) -> Result<(), Over> {
        let mut news = Subscription::of(&self.doors, &self.agent);
        let mut announced = self.announce(None).await?;
        let mut told = match after {
            Some(position) => position,
            None => self.tell_everything().await?,
        };
        let mut bookmark_at = Instant::now() + BOOKMARK_INTERVAL;
        loop {
            news.look();
            self.still_registered().await?;
            announced = self.announce(announced).await?;
            told = self.tell_changes(told).await?;
            checkpoint = self.tell_checkpoint(checkpoint).await?;
            if Instant::now() >= bookmark_at {
                if let Err(rejection) = self.doors.in_touch() {
                    return Err(self.end(rejection).await);
                }
                self.bookmark(told, false).await?;
                bookmark_at = Instant::now() + BOOKMARK_INTERVAL;
            }
            tokio::select! {
                biased;
                () = self.doors.draining.cancelled() => return self.drain().await,
                more = news.changed() => if !more { return Err(Over) },
                () = sleep_until(bookmark_at) => {}
                () = self.out.closed() => return Err(Over),
            }
        }
    }

    /// Ends the session of an agent that was removed or has another key by now.
    async fn still_registered(&self) -> Result<(), Over> {
        match registered(&self.doors, &self.agent, self.key) {
            Ok(uid) if uid == self.uid => Ok(()),
            _ if mutant::is(Mutant::RemovedAgentAccepted) => Ok(()),
            Ok(_) => Err(self.end(removed(&self.agent)).await),
            Err(rejection) => Err(self.end(rejection).await),
        }
    }

    /// Ends the stream with its reason.
    async fn end(&self, rejection: Rejection) -> Over {
        tracing::info!(agent = %self.agent, %rejection, "a session is ended");
        let _ = self.out.send(Err(refuse::status(rejection))).await;
        Over
    }

    /// Where agents connect, for every server that is a member.
    fn servers(&self) -> Vec<String> {
        self.doors.log.read(|view| {
            let nodes = view.state.cluster.nodes.values().filter(|node| !node.removed);
            nodes.map(|node| node.record.api_address.clone()).filter(|address| !address.is_empty()).collect()
        })
    }

    async fn drain(&self) -> Result<(), Over> {
        self.send(Down::Draining(Draining {}), String::new()).await?;
        tokio::time::sleep(DRAINING_PAUSE).await;
        Ok(())
    }

    async fn heartbeat(&self) -> Result<(), Over> {
        self.send(Down::Heartbeat(Heartbeat { clock: Some(now(&self.doors)) }), String::new()).await
    }

    async fn send(&self, kind: Down, traceparent: String) -> Result<(), Over> {
        self.out.send(Ok(ServerMessage { kind: Some(kind), traceparent })).await.map_err(|_| Over)
    }
}

fn now(doors: &Doors) -> prost_types::Timestamp {
    let millis = doors.seams.clock.wall_millis();
    prost_types::Timestamp { seconds: (millis / 1000) as i64, nanos: (millis % 1000 * 1_000_000) as i32 }
}
