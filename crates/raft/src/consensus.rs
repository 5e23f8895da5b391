//! The one place where openraft's types are chosen.
//!
//! It refuses the advanced leader id: the standard one lets a term have one leader at most, so that a log id is
//! (term, index), the condition of a write is a term, and an entry of a later term proves that nothing of an earlier
//! term is still on its way. This was decided before the first byte was written and cannot be changed afterwards.

pub(crate) mod record;
pub(crate) mod runtime;
pub(crate) mod store;
#[cfg(test)]
mod tests;
pub(crate) mod wire;

use std::fmt;

use bytes::Bytes;
use openraft::vote::RaftLeaderId;

use crate::member::Member;

openraft::declare_raft_types!(
    /// Raft as certwright runs it.
    pub(crate) Types:
        D = Payload,
        R = (),
        NodeId = u64,
        Node = Peer,
        Term = u64,
        LeaderId = openraft::impls::leader_id_std::LeaderId<u64, u64>,
        AsyncRuntime = runtime::SeamRuntime,
);

pub(crate) type Vote = openraft::alias::VoteOf<Types>;
pub(crate) type LogId = openraft::alias::LogIdOf<Types>;
pub(crate) type CommittedLeaderId = <openraft::alias::LeaderIdOf<Types> as RaftLeaderId>::Committed;
pub(crate) type Entry = openraft::alias::EntryOf<Types>;
pub(crate) type EntryPayload = openraft::EntryPayload<Payload, u64, Peer>;
pub(crate) type Membership = openraft::Membership<u64, Peer>;
pub(crate) type StoredMembership = openraft::alias::StoredMembershipOf<Types>;
pub(crate) type SnapshotMeta = openraft::alias::SnapshotMetaOf<Types>;

/// The payload of an ordinary entry: opaque here, encoded once by the leader.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Payload(pub(crate) Bytes);

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} octets", self.0.len())
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What the membership record says of a member.
#[derive(Clone, PartialEq, Eq, Default)]
pub(crate) struct Peer {
    pub(crate) address: String,
    pub(crate) spki_hash: [u8; 32],
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)
    }
}

impl Peer {
    pub(crate) fn of(member: &Member) -> Self {
        Self { address: member.address.clone(), spki_hash: member.spki_hash }
    }

    pub(crate) fn member(&self, node_id: u64) -> Member {
        Member { node_id, address: self.address.clone(), spki_hash: self.spki_hash }
    }
}

/// The log id of that term and index.
pub(crate) fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(term), index)
}

/// The term of a log id.
pub(crate) fn term_of(id: &LogId) -> u64 {
    id.committed_leader_id().term
}
