//! Servers among themselves: who may speak, how connections are made and kept, what is said.
//!
//! It refuses certificate authorities and dates: a peer is who holds the key that the membership record pins, so that
//! an expired certificate never stops renewals.

pub(crate) mod accept;
pub(crate) mod channels;
pub(crate) mod client;
pub(crate) mod deaths;
pub(crate) mod pins;
pub(crate) mod service;
pub(crate) mod tls;
pub(crate) mod transfer;
