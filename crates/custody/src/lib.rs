//! Custody of private keys: CA keys sealed under a cluster data key and opened only on the leader, data keys wrapped to
//! each server, and the keys that agents and servers make for themselves.
//!
//! It refuses decisions: what is signed was composed and linted elsewhere; no secret here can be copied, printed or
//! serialised.

mod authority;
pub mod backup;
mod data_key;
mod error;
mod files;
mod key_pair;
pub mod leaf;
mod node_seal;
mod pem;
mod sealed;

pub use authority::{Custody, KeyRef, NewKey, SealedCustody};
pub use data_key::{DataKey, prove, proves, wrap};
pub use error::CustodyError;
pub use leaf::LeafKey;
pub use node_seal::NodeSeal;
