//! Waiting between attempts: full jitter, so that a thousand agents do not come back in step.
//!
//! It refuses fixed waits and waits that grow without bound.

use std::time::Duration;

use certwright_seams::Entropy;

/// A wait drawn evenly from zero to a bound that doubles with every failure (full jitter).
#[derive(Clone, Debug)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    failures: u32,
}

impl Backoff {
    /// Bounds of the first wait and of all waits.
    pub const fn new(base: Duration, cap: Duration) -> Self {
        Self { base, cap, failures: 0 }
    }

    /// The next wait.
    pub fn next(&mut self, entropy: &dyn Entropy) -> Duration {
        let bound = self.bound();
        self.failures = self.failures.saturating_add(1);
        Duration::from_millis(below(entropy, bound.as_millis() as u64 + 1))
    }

    /// After a success: the next failure waits little again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    fn bound(&self) -> Duration {
        self.base.saturating_mul(1 << self.failures.min(20)).min(self.cap)
    }
}

/// A number drawn from `0..bound`; zero when `bound` is zero. The bias of the remainder does not matter for waits.
pub(crate) fn below(entropy: &dyn Entropy, bound: u64) -> u64 {
    let mut octets = [0; 8];
    entropy.fill(&mut octets);
    u64::from_le_bytes(octets).checked_rem(bound).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Always draws the same octet.
    struct Fixed(u8);
    impl Entropy for Fixed {
        fn fill(&self, buffer: &mut [u8]) {
            buffer.fill(self.0);
        }
    }

    #[test]
    fn the_bound_doubles_to_the_cap_and_falls_back() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(15));
        let bounds: Vec<u128> = (0..10)
            .map(|_| {
                let bound = backoff.bound().as_millis();
                assert!(backoff.next(&Fixed(0xff)) <= Duration::from_millis(bound as u64));
                bound
            })
            .collect();
        assert_eq!(bounds, [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 15_000, 15_000]);
        backoff.reset();
        assert_eq!(backoff.bound(), Duration::from_millis(100));
    }

    #[test]
    fn full_jitter_may_draw_no_wait_at_all() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(15));
        assert_eq!(backoff.next(&Fixed(0)), Duration::ZERO);
    }
}
