//! The session with the servers: one bidirectional stream at a time, found again wherever it can be.
//!
//! It refuses to interpret what it carries, to queue without bound, and to come back in step with others.

use std::time::Duration;

use certwright_core::spec::Labels;
use certwright_proto::MESSAGE_OCTETS_MAX;
use certwright_proto::agent::v1::agent_service_client::AgentServiceClient;
use certwright_proto::agent::v1::{AgentMessage, CheckpointMark, Hello, ServerMessage, agent_message, server_message};
use certwright_seams::Seams;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

use crate::connect::{Backoff, Connector};

/// CSRs, and reports, under way without an answer.
pub const IN_FLIGHT_MAX: usize = 256;
/// Messages between the stream and the agent in either direction: the rest waits in HTTP/2's windows.
const QUEUE_MAX: usize = 32;
/// First bound of the wait before another attempt.
pub const BACKOFF_BASE: Duration = Duration::from_millis(100);
/// Largest bound of that wait.
pub const BACKOFF_CAP: Duration = Duration::from_secs(15);
/// A session that lived this long ends without a penalty.
const STABLE_AFTER: Duration = Duration::from_secs(10);

/// How long a refused server has to read that it is.
const REFUSAL_PAUSE: Duration = Duration::from_millis(100);

/// What the session tells the agent.
#[derive(Debug)]
pub enum SessionEvent {
    /// A stream is open; messages to the server go here until `Down`.
    Up {
        /// The server's address.
        server: String,
        /// Bounded: wait for room.
        sender: mpsc::Sender<AgentMessage>,
    },
    /// A message came.
    Message(Box<ServerMessage>),
    /// The stream is gone; what was under way is unanswered.
    Down,
}

/// What every new stream begins with.
pub struct Greeting {
    /// The agent's labels.
    pub labels: Labels,
    /// The last bookmark worked off; `None` for the complete scope. Set to `None`, it ends the session that is open:
    /// the next one begins anew.
    pub resume: watch::Receiver<Option<String>>,
    /// The newest checkpoint of the servers' log that the agent has.
    pub checkpoint: watch::Receiver<Option<CheckpointMark>>,
    /// A change ends the session that is open: nothing is taken from that server, or it is greeted anew.
    pub refusals: watch::Receiver<u64>,
}

impl Greeting {
    fn message(&mut self) -> AgentMessage {
        let value = self.resume.borrow_and_update().clone();
        let hello = Hello {
            version: env!("CARGO_PKG_VERSION").to_string(),
            labels: self.labels.clone(),
            resume: value.map(|value| certwright_proto::v1::Token { value }),
            checkpoint: *self.checkpoint.borrow(),
        };
        self.refusals.mark_unchanged();
        AgentMessage { kind: Some(agent_message::Kind::Hello(hello)), traceparent: String::new() }
    }

    /// Until the agent wants another session; answers why.
    async fn revoked(&mut self) -> &'static str {
        loop {
            tokio::select! {
                biased;
                Ok(()) = self.refusals.changed() => {
                    // What it is told of that is on its way.
                    tokio::time::sleep(REFUSAL_PAUSE).await;
                    return "what that server says of its log is refused, or is to be shown anew";
                }
                Ok(()) = self.resume.changed() => {
                    if self.resume.borrow_and_update().is_none() {
                        return "what could not be stored is asked for again";
                    }
                }
                else => return std::future::pending().await,
            }
        }
    }
}

/// How a stream ended.
enum Ended {
    /// The server asked to go elsewhere.
    Draining,
    /// The agent has another identity, under which it comes back.
    Renewed,
    /// It broke, or the server closed it.
    Lost(String),
    /// The agent no longer listens.
    Stopped,
}

/// Keeps a session up until `events` is closed.
pub async fn keep(connector: Connector, mut greeting: Greeting, events: mpsc::Sender<SessionEvent>, seams: Seams) {
    let mut backoff = Backoff::new(BACKOFF_BASE, BACKOFF_CAP);
    let mut avoid: Option<String> = None;
    loop {
        let start = seams.clock.monotonic();
        let outcome = once(&connector, &mut greeting, &events, &mut avoid).await;
        if matches!(outcome, Ended::Stopped) || events.is_closed() {
            return;
        }
        if seams.clock.monotonic().saturating_sub(start) >= STABLE_AFTER {
            backoff.reset();
        }
        match outcome {
            Ended::Draining if connector.servers().len() > 1 => {
                tracing::info!("the server is going away; connecting to another one");
            }
            Ended::Renewed => tracing::info!("connecting again with the new identity"),
            Ended::Lost(cause) => {
                let wait = backoff.next(&*seams.entropy);
                tracing::warn!(%cause, wait_ms = wait.as_millis() as u64, "no session");
                pause(wait, &events).await;
            }
            _ => pause(backoff.next(&*seams.entropy), &events).await,
        }
    }
}

/// Waits, unless the agent no longer listens.
async fn pause(wait: Duration, events: &mpsc::Sender<SessionEvent>) {
    tokio::select! {
        biased;
        () = events.closed() => {}
        () = tokio::time::sleep(wait) => {}
    }
}

/// One stream, from connecting to its end.
async fn once(
    connector: &Connector,
    greeting: &mut Greeting,
    events: &mpsc::Sender<SessionEvent>,
    avoid: &mut Option<String>,
) -> Ended {
    let mut identity = connector.identity().changes();
    let connected = tokio::select! {
        biased;
        () = events.closed() => return Ended::Stopped,
        connected = connector.connect_avoiding(avoid.as_deref()) => connected,
    };
    let (channel, server) = match connected {
        Ok(connected) => connected,
        Err(error) => return Ended::Lost(error.to_string()),
    };
    // Whatever ends this stream, another server is tried before this one.
    *avoid = Some(server.clone());
    let (sender, receiver) = mpsc::channel(QUEUE_MAX);
    if sender.try_send(greeting.message()).is_err() {
        return Ended::Lost("the greeting found no room".to_string());
    }
    let mut client = AgentServiceClient::new(channel).max_decoding_message_size(MESSAGE_OCTETS_MAX);
    let stream = match client.session(ReceiverStream::new(receiver)).await {
        Ok(response) => response.into_inner(),
        Err(status) => return Ended::Lost(format!("{server}: {}", status.message())),
    };
    tracing::info!(%server, "session open");
    if events.send(SessionEvent::Up { server: server.clone(), sender }).await.is_err() {
        return Ended::Stopped;
    }
    let ended = tokio::select! {
        biased;
        why = greeting.revoked() => Ended::Lost(why.to_string()),
        ended = read(stream, &server, events, &mut identity) => ended,
    };
    if events.send(SessionEvent::Down).await.is_err() {
        return Ended::Stopped;
    }
    ended
}

async fn read(
    mut stream: tonic::Streaming<ServerMessage>,
    server: &str,
    events: &mpsc::Sender<SessionEvent>,
    identity: &mut watch::Receiver<()>,
) -> Ended {
    loop {
        let message = tokio::select! {
            biased;
            () = events.closed() => return Ended::Stopped,
            Ok(()) = identity.changed() => return Ended::Renewed,
            message = stream.message() => message,
        };
        match message {
            Ok(Some(ServerMessage { kind: Some(server_message::Kind::Draining(_)), .. })) => return Ended::Draining,
            Ok(Some(message)) => {
                if events.send(SessionEvent::Message(Box::new(message))).await.is_err() {
                    return Ended::Stopped;
                }
            }
            Ok(None) => return Ended::Lost(format!("{server} closed the stream")),
            Err(status) => return Ended::Lost(format!("{server}: {}", status.message())),
        }
    }
}

/// Starts [`keep`] and returns where its events come out. Dropping that ends the session.
pub fn start(connector: Connector, greeting: Greeting, seams: Seams) -> mpsc::Receiver<SessionEvent> {
    let (events, receiver) = mpsc::channel(QUEUE_MAX);
    tokio::spawn(keep(connector, greeting, events, seams));
    receiver
}
