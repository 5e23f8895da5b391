//! Agents and join tokens to and from messages.
//!
//! It refuses to show secrets and their hashes.

use certwright_core::event::TokenGrant;
use certwright_core::ids::AgentName;
use certwright_core::spec::Labels;
use certwright_core::state::{Agent, Token};
use certwright_core::time::Timestamp;
use certwright_core::{Reason, Rejection};

use super::names;
use super::values::{about, etag, invalid, moment_to_message};
use crate::join_token::JoinRole;
use crate::v1;

/// The name and labels that an update of an agent wishes for.
pub fn agent_from_message(agent: Option<v1::Agent>) -> Result<(AgentName, Labels), Rejection> {
    let agent = agent.ok_or_else(|| invalid("agent", "the request has no agent"))?;
    Ok((about("name", names::agent(&agent.name))?, agent.labels))
}

/// The agent; whether it is connected is known to one server, how much it holds to the index.
pub fn agent_to_message(agent: &Agent, connected_here: bool, instances: u32) -> v1::Agent {
    v1::Agent {
        name: names::agent_to_message(&agent.name),
        uid: agent.uid.to_string(),
        etag: etag(agent.uid, agent.revision),
        labels: agent.labels.clone(),
        register_time: Some(moment_to_message(agent.registered_at)),
        identity_not_after: agent.identity.map(|identity| moment_to_message(identity.not_after)),
        identity_serial: agent.identity.map(|identity| identity.serial.to_string()).unwrap_or_default(),
        connected_here,
        instances,
    }
}

/// What the token of a request shall admit.
pub fn grant_from_message(request: &v1::CreateTokenRequest) -> Result<TokenGrant, Rejection> {
    match JoinRole::parse(&request.role) {
        Some(JoinRole::Node) if !request.agent.is_empty() => Err(invalid("agent", "a token for a node names no agent")),
        Some(JoinRole::Node) if !request.labels.is_empty() => {
            Err(invalid("labels", "a token for a node has no labels"))
        }
        Some(JoinRole::Node) if request.learner => Ok(TokenGrant::Learner),
        Some(JoinRole::Node) => Ok(TokenGrant::Node),
        Some(JoinRole::Agent) if request.learner => Err(invalid("learner", "an agent never votes")),
        Some(JoinRole::Agent) => {
            let name = match &*request.agent {
                "" => None,
                agent => Some(about("agent", names::agent(agent))?),
            };
            Ok(TokenGrant::Agent { name, labels: request.labels.clone() })
        }
        None => Err(invalid("role", format!("{:?} is not one of node, agent", request.role))),
    }
}

/// The role of a grant.
pub const fn role_of(grant: &TokenGrant) -> JoinRole {
    match grant {
        TokenGrant::Node | TokenGrant::Learner => JoinRole::Node,
        TokenGrant::Agent { .. } => JoinRole::Agent,
    }
}

/// The token as of log time `now`, without what proves it.
pub fn token_to_message(token: &Token, now: Timestamp) -> v1::JoinToken {
    let (agent, labels) = match &token.grant {
        TokenGrant::Node | TokenGrant::Learner => Default::default(),
        TokenGrant::Agent { name, labels } => {
            (name.as_ref().map(ToString::to_string).unwrap_or_default(), labels.clone())
        }
    };
    v1::JoinToken {
        id: token.id.to_string(),
        role: role_of(&token.grant).name().to_owned(),
        agent,
        labels,
        create_time: Some(moment_to_message(token.created_at)),
        expire_time: Some(moment_to_message(token.expires_at)),
        state: token_state(token, now).to_owned(),
    }
}

fn token_state(token: &Token, now: Timestamp) -> &'static str {
    match token {
        Token { revoked: true, .. } => "revoked",
        Token { consumed_by: Some(_), .. } => "used",
        Token { expires_at, .. } if *expires_at <= now => "expired",
        _ => "live",
    }
}

/// The secret half of a token from a request: 32 octets.
pub fn token_secret(octets: &[u8]) -> Result<zeroize::Zeroizing<[u8; 32]>, Rejection> {
    let secret = octets.try_into().map(zeroize::Zeroizing::new);
    secret.map_err(|_| Rejection::field(Reason::InvalidToken, "token_secret", "the token's secret is not of 32 octets"))
}
