//! Wall and monotonic time, also as rustls wants it.
//!
//! It refuses sleeping: timers are tokio's, which the simulation virtualises.

use std::fmt::Debug;
use std::time::Duration;

/// Wall and monotonic time.
pub trait Clock: Debug + Send + Sync + 'static {
    /// Milliseconds since the Unix epoch by the wall clock, which may jump.
    fn wall_millis(&self) -> u64;

    /// Time since an arbitrary start, which never jumps.
    fn monotonic(&self) -> Duration;
}
