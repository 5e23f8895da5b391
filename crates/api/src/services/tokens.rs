//! `certwright.v1.Tokens`: what admits agents and servers.
//!
//! It refuses to show a secret twice: the servers keep only its hash.

use std::sync::Arc;

use certwright_core::command::{Command, Etag};
use certwright_core::ids::{Actor, TokenId};
use certwright_core::policy::{Action, Resource};
use certwright_core::x509::key::sha256;
use certwright_core::{Reason, Rejection};
use certwright_issuance::order::Call;
use certwright_proto::api::estate::{grant_from_message, role_of, token_secret, token_to_message};
use certwright_proto::api::values::span_from_optional;
use certwright_proto::join_token::{self, JoinToken};
use certwright_proto::v1;
use certwright_proto::v1::tokens_server::Tokens;
use tonic::{Request, Response, Status};

use super::Api;
use crate::dispatch::Method;
use crate::doors::Doors;
use crate::paging;

#[tonic::async_trait]
impl Tokens for Api {
    async fn create_token(
        &self,
        request: Request<v1::CreateTokenRequest>,
    ) -> Result<Response<v1::CreateTokenResponse>, Status> {
        self.command::<CreateToken>(request).await
    }

    async fn list_tokens(&self, request: Request<v1::ListRequest>) -> Result<Response<v1::ListTokensResponse>, Status> {
        let asked = request.get_ref().clone();
        let method = ("certwright.v1.Tokens/ListTokens", Resource::Tokens);
        let clock = self.doors.log.clock();
        self.read(&request, method, asked.min_token.as_ref(), |view| {
            // The log's time stands still while nothing happens; tokens expire all the same.
            let now = view.at.max(clock);
            let after = paging::start(&asked.page_token)?.map(|last| TokenId::parse(&last)).transpose()?;
            let size = paging::size(asked.page_size)?;
            let mut page = view.state.tokens.page_after(after.as_ref(), size + 1, |_| true);
            let next = paging::cut(&mut page, size, |last| last.id.as_str());
            Ok(v1::ListTokensResponse {
                tokens: page.into_iter().map(|token| token_to_message(token, now)).collect(),
                next_page_token: next,
                token: Some(self.doors.token(view.position)),
            })
        })
        .await
    }

    async fn revoke_token(&self, request: Request<v1::DeleteRequest>) -> Result<Response<v1::DeleteResponse>, Status> {
        self.command::<RevokeToken>(request).await
    }
}

/// Creates a token.
pub(crate) struct CreateToken;

impl Method for CreateToken {
    const PATH: &'static str = "/certwright.v1.Tokens/CreateToken";
    type Request = v1::CreateTokenRequest;
    type Response = v1::CreateTokenResponse;

    fn request_id(request: &Self::Request) -> &str {
        &request.request_id
    }

    fn right(_: &Actor) -> (Action, Resource) {
        (Action::Create, Resource::Tokens)
    }

    async fn run(doors: &Arc<Doors>, call: Call, request: Self::Request) -> Result<Self::Response, Rejection> {
        let grant = grant_from_message(&request)?;
        let role = role_of(&grant);
        let duration = span_from_optional("duration", request.duration.as_ref())?;
        let created = doors.control.create_token(call, grant, duration).await?;
        let token = JoinToken {
            cluster_id: doors.cluster,
            id: created.id.clone(),
            secret: token_secret(&created.secret)?,
            role,
            ca_hash: system_authority_hash(doors)?,
        };
        Ok(v1::CreateTokenResponse {
            token: doors.log.read(|view| view.state.tokens.get(&created.id).map(|it| token_to_message(it, view.at))),
            secret: join_token::format(&token).to_string(),
            at: Some(doors.token(created.outcome.position)),
        })
    }
}

/// What tokens pin: SHA-256 of the system authority's certificate.
fn system_authority_hash(doors: &Doors) -> Result<[u8; 32], Rejection> {
    let absent = || Rejection::new(Reason::NotReady, "the system authority is not certified yet");
    doors.log.read(|view| {
        let systems = view.state.authorities.iter().filter(|it| it.name.as_str() == "system");
        systems.filter_map(|it| it.certified.as_ref()).map(|it| sha256(&it.certificate)).next().ok_or_else(absent)
    })
}

/// Revokes a token.
pub(crate) struct RevokeToken;

impl Method for RevokeToken {
    const PATH: &'static str = "/certwright.v1.Tokens/RevokeToken";
    type Request = v1::DeleteRequest;
    type Response = v1::DeleteResponse;

    fn request_id(request: &Self::Request) -> &str {
        &request.request_id
    }

    fn right(_: &Actor) -> (Action, Resource) {
        (Action::Delete, Resource::Tokens)
    }

    async fn run(doors: &Arc<Doors>, call: Call, request: Self::Request) -> Result<Self::Response, Rejection> {
        let call = Call { validate_only: request.validate_only, ..call };
        let id = TokenId::parse(request.name.strip_prefix("tokens/").unwrap_or(&request.name))?;
        let outcome = doors.control.execute(call, Command::RevokeToken { id, etag: Etag(request.etag) }).await?;
        Ok(v1::DeleteResponse { token: Some(doors.token(outcome.position)) })
    }
}
