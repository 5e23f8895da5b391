//! The leader's end of forwarding: decodes, runs, encodes.
//!
//! It refuses callers who are no members of the cluster at that moment, and actors that no client certificate can name.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use certwright_core::ids::Actor;
use certwright_core::log::RequestId;
use certwright_core::mutant::{self, Mutant};
use certwright_core::{Reason, Rejection};
use certwright_issuance::order::Call;
use certwright_proto::internal::v1::forward_server::Forward;
use certwright_proto::internal::v1::{ForwardRequest, ForwardResponse};
use certwright_raft::PeerNode;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::dispatch::run_encoded;
use crate::doors::{Doors, read_failed};
use crate::limits::{BEHIND_WAIT, STREAM_IN_FLIGHT_MAX};
use crate::{refuse, trace};

/// `certwright.internal.v1.Forward`.
#[derive(Clone)]
pub(crate) struct ForwardService {
    doors: Arc<Doors>,
    under_way: Arc<Semaphore>,
}

impl ForwardService {
    /// The service of this server.
    pub(crate) fn new(doors: Arc<Doors>) -> Self {
        let under_way = Arc::new(Semaphore::new(doors.bounds.forwarded));
        Self { doors, under_way }
    }

    async fn answer(&self, peer: PeerNode, request: ForwardRequest) -> ForwardResponse {
        let id = request.id;
        // A leader may apply later than its followers what it has committed, removals among it: what it knew before would answer
        // another question.
        let answer = match self.doors.log.wait_applied(request.applied_index, BEHIND_WAIT).await.map_err(read_failed) {
            Ok(()) => match self.member(peer) {
                Ok(()) => self.run(request).await,
                Err(rejection) => Err(rejection),
            },
            Err(behind) => Err(behind),
        };
        let (message, status) = match answer {
            Ok(message) => (message, Bytes::new()),
            Err(rejection) => (Bytes::new(), refuse::encode(&refuse::status(rejection))),
        };
        ForwardResponse { id, message, status, applied_index: self.doors.log.applied().borrow().index }
    }

    /// Asked for every command: a stream may be older than the removal of the server that opened it.
    fn member(&self, PeerNode(peer): PeerNode) -> Result<(), Rejection> {
        let log = &self.doors.log;
        let stays = log.read(|view| view.state.cluster.nodes.get(&peer).is_some_and(|node| !node.removed));
        match stays && log.is_member(peer) || mutant::is(Mutant::RemovedServerAccepted) {
            true => Ok(()),
            false => {
                Err(Rejection::new(Reason::PermissionDenied, format!("server {peer} is no member of the cluster")))
            }
        }
    }

    async fn run(&self, request: ForwardRequest) -> Result<Bytes, Rejection> {
        let leadership = *self.doors.log.leadership().borrow();
        if !(leadership.is_self && leadership.ready) {
            return Err(Rejection::new(Reason::NotLeader, "this server does not lead"));
        }
        let actor = Actor::parse(&request.actor)
            .filter(|actor| matches!(actor, Actor::Administrator(_) | Actor::Agent(_) | Actor::Anonymous))
            .ok_or_else(|| Rejection::new(Reason::PermissionDenied, "nobody can be forwarded under that name"))?;
        let request_id = <[u8; 16]>::try_from(request.request_id.as_ref()).ok().map(RequestId);
        let key = <[u8; 32]>::try_from(request.caller_key.as_ref()).ok();
        let call = Call { actor, key, request_id, trace: trace::parse(&request.traceparent), validate_only: false };
        run_encoded(&self.doors, &request.method, call, request.message).await
    }
}

fn peer<T>(request: &Request<T>) -> Result<PeerNode, Status> {
    request.extensions().get::<PeerNode>().copied().ok_or_else(|| {
        refuse::status(Rejection::new(Reason::PermissionDenied, "only servers of the cluster forward commands"))
    })
}

#[tonic::async_trait]
impl Forward for ForwardService {
    async fn execute(&self, request: Request<ForwardRequest>) -> Result<Response<ForwardResponse>, Status> {
        let peer = peer(&request)?;
        Ok(Response::new(self.answer(peer, request.into_inner()).await))
    }

    type ExecuteStreamStream = Pin<Box<dyn Stream<Item = Result<ForwardResponse, Status>> + Send>>;

    async fn execute_stream(
        &self,
        request: Request<Streaming<ForwardRequest>>,
    ) -> Result<Response<Self::ExecuteStreamStream>, Status> {
        let peer = peer(&request)?;
        let (answers, outgoing) = mpsc::channel(STREAM_IN_FLIGHT_MAX);
        let (service, mut requests) = (self.clone(), request.into_inner());
        tokio::spawn(async move {
            while let Ok(Some(request)) = requests.message().await {
                let Ok(permit) = service.under_way.clone().acquire_owned().await else { break };
                let (service, answers) = (service.clone(), answers.clone());
                tokio::spawn(async move {
                    let answer = service.answer(peer, request).await;
                    drop(permit);
                    // A peer that is gone repeats the command elsewhere, under the same id.
                    let _ = answers.send(Ok(answer)).await;
                });
            }
            tracing::debug!(peer = peer.0, "a peer's stream of commands ended");
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }
}
