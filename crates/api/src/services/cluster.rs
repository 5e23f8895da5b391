//! `certwright.v1.Cluster`: its servers, their digests, an administrator's own identity.
//!
//! It refuses to guess about others: what a server does not say within its time is `unreachable`.

mod backup;
mod members;
mod peers;

use std::sync::Arc;

use certwright_core::command::Command;
use certwright_core::ids::Actor;
use certwright_core::log::Trace;
use certwright_core::mutant::{self, Mutant};
use certwright_core::policy::{self, Action, Resource};
use certwright_core::{Reason, Rejection};
use certwright_issuance::order::Call;
use certwright_proto::api::values::{moment_from_message, moment_to_message, span_from_message};
use certwright_proto::v1;
use certwright_proto::v1::cluster_server::Cluster;
use certwright_raft::ReadError;
use tonic::{Request, Response, Status};

use super::{Api, identity_response, own_agent, own_identity};
pub(crate) use members::{RemoveNode, SetNodeRole, TransferLeadership};

use crate::dispatch::{Method, execute};
use crate::doors::{Doors, read_failed};
use crate::listener::Caller;
use crate::{auth, refuse, trace};

#[tonic::async_trait]
impl Cluster for Api {
    type BackupStream = backup::Chunks;

    async fn backup(&self, request: Request<v1::BackupRequest>) -> Result<Response<Self::BackupStream>, Status> {
        let caller = auth::caller(&request)?;
        auth::allow(&caller, Action::Operate, &Resource::Cluster)?;
        backup::stream(&self.doors, &caller.actor, request.into_inner())
            .await
            .map(Response::new)
            .map_err(refuse::status)
    }

    async fn get_cluster(
        &self,
        request: Request<v1::GetClusterRequest>,
    ) -> Result<Response<v1::GetClusterResponse>, Status> {
        let caller = auth::caller(&request)?;
        auth::allow(&caller, Action::Read, &Resource::Cluster)?;
        let (trace, asked) = (trace::of(request.metadata()), request.into_inner());
        if asked.linearizable {
            up_to_date(&self.doors, &caller, trace).await?;
        }
        self.doors.catch_up(asked.min_token.as_ref()).await.map_err(refuse::status)?;
        Ok(Response::new(peers::describe(&self.doors).await))
    }

    async fn get_digests(
        &self,
        request: Request<v1::GetDigestsRequest>,
    ) -> Result<Response<v1::GetDigestsResponse>, Status> {
        let caller = auth::caller(&request)?;
        auth::allow(&caller, Action::Operate, &Resource::Cluster)?;
        let trace = trace::of(request.metadata());
        let at = execute::<RequestDigest>(&self.doors, &caller, trace, v1::GetDigestsRequest {}).await?;
        peers::digests(&self.doors, at.index).await.map(Response::new).map_err(refuse::status)
    }

    async fn renew_identity(
        &self,
        request: Request<v1::RenewIdentityRequest>,
    ) -> Result<Response<v1::IdentityResponse>, Status> {
        self.command::<RenewIdentity>(request).await
    }

    async fn remove_node(
        &self,
        request: Request<v1::RemoveNodeRequest>,
    ) -> Result<Response<v1::DeleteResponse>, Status> {
        self.command::<RemoveNode>(request).await
    }

    async fn transfer_leadership(
        &self,
        request: Request<v1::TransferLeadershipRequest>,
    ) -> Result<Response<v1::TransferLeadershipResponse>, Status> {
        self.command::<TransferLeadership>(request).await
    }

    async fn set_node_role(
        &self,
        request: Request<v1::SetNodeRoleRequest>,
    ) -> Result<Response<v1::SetNodeRoleResponse>, Status> {
        self.command::<SetNodeRole>(request).await
    }

    async fn release_renewals(
        &self,
        request: Request<v1::ReleaseRenewalsRequest>,
    ) -> Result<Response<v1::ReleaseRenewalsResponse>, Status> {
        self.command::<ReleaseRenewals>(request).await
    }

    async fn rebase_time(
        &self,
        request: Request<v1::RebaseTimeRequest>,
    ) -> Result<Response<v1::RebaseTimeResponse>, Status> {
        self.command::<RebaseTime>(request).await
    }

    async fn set_retention(
        &self,
        request: Request<v1::SetRetentionRequest>,
    ) -> Result<Response<v1::SetRetentionResponse>, Status> {
        self.command::<SetRetention>(request).await
    }
}

/// Waits until this server has applied everything that was committed when it was asked, as the leader knows it. The leader
/// is asked once for all who wait, under the name of one of them: each must have the right.
pub(crate) async fn up_to_date(doors: &Arc<Doors>, caller: &Caller, trace: Trace) -> Result<(), Status> {
    let (action, resource) = ReadIndex::right(&caller.actor);
    auth::allow(caller, action, &resource)?;
    if mutant::is(Mutant::FollowerConfirmsItself) {
        return Ok(());
    }
    let (asking, by) = (doors.clone(), caller.clone());
    let round = doors.read_indexes.ask(move || async move { execute::<ReadIndex>(&asking, &by, trace, ()).await });
    let lost = || Err(refuse::status(Rejection::new(Reason::Internal, "the leader could not be asked")));
    let committed = round.await.unwrap_or_else(lost)?;
    doors.catch_up(Some(&committed)).await.map_err(refuse::status)
}

/// Ends a hold on renewals.
pub(crate) struct ReleaseRenewals;

impl Method for ReleaseRenewals {
    const PATH: &'static str = "/certwright.v1.Cluster/ReleaseRenewals";
    type Request = v1::ReleaseRenewalsRequest;
    type Response = v1::ReleaseRenewalsResponse;

    fn request_id(request: &Self::Request) -> &str {
        &request.request_id
    }

    fn right(_: &Actor) -> (Action, Resource) {
        (Action::Operate, Resource::Cluster)
    }

    async fn run(doors: &Arc<Doors>, call: Call, _: Self::Request) -> Result<Self::Response, Rejection> {
        let outcome = doors.control.execute(call, Command::ReleaseRenewals).await?;
        let token = Some(doors.token(outcome.position));
        Ok(v1::ReleaseRenewalsResponse { token, unchanged: outcome.unchanged })
    }
}

/// Sets log time back.
pub(crate) struct RebaseTime;

impl Method for RebaseTime {
    const PATH: &'static str = "/certwright.v1.Cluster/RebaseTime";
    type Request = v1::RebaseTimeRequest;
    type Response = v1::RebaseTimeResponse;

    fn request_id(request: &Self::Request) -> &str {
        &request.request_id
    }

    fn right(_: &Actor) -> (Action, Resource) {
        (Action::Operate, Resource::Cluster)
    }

    async fn run(doors: &Arc<Doors>, call: Call, request: Self::Request) -> Result<Self::Response, Rejection> {
        let missing = || Rejection::field(Reason::InvalidSpec, "clock", "say what your clock shows");
        let told = moment_from_message("clock", request.clock.as_ref().ok_or_else(missing)?)?;
        let rebased = doors.control.rebase_time(call, told).await?;
        Ok(v1::RebaseTimeResponse {
            token: Some(doors.token(rebased.outcome.position)),
            unchanged: rebased.outcome.unchanged,
            from: rebased.change.map(|(from, _)| moment_to_message(from)),
            to: rebased.change.map(|(_, to)| moment_to_message(to)),
        })
    }
}

/// Says for how long history is kept.
pub(crate) struct SetRetention;

impl Method for SetRetention {
    const PATH: &'static str = "/certwright.v1.Cluster/SetRetention";
    type Request = v1::SetRetentionRequest;
    type Response = v1::SetRetentionResponse;

    fn request_id(request: &Self::Request) -> &str {
        &request.request_id
    }

    fn right(_: &Actor) -> (Action, Resource) {
        (Action::Operate, Resource::Cluster)
    }

    async fn run(doors: &Arc<Doors>, call: Call, request: Self::Request) -> Result<Self::Response, Rejection> {
        let keep = request.keep.as_ref().map(|keep| span_from_message("keep", keep)).transpose()?;
        let outcome = doors.control.execute(call, Command::SetRetention { keep }).await?;
        let token = Some(doors.token(outcome.position));
        Ok(v1::SetRetentionResponse { token, unchanged: outcome.unchanged })
    }
}

/// `cluster/read-index`: how far the log is, confirmed by a quorum. For whoever may read the cluster, and for agents:
/// whether one may have a session is the question behind theirs.
pub(crate) struct ReadIndex;

impl Method for ReadIndex {
    const PATH: &'static str = "cluster/read-index";
    type Request = ();
    type Response = v1::Token;

    fn right(actor: &Actor) -> (Action, Resource) {
        match actor {
            Actor::Agent(_) => own_agent(actor, Action::Session),
            _ => (Action::Read, Resource::Cluster),
        }
    }

    async fn run(doors: &Arc<Doors>, call: Call, (): ()) -> Result<v1::Token, Rejection> {
        // No command behind it would ask.
        let (action, resource) = Self::right(&call.actor);
        policy::authorize(&call.actor, action, &resource)?;
        doors.log.read_index().await.map_err(|error| match error {
            // Whoever asked asks the next leader.
            ReadError::NotLeader { .. } => Rejection::new(Reason::NotLeader, "this server does not lead"),
            error => read_failed(error),
        })?;
        Ok(doors.log.read(|view| doors.token(view.position)))
    }
}

/// `cluster/digest`: has every server compute the digest of its state right after one entry.
pub(crate) struct RequestDigest;

impl Method for RequestDigest {
    const PATH: &'static str = "cluster/digest";
    type Request = v1::GetDigestsRequest;
    type Response = v1::GetDigestsResponse;

    fn right(_: &Actor) -> (Action, Resource) {
        (Action::Operate, Resource::Cluster)
    }

    async fn run(doors: &Arc<Doors>, call: Call, _: Self::Request) -> Result<Self::Response, Rejection> {
        let index = doors.control.request_digest(&call).await?;
        Ok(v1::GetDigestsResponse { index, ..Default::default() })
    }
}

/// A new certificate for the calling administrator.
pub(crate) struct RenewIdentity;

impl Method for RenewIdentity {
    const PATH: &'static str = "/certwright.v1.Cluster/RenewIdentity";
    type Request = v1::RenewIdentityRequest;
    type Response = v1::IdentityResponse;

    fn right(actor: &Actor) -> (Action, Resource) {
        own_identity(actor)
    }

    async fn run(doors: &Arc<Doors>, call: Call, request: Self::Request) -> Result<Self::Response, Rejection> {
        let answer = doors.control.renew_identity(call, request.csr.into()).await?;
        Ok(identity_response(doors, answer))
    }
}
