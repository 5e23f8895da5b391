//! One agent's session with a server, message by message.
//!
//! It refuses to be an agent: it says and hears what a test wants.

use std::time::Duration;

use certwright_api::limits::STREAM_IN_FLIGHT_MAX;
use certwright_proto::agent::v1::agent_message::Kind as Up;
use certwright_proto::agent::v1::agent_service_client::AgentServiceClient;
use certwright_proto::agent::v1::server_message::Kind as Down;
use certwright_proto::agent::v1::{AgentMessage, Heartbeat, Hello, ServerMessage};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use crate::support::PATIENCE;

/// For what happens at once, and for what must not happen.
pub const SOON: Duration = Duration::from_secs(1);

/// One agent's session, greeted.
pub struct Session {
    up: mpsc::Sender<AgentMessage>,
    down: Streaming<ServerMessage>,
}

impl Session {
    pub async fn open(channel: &Channel) -> Result<Self, Status> {
        let (up, said) = mpsc::channel(2 * STREAM_IN_FLIGHT_MAX);
        let mut client = AgentServiceClient::new(channel.clone());
        let down = client.session(ReceiverStream::new(said)).await?.into_inner();
        let mut session = Self { up, down };
        session.say(Up::Hello(Hello::default())).await;
        session.hears(|kind| matches!(kind, Down::Welcome(_))).await;
        Ok(session)
    }

    pub async fn say(&self, kind: Up) {
        self.up.send(AgentMessage { kind: Some(kind), ..Default::default() }).await.unwrap();
    }

    /// Waits for a message of that kind.
    pub async fn hears(&mut self, wanted: impl Fn(&Down) -> bool) -> Down {
        loop {
            let kind = self.down.message().await.unwrap().unwrap().kind.unwrap();
            if wanted(&kind) {
                return kind;
            }
        }
    }

    /// Asks something that any server answers at once.
    pub async fn is_answered(&mut self) -> bool {
        self.is_answered_within(PATIENCE).await
    }

    /// The same, by then.
    pub async fn is_answered_within(&mut self, time: Duration) -> bool {
        self.say(Up::Heartbeat(Heartbeat::default())).await;
        timeout(time, self.hears(|kind| matches!(kind, Down::Heartbeat(_)))).await.is_ok()
    }

    /// Waits for its end, which has a reason.
    pub async fn ends(&mut self) -> Status {
        self.until_it_ends().await.1
    }

    /// What it hears until then, and the reason.
    pub async fn until_it_ends(&mut self) -> (Vec<ServerMessage>, Status) {
        until_it_ends(&mut self.down).await
    }
}

/// The messages of a stream until it ends, and the reason for that.
pub async fn until_it_ends<T>(stream: &mut Streaming<T>) -> (Vec<T>, Status) {
    let mut messages = Vec::new();
    let end = async {
        loop {
            match stream.message().await {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => panic!("the stream ended without a reason"),
                Err(status) => return status,
            }
        }
    };
    let status = timeout(PATIENCE, end).await.expect("the stream goes on");
    (messages, status)
}
