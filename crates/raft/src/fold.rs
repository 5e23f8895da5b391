//! Folding the log: what every replica does with a committed entry, the same way everywhere.
//!
//! It refuses IO, clocks and guesses: a replica is a function of the entries it was given.

pub(crate) mod cuts;
pub(crate) mod dedup;
pub(crate) mod machine;
pub(crate) mod recent;
pub(crate) mod replica;
pub(crate) mod shared;
#[cfg(test)]
pub(crate) mod toy;
pub(crate) mod waiters;
