//! Snapshots: a replica's state at one index as a checksummed file of chunks, written off the apply path.
//!
//! It refuses files that are not whole: nothing is installed before every chunk and the whole file verified.

pub(crate) mod content;
pub(crate) mod format;
pub(crate) mod store;

pub(crate) use store::{SnapshotFile, Snapshots};
