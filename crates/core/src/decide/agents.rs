//! Decisions about agents: admitted with a token, labelled, renewed, removed; their instances follow.
//!
//! It refuses an agent that comes back with another key, unless a token was made for exactly that agent.

use super::draft::Draft;
use super::epochs;
use super::{instances, misdirected, not_found, tokens};
use crate::command::Command;
use crate::event::{Event, Identity, TokenGrant};
use crate::ids::{AgentName, TokenId};
use crate::limits::IDENTITY_DURATION;
use crate::mutant::{self, Mutant};
use crate::rejection::{Reason, Rejection};
use crate::spec::{Labels, validate_labels};
use crate::state::{Agent, Token};

pub(super) fn decide(draft: &mut Draft<'_>, command: &Command) -> Result<(), Rejection> {
    match command {
        Command::AdmitAgent { token, secret_hash, agent, labels, identity } => {
            admit(draft, (token, secret_hash), agent, labels, identity)
        }
        Command::SetAgentLabels { agent, etag, labels } => {
            let known = find(draft, agent)?;
            etag.check(&known.etag())?;
            if known.labels != *labels {
                validate_labels("labels", labels)?;
                draft.push(agent.stream(), Event::AgentLabelsChanged { labels: labels.clone() });
                instances::follow(draft, agent, Some(&known.labels), Some(labels));
            }
            Ok(())
        }
        Command::RecordAgentIdentity { agent, proved, identity } => {
            let known = find(draft, agent)?;
            if identity.spki_hash != known.spki_hash && *proved != Some(known.spki_hash) {
                let message =
                    format!("agent {agent} has another key by now; only that one is certified for the one before");
                return Err(Rejection::new(Reason::Unauthenticated, message));
            }
            if known.identity.is_none_or(|current| current.serial != identity.serial) {
                draft
                    .push(agent.stream(), Event::AgentIdentityIssued { identity: identity.clone(), readmitted: false });
            }
            Ok(())
        }
        Command::ReadmitAgent { agent, identity } => {
            let known = find(draft, agent)?;
            epochs::lost(draft, identity.not_before)?;
            // One that ends later than any that begins now was issued while clocks were ahead: it says nothing.
            let latest = draft.now.plus(IDENTITY_DURATION);
            let is_newer = |end| end >= identity.not_after && end <= latest;
            if known.identity.is_some_and(|current| is_newer(current.not_after)) {
                let message = format!("agent {agent} has a newer identity than that");
                return Err(Rejection::new(Reason::Unauthenticated, message));
            }
            // The key that the log knows may be one that was replaced for a reason.
            draft.push(agent.stream(), Event::AgentIdentityIssued { identity: identity.clone(), readmitted: true });
            Ok(())
        }
        Command::RemoveAgent { agent, etag } => {
            let known = find(draft, agent)?;
            etag.check(&known.etag())?;
            draft.push(agent.stream(), Event::AgentRemoved);
            instances::follow(draft, agent, Some(&known.labels), None);
            Ok(())
        }
        _ => Err(misdirected()),
    }
}

fn find<'a>(draft: &Draft<'a>, name: &AgentName) -> Result<&'a Agent, Rejection> {
    draft.state.agents.get(name).ok_or_else(|| not_found("agent", name))
}

fn admit(
    draft: &mut Draft<'_>,
    (token, secret_hash): (&TokenId, &[u8; 32]),
    name: &AgentName,
    labels: &Labels,
    identity: &Identity,
) -> Result<(), Rejection> {
    let token = tokens::redeem(draft, token, secret_hash, identity.spki_hash, |grant| match grant {
        TokenGrant::Agent { name: None, .. } => Ok(()),
        TokenGrant::Agent { name: Some(granted), .. } if granted == name => Ok(()),
        TokenGrant::Agent { name: Some(granted), .. } => Err(format!("admits agent {granted}, not {name}")),
        TokenGrant::Node | TokenGrant::Learner => Err("admits a server, not an agent".to_owned()),
    })?;
    let known = draft.state.agents.get(name);
    check_key(known, token, name, identity)?;
    let labels = granted(token, labels)?;
    if known.is_none_or(|known| known.labels != labels || known.spki_hash != identity.spki_hash) {
        let registered =
            Event::AgentRegistered { name: name.clone(), labels: labels.clone(), spki_hash: identity.spki_hash };
        draft.push(name.stream(), registered);
    }
    if known.and_then(|known| known.identity).is_none_or(|current| current.serial != identity.serial) {
        draft.push(name.stream(), Event::AgentIdentityIssued { identity: identity.clone(), readmitted: false });
    }
    instances::follow(draft, name, known.map(|known| &known.labels), Some(&labels));
    Ok(())
}

/// The labels that the token grants. Targets select agents by label: whoever could choose its own would be sent whatever
/// is meant for others. Asking for more is refused, so that nobody waits for what will never come.
fn granted(token: &Token, asked: &Labels) -> Result<Labels, Rejection> {
    let labels = match &token.grant {
        TokenGrant::Agent { labels, .. } => labels.clone(),
        TokenGrant::Node | TokenGrant::Learner => Labels::new(),
    };
    match asked.iter().find(|(key, value)| labels.get(*key) != Some(value)) {
        None => Ok(labels),
        Some((key, value)) => {
            let message = format!(
                "token {} grants no label {key}={value}; an administrator puts it on the token, or on the agent later",
                token.id
            );
            Err(Rejection::field(Reason::PermissionDenied, "labels", message))
        }
    }
}

fn check_key(known: Option<&Agent>, token: &Token, name: &AgentName, identity: &Identity) -> Result<(), Rejection> {
    let repeats = token.consumed_by.is_some() && !mutant::is(Mutant::TokenUsedTwice);
    let names_it = matches!(&token.grant, TokenGrant::Agent { name: Some(granted), .. } if granted == name);
    match known {
        // Whoever was removed since does not come back by repeating itself.
        None if repeats => {
            Err(Rejection::new(Reason::TokenUsed, format!("token {} was used, and agent {name} removed", token.id)))
        }
        Some(known) if known.spki_hash != identity.spki_hash && (repeats || !names_it) => {
            let message = format!(
                "agent {name} is registered with another key; a token made for exactly this agent replaces the key"
            );
            Err(Rejection::new(Reason::AlreadyExists, message))
        }
        _ => Ok(()),
    }
}
