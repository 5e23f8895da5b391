//! `certwright.v1.Issuers`: where certificates come from.
//!
//! It refuses kinds that are not there yet; the domain says so.

use std::sync::Arc;

use certwright_core::command::{Command, Etag};
use certwright_core::ids::{Actor, IssuerName};
use certwright_core::policy::{Action, Resource};
use certwright_core::spec::IssuerKind;
use certwright_core::state::Issuer;
use certwright_core::{Reason, Rejection, State};
use certwright_issuance::chain;
use certwright_issuance::order::{Call, Outcome};
use certwright_proto::api::issuer::{IssuerWish, issuer_from_message, issuer_to_message};
use certwright_proto::v1::issuers_server::Issuers;
use certwright_proto::{api, v1};
use tonic::{Request, Response, Status};

use super::{Api, either};
use crate::dispatch::Method;
use crate::doors::Doors;
use crate::paging;

#[tonic::async_trait]
impl Issuers for Api {
    async fn get_issuer(&self, request: Request<v1::GetRequest>) -> Result<Response<v1::IssuerResponse>, Status> {
        let asked = request.get_ref().clone();
        let method = ("certwright.v1.Issuers/GetIssuer", Resource::Issuers);
        self.read(&request, method, asked.min_token.as_ref(), |view| {
            let name = api::names::issuer(&asked.name)?;
            let issuer = view.state.issuers.get(&name).ok_or_else(|| absent(&name))?;
            Ok(v1::IssuerResponse {
                issuer: Some(message(view.state, issuer)),
                token: Some(self.doors.token(view.position)),
                unchanged: false,
            })
        })
        .await
    }

    async fn list_issuers(
        &self,
        request: Request<v1::ListRequest>,
    ) -> Result<Response<v1::ListIssuersResponse>, Status> {
        let asked = request.get_ref().clone();
        let method = ("certwright.v1.Issuers/ListIssuers", Resource::Issuers);
        self.read(&request, method, asked.min_token.as_ref(), |view| {
            let after = paging::start(&asked.page_token)?.map(|last| IssuerName::parse(&last)).transpose()?;
            let size = paging::size(asked.page_size)?;
            let mut page = view.state.issuers.page_after(after.as_ref(), size + 1, |_| true);
            let next = paging::cut(&mut page, size, |last| last.name.as_str());
            Ok(v1::ListIssuersResponse {
                issuers: page.into_iter().map(|issuer| message(view.state, issuer)).collect(),
                next_page_token: next,
                token: Some(self.doors.token(view.position)),
            })
        })
        .await
    }

    async fn create_issuer(
        &self,
        request: Request<v1::CreateIssuerRequest>,
    ) -> Result<Response<v1::IssuerResponse>, Status> {
        self.command::<CreateIssuer>(request).await
    }

    async fn update_issuer(
        &self,
        request: Request<v1::UpdateIssuerRequest>,
    ) -> Result<Response<v1::IssuerResponse>, Status> {
        self.command::<UpdateIssuer>(request).await
    }

    async fn delete_issuer(&self, request: Request<v1::DeleteRequest>) -> Result<Response<v1::DeleteResponse>, Status> {
        self.command::<DeleteIssuer>(request).await
    }
}

fn absent(name: &IssuerName) -> Rejection {
    Rejection::new(Reason::NotFound, format!("there is no issuer {name}"))
}

fn message(state: &State, issuer: &Issuer) -> v1::Issuer {
    let ready = match &issuer.spec.kind {
        IssuerKind::Ca { authority } => chain::authorities(state, authority).is_ok(),
        IssuerKind::Reserved(_) => false,
    };
    issuer_to_message(issuer, ready)
}

fn answer(doors: &Doors, name: &IssuerName, asked: Option<v1::Issuer>, outcome: Outcome) -> v1::IssuerResponse {
    let stored = doors.log.read(|view| view.state.issuers.get(name).map(|issuer| message(view.state, issuer)));
    v1::IssuerResponse {
        issuer: stored.or(asked),
        token: Some(doors.token(outcome.position)),
        unchanged: outcome.unchanged,
    }
}

/// Creates an issuer.
pub(crate) struct CreateIssuer;

impl Method for CreateIssuer {
    const PATH: &'static str = "/certwright.v1.Issuers/CreateIssuer";
    type Request = v1::CreateIssuerRequest;
    type Response = v1::IssuerResponse;

    fn request_id(request: &Self::Request) -> &str {
        &request.request_id
    }

    fn right(_: &Actor) -> (Action, Resource) {
        (Action::Create, Resource::Issuers)
    }

    async fn run(doors: &Arc<Doors>, call: Call, request: Self::Request) -> Result<Self::Response, Rejection> {
        let call = Call { validate_only: request.validate_only, ..call };
        let IssuerWish { name, spec, .. } = issuer_from_message(request.issuer.clone())?;
        let outcome = doors.control.execute(call, Command::CreateIssuer { name: name.clone(), spec }).await?;
        Ok(answer(doors, &name, request.issuer, outcome))
    }
}

/// Replaces an issuer's specification.
pub(crate) struct UpdateIssuer;

impl Method for UpdateIssuer {
    const PATH: &'static str = "/certwright.v1.Issuers/UpdateIssuer";
    type Request = v1::UpdateIssuerRequest;
    type Response = v1::IssuerResponse;

    fn request_id(request: &Self::Request) -> &str {
        &request.request_id
    }

    fn right(_: &Actor) -> (Action, Resource) {
        (Action::Update, Resource::Issuers)
    }

    async fn run(doors: &Arc<Doors>, call: Call, request: Self::Request) -> Result<Self::Response, Rejection> {
        let call = Call { validate_only: request.validate_only, ..call };
        let IssuerWish { name, etag, spec } = issuer_from_message(request.issuer.clone())?;
        let create = Command::CreateIssuer { name: name.clone(), spec: spec.clone() };
        let update = Command::UpdateIssuer { name: name.clone(), etag, spec };
        let exists = doors.log.read(|view| view.state.issuers.contains(&name));
        let outcome = match request.allow_missing {
            true => either(doors, call, exists, create, update).await?,
            false => doors.control.execute(call, update).await?,
        };
        Ok(answer(doors, &name, request.issuer, outcome))
    }
}

/// Deletes an issuer that nothing refers to.
pub(crate) struct DeleteIssuer;

impl Method for DeleteIssuer {
    const PATH: &'static str = "/certwright.v1.Issuers/DeleteIssuer";
    type Request = v1::DeleteRequest;
    type Response = v1::DeleteResponse;

    fn request_id(request: &Self::Request) -> &str {
        &request.request_id
    }

    fn right(_: &Actor) -> (Action, Resource) {
        (Action::Delete, Resource::Issuers)
    }

    async fn run(doors: &Arc<Doors>, call: Call, request: Self::Request) -> Result<Self::Response, Rejection> {
        let call = Call { validate_only: request.validate_only, ..call };
        let name = api::names::issuer(&request.name)?;
        let outcome = doors.control.execute(call, Command::DeleteIssuer { name, etag: Etag(request.etag) }).await?;
        Ok(v1::DeleteResponse { token: Some(doors.token(outcome.position)) })
    }
}
