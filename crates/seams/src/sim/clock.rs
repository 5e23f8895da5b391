//! A clock driven by virtual time, with an error that tests set.
//!
//! It refuses the machine's clocks.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::clock::Clock;

/// Virtual time since the start of the simulation.
pub type Elapsed = Arc<dyn Fn() -> Duration + Send + Sync>;

/// A clock that shows a base plus virtual time plus a skew.
pub struct SimClock {
    base_millis: u64,
    elapsed: Elapsed,
    skew_millis: AtomicI64,
}

impl SimClock {
    /// Driven by tokio's time, which tests pause; it starts to run when first read, inside the runtime.
    pub fn new(base_millis: u64) -> Self {
        let started = OnceLock::new();
        Self::driven_by(base_millis, Arc::new(move || started.get_or_init(tokio::time::Instant::now).elapsed()))
    }

    /// Driven by something else, such as the elapsed time of a simulation with several runtimes.
    pub fn driven_by(base_millis: u64, elapsed: Elapsed) -> Self {
        Self { base_millis, elapsed, skew_millis: AtomicI64::new(0) }
    }

    /// Puts the wall clock that much ahead (or, negative, behind); monotonic time is not touched.
    pub fn set_skew_millis(&self, skew_millis: i64) {
        self.skew_millis.store(skew_millis, Ordering::SeqCst);
    }
}

impl fmt::Debug for SimClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimClock({} ms)", self.wall_millis())
    }
}

impl Clock for SimClock {
    fn wall_millis(&self) -> u64 {
        let elapsed = self.base_millis + (self.elapsed)().as_millis() as u64;
        elapsed.saturating_add_signed(self.skew_millis.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        (self.elapsed)()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn virtual_time_drives_it_and_skew_moves_only_the_wall() {
        let clock = SimClock::new(1_000);
        assert_eq!((clock.wall_millis(), clock.monotonic()), (1_000, Duration::ZERO));
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!((clock.wall_millis(), clock.monotonic()), (4_000, Duration::from_secs(3)));
        clock.set_skew_millis(-5_000);
        assert_eq!((clock.wall_millis(), clock.monotonic()), (0, Duration::from_secs(3)));
        clock.set_skew_millis(86_400_000);
        assert_eq!(clock.wall_millis(), 86_404_000);
    }
}
