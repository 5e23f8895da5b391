//! `token`: create, list and revoke join tokens.
//!
//! It refuses to print a secret twice: only `create` ever has it.

use std::process::ExitCode;

use certwright_proto::v1;
use certwright_proto::v1::tokens_client::TokensClient;
use serde_json::json;

use crate::args::{Format, GetArgs, Global, Kind, TokenVerb};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{self, moment};

/// Runs the verb.
pub async fn run(global: &Global, verb: TokenVerb) -> Result<ExitCode, Failure> {
    let (role, agent, learner, labels, duration) = match verb {
        TokenVerb::List => {
            let args = GetArgs::all(Kind::Tokens);
            return crate::get::run(global, args).await;
        }
        TokenVerb::Revoke { id } => {
            let args = crate::args::DeleteArgs { kind: Kind::Tokens, name: id, etag: String::new() };
            return crate::delete::run(global, args).await;
        }
        TokenVerb::Create { role, agent, learner, labels, duration } => (role, agent, learner, labels, duration),
    };
    let client = Client::new(global)?;
    let request = v1::CreateTokenRequest {
        role,
        agent,
        labels: labels.into_iter().collect(),
        duration: duration.map(certwright_proto::api::values::span_to_message),
        request_id: client.request_id(),
        learner,
    };
    let answer = client
        .call(request, |channel, request| async move { TokensClient::new(channel).create_token(request).await })
        .await?;
    let token = answer.token.unwrap_or_default();
    match global.output {
        Format::Json | Format::Yaml => {
            let value = json!({"id": token.id, "role": token.role, "token": answer.secret, "expireTime": moment(token.expire_time.as_ref())});
            output::value(global.output, &value)?;
        }
        _ => {
            output::note(&format!("admits one {} until {}", token.role, moment(token.expire_time.as_ref())));
            output::line(&answer.secret)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
