//! A projection in memory, for tests and simulation.
//!
//! It refuses to survive the process.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::{Batch, ProjectionError, ProjectionStore};

/// A projection in memory.
#[derive(Default)]
pub struct MemoryStore {
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
    applied_index: u64,
}

impl ProjectionStore for MemoryStore {
    fn apply(&mut self, batch: Batch, applied_index: u64) -> Result<(), ProjectionError> {
        self.rows.extend(batch);
        self.applied_index = applied_index;
        Ok(())
    }

    fn applied_index(&self) -> Result<u64, ProjectionError> {
        Ok(self.applied_index)
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ProjectionError> {
        Ok(self.rows.get(key).cloned())
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Batch, ProjectionError> {
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after.to_vec()),
            _ => Bound::Included(prefix.to_vec()),
        };
        Ok(self
            .rows
            .range((start, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .take(limit)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect())
    }

    fn wipe(&mut self) -> Result<(), ProjectionError> {
        self.rows.clear();
        self.applied_index = 0;
        Ok(())
    }
}
