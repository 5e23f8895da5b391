//! The vocabulary of the log: positions, streams, transactions and what folds them.
//!
//! It refuses to know what an event means; `raft` uses nothing of this crate but this module and `time`.

use std::fmt;
use std::sync::Arc;

use crate::time::Timestamp;

/// Where a transaction stands: the index of its entry in the log and its ordinal inside that entry.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Position {
    /// Index of the entry in the replicated log, from 1; 0 stands before everything.
    pub index: u64,
    /// Place of the transaction in its entry, from 0.
    pub ordinal: u32,
}

impl Position {
    /// Before every transaction.
    pub const START: Self = Self { index: 0, ordinal: 0 };
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.ordinal)
    }
}

/// How many events a keyed stream holds; 0 when the stream does not exist.
pub type Revision = u64;

/// Names one stream: `namespaces/{ns}/certificates/{name}`, `issuers/{name}`, `direct/{serial}`, ...
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(Arc<str>);

impl StreamId {
    /// The stream with this resource name.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    /// The resource name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A caller's (or our own) name for one command: 16 octets; a repeat with the same id is the same command.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub [u8; 16]);

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

/// W3C trace context of the request that caused a transaction: trace id and span id; all zero when untraced.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Trace {
    /// 16 octets of trace id.
    pub trace_id: [u8; 16],
    /// 8 octets of parent span id.
    pub span_id: [u8; 8],
}

/// A stream that a decision read and that must not have moved when the decision takes effect.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Guard {
    /// The stream read.
    pub stream: StreamId,
    /// Its revision as read; 0 for "does not exist".
    pub revision: Revision,
}

/// Events appended to one stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Append<E> {
    /// The stream appended to.
    pub stream: StreamId,
    /// Its revision before these events. `None` for events that fold commutatively (counters, acknowledgements) and
    /// for streams that are written once: such events have no revision and do not advance the stream's.
    pub expected: Option<Revision>,
    /// At least one event.
    pub events: Vec<E>,
}

impl<E> Append<E> {
    /// Folds the events of a transaction at that position into a state.
    pub fn fold_into<F: Fold<Event = E>>(&self, state: &mut F, position: Position, at: Timestamp, actor: &str) {
        for (place, event) in self.events.iter().enumerate() {
            let revision = self.expected.map(|expected| expected + 1 + place as u64);
            state.apply(&Applied { position, at, stream: &self.stream, revision, actor }, event);
        }
    }
}

/// What one decision appends, all or nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transaction<E> {
    /// The command's id; with `actor` the key of the deduplication table.
    pub request_id: RequestId,
    /// Digest of the command's content, so that a reused id with other content is noticed.
    pub request_digest: [u8; 16],
    /// Who caused it, as `Actor` prints it.
    pub actor: Arc<str>,
    /// The trace it belongs to.
    pub trace: Trace,
    /// Streams read.
    pub guards: Vec<Guard>,
    /// Streams written.
    pub appends: Vec<Append<E>>,
}

/// What `Fold::apply` is told about the event it folds.
#[derive(Clone, Copy, Debug)]
pub struct Applied<'a> {
    /// Position of the transaction.
    pub position: Position,
    /// Log time of its entry.
    pub at: Timestamp,
    /// The stream the event was appended to.
    pub stream: &'a StreamId,
    /// The stream's revision after this event; `None` when it was appended without an expected revision.
    pub revision: Option<Revision>,
    /// Who caused it.
    pub actor: &'a str,
}

/// Live state folded from events: pure, infallible, the same on every replica.
pub trait Fold: Default + Send + Sync + 'static {
    /// One fact.
    type Event: Clone + fmt::Debug + Send + Sync + 'static;
    /// A cheap, consistent copy of the state for a snapshot: copy-on-write shards, no secondary indexes.
    type Cut: Send + Sync + 'static;

    /// Revision of a keyed stream, 0 when it does not exist or is written once and not remembered.
    fn revision(&self, stream: &StreamId) -> Revision;

    /// Folds one event. Must not fail, panic, read a clock or iterate in an order that replicas may not share.
    fn apply(&mut self, applied: &Applied<'_>, event: &Self::Event);

    /// Where log time goes back to behind the entry that holds this event; `None` of all events that leave time alone.
    fn rebases(_event: &Self::Event) -> Option<Timestamp> {
        None
    }

    /// Cuts the state; must cost no more than cloning its shard table.
    fn cut(&self) -> Self::Cut;
}

/// How a fold's events and cuts become bytes; implemented in `proto` for the domain, in tests for toys.
pub trait Codec<F: Fold>: Send + Sync + 'static {
    /// Encodes one event with its version.
    fn encode_event(&self, event: &F::Event) -> Vec<u8>;

    /// Decodes one event; an unknown kind or version is an error and stops the node.
    fn decode_event(&self, bytes: &[u8]) -> Result<F::Event, CodecError>;

    /// Emits a cut as a sequence of chunks in a fixed order, each at most 1 MiB; equal states emit equal chunks.
    fn encode_cut(&self, cut: &F::Cut, emit: &mut dyn FnMut(&[u8]));

    /// Emits what a cut holds piece by piece, each once, in a fixed order, however chunks are packed: what is hashed of a state
    /// and kept must be the same for every build.
    fn encode_pieces(&self, cut: &F::Cut, emit: &mut dyn FnMut(&[u8]));

    /// Rebuilds the state, indexes included, from the chunks `encode_cut` emitted.
    fn decode_cut(&self, chunks: &mut dyn Iterator<Item = Vec<u8>>) -> Result<F, CodecError>;
}

/// Bytes that this build cannot read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("cannot decode {what}: {why}")]
pub struct CodecError {
    /// What was being decoded.
    pub what: &'static str,
    /// Why not.
    pub why: String,
}
