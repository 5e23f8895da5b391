//! Which right each command needs.
//!
//! It refuses exceptions: what is not listed is internal, so a forgotten command is denied to everybody outside.

use super::{Action, Resource};
use crate::command::Command;

/// The right that a command needs when it comes from a caller. Commands that record what was signed need the right to
/// have it signed; commands of the leader are internal.
pub fn needed(command: &Command) -> (Action, Resource) {
    match command {
        Command::CreateCertificate { name, .. } => (Action::Create, Resource::Certificate(name.clone())),
        Command::UpdateCertificate { name, .. } => (Action::Update, Resource::Certificate(name.clone())),
        Command::DeleteCertificate { name, .. } => (Action::Delete, Resource::Certificate(name.clone())),
        Command::RenewCertificate { name } => (Action::Renew, Resource::Certificate(name.clone())),
        Command::CreateIssuer { name, .. } => (Action::Create, Resource::Issuer(name.clone())),
        Command::UpdateIssuer { name, .. } => (Action::Update, Resource::Issuer(name.clone())),
        Command::DeleteIssuer { name, .. } => (Action::Delete, Resource::Issuer(name.clone())),
        Command::DeclareAuthority { .. } => (Action::Create, Resource::Authorities),
        Command::CreateToken { .. } => (Action::Create, Resource::Tokens),
        Command::RevokeToken { .. } => (Action::Delete, Resource::Tokens),
        Command::AdmitAgent { .. } => (Action::Join, Resource::Agents),
        Command::AdmitNode { .. } => (Action::Join, Resource::Cluster),
        Command::SetAgentLabels { agent, .. } => (Action::Update, Resource::Agent(agent.clone())),
        Command::RemoveAgent { agent, .. } => (Action::Delete, Resource::Agent(agent.clone())),
        Command::RecordAgentIdentity { agent, .. } => (Action::RenewIdentity, Resource::Agent(agent.clone())),
        Command::RecordAdministratorIdentity { name, .. } => {
            (Action::RenewIdentity, Resource::Administrator(name.clone()))
        }
        Command::RemoveNode { node_id } | Command::SetNodeRole { node_id, .. } => {
            (Action::Operate, Resource::Node(*node_id))
        }
        Command::ReleaseRenewals | Command::RebaseTime { .. } | Command::SetRetention { .. } => {
            (Action::Operate, Resource::Cluster)
        }
        Command::RecordDirect { issued, .. } => (Action::Issue, Resource::Issuer(issued.issuer.clone())),
        Command::RecordDeliveries { agent, .. } => (Action::Report, Resource::Agent(agent.clone())),
        _ => (Action::Internal, Resource::Cluster),
    }
}
