//! What the tests of this crate share: an estate to begin with, and given/when/then.
//!
//! It refuses IO, like the crate itself.
#![allow(clippy::unwrap_used)]

pub(crate) mod fixtures;
pub(crate) mod harness;
