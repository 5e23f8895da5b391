//! The public API's messages to and from the domain, one file a resource.
//!
//! It refuses decisions: what a message says is parsed once, with the path of the field that is wrong; whether it is
//! allowed is decided in `core`.

pub mod authority;
pub mod certificate;
pub mod estate;
pub mod event;
pub mod issuer;
pub mod names;
mod private_key;
pub mod readiness;
pub mod session;
pub mod spec;
mod target;
pub mod values;

pub use target::target_to_message;
