//! Projections: keys and values folded from applied entries to disk, behind the commit path; always rebuildable.
//!
//! It refuses to be the truth: on any doubt the store is wiped and built again from the log.

mod memory;
mod sled_store;
pub(crate) mod worker;

use certwright_core::log::{Position, Transaction};

pub use memory::MemoryStore;
pub use sled_store::SledStore;

/// Says what is projected: keys and values of one transaction that took effect. Pure.
pub trait Projector<E>: Send + Sync + 'static {
    /// Calls `put(key, value)` for everything that this transaction adds or replaces.
    fn project(&self, position: Position, transaction: &Transaction<E>, put: &mut dyn FnMut(Vec<u8>, Vec<u8>));
}

/// Keys and values, sorted by key.
pub type Batch = Vec<(Vec<u8>, Vec<u8>)>;

/// Why a projection failed; always answered by wiping it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("projection: {0}")]
pub struct ProjectionError(pub String);

/// Where a projection is kept.
pub trait ProjectionStore: Send + 'static {
    /// Adds a sorted batch and the index it reaches, as one.
    fn apply(&mut self, batch: Batch, applied_index: u64) -> Result<(), ProjectionError>;
    /// The index reached; 0 when empty.
    fn applied_index(&self) -> Result<u64, ProjectionError>;
    /// The value of a key.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ProjectionError>;
    /// At most `limit` pairs whose key starts with `prefix`, in key order, after the key `after`.
    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Batch, ProjectionError>;
    /// Forgets everything.
    fn wipe(&mut self) -> Result<(), ProjectionError>;
}
