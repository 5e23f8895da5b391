//! What happened in a run, line by line, without the octets that differ whenever a key is made.
//!
//! It refuses keys, signatures and serials: they come from the real library, which nobody seeds.

use std::cell::RefCell;
use std::fmt;

use certwright_core::x509::key::sha256;

/// The lines.
#[derive(Default)]
pub(crate) struct Trace(RefCell<String>);

impl Trace {
    /// Adds a line: when (virtually), who, what.
    pub(crate) fn tell(&self, who: &str, what: fmt::Arguments<'_>) {
        let at = turmoil::sim_elapsed().unwrap_or_default().as_micros();
        let mut lines = self.0.borrow_mut();
        fmt::Write::write_fmt(&mut *lines, format_args!("{at} {who} {what}\n")).expect("text takes text");
    }

    /// All of it.
    pub(crate) fn lines(&self) -> String {
        self.0.borrow().clone()
    }
}

/// A digest of lines, hex.
pub fn digest(lines: &str) -> String {
    hex::encode(sha256(lines.as_bytes()))
}
