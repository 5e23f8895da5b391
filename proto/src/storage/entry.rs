//! The payload of a log entry: transactions encoded once, packed without encoding them again.
//!
//! It refuses to decode what it cannot decode wholly; an entry is all or nothing.

use bytes::{BufMut, Bytes, BytesMut};
use certwright_core::log::{Append, Codec, CodecError, Fold, Guard, RequestId, StreamId, Trace, Transaction};
use certwright_core::time::Timestamp;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

use super::v1;
use super::wire::{VERSION, broken, check_version, fixed, fixed_or_zero, moment, octets, read};

/// Field number of `Entry.transactions`.
const TRANSACTIONS: u32 = 4;

/// Octets of an entry besides its transactions, at most: version, time and flag with their keys.
pub const ENTRY_OCTETS_OVERHEAD: usize = 2 + 11 + 2;

/// Encodes one transaction; its bytes go into an entry unchanged.
pub fn encode_transaction<F: Fold>(codec: &dyn Codec<F>, transaction: &Transaction<F::Event>) -> Bytes {
    let trace = &transaction.trace;
    let traced = *trace != Trace::default();
    let message = v1::Transaction {
        request_id: octets(&transaction.request_id.0),
        request_digest: octets(&transaction.request_digest),
        actor: transaction.actor.to_string(),
        trace_id: if traced { octets(&trace.trace_id) } else { Bytes::new() },
        span_id: if traced { octets(&trace.span_id) } else { Bytes::new() },
        guards: transaction.guards.iter().map(encode_guard).collect(),
        appends: transaction.appends.iter().map(|append| encode_append(codec, append)).collect(),
    };
    message.encode_to_vec().into()
}

fn encode_guard(guard: &Guard) -> v1::Guard {
    v1::Guard { stream: guard.stream.to_string(), revision: guard.revision }
}

fn encode_append<F: Fold>(codec: &dyn Codec<F>, append: &Append<F::Event>) -> v1::Append {
    v1::Append {
        stream: append.stream.to_string(),
        expected: append.expected,
        events: append.events.iter().map(|event| codec.encode_event(event).into()).collect(),
    }
}

/// Packs encoded transactions into the payload of one entry; the time is stamped last.
#[derive(Default)]
pub struct EntryBuilder {
    transactions: BytesMut,
    count: usize,
    digest: bool,
}

impl EntryBuilder {
    /// An entry without transactions.
    pub fn new() -> Self {
        Self::default()
    }

    /// Octets of the payload, at most, if it were finished now.
    pub fn octets(&self) -> usize {
        ENTRY_OCTETS_OVERHEAD + self.transactions.len()
    }

    /// Octets of the payload, at most, if `transaction` were pushed too: for packing under a bound.
    pub fn octets_with(&self, transaction: &Bytes) -> usize {
        self.octets() + 1 + encoded_len_varint(transaction.len() as u64) + transaction.len()
    }

    /// How many transactions are in it; the next one gets this ordinal.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Adds what `encode_transaction` made.
    pub fn push(&mut self, transaction: &Bytes) {
        encode_key(TRANSACTIONS, WireType::LengthDelimited, &mut self.transactions);
        encode_varint(transaction.len() as u64, &mut self.transactions);
        self.transactions.put_slice(transaction);
        self.count += 1;
    }

    /// Asks every replica for the digest of its state right after this entry.
    pub fn request_digest(&mut self) {
        self.digest = true;
    }

    /// The payload, stamped.
    pub fn finish(self, at: Timestamp) -> Bytes {
        let head =
            v1::Entry { version: VERSION, at_millis: at.millis(), digest: self.digest, transactions: Vec::new() };
        let mut payload = BytesMut::with_capacity(head.encoded_len() + self.transactions.len());
        head.encode_raw(&mut payload);
        payload.put(self.transactions);
        payload.freeze()
    }
}

/// A decoded payload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DecodedEntry<E> {
    /// Log time.
    pub at: Timestamp,
    /// Whether the digest of the state is asked for.
    pub digest: bool,
    /// In the order of their ordinals.
    pub transactions: Vec<Transaction<E>>,
}

/// Decodes a payload, events included.
pub fn decode_entry<F: Fold>(codec: &dyn Codec<F>, payload: Bytes) -> Result<DecodedEntry<F::Event>, CodecError> {
    let entry: v1::Entry = read("entry", payload)?;
    check_version("entry", entry.version)?;
    let transactions = entry
        .transactions
        .into_iter()
        .map(|transaction| decode_transaction(codec, transaction))
        .collect::<Result<_, _>>()?;
    Ok(DecodedEntry { at: moment(entry.at_millis), digest: entry.digest, transactions })
}

/// An entry of which only what is asked for is decoded.
pub struct EntryParts(v1::EntryParts);

impl EntryParts {
    /// Takes a payload apart.
    pub fn read(payload: Bytes) -> Result<Self, CodecError> {
        let parts: v1::EntryParts = read("entry", payload)?;
        check_version("entry", parts.version)?;
        Ok(Self(parts))
    }

    /// Log time.
    pub fn at(&self) -> Timestamp {
        moment(self.0.at_millis)
    }

    /// Decodes the transaction with that ordinal; `None` when there are fewer.
    pub fn transaction<F: Fold>(
        &self,
        codec: &dyn Codec<F>,
        ordinal: u32,
    ) -> Result<Option<Transaction<F::Event>>, CodecError> {
        let Some(octets) = self.0.transactions.get(ordinal as usize) else { return Ok(None) };
        decode_transaction(codec, read("transaction", octets.clone())?).map(Some)
    }
}

fn decode_transaction<F: Fold>(
    codec: &dyn Codec<F>,
    transaction: v1::Transaction,
) -> Result<Transaction<F::Event>, CodecError> {
    Ok(Transaction {
        request_id: RequestId(fixed("request id", &transaction.request_id)?),
        request_digest: fixed("request digest", &transaction.request_digest)?,
        actor: transaction.actor.into(),
        trace: Trace {
            trace_id: fixed_or_zero("trace id", &transaction.trace_id)?,
            span_id: fixed_or_zero("span id", &transaction.span_id)?,
        },
        guards: transaction
            .guards
            .into_iter()
            .map(|guard| Guard { stream: StreamId::new(guard.stream), revision: guard.revision })
            .collect(),
        appends: transaction
            .appends
            .into_iter()
            .map(|append| decode_append(codec, append))
            .collect::<Result<_, _>>()?,
    })
}

fn decode_append<F: Fold>(codec: &dyn Codec<F>, append: v1::Append) -> Result<Append<F::Event>, CodecError> {
    if append.events.is_empty() {
        return Err(broken("append", "no events"));
    }
    Ok(Append {
        stream: StreamId::new(append.stream),
        expected: append.expected,
        events: append.events.iter().map(|event| codec.decode_event(event)).collect::<Result<_, _>>()?,
    })
}
