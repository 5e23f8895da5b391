//! Wall and monotonic time, also as rustls wants it; the one place that reads the machine's clocks.
//!
//! It refuses sleeping: timers are tokio's, which the simulation virtualises.
#![allow(clippy::disallowed_methods, reason = "the one module that reads the machine's clocks")]

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;

/// Wall and monotonic time.
pub trait Clock: Debug + Send + Sync + 'static {
    /// Milliseconds since the Unix epoch by the wall clock, which may jump.
    fn wall_millis(&self) -> u64;

    /// Time since an arbitrary start, which never jumps.
    fn monotonic(&self) -> Duration;
}

/// The machine's clocks. Monotonic time counts from when this value was made.
#[derive(Debug, Clone)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// A clock whose monotonic time starts now.
    pub fn new() -> Self {
        Self { started: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn wall_millis(&self) -> u64 {
        // A machine set before 1970 counts as 1970: an agent installs nothing then, which is the right outcome.
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_millis() as u64)
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}

/// Any clock as rustls's source of the current time.
#[derive(Debug, Clone)]
pub struct TlsTime(Arc<dyn Clock>);

impl TlsTime {
    /// The given clock, ready for a rustls configuration builder (`builder_with_details`).
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self(clock)
    }

    /// The given clock as the shared trait object that rustls configurations take.
    pub fn shared(clock: Arc<dyn Clock>) -> Arc<dyn TimeProvider> {
        Arc::new(Self(clock))
    }
}

impl TimeProvider for TlsTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_millis(self.0.wall_millis())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Fixed(u64);

    impl Clock for Fixed {
        fn wall_millis(&self) -> u64 {
            self.0
        }

        fn monotonic(&self) -> Duration {
            Duration::ZERO
        }
    }

    #[test]
    fn rustls_sees_the_given_clock() {
        let time = TlsTime::shared(Arc::new(Fixed(1_700_000_000_999)));
        assert_eq!(time.current_time().map(|now| now.as_secs()), Some(1_700_000_000));
    }

    #[test]
    fn the_system_clock_agrees_with_itself() {
        let clock = SystemClock::new();
        let (wall, start) = (clock.wall_millis(), clock.monotonic());
        assert!(wall > 1_600_000_000_000, "{wall} is before 2020");
        assert!(clock.monotonic() >= start);
    }
}
