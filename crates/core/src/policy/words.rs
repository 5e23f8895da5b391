//! Rights in words, as denials name them: `agent/edge may not create join tokens`.
//!
//! It refuses to be parsed: programs go by the reason's code.

use std::fmt;

use super::{Action, Resource};

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Create => "create",
            Self::Update => "change",
            Self::Delete => "delete",
            Self::Renew => "renew",
            Self::Issue => "have certificates signed by",
            Self::Join => "join as one of",
            Self::Session => "open a session of",
            Self::SubmitCsr => "submit signing requests of",
            Self::Report => "report deliveries of",
            Self::RenewIdentity => "renew the identity of",
            Self::Operate => "operate",
            Self::Internal => "act as a server of",
        })
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate(name) => write!(f, "certificate {name}"),
            Self::Certificates => f.write_str("certificates"),
            Self::Issuer(name) => write!(f, "issuer {name}"),
            Self::Issuers => f.write_str("issuers"),
            Self::Authorities => f.write_str("authorities"),
            Self::Agent(name) => write!(f, "agent {name}"),
            Self::Agents => f.write_str("agents"),
            Self::Tokens => f.write_str("join tokens"),
            Self::Events => f.write_str("the events"),
            Self::Cluster => f.write_str("the cluster"),
            Self::Node(id) => write!(f, "server {id}"),
            Self::Administrator(name) => write!(f, "administrator {name}"),
        }
    }
}
