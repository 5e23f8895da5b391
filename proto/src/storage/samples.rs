//! One full value of every stored shape, for golden octets and round trips.

#![allow(clippy::unwrap_used)]
