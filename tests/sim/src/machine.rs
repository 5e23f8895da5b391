//! One machine of the simulated estate: a disk, a clock and a processor, which faults strike and healing restores.
//!
//! It refuses the network, which belongs to all of them.

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use certwright_core::time::Timestamp;
use certwright_seams::sim::{InlineExec, Lag, SeededEntropy, SimClock, SimDisk};
use certwright_seams::{Disk, Entropy, Seams};

use crate::net::{Guests, SimNet};

/// Every machine's volume; it is there before the software is.
pub(crate) const VOLUME: &str = "/data";
/// Where the clocks start: some day in 2026.
const BASE_MILLIS: u64 = 1_790_000_000_000;
/// How far a clock is from the others, to either side, when nobody moves it.
const SKEW_MILLIS_MAX: i64 = 500;

/// A machine. What runs on it comes and goes; its disk, its clock and its speed stay.
pub(crate) struct Machine {
    seed: u64,
    skew_millis: i64,
    clock: Arc<SimClock>,
    pub(crate) disk: SimDisk,
    /// What its writer of the log takes longer than nothing.
    pub(crate) lag: Lag,
    /// Whom what runs on it has let in.
    pub(crate) guests: Guests,
    starts: Cell<u64>,
    slept_millis: Cell<u64>,
}

impl Machine {
    /// A machine with an empty volume.
    pub(crate) fn new(seed: u64, name: &str) -> Self {
        let seed = name.bytes().fold(seed, |sum, octet| sum.wrapping_mul(31).wrapping_add(u64::from(octet)));
        let disk = SimDisk::new(seed);
        disk.create_dir_all(Path::new(VOLUME), 0o700).expect("an empty disk takes a directory");
        disk.sync_dir(Path::new("/")).expect("an empty disk syncs");
        let drawn = SeededEntropy::new(seed).next_u64() % (2 * SKEW_MILLIS_MAX as u64);
        let clock = SimClock::driven_by(BASE_MILLIS, Arc::new(|| turmoil::sim_elapsed().unwrap_or_default()));
        let machine = Self {
            seed,
            skew_millis: drawn as i64 - SKEW_MILLIS_MAX,
            clock: Arc::new(clock),
            disk,
            lag: Lag::default(),
            guests: Guests::default(),
            starts: Cell::default(),
            slept_millis: Cell::default(),
        };
        machine.step_clock(0);
        machine
    }

    /// Puts its clock that much ahead of where it usually is, or behind.
    pub(crate) fn step_clock(&self, millis: i64) {
        self.clock.set_skew_millis(self.skew_millis + self.slept_millis.get() as i64 + millis);
    }

    /// It is suspended with all others for that long: time passes and nothing happens.
    pub(crate) fn sleep(&self, time: Duration) {
        self.slept_millis.set(self.slept_millis.get() + time.as_millis() as u64);
        self.step_clock(0);
    }

    /// How often something was started on it.
    pub(crate) fn starts(&self) -> u64 {
        self.starts.get()
    }

    /// What its clock shows when that much time has passed, if nobody moved it.
    pub(crate) fn usual_time(&self, elapsed: Duration) -> Timestamp {
        let millis = BASE_MILLIS + elapsed.as_millis() as u64 + self.slept_millis.get();
        Timestamp::from_millis(millis.saturating_add_signed(self.skew_millis))
    }

    /// The seams of a program that starts now: another start draws other numbers. Unseeded, the control
    /// of determinism, it draws the machine's.
    pub(crate) fn seams(&self, is_seeded: bool) -> Seams {
        self.starts.set(self.starts.get() + 1);
        let entropy: Arc<dyn Entropy> = if is_seeded {
            Arc::new(SeededEntropy::new(self.seed.wrapping_add(self.starts.get() << 32)))
        } else {
            Arc::new(certwright_seams::entropy::SystemEntropy)
        };
        Seams {
            clock: self.clock.clone(),
            entropy,
            net: Arc::new(SimNet { guests: self.guests.clone() }),
            disk: Arc::new(self.disk.boot()),
            exec: Arc::new(InlineExec::lagging(self.lag.clone())),
        }
    }

    /// Everything about it is as it should be again, but for what is lost.
    pub(crate) fn heal(&self) {
        self.disk.heal();
        self.disk.set_capacity(None);
        self.lag.set(Duration::ZERO);
        self.step_clock(0);
    }
}
