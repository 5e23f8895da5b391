//! One hop to the leader: one multiplexed stream for all commands of this server, and the leader's end of it.
//!
//! It refuses strangers: only a peer verified by its pinned key may speak for a caller, and never for the system.

mod serve;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use certwright_core::State;
use certwright_issuance::order::Call;
use certwright_proto::internal::v1::forward_client::ForwardClient;
use certwright_proto::internal::v1::{ForwardRequest, ForwardResponse};
use certwright_raft::Log;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use crate::limits::{COMMAND_TIMEOUT, MESSAGE_OCTETS_MAX, READ_OWN_WAIT, STREAM_IN_FLIGHT_MAX};
use crate::{refuse, trace};

pub(crate) use serve::ForwardService;

/// Why a forwarded command has no answer.
pub(crate) enum Unanswered {
    /// It never left this server.
    NotSent,
    /// It may have arrived.
    Lost,
}

type Pending = Mutex<BTreeMap<u64, oneshot::Sender<ForwardResponse>>>;

/// The stream to one leader.
struct Link {
    leader: u64,
    next_id: AtomicU64,
    requests: mpsc::Sender<ForwardRequest>,
    pending: Arc<Pending>,
    closed: CancellationToken,
}

/// Forwards commands to whoever leads.
#[derive(Default)]
pub(crate) struct Forwarder {
    link: tokio::sync::Mutex<Option<Arc<Link>>>,
}

impl Forwarder {
    /// Sends one command and waits for its answer: the encoded response, or the leader's refusal.
    pub(crate) async fn send(
        &self,
        log: &Log<State>,
        leader: u64,
        method: &str,
        call: &Call,
        message: Vec<u8>,
    ) -> Result<Result<Bytes, Status>, Unanswered> {
        let link = self.link(log, leader).await?;
        let id = link.next_id.fetch_add(1, Ordering::Relaxed);
        let request = ForwardRequest {
            id,
            actor: call.actor.to_string(),
            method: method.to_owned(),
            message: message.into(),
            traceparent: trace::format(&call.trace),
            timeout_ms: COMMAND_TIMEOUT.as_millis() as u32,
            request_id: call.request_id.map(|id| Bytes::copy_from_slice(&id.0)).unwrap_or_default(),
            caller_key: call.key.map(|key| Bytes::copy_from_slice(&key)).unwrap_or_default(),
            // What its state shows, and agents are told of, may be ahead of what it says to have applied.
            applied_index: log.read(|view| view.index),
        };
        let answer = link.send(request).await?;
        if !answer.status.is_empty() {
            return Ok(Err(refuse::decode(answer.status)));
        }
        // Whoever goes on with this server finds what it has just done. One that is far behind answers all the same:
        // the response's token says from where on it is to be seen.
        let _ = log.wait_applied(answer.applied_index, READ_OWN_WAIT).await;
        Ok(Ok(answer.message))
    }

    async fn link(&self, log: &Log<State>, leader: u64) -> Result<Arc<Link>, Unanswered> {
        let mut current = self.link.lock().await;
        if let Some(link) = current.as_ref().filter(|link| link.leader == leader && !link.closed.is_cancelled()) {
            return Ok(link.clone());
        }
        *current = None;
        let link = Arc::new(Link::open(log, leader).await?);
        *current = Some(link.clone());
        Ok(link)
    }
}

impl Link {
    async fn open(log: &Log<State>, leader: u64) -> Result<Self, Unanswered> {
        let channel = log.peer_channel(leader).ok_or(Unanswered::NotSent)?;
        let (requests, outgoing) = mpsc::channel(STREAM_IN_FLIGHT_MAX);
        let mut client = ForwardClient::new(channel)
            .max_decoding_message_size(MESSAGE_OCTETS_MAX)
            .max_encoding_message_size(MESSAGE_OCTETS_MAX);
        let opening = client.execute_stream(ReceiverStream::new(outgoing));
        let answers = tokio::time::timeout(crate::limits::LEADER_WAIT, opening).await;
        let answers = answers.map_err(|_| Unanswered::NotSent)?.map_err(|status| {
            tracing::debug!(leader, %status, "cannot reach the leader");
            Unanswered::NotSent
        })?;
        let (pending, closed) = (Arc::new(Pending::default()), CancellationToken::new());
        tokio::spawn(read(answers.into_inner(), pending.clone(), closed.clone()));
        Ok(Self { leader, next_id: AtomicU64::new(1), requests, pending, closed })
    }

    async fn send(&self, request: ForwardRequest) -> Result<ForwardResponse, Unanswered> {
        let (answered, answer) = oneshot::channel();
        let id = request.id;
        lock(&self.pending).insert(id, answered);
        let forget = Forget { id, pending: &self.pending };
        // Once `closed` is set nobody reads answers any more; the check after the insert closes that window.
        if self.closed.is_cancelled() || self.requests.send(request).await.is_err() {
            return Err(Unanswered::NotSent);
        }
        let answer = tokio::time::timeout(COMMAND_TIMEOUT, answer).await;
        drop(forget);
        answer.ok().and_then(Result::ok).ok_or(Unanswered::Lost)
    }
}

/// Takes a question back when its asker is gone.
struct Forget<'a> {
    id: u64,
    pending: &'a Pending,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        lock(self.pending).remove(&self.id);
    }
}

async fn read(mut answers: Streaming<ForwardResponse>, pending: Arc<Pending>, closed: CancellationToken) {
    while let Ok(Some(answer)) = answers.message().await {
        let asker = lock(&pending).remove(&answer.id);
        if let Some(asker) = asker {
            // The asker may have given up meanwhile.
            let _ = asker.send(answer);
        }
    }
    closed.cancel();
    // Dropping the senders tells every asker that its answer is lost.
    lock(&pending).clear();
}

fn lock(pending: &Pending) -> std::sync::MutexGuard<'_, BTreeMap<u64, oneshot::Sender<ForwardResponse>>> {
    pending.lock().unwrap_or_else(PoisonError::into_inner)
}
