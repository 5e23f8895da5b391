//! An agent that joins, opens a session, asks for everything more than once, each time for another key, and is removed
//! while the session is open: from then on it must be nobody. I5, I19.
//!
//! It refuses to close the session itself.

use std::cell::RefCell;
use std::time::Duration;

use certwright_agent::{Connector, Context};
use certwright_api::limits::{BOOKMARK_INTERVAL, SILENCE_MAX};
use certwright_core::spec::KeyAlgorithm;
use certwright_core::x509::Names;
use certwright_custody::LeafKey;
use certwright_proto::agent::v1::agent_message::Kind as Up;
use certwright_proto::agent::v1::agent_service_client::AgentServiceClient;
use certwright_proto::agent::v1::server_message::Kind as Down;
use certwright_proto::agent::v1::{AgentMessage, CsrSubmission, Hello, ServerMessage};
use certwright_seams::{Entropy, Seams};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Streaming;

use super::{Window, pause};
use crate::client::{Client, PAUSE, Stuck};
use crate::estate::{Estate, api};

const NAME: &str = "passer-by";
/// How soon after its removal nobody speaks with an agent any more, once everything works.
const REFUSED_WITHIN: Duration = Duration::from_secs(5);
/// How soon a server that was removed itself gives up whoever it speaks with: it takes its removal for being cut off.
const GIVEN_UP_WITHIN: Duration = SILENCE_MAX.saturating_add(BOOKMARK_INTERVAL).saturating_add(REFUSED_WITHIN);
const CHECKER: &str = "churn";

/// The agent that was removed, and its session.
#[derive(Default)]
pub(crate) struct Removed(RefCell<Option<(Context, Option<JoinHandle<()>>)>>);

/// Joins, opens a session, and has the agent removed.
pub(crate) async fn churn(
    estate: &Estate,
    seams: &Seams,
    client: &Client,
    removed: &Removed,
    window: &Window,
) -> Result<(), Stuck> {
    let draw = estate.draw(10);
    pause(&draw).await;
    let token = client.token("agent", NAME).await?;
    let servers = estate.servers();
    let server = api(&servers[draw.next_u64() as usize % servers.len()]);
    // One whose answer is lost would need another token: that run does without.
    let joined = certwright_agent::join::join(&server, &token, NAME, &Default::default(), seams).await;
    let Ok(context) = joined else { return Ok(()) };
    let declared = client.certificate(super::certificate(NAME, &Estate::live(NAME))).await?;
    declared.map_err(|reason| Stuck(format!("declare a certificate: {reason:?}")))?;
    let session = open(&context, seams).await.map(|session| tokio::spawn(session.ask_again_and_again()));
    while window.is_open() && !draw.next_u64().is_multiple_of(4) {
        pause(&draw).await;
    }
    client.delete_agent(NAME).await?;
    estate.trace.tell(CHECKER, format_args!("removed"));
    estate.count();
    removed.0.replace(Some((context, session)));
    Ok(())
}

/// A session that a server has begun to answer.
struct Session {
    up: mpsc::UnboundedSender<AgentMessage>,
    down: Streaming<ServerMessage>,
}

async fn open(context: &Context, seams: &Seams) -> Option<Session> {
    let connector = Connector::new(context, seams).ok()?;
    let (up, said) = mpsc::unbounded_channel();
    up.send(message(Up::Hello(Hello::default()))).ok()?;
    let opening = async {
        let mut client = AgentServiceClient::new(connector.channel());
        let mut down = client.session(UnboundedReceiverStream::new(said)).await.ok()?.into_inner();
        down.message().await.ok()??;
        Some(Session { up, down })
    };
    timeout(REFUSED_WITHIN, opening).await.ok()?
}

fn message(kind: Up) -> AgentMessage {
    AgentMessage { kind: Some(kind), ..Default::default() }
}

impl Session {
    /// Answers every assignment with requests for its open generation and for the one that was issued last.
    async fn ask_again_and_again(mut self) {
        let names = Names { dns_names: vec![format!("{NAME}.example.com")], ..Names::default() };
        while let Ok(Some(ServerMessage { kind, .. })) = self.down.message().await {
            let Some(Down::Assignment(assignment)) = kind else { continue };
            let issued = assignment.issued.map_or(0, |issued| issued.generation);
            for generation in [issued, assignment.wanted_generation, assignment.wanted_generation] {
                let key = LeafKey::generate(KeyAlgorithm::EcdsaP256).expect("a key");
                let submission = CsrSubmission {
                    certificate: assignment.certificate.clone(),
                    instance: assignment.instance.clone(),
                    generation,
                    csr: key.request(&names).expect("a request").into(),
                };
                if generation > 0 && self.up.send(message(Up::Csr(submission))).is_err() {
                    return;
                }
            }
        }
    }
}

/// Whether anybody still speaks with it.
pub(crate) async fn check(estate: &Estate, seams: &Seams, removed: &Removed) {
    let Some((context, session)) = removed.0.take() else { return };
    if let Some(session) = session
        && timeout(GIVEN_UP_WITHIN, session).await.is_err()
    {
        estate.verdict.report("I19", CHECKER, format_args!("the session of an agent that was removed goes on"));
    }
    let end = Instant::now() + GIVEN_UP_WITHIN;
    while open(&context, seams).await.is_some() {
        if Instant::now() > end {
            estate.verdict.report("I19", CHECKER, format_args!("an agent that was removed opens another session"));
            return;
        }
        sleep(PAUSE).await;
    }
}
