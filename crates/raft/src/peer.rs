//! Servers among themselves: who may speak, how connections are made and kept, what is said.
//!
//! It refuses dates: a peer is who holds the key that the membership record pins, so that an expired certificate never
//! stops renewals. An authority is believed in one case only, and for consensus only: see `tls`.

pub(crate) mod accept;
pub(crate) mod channels;
pub(crate) mod client;
pub(crate) mod pins;
pub(crate) mod service;
pub(crate) mod tls;
pub(crate) mod transfer;
