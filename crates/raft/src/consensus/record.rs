//! Stored and sent forms of openraft's ids, votes, memberships and entries: protobuf behind a version octet.
//!
//! It refuses openraft's own serialisation, which changes with its releases.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

use super::{
    Entry, EntryPayload, LogId, Membership, Payload, Peer, SnapshotMeta, StoredMembership, Vote, log_id, term_of,
};

/// Version of every form in this file.
pub(crate) const VERSION: u8 = 1;

/// Kind of an entry without payload, which a new leader writes.
pub(crate) const KIND_BLANK: u8 = 0;
/// Kind of an entry of transactions.
pub(crate) const KIND_NORMAL: u8 = 1;
/// Kind of an entry that changes membership.
pub(crate) const KIND_MEMBERSHIP: u8 = 2;

/// A log id.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct LogIdForm {
    #[prost(uint64, tag = "1")]
    pub(crate) term: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) index: u64,
}

/// A vote.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct VoteForm {
    #[prost(uint64, tag = "1")]
    pub(crate) term: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) node_id: u64,
    #[prost(bool, tag = "3")]
    pub(crate) committed: bool,
}

/// A set of voters; two of them while membership changes.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct VoterSet {
    #[prost(uint64, repeated, tag = "1")]
    pub(crate) node_ids: Vec<u64>,
}

/// A member.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct PeerForm {
    #[prost(uint64, tag = "1")]
    pub(crate) node_id: u64,
    #[prost(string, tag = "2")]
    pub(crate) address: String,
    #[prost(bytes = "bytes", tag = "3")]
    pub(crate) spki_hash: Bytes,
}

/// A membership.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct MembershipForm {
    #[prost(message, repeated, tag = "1")]
    pub(crate) voters: Vec<VoterSet>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) peers: Vec<PeerForm>,
}

/// A membership and the entry that brought it.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct StoredMembershipForm {
    #[prost(message, optional, tag = "1")]
    pub(crate) log_id: Option<LogIdForm>,
    #[prost(message, optional, tag = "2")]
    pub(crate) membership: Option<MembershipForm>,
}

/// What a snapshot covers.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct SnapshotMetaForm {
    #[prost(message, optional, tag = "1")]
    pub(crate) last: Option<LogIdForm>,
    #[prost(message, optional, tag = "2")]
    pub(crate) membership: Option<StoredMembershipForm>,
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what} cannot be decoded"))
}

/// A message behind its version octet.
pub(crate) fn encode(message: &impl Message) -> Bytes {
    let mut octets = BytesMut::with_capacity(1 + message.encoded_len());
    octets.put_u8(VERSION);
    message.encode_raw(&mut octets);
    octets.freeze()
}

/// The message behind a version octet.
pub(crate) fn decode<M: Message + Default>(what: &str, octets: &Bytes) -> io::Result<M> {
    match octets.first() {
        Some(&VERSION) => M::decode(octets.slice(1..)).map_err(|_| broken(what)),
        Some(version) => {
            Err(io::Error::new(io::ErrorKind::InvalidData, format!("{what} has unknown version {version}")))
        }
        None => Err(broken(what)),
    }
}

impl From<&LogId> for LogIdForm {
    fn from(id: &LogId) -> Self {
        Self { term: term_of(id), index: id.index() }
    }
}

impl From<LogIdForm> for LogId {
    fn from(form: LogIdForm) -> Self {
        log_id(form.term, form.index)
    }
}

impl From<&Vote> for VoteForm {
    fn from(vote: &Vote) -> Self {
        let leader = vote.leader_id();
        Self { term: leader.term, node_id: leader.voted_for, committed: vote.is_committed() }
    }
}

impl From<VoteForm> for Vote {
    fn from(form: VoteForm) -> Self {
        if form.committed { Self::new_committed(form.term, form.node_id) } else { Self::new(form.term, form.node_id) }
    }
}

impl From<&Membership> for MembershipForm {
    fn from(membership: &Membership) -> Self {
        Self {
            voters: membership
                .get_joint_config()
                .iter()
                .map(|set| VoterSet { node_ids: set.iter().copied().collect() })
                .collect(),
            peers: membership
                .nodes()
                .map(|(&node_id, peer)| PeerForm {
                    node_id,
                    address: peer.address.clone(),
                    spki_hash: Bytes::copy_from_slice(&peer.spki_hash),
                })
                .collect(),
        }
    }
}

impl TryFrom<MembershipForm> for Membership {
    type Error = io::Error;

    fn try_from(form: MembershipForm) -> io::Result<Self> {
        let voters: Vec<BTreeSet<u64>> =
            form.voters.into_iter().map(|set| set.node_ids.into_iter().collect()).collect();
        let mut peers = BTreeMap::new();
        for peer in form.peers {
            let spki_hash = peer.spki_hash.as_ref().try_into().map_err(|_| broken("membership"))?;
            peers.insert(peer.node_id, Peer { address: peer.address, spki_hash });
        }
        if voters.is_empty() && peers.is_empty() {
            return Ok(Self::default());
        }
        Self::new(voters, peers).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))
    }
}

impl From<&StoredMembership> for StoredMembershipForm {
    fn from(stored: &StoredMembership) -> Self {
        Self { log_id: stored.log_id().as_ref().map(LogIdForm::from), membership: Some(stored.membership().into()) }
    }
}

impl TryFrom<StoredMembershipForm> for StoredMembership {
    type Error = io::Error;

    fn try_from(form: StoredMembershipForm) -> io::Result<Self> {
        let membership = form.membership.unwrap_or_default().try_into()?;
        Ok(Self::new(form.log_id.map(LogId::from), membership))
    }
}

impl From<&SnapshotMeta> for SnapshotMetaForm {
    fn from(meta: &SnapshotMeta) -> Self {
        Self { last: meta.last_log_id.as_ref().map(LogIdForm::from), membership: Some((&meta.last_membership).into()) }
    }
}

impl TryFrom<SnapshotMetaForm> for SnapshotMeta {
    type Error = io::Error;

    fn try_from(form: SnapshotMetaForm) -> io::Result<Self> {
        Ok(Self {
            last_log_id: form.last.map(LogId::from),
            last_membership: form.membership.unwrap_or_default().try_into()?,
        })
    }
}

/// Kind and payload octets of an entry, as stored, hashed and sent.
pub(crate) fn entry_octets(entry: &Entry) -> (u8, Bytes) {
    match &entry.payload {
        EntryPayload::Blank => (KIND_BLANK, Bytes::new()),
        EntryPayload::Normal(payload) => (KIND_NORMAL, payload.0.clone()),
        EntryPayload::Membership(membership) => (KIND_MEMBERSHIP, encode(&MembershipForm::from(membership))),
    }
}

/// The entry with that id, kind and payload octets.
pub(crate) fn entry_from(id: LogId, kind: u8, payload: Bytes) -> io::Result<Entry> {
    let payload = match kind {
        KIND_BLANK => EntryPayload::Blank,
        KIND_NORMAL => EntryPayload::Normal(Payload(payload)),
        KIND_MEMBERSHIP => EntryPayload::Membership(decode::<MembershipForm>("membership", &payload)?.try_into()?),
        kind => return Err(io::Error::new(io::ErrorKind::InvalidData, format!("entry of unknown kind {kind}"))),
    };
    Ok(Entry { log_id: id, payload })
}
