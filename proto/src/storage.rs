//! The stored formats: how entries, events and snapshots become bytes and what they mean when they are read again.
//!
//! It refuses to guess: an unknown version, kind or shape is a `CodecError`, which stops the node.

mod aggregates;
mod codec;
mod entry;
mod event;
mod snapshot;
mod spec;
mod wire;

pub use codec::DomainCodec;
pub use entry::{DecodedEntry, ENTRY_OCTETS_OVERHEAD, EntryBuilder, EntryParts, decode_entry, encode_transaction};
pub use snapshot::CHUNK_OCTETS_MAX;

/// Package `certwright.storage.v1`.
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated; documented in the .proto files")]
pub mod v1 {
    tonic::include_proto!("certwright.storage.v1");
}

#[cfg(test)]
pub(crate) mod tests;
