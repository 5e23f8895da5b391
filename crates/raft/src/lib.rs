//! The replicated, durable log: entries of transactions, agreed by Raft, folded into live state, kept as an archive,
//! projected to disk and watched.
//!
//! It refuses to know what an event means, and no type of openraft or sled leaves it.

mod backup;
mod base;
pub mod chain;
mod clocks;
mod consensus;
mod error;
mod fold;
mod folded;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod handle;
pub mod limits;
mod member;
mod metrics;
mod options;
mod peer;
mod projection;
mod refound;
mod replay;
mod snapshot;
mod survivor;
#[cfg(test)]
mod tests;
mod view;
pub mod wal;
mod watch;

pub use backup::Source;
pub use base::{Beginning, DIGEST_VERSION, kept_base};
pub use clocks::{ClockJump, ClocksApart};
pub use error::{MembershipError, OpenError, ProposeError, ReadError, TrimError};
pub use folded::Folded;
pub use handle::{Allow, Kept, Log, Prefix, Status};
pub use member::{Leadership, Mark, Member, Members, PeerNode, Role};
pub use options::{LogOptions, SNAPSHOT_EVERY_OCTETS};
pub use projection::{Batch, MemoryStore, ProjectionError, ProjectionStore, Projector, SledStore};
pub use refound::{Ground, Refounding};
pub use replay::{Replayed, replay};
pub use survivor::Survivor;
pub use view::{AppliedEntry, Committed, Effective, View};
pub use watch::{Watch, WatchItem};
