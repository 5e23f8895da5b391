//! An agent's session as measurements hold it: real, with an identity, and signs of life in between.
//!
//! It refuses to go on after its end: whoever measures must not count without it.

use std::time::Duration;

use certwright_agent::Connector;
use certwright_agent::connect::Backoff;
use certwright_agent::session::{BACKOFF_BASE, BACKOFF_CAP};
use certwright_core::Reason;
use certwright_proto::agent::v1::agent_message::Kind as Up;
use certwright_proto::agent::v1::agent_service_client::AgentServiceClient;
use certwright_proto::agent::v1::server_message::Kind as Down;
use certwright_proto::agent::v1::{AgentMessage, Heartbeat, Hello, ServerMessage};
use certwright_seams::Seams;
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, interval, sleep};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::failure::Failure;

/// Between two signs of life.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(10);
/// How long a server may be too busy to shake hands.
const PATIENCE: Duration = Duration::from_secs(900);

/// A session.
pub(super) struct Session {
    pub(super) speaker: Speaker,
    down: Streaming<ServerMessage>,
    heartbeat: Interval,
}

/// Where an agent speaks.
#[derive(Clone)]
pub(super) struct Speaker(mpsc::Sender<AgentMessage>);

impl Speaker {
    /// Says something.
    pub(super) async fn say(&self, kind: Up) -> Result<(), Failure> {
        let message = AgentMessage { kind: Some(kind), ..Default::default() };
        self.0.send(message).await.map_err(|_| ended())
    }
}

fn ended() -> Failure {
    Failure::new(Reason::NotReady, "the session has ended", "look at the servers' logs")
}

impl Session {
    /// Opens one with that server.
    pub(super) async fn open(connector: &Connector, server: &str, seams: &Seams) -> Result<Self, Failure> {
        let began = Instant::now();
        let mut backoff = Backoff::new(BACKOFF_BASE, BACKOFF_CAP);
        // As agents do: a server shakes so many hands of one address at once, and closes the rest.
        let channel = loop {
            match connector.connect_to(server).await {
                Ok(channel) => break channel,
                Err(error) if began.elapsed() > PATIENCE => return Err(error.into()),
                Err(_) => sleep(backoff.next(&*seams.entropy)).await,
            }
        };
        let (up, said) = mpsc::channel(8);
        let speaker = Speaker(up);
        speaker.say(Up::Hello(Hello::default())).await?;
        let down = AgentServiceClient::new(channel).session(ReceiverStream::new(said)).await?.into_inner();
        Ok(Self { speaker, down, heartbeat: interval(HEARTBEAT_EVERY) })
    }

    /// What the server says next; gives signs of life until then.
    pub(super) async fn next(&mut self) -> Result<Option<Down>, Failure> {
        loop {
            tokio::select! {
                biased;
                message = self.down.message() => return Ok(message?.ok_or_else(ended)?.kind),
                _ = self.heartbeat.tick() => self.speaker.say(Up::Heartbeat(Heartbeat::default())).await?,
            }
        }
    }
}
