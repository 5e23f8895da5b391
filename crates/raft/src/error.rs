//! Every way in which the log can refuse, as its callers see it.
//!
//! It refuses errors that leave the caller guessing: certainly not, unknown and already done are different variants.

use std::io;

use certwright_core::log::Position;

/// Why a transaction was not appended, or why nobody can say.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProposeError {
    /// This node does not lead, or has not yet applied the first entry of its own term.
    #[error("this server does not lead the cluster")]
    NotLeader {
        /// The node that leads, when known.
        hint: Option<u64>,
    },
    /// Certainly not committed: a later leader's first entry was applied without it, or it was refused at apply.
    #[error("the transaction was not committed")]
    NotCommitted,
    /// The deadline passed; the transaction may or may not be committed. Repeat with the same id.
    #[error("the outcome is unknown: repeat with the same request id")]
    Unknown,
    /// The same actor committed the same request before, there.
    #[error("the request was already committed at {0}")]
    Repeated(Position),
    /// The same actor used this request id for other content.
    #[error("the request id was used for another request")]
    ReusedId,
    /// The transaction alone exceeds an entry.
    #[error("the transaction exceeds {} octets", crate::limits::ENTRY_OCTETS_MAX)]
    TooLarge,
    /// The disk failed; the node stops.
    #[error("storage failed: {0}")]
    Storage(String),
    /// The log was shut down.
    #[error("the log has stopped")]
    Stopped,
}

/// Why a read cannot be answered.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReadError {
    /// Only the leader can confirm a read index.
    #[error("this server does not lead the cluster")]
    NotLeader {
        /// The node that leads, when known.
        hint: Option<u64>,
    },
    /// This node has not applied that far in the time given.
    #[error("this server is behind: applied {applied}, wanted {wanted}")]
    Behind {
        /// Index applied here.
        applied: u64,
        /// Index wanted.
        wanted: u64,
    },
    /// No quorum confirmed leadership in time.
    #[error("no quorum confirmed leadership in time")]
    NoQuorum,
    /// Entries that a snapshot stood for have not come from the other nodes yet.
    #[error("entries of the log are missing here until they have come from the other servers")]
    Gap,
    /// The entries are no longer, or not, in the archive of this node.
    #[error("the log before index {first} is not kept here")]
    TooOld {
        /// The first index that can be read without a gap up to now.
        first: u64,
    },
    /// The bytes cannot be read or decoded.
    #[error("storage failed: {0}")]
    Storage(String),
    /// The log was shut down.
    #[error("the log has stopped")]
    Stopped,
}

/// Why history was not trimmed; nothing was deleted that was not to go anyhow.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TrimError {
    /// It is to begin with an entry that is not applied here.
    #[error("this server has applied {applied}, and history was to begin with {wanted}")]
    Behind {
        /// Index applied here.
        applied: u64,
        /// The first entry that was to be kept.
        wanted: u64,
    },
    /// It begins later already.
    #[error("history begins with entry {first} here")]
    Later {
        /// The first entry that is kept.
        first: u64,
    },
    /// Entries are missing here, or the snapshot that they follow.
    #[error("a part of the history is missing here")]
    Gap,
    /// No member gave the snapshot that history is to begin with.
    #[error("the snapshot that history begins with has not come from the other servers: {0}")]
    NoBase(String),
    /// A backup is being read, or another call is under way.
    #[error("the history is being read or trimmed")]
    Busy,
    /// An entry must not go.
    #[error("entry {index} must be kept: {why}")]
    Kept {
        /// The entry.
        index: u64,
        /// Why.
        why: String,
    },
    /// What this server has folds to something else than the log says.
    #[error("this server's history folds to another state than the log says for entry {0}: nothing is deleted")]
    Differs(u64),
    /// The snapshot that history is to begin with does not fit.
    #[error("too little room on the disk: {0}")]
    NoRoom(String),
    /// The bytes cannot be read, decoded or written.
    #[error("storage failed: {0}")]
    Storage(String),
}

/// Why the members of the cluster were not changed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MembershipError {
    /// Only the leader changes membership.
    #[error("this server does not lead the cluster")]
    NotLeader {
        /// The node that leads, when known.
        hint: Option<u64>,
    },
    /// Another change is under way.
    #[error("another membership change is under way")]
    InProgress,
    /// No such member.
    #[error("node {0} is not a member")]
    NotMember(u64),
    /// The id was removed before; ids never recur.
    #[error("node {0} was removed and its id never recurs")]
    Removed(u64),
    /// The id is a member with another key or address.
    #[error("node {0} is a member with another key or address")]
    Conflict(u64),
    /// The change would leave no voter.
    #[error("the last voter cannot be removed")]
    LastVoter,
    /// The outcome is unknown: look at the membership and repeat.
    #[error("the outcome is unknown: {0}")]
    Unknown(String),
    /// The log was shut down.
    #[error("the log has stopped")]
    Stopped,
}

/// Why a log does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// An input or output error.
    #[error("cannot open the log: {0}")]
    Io(#[from] io::Error),
    /// The directory belongs to another cluster, node or epoch, or is damaged beyond the rule for torn tails.
    #[error("cannot open the log: {0}")]
    Foreign(String),
    /// Stored bytes that this build cannot read.
    #[error("cannot open the log: {0}")]
    Decode(#[from] certwright_core::log::CodecError),
    /// The options contradict each other.
    #[error("cannot open the log: {0}")]
    Options(String),
    /// TLS cannot be configured with this identity.
    #[error("cannot open the log: {0}")]
    Tls(String),
    /// Consensus stopped while starting.
    #[error("cannot open the log: {0}")]
    Consensus(String),
}
