//! Salts of the checksums of segments: no two segments of a node share one.
//!
//! It refuses to draw one for each segment. How many segments there are depends on how long entries are, and what else
//! draws from the same generator must not depend on that: a run would not be repeated by its seed.

use std::sync::atomic::{AtomicU64, Ordering};

use certwright_seams::Entropy;

/// How far a salt is from the next one: odd, so that all are different.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Drawn once, different each time.
pub(super) struct Salts(AtomicU64);

impl Salts {
    pub(super) fn new(entropy: &dyn Entropy) -> Self {
        Self(AtomicU64::new(entropy.next_u64()))
    }

    pub(super) fn next(&self) -> u64 {
        self.0.fetch_add(STEP, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use certwright_seams::sim::SeededEntropy;

    use super::*;

    #[test]
    fn salts_differ_and_take_one_draw() {
        let entropy = SeededEntropy::new(7);
        let salts = Salts::new(&entropy);
        let drawn = [salts.next(), salts.next(), salts.next()];
        assert!(drawn[0] != drawn[1] && drawn[1] != drawn[2] && drawn[0] != drawn[2]);
        let other = SeededEntropy::new(7);
        other.next_u64();
        assert_eq!(entropy.next_u64(), other.next_u64(), "three salts took more than one draw");
    }
}
