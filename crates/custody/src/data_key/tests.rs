//! Data keys: wrapping, proofs, stored layout.
#![allow(clippy::unwrap_used)]

use super::*;

/// Entropy that counts: 0, 1, 2, ... in every draw.
pub(crate) struct Counting;

impl Entropy for Counting {
    fn fill(&self, buffer: &mut [u8]) {
        buffer.iter_mut().zip(0u8..).for_each(|(octet, n)| *octet = n);
    }
}
