//! The agent: private keys where they are used, certificates where they are served, and proof of both for the servers.
//!
//! It refuses to send a private key anywhere, to decide what should exist, and to replace a good pair by a worse one.

mod agent;
mod args;
mod assignment;
pub mod checkpoint;
pub mod connect;
pub mod context;
pub mod failure;
pub mod fault;
pub mod join;
pub mod plan;
pub mod reload;
pub mod served;
pub mod session;
pub mod sink;
pub mod store;
pub mod telemetry;
pub mod trust;
pub mod usage;
pub mod verify;

pub use agent::{Agent, AgentError, AgentOptions};
pub use args::{AgentArgs, main_from};
pub use connect::{ConnectError, Connector};
pub use context::{Context, ContextError};
