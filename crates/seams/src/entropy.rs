//! Randomness: cryptographic in production, seeded in simulation.
//!
//! It refuses generators held by others: every draw goes through here.

/// Randomness.
pub trait Entropy: Send + Sync + 'static {
    /// Fills the buffer with random octets.
    fn fill(&self, buffer: &mut [u8]);
}
