//! What peers say to each other, as protobuf bodies of the internal port's envelopes.
//!
//! It refuses to copy payloads: an entry's octets are shared from the log to the socket.

use std::io;

use bytes::Bytes;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, StreamAppendError, StreamAppendResult, TransferLeaderError,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use prost::Message;

use super::record::{LogIdForm, SnapshotMetaForm, VoteForm, entry_from, entry_octets};
use super::{LogId, Types, Vote};

/// One entry.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct EntryForm {
    #[prost(uint64, tag = "1")]
    pub(crate) term: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) index: u64,
    #[prost(uint32, tag = "3")]
    pub(crate) kind: u32,
    #[prost(bytes = "bytes", tag = "4")]
    pub(crate) payload: Bytes,
}

/// Append these entries after `prev`.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct AppendForm {
    #[prost(message, optional, tag = "1")]
    pub(crate) vote: Option<VoteForm>,
    #[prost(message, optional, tag = "2")]
    pub(crate) prev: Option<LogIdForm>,
    #[prost(message, optional, tag = "3")]
    pub(crate) committed: Option<LogIdForm>,
    #[prost(message, repeated, tag = "4")]
    pub(crate) entries: Vec<EntryForm>,
}

const APPENDED: u32 = 0;
const APPENDED_UP_TO: u32 = 1;
const CONFLICT: u32 = 2;
const HIGHER_VOTE: u32 = 3;

/// How an append ended.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct AppendedForm {
    #[prost(uint32, tag = "1")]
    pub(crate) outcome: u32,
    #[prost(message, optional, tag = "2")]
    pub(crate) log_id: Option<LogIdForm>,
    #[prost(message, optional, tag = "3")]
    pub(crate) vote: Option<VoteForm>,
}

/// Asks for a vote, or whether one would be given.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct VoteRequestForm {
    #[prost(message, optional, tag = "1")]
    pub(crate) vote: Option<VoteForm>,
    #[prost(message, optional, tag = "2")]
    pub(crate) last: Option<LogIdForm>,
    #[prost(bool, tag = "3")]
    pub(crate) leadership_transfer: bool,
    /// Asked for because this leader's process died, and not because it said so itself.
    #[prost(message, optional, tag = "4")]
    pub(crate) dead_leader: Option<VoteForm>,
}

/// Answers it.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct VoteResponseForm {
    #[prost(message, optional, tag = "1")]
    pub(crate) vote: Option<VoteForm>,
    #[prost(message, optional, tag = "2")]
    pub(crate) last: Option<LogIdForm>,
    #[prost(bool, tag = "3")]
    pub(crate) granted: bool,
}

/// Hands leadership over.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct TransferForm {
    #[prost(message, optional, tag = "1")]
    pub(crate) from: Option<VoteForm>,
    #[prost(uint64, tag = "2")]
    pub(crate) to: u64,
    #[prost(message, optional, tag = "3")]
    pub(crate) last: Option<LogIdForm>,
}

const TRANSFERRED: u32 = 0;
const VOTE_CHANGED: u32 = 1;
const NOT_FLUSHED: u32 = 2;

/// Answers it.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct TransferredForm {
    #[prost(uint32, tag = "1")]
    pub(crate) outcome: u32,
    #[prost(message, optional, tag = "2")]
    pub(crate) expected_vote: Option<VoteForm>,
    #[prost(message, optional, tag = "3")]
    pub(crate) actual_vote: Option<VoteForm>,
    #[prost(message, optional, tag = "4")]
    pub(crate) expected_log_id: Option<LogIdForm>,
    #[prost(message, optional, tag = "5")]
    pub(crate) actual_log_id: Option<LogIdForm>,
}

/// Asks what the other has seen of that leader's death.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct DeathForm {
    #[prost(message, optional, tag = "1")]
    pub(crate) leader: Option<VoteForm>,
}

/// Answers it: whether the leader is dead as the other sees it, and how far the other's log is.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct TestimonyForm {
    #[prost(bool, tag = "1")]
    pub(crate) dead: bool,
    #[prost(message, optional, tag = "2")]
    pub(crate) last: Option<LogIdForm>,
}

/// Offers a snapshot, and begins its transfer.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct SnapshotStartForm {
    #[prost(message, optional, tag = "1")]
    pub(crate) vote: Option<VoteForm>,
    #[prost(message, optional, tag = "2")]
    pub(crate) meta: Option<SnapshotMetaForm>,
    #[prost(uint64, tag = "3")]
    pub(crate) octets: u64,
    /// What the file is: the digest that it ends with. Without it nothing is kept of an attempt that fails.
    #[prost(bytes = "bytes", tag = "4")]
    pub(crate) digest: Bytes,
    /// Where the transfer begins: what stands before is kept from an earlier attempt.
    #[prost(uint64, tag = "5")]
    pub(crate) from: u64,
}

/// Answers an offer: how much of the file is kept already.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct SnapshotKeptForm {
    #[prost(uint64, tag = "1")]
    pub(crate) octets: u64,
}

/// Ends one: the receiver's vote.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct SnapshotEndForm {
    #[prost(message, optional, tag = "1")]
    pub(crate) vote: Option<VoteForm>,
}

/// The part that a message must have.
pub(crate) fn need<T>(part: Option<T>) -> io::Result<T> {
    part.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a part of the message is absent"))
}

fn vote(form: Option<VoteForm>) -> io::Result<Vote> {
    need(form).map(Vote::from)
}

impl From<&AppendEntriesRequest<Types>> for AppendForm {
    fn from(request: &AppendEntriesRequest<Types>) -> Self {
        let entries = request.entries.iter().map(|entry| {
            let (kind, payload) = entry_octets(entry);
            let LogIdForm { term, index } = (&entry.log_id).into();
            EntryForm { term, index, kind: kind.into(), payload }
        });
        Self {
            vote: Some((&request.vote).into()),
            prev: request.prev_log_id.as_ref().map(LogIdForm::from),
            committed: request.leader_commit.as_ref().map(LogIdForm::from),
            entries: entries.collect(),
        }
    }
}

impl TryFrom<AppendForm> for AppendEntriesRequest<Types> {
    type Error = io::Error;

    fn try_from(form: AppendForm) -> io::Result<Self> {
        let entries = form.entries.into_iter().map(|entry| {
            let id = LogIdForm { term: entry.term, index: entry.index };
            entry_from(id.into(), u8::try_from(entry.kind).unwrap_or(u8::MAX), entry.payload)
        });
        Ok(Self {
            vote: vote(form.vote)?,
            prev_log_id: form.prev.map(LogId::from),
            leader_commit: form.committed.map(LogId::from),
            entries: entries.collect::<io::Result<_>>()?,
        })
    }
}

impl From<AppendEntriesResponse<Types>> for AppendedForm {
    fn from(response: AppendEntriesResponse<Types>) -> Self {
        match response {
            AppendEntriesResponse::Success => Self { outcome: APPENDED, ..Self::default() },
            AppendEntriesResponse::PartialSuccess(id) => {
                Self { outcome: APPENDED_UP_TO, log_id: id.as_ref().map(LogIdForm::from), vote: None }
            }
            AppendEntriesResponse::Conflict => Self { outcome: CONFLICT, ..Self::default() },
            AppendEntriesResponse::HigherVote(vote) => {
                Self { outcome: HIGHER_VOTE, log_id: None, vote: Some((&vote).into()) }
            }
        }
    }
}

impl TryFrom<AppendedForm> for AppendEntriesResponse<Types> {
    type Error = io::Error;

    fn try_from(form: AppendedForm) -> io::Result<Self> {
        match form.outcome {
            APPENDED => Ok(Self::Success),
            APPENDED_UP_TO => Ok(Self::PartialSuccess(form.log_id.map(LogId::from))),
            CONFLICT => Ok(Self::Conflict),
            HIGHER_VOTE => Ok(Self::HigherVote(vote(form.vote)?)),
            other => Err(io::Error::new(io::ErrorKind::InvalidData, format!("append outcome {other} is unknown"))),
        }
    }
}

/// One answer of an append stream.
pub(crate) fn streamed_form(result: StreamAppendResult<Types>) -> AppendedForm {
    match result {
        Ok(id) => AppendedForm { outcome: APPENDED_UP_TO, log_id: id.as_ref().map(LogIdForm::from), vote: None },
        Err(StreamAppendError::Conflict(id)) => {
            AppendedForm { outcome: CONFLICT, log_id: Some((&id).into()), vote: None }
        }
        Err(StreamAppendError::HigherVote(vote)) => {
            AppendedForm { outcome: HIGHER_VOTE, log_id: None, vote: Some((&vote).into()) }
        }
    }
}

/// The answer that such a form carries.
pub(crate) fn streamed_result(form: AppendedForm) -> io::Result<StreamAppendResult<Types>> {
    match form.outcome {
        APPENDED_UP_TO => Ok(Ok(form.log_id.map(LogId::from))),
        CONFLICT => Ok(Err(StreamAppendError::Conflict(need(form.log_id)?.into()))),
        HIGHER_VOTE => Ok(Err(StreamAppendError::HigherVote(vote(form.vote)?))),
        other => Err(io::Error::new(io::ErrorKind::InvalidData, format!("append outcome {other} is unknown"))),
    }
}

impl From<&VoteRequest<Types>> for VoteRequestForm {
    fn from(request: &VoteRequest<Types>) -> Self {
        Self {
            vote: Some((&request.vote).into()),
            last: request.last_log_id.as_ref().map(LogIdForm::from),
            leadership_transfer: request.leadership_transfer,
            dead_leader: None,
        }
    }
}

impl TryFrom<VoteRequestForm> for VoteRequest<Types> {
    type Error = io::Error;

    fn try_from(form: VoteRequestForm) -> io::Result<Self> {
        let mut request = Self::new(vote(form.vote)?, form.last.map(LogId::from));
        request.leadership_transfer = form.leadership_transfer;
        Ok(request)
    }
}

impl From<&VoteResponse<Types>> for VoteResponseForm {
    fn from(response: &VoteResponse<Types>) -> Self {
        Self {
            vote: Some((&response.vote).into()),
            last: response.last_log_id.as_ref().map(LogIdForm::from),
            granted: response.vote_granted,
        }
    }
}

impl TryFrom<VoteResponseForm> for VoteResponse<Types> {
    type Error = io::Error;

    fn try_from(form: VoteResponseForm) -> io::Result<Self> {
        Ok(Self::new(vote(form.vote)?, form.last.map(LogId::from), form.granted))
    }
}

impl From<&TransferLeaderRequest<Types>> for TransferForm {
    fn from(request: &TransferLeaderRequest<Types>) -> Self {
        Self {
            from: Some(request.from_leader().into()),
            to: *request.to_node_id(),
            last: request.last_log_id().map(LogIdForm::from),
        }
    }
}

impl TryFrom<TransferForm> for TransferLeaderRequest<Types> {
    type Error = io::Error;

    fn try_from(form: TransferForm) -> io::Result<Self> {
        Ok(Self::new(vote(form.from)?, form.to, form.last.map(LogId::from)))
    }
}

/// The form of the answer to a transfer.
pub(crate) fn transferred_form(response: TransferLeaderResponse<Types>) -> TransferredForm {
    match response {
        Ok(()) => TransferredForm { outcome: TRANSFERRED, ..TransferredForm::default() },
        Err(TransferLeaderError::VoteChanged { expected, actual }) => TransferredForm {
            outcome: VOTE_CHANGED,
            expected_vote: Some((&expected).into()),
            actual_vote: Some((&actual).into()),
            ..TransferredForm::default()
        },
        Err(TransferLeaderError::LogNotFlushed { expected, actual }) => TransferredForm {
            outcome: NOT_FLUSHED,
            expected_log_id: expected.as_ref().map(LogIdForm::from),
            actual_log_id: actual.as_ref().map(LogIdForm::from),
            ..TransferredForm::default()
        },
    }
}

/// The answer that such a form carries.
pub(crate) fn transferred_result(form: TransferredForm) -> io::Result<TransferLeaderResponse<Types>> {
    match form.outcome {
        TRANSFERRED => Ok(Ok(())),
        VOTE_CHANGED => Ok(Err(TransferLeaderError::VoteChanged {
            expected: vote(form.expected_vote)?,
            actual: vote(form.actual_vote)?,
        })),
        NOT_FLUSHED => Ok(Err(TransferLeaderError::LogNotFlushed {
            expected: form.expected_log_id.map(LogId::from),
            actual: form.actual_log_id.map(LogId::from),
        })),
        other => Err(io::Error::new(io::ErrorKind::InvalidData, format!("transfer outcome {other} is unknown"))),
    }
}
