//! Randomness from a seed.
//!
//! It refuses to be secure: keys made from it are for tests only.

use std::sync::{Mutex, PoisonError};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::entropy::Entropy;

/// The same octets in the same order for the same seed.
pub struct SeededEntropy(Mutex<StdRng>);

impl SeededEntropy {
    /// A generator that begins at the seed.
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(StdRng::seed_from_u64(seed)))
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, buffer: &mut [u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_one_sequence() {
        let draws = |seed| {
            let entropy = SeededEntropy::new(seed);
            [entropy.next_u64(), entropy.next_u64()]
        };
        assert_eq!(draws(7), draws(7));
        assert_ne!(draws(7), draws(8));
        assert_ne!(draws(7)[0], draws(7)[1]);
    }
}
