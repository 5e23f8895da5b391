//! Every door for outsiders: the gRPC API, agents' sessions, joining, the read-only HTTP port; and the server itself,
//! which is these doors over a log.
//!
//! It refuses decisions and storage: commands go to the leader's rooms in `issuance`, state is read from `raft`.

mod auth;
pub mod backup;
pub mod bootstrap;
pub mod data_dir;
mod dispatch;
mod doors;
mod filter;
mod forward;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod history;
mod http;
mod join;
pub mod limits;
mod listener;
pub mod log_check;
mod metrics;
pub mod node;
mod paging;
mod past;
mod refuse;
pub mod restore;
mod rounds;
mod services;
mod session;
pub mod tls;
mod trace;

pub use bootstrap::bootstrap;
pub use join::join;
pub use node::{Node, NodeConfig};
