//! Decisions: what a command amounts to, given what exists. Pure; the leader runs them, tests run them as tables.
//!
//! It refuses to change anything: a decision is a list of guards and events, or a rejection. Nor does it ask who acts:
//! an [`AuthorizedActor`] was asked already.

mod agents;
mod authorities;
mod certificates;
mod checkpoints;
mod cluster;
mod deliveries;
mod draft;
mod epochs;
mod instances;
mod issuance;
mod issuers;
mod retention;
mod tokens;

use draft::Draft;

use crate::command::Command;
use crate::event::Event;
use crate::format;
use crate::limits::BEGINS_AHEAD_MAX;
use crate::log::{Append, Guard};
use crate::policy::AuthorizedActor;
use crate::rejection::{Reason, Rejection};
use crate::state::State;
use crate::time::Timestamp;

/// What a decision may know besides state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Context {
    /// Log time now: the `at` of the log or later.
    pub now: Timestamp,
    /// Randomness drawn for this decision.
    pub draw: [u8; 32],
}

/// What a command amounts to. No appends: it is so already.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Decision {
    /// Streams read whose change would change the decision.
    pub guards: Vec<Guard>,
    /// Events by stream.
    pub appends: Vec<Append<Event>>,
}

/// Decides one command.
pub fn decide(
    state: &State,
    _actor: &AuthorizedActor,
    command: &Command,
    context: &Context,
) -> Result<Decision, Rejection> {
    let mut draft = Draft::new(state, context.now);
    match command {
        Command::CreateCertificate { .. }
        | Command::UpdateCertificate { .. }
        | Command::DeleteCertificate { .. }
        | Command::RenewCertificate { .. }
        | Command::ReconcileCertificate { .. } => certificates::decide(&mut draft, command)?,
        Command::CreateIssuer { .. } | Command::UpdateIssuer { .. } | Command::DeleteIssuer { .. } => {
            issuers::decide(&mut draft, command)?;
        }
        Command::DeclareAuthority { .. }
        | Command::ResealAuthorityKey { .. }
        | Command::IntendAuthorityCertificate { .. }
        | Command::RecordAuthorityCertificate { .. } => authorities::decide(&mut draft, command)?,
        Command::CreateToken { .. } | Command::RevokeToken { .. } => tokens::decide(&mut draft, command)?,
        Command::AdmitAgent { .. }
        | Command::SetAgentLabels { .. }
        | Command::RecordAgentIdentity { .. }
        | Command::ReadmitAgent { .. }
        | Command::RemoveAgent { .. } => agents::decide(&mut draft, command)?,
        Command::AdmitNode { .. }
        | Command::RecordNodeIdentity { .. }
        | Command::RecordAdministratorIdentity { .. }
        | Command::RemoveNode { .. }
        | Command::SetNodeRole { .. }
        | Command::HoldRenewals { .. }
        | Command::ReleaseRenewals
        | Command::RebaseTime { .. }
        | Command::RaiseFormat { .. }
        | Command::WrapDataKey { .. }
        | Command::ProveDataKey { .. }
        | Command::RotateDataKey { .. }
        | Command::RetireDataKey { .. }
        | Command::OpenEpoch { .. }
        | Command::BootstrapCluster { .. } => cluster::decide(&mut draft, command)?,
        Command::SetRetention { keep } => retention::set(&mut draft, *keep)?,
        Command::TrimHistory { trimmed } => retention::trim(&mut draft, trimmed)?,
        Command::RecordCheckpointKey { .. }
        | Command::ResealCheckpointKey { .. }
        | Command::RecordCheckpoint { .. } => checkpoints::decide(&mut draft, command)?,
        Command::OpenIssuance { .. }
        | Command::FailIssuance { .. }
        | Command::RecordIssued { .. }
        | Command::AdoptHeld { .. }
        | Command::RecordDirect { .. } => issuance::decide(&mut draft, command)?,
        Command::RecordDeliveries { agent, deliveries } => deliveries::record(&mut draft, agent, deliveries),
    }
    let decision = draft.finish();
    format::permit(state.cluster.format, &decision)?;
    has_begun(&decision, context.now)?;
    Ok(decision)
}

/// Refuses what begins in the future: it was composed by a log time that was set back meanwhile.
fn has_begun(decision: &Decision, now: Timestamp) -> Result<(), Rejection> {
    let mut begins = decision.appends.iter().flat_map(|append| &append.events).filter_map(Event::begins);
    match begins.find(|begin| *begin > now.plus(BEGINS_AHEAD_MAX)) {
        None => Ok(()),
        Some(begin) => {
            let message = format!("it would begin at {begin}, and by the log it is {now}");
            Err(Rejection::new(Reason::Moved, message))
        }
    }
}

/// The rejection of a name that names nothing.
fn not_found(kind: &str, name: impl std::fmt::Display) -> Rejection {
    Rejection::new(Reason::NotFound, format!("{kind} {name} does not exist"))
}

/// The rejection of a name that is taken.
fn already_exists(kind: &str, name: impl std::fmt::Display) -> Rejection {
    Rejection::new(Reason::AlreadyExists, format!("{kind} {name} exists already"))
}

/// A command that was dispatched to the wrong room: a fault of ours, never of the caller.
fn misdirected() -> Rejection {
    Rejection::new(Reason::Internal, "the command was dispatched to a room that does not know it")
}

/// At most `max` octets of a text, cut between characters.
fn cut(text: &str, max: usize) -> String {
    text.get(..max.min(text.len())).map_or_else(
        || {
            text.chars()
                .scan(0, |sum, c| {
                    *sum += c.len_utf8();
                    (*sum <= max).then_some(c)
                })
                .collect()
        },
        str::to_owned,
    )
}

#[cfg(test)]
mod tests;
