//! The replicated, durable log: entries of transactions, agreed by Raft, folded into live state, kept as an archive,
//! projected to disk and watched.
//!
//! It refuses to know what an event means, and no type of openraft or sled leaves it.

pub mod chain;
mod consensus;
mod error;
mod fold;
mod handle;
pub mod limits;
mod member;
mod metrics;
mod options;
mod peer;
mod projection;
mod snapshot;
#[cfg(test)]
mod tests;
mod view;
pub mod wal;
mod watch;

pub use error::{MembershipError, OpenError, ProposeError, ReadError};
pub use handle::{Log, Status};
pub use member::{Leadership, Mark, Member, Members, PeerNode, Role};
pub use options::LogOptions;
pub use projection::{Batch, MemoryStore, ProjectionError, ProjectionStore, Projector, SledStore};
pub use view::{AppliedEntry, Committed, View};
pub use watch::{Watch, WatchItem};
