//! `certwright.v1.Authorities`: CA key pairs and their certificates.
//!
//! It refuses to show keys, sealed ones included.

use std::sync::Arc;

use certwright_core::ids::{Actor, AuthorityName};
use certwright_core::policy::{Action, Resource};
use certwright_core::state::Authority;
use certwright_core::{Reason, Rejection, State};
use certwright_issuance::chain;
use certwright_issuance::order::Call;
use certwright_proto::api::authority::{authority_from_message, authority_to_message};
use certwright_proto::v1::authorities_server::Authorities;
use certwright_proto::{api, v1};
use tonic::{Request, Response, Status};

use super::Api;
use crate::dispatch::Method;
use crate::doors::Doors;
use crate::paging;

#[tonic::async_trait]
impl Authorities for Api {
    async fn get_authority(&self, request: Request<v1::GetRequest>) -> Result<Response<v1::AuthorityResponse>, Status> {
        let asked = request.get_ref().clone();
        let method = ("certwright.v1.Authorities/GetAuthority", Resource::Authorities);
        self.read(&request, method, asked.min_token.as_ref(), |view| {
            let name = api::names::authority(&asked.name)?;
            let authority = view.state.authorities.get(&name).ok_or_else(|| absent(&name))?;
            Ok(v1::AuthorityResponse {
                authority: Some(message(view.state, authority)),
                token: Some(self.doors.token(view.position)),
            })
        })
        .await
    }

    async fn list_authorities(
        &self,
        request: Request<v1::ListRequest>,
    ) -> Result<Response<v1::ListAuthoritiesResponse>, Status> {
        let asked = request.get_ref().clone();
        let method = ("certwright.v1.Authorities/ListAuthorities", Resource::Authorities);
        self.read(&request, method, asked.min_token.as_ref(), |view| {
            let after = paging::start(&asked.page_token)?.map(|last| AuthorityName::parse(&last)).transpose()?;
            let size = paging::size(asked.page_size)?;
            let mut page = view.state.authorities.page_after(after.as_ref(), size + 1, |_| true);
            let next = paging::cut(&mut page, size, |last| last.name.as_str());
            Ok(v1::ListAuthoritiesResponse {
                authorities: page.into_iter().map(|authority| message(view.state, authority)).collect(),
                next_page_token: next,
                token: Some(self.doors.token(view.position)),
            })
        })
        .await
    }

    async fn create_authority(
        &self,
        request: Request<v1::CreateAuthorityRequest>,
    ) -> Result<Response<v1::AuthorityResponse>, Status> {
        self.command::<CreateAuthority>(request).await
    }
}

/// An authority with the chain above it, once it has one.
fn message(state: &State, authority: &Authority) -> v1::Authority {
    let above = authority.spec.parent.as_ref().and_then(|parent| chain::of(state, parent).ok());
    authority_to_message(authority, &above.unwrap_or_default())
}

fn absent(name: &AuthorityName) -> Rejection {
    Rejection::new(Reason::NotFound, format!("there is no authority {name}"))
}

/// Makes a key pair and has its certificate signed.
pub(crate) struct CreateAuthority;

impl Method for CreateAuthority {
    const PATH: &'static str = "/certwright.v1.Authorities/CreateAuthority";
    type Request = v1::CreateAuthorityRequest;
    type Response = v1::AuthorityResponse;

    fn request_id(request: &Self::Request) -> &str {
        &request.request_id
    }

    fn right(_: &Actor) -> (Action, Resource) {
        (Action::Create, Resource::Authorities)
    }

    async fn run(doors: &Arc<Doors>, call: Call, request: Self::Request) -> Result<Self::Response, Rejection> {
        let call = Call { validate_only: request.validate_only, ..call };
        let (name, spec) = authority_from_message(request.authority.clone())?;
        let outcome = doors.control.create_authority(call, name.clone(), spec).await?;
        let stored = doors.log.read(|view| view.state.authorities.get(&name).map(|it| message(view.state, it)));
        Ok(v1::AuthorityResponse {
            authority: stored.or(request.authority),
            token: Some(doors.token(outcome.position)),
        })
    }
}
