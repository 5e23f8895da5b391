//! The services of the API port: one struct answers all of them, one file per service.
//!
//! It refuses decisions: reads come from local state, everything else is a command for the leader.

pub(crate) mod agents;
pub(crate) mod authorities;
pub(crate) mod certificates;
pub(crate) mod cluster;
pub(crate) mod events;
pub(crate) mod issue;
pub(crate) mod issued;
pub(crate) mod issuers;
pub(crate) mod join;
pub(crate) mod tokens;

use std::sync::Arc;
use std::time::Duration;

use certwright_core::command::Command;
use certwright_core::ids::{Actor, AgentName};
use certwright_core::policy::{Action, Resource};
use certwright_core::{Reason, Rejection, State};
use certwright_issuance::order::{Call, IdentityAnswer, Outcome};
use certwright_proto::agent::v1::AgentMessage;
use certwright_proto::agent::v1::ServerMessage;
use certwright_proto::agent::v1::agent_service_server::AgentService;
use certwright_proto::api::values::moment_to_message;
use certwright_proto::v1;
use certwright_raft::View;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};

use crate::dispatch::{Method, execute};
use crate::doors::Doors;
use crate::{auth, refuse, session, trace};

/// Every service.
#[derive(Clone)]
pub(crate) struct Api {
    doors: Arc<Doors>,
}

impl Api {
    pub(crate) fn new(doors: Arc<Doors>) -> Self {
        Self { doors }
    }

    /// Runs a command on the leader.
    async fn command<M: Method>(&self, request: Request<M::Request>) -> Result<Response<M::Response>, Status> {
        let started = self.doors.seams.clock.monotonic();
        let answer = self.execute::<M>(request).await;
        self.count(M::PATH, started, answer.as_ref().err());
        answer.map(Response::new)
    }

    async fn execute<M: Method>(&self, request: Request<M::Request>) -> Result<M::Response, Status> {
        let caller = auth::caller(&request)?;
        let (action, resource) = M::right(&caller.actor);
        auth::allow(&caller, action, &resource)?;
        self.doors.open().map_err(refuse::status)?;
        let trace = trace::of(request.metadata());
        execute::<M>(&self.doors, &caller, trace, request.into_inner()).await
    }

    /// Answers from local state of at least `min_token`.
    async fn read<T, R>(
        &self,
        request: &Request<T>,
        method: (&'static str, Resource),
        min_token: Option<&v1::Token>,
        read: impl FnOnce(&View<'_, State>) -> Result<R, Rejection>,
    ) -> Result<Response<R>, Status> {
        self.answer(request, method, self.doors.read(min_token, read)).await
    }

    /// Answers who may read that, and counts it.
    async fn answer<T, R>(
        &self,
        request: &Request<T>,
        (method, resource): (&'static str, Resource),
        read: impl Future<Output = Result<R, Status>>,
    ) -> Result<Response<R>, Status> {
        let started = self.doors.seams.clock.monotonic();
        let answer = async {
            auth::allow(&auth::caller(request)?, Action::Read, &resource)?;
            read.await
        }
        .await;
        self.count(method, started, answer.as_ref().err());
        answer.map(Response::new)
    }

    fn count(&self, method: &str, started: Duration, refused: Option<&Status>) {
        let code = refused.map_or("OK".to_owned(), |status| format!("{:?}", status.code()));
        let elapsed = self.doors.seams.clock.monotonic().saturating_sub(started);
        self.doors
            .metrics
            .calls
            .with_label_values(&[method.trim_start_matches('/'), &code])
            .observe(elapsed.as_secs_f64());
    }
}

/// Updates what is there, creates what is not. A repeat under the same request id must be the same command as the first
/// time, when it may not have been there yet: then the other one is what was done.
pub(crate) async fn either(
    doors: &Doors,
    call: Call,
    exists: bool,
    create: Command,
    update: Command,
) -> Result<Outcome, Rejection> {
    let (first, second) = if exists { (update, create) } else { (create, update) };
    match doors.control.execute(call.clone(), first).await {
        Err(refused)
            if matches!(refused.reason, Reason::RequestIdReused | Reason::AlreadyExists | Reason::NotFound) =>
        {
            let other = doors.control.execute(call, second).await;
            // When both are refused, the first answer is about what is there now.
            other.map_err(|_| refused)
        }
        outcome => outcome,
    }
}

/// An identity as the API answers it.
pub(crate) fn identity_response(doors: &Doors, answer: IdentityAnswer) -> v1::IdentityResponse {
    v1::IdentityResponse {
        certificate: answer.certificate.to_vec().into(),
        chain: answer.chain.iter().map(|der| der.to_vec().into()).collect(),
        not_after: Some(moment_to_message(answer.not_after)),
        cluster_id: doors.cluster.to_string(),
        name: answer.name,
    }
}

/// The right of an administrator to act on its own identity; agents renew theirs over their session.
pub(crate) fn own_identity(actor: &Actor) -> (Action, Resource) {
    let own = match actor {
        Actor::Administrator(name) => Resource::Administrator(name.clone()),
        _ => Resource::Cluster,
    };
    (Action::RenewIdentity, own)
}

/// The right of an agent's session to act for its agent.
pub(crate) fn own_agent(actor: &Actor, action: Action) -> (Action, Resource) {
    match actor {
        Actor::Agent(name) => (action, Resource::Agent(AgentName::clone(name))),
        _ => (action, Resource::Agents),
    }
}

#[tonic::async_trait]
impl AgentService for Api {
    type SessionStream = ReceiverStream<Result<ServerMessage, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        session::open(&self.doors, request).await
    }
}

/// `grpc.health.v1`: serving while this server has a leader and is not stopping.
pub(crate) fn health(doors: Arc<Doors>) -> HealthServer<impl Health> {
    let (reporter, server) = tonic_health::server::health_reporter();
    tokio::spawn(async move {
        let mut leadership = doors.log.leadership();
        loop {
            let status = match doors.readiness() {
                Ok(()) => ServingStatus::Serving,
                Err(_) => ServingStatus::NotServing,
            };
            reporter.set_service_status("", status).await;
            tokio::select! {
                biased;
                () = doors.draining.cancelled() => {
                    reporter.set_service_status("", ServingStatus::NotServing).await;
                    return;
                }
                changed = leadership.changed() => if changed.is_err() { return },
            }
        }
    });
    server
}
