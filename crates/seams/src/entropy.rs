//! Randomness: cryptographic in production, seeded in simulation.
//!
//! It refuses generators held by others: every draw goes through here.

/// Randomness.
pub trait Entropy: Send + Sync + 'static {
    /// Fills the buffer with random octets.
    fn fill(&self, buffer: &mut [u8]);

    /// A random number over the whole range.
    fn next_u64(&self) -> u64 {
        let mut octets = [0; 8];
        self.fill(&mut octets);
        u64::from_be_bytes(octets)
    }
}

/// The operating system's randomness through aws-lc, fit for keys, serials and tokens.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, buffer: &mut [u8]) {
        aws_lc_rs::rand::fill(buffer).expect("aws-lc's generator aborts the process rather than fail");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_draws_differ() {
        let (mut first, mut second) = ([0; 32], [0; 32]);
        SystemEntropy.fill(&mut first);
        SystemEntropy.fill(&mut second);
        assert_ne!(first, [0; 32]);
        assert_ne!(first, second);
    }
}
