//! What callers and checks have to know of the estate on which they are at work, simulated or real.
//!
//! It refuses to be more than that: who builds an estate and strikes it is not their business.

use std::fmt;

use certwright_core::time::Timestamp;
use certwright_seams::sim::SeededEntropy;

use crate::check::Verdict;
use crate::workload::PAUSE_MILLIS_MAX;

/// An estate, as callers and checks see it.
pub trait Stage {
    /// Names of the servers that are members.
    fn servers(&self) -> Vec<String>;
    /// Names of the agents.
    fn agents(&self) -> &[String];
    /// A generator of one part of the run's own.
    fn draw(&self, part: u64) -> SeededEntropy;
    /// On how many servers' disks these octets would be if the power went now; `None` where nobody can look.
    fn kept_by(&self, octets: &[u8]) -> Option<usize>;
    /// What time it is, whatever the servers' clocks say.
    fn true_time(&self) -> Timestamp;
    /// Longest pause between two certificates that one caller has signed.
    fn order_pause_millis_max(&self) -> u64 {
        PAUSE_MILLIS_MAX
    }
    /// Counts an operation that was answered.
    fn count(&self);
    /// Tells what happened.
    fn tell(&self, who: &str, what: fmt::Arguments<'_>);
    /// Where violations are reported.
    fn verdict(&self) -> &Verdict;
}
