//! The simulated machine: virtual time, seeded randomness, a disk that loses what was not synced, workers inline.
//!
//! It refuses threads and real time, so that one seed gives one run. The simulated network belongs to the tests.

mod clock;
mod disk;
mod entropy;
mod exec;

pub use clock::{Elapsed, SimClock};
pub use disk::{Fault, Operation, SimDisk};
pub use entropy::SeededEntropy;
pub use exec::{InlineExec, Lag};
