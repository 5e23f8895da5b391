//! What must hold in every run, by the invariants' names; what does not is reported, never repaired.
//!
//! It refuses to wait or to try again: whoever checks has waited already.

pub(crate) mod disks;
pub mod history;
pub mod linear;
pub mod pairs;
pub mod promises;
pub mod watch;

use std::cell::RefCell;
use std::fmt;

/// One thing that should not be.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Violation {
    /// Which invariant, as in docs/reliability.md.
    pub invariant: String,
    /// Which check found it.
    pub checker: String,
    /// What was seen.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.invariant, self.checker, self.what)
    }
}

/// What was found so far.
#[derive(Default)]
pub struct Verdict(RefCell<Vec<Violation>>);

impl Verdict {
    /// Reports a violation.
    pub fn report(&self, invariant: &str, checker: &str, what: fmt::Arguments<'_>) {
        let (invariant, checker, what) = (invariant.to_owned(), checker.to_owned(), what.to_string());
        self.0.borrow_mut().push(Violation { invariant, checker, what });
    }

    /// Everything reported.
    pub fn violations(&self) -> Vec<Violation> {
        self.0.borrow().clone()
    }
}
