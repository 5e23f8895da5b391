//! Secondary indexes: by due time, agent, issuer, selector and change. Derived from the maps, never stored.
//!
//! It refuses anything that could not be rebuilt from the aggregates alone.

/// The secondary indexes of the state.
#[derive(Debug, Default)]
pub struct Indexes {}
