//! Who takes part: members, roles, leadership and how far a node has applied.
//!
//! It refuses openraft's types; those are translated where they arise.

use std::fmt;

use certwright_core::time::Timestamp;

/// A server of the cluster, as the membership record pins it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Member {
    /// Its id; never recurs.
    pub node_id: u64,
    /// `host:port` of its internal port.
    pub address: String,
    /// SHA-256 of the SubjectPublicKeyInfo that its TLS certificate must carry.
    pub spki_hash: [u8; 32],
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.node_id, self.address)
    }
}

/// The cluster's members.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Members {
    /// Those who vote, by id.
    pub voters: Vec<Member>,
    /// Those who only receive, by id.
    pub learners: Vec<Member>,
    /// A change of who votes was begun and not finished: majorities of those before and of those after have to agree.
    pub is_joint: bool,
}

/// What a node is at the moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Receives, does not vote.
    Learner,
    /// Votes and follows.
    Follower,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
    /// Was shut down, or stopped by an error.
    Stopped,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Learner => "learner",
            Self::Follower => "follower",
            Self::Candidate => "candidate",
            Self::Leader => "leader",
            Self::Stopped => "stopped",
        })
    }
}

/// Who leads, as this node sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Leadership {
    /// The term.
    pub term: u64,
    /// The leader of that term, when known.
    pub leader: Option<u64>,
    /// Whether this node is it.
    pub is_self: bool,
    /// Whether this node leads and has applied the first entry of its own term: only then may it decide.
    pub ready: bool,
}

/// How far a node has applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Mark {
    /// Index of the last entry applied; 0 before everything.
    pub index: u64,
    /// Log time after that entry.
    pub at: Timestamp,
    /// Index of the newest entry up to it that set log time back; 0 when none did.
    pub rebased: u64,
}

/// The peer at the other end of a connection on the internal port, verified by its pinned key; a request extension.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PeerNode(pub u64);
