//! One function per format that comes from outside or from a disk: `fn(&[u8])`, run by libFuzzer (`make fuzz`) and, over
//! the corpora, by an ordinary test.
//!
//! It refuses "it did not panic" for an answer wherever there is more to say: what is accepted must mean the same after it
//! was written and read again, stay within its bounds and pass the lints; what is refused must say why.

mod agent;
mod api;
mod backup;
pub mod corpus;
mod csr;
mod estate;
mod manifest;
mod octets;
mod peer;
mod snapshot;
mod storage;
mod text;
mod verdict;
mod wal;
mod x509;

use certwright_core::mutant::{self, Mutant};

/// What is fuzzed.
pub struct Target {
    /// Its name, as `make fuzz TARGET=` takes it.
    pub name: &'static str,
    /// Runs one input.
    pub run: fn(&[u8]),
    /// Inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

impl Target {
    /// Runs one input; answers whether it was taken for what it may be.
    pub fn takes(&self, input: &[u8]) -> bool {
        verdict::has_taken();
        (self.run)(input);
        verdict::has_taken()
    }
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target { name: "wal", run: wal::edited, seeds: wal::edited_seeds },
    Target { name: "segment", run: wal::forged, seeds: wal::forged_seeds },
    Target { name: "snapshot", run: snapshot::run, seeds: snapshot::seeds },
    Target { name: "backup", run: backup::run, seeds: backup::seeds },
    Target { name: "storage", run: storage::run, seeds: storage::seeds },
    Target { name: "api", run: api::run, seeds: api::seeds },
    Target { name: "agent", run: agent::run, seeds: agent::seeds },
    Target { name: "peer", run: peer::run, seeds: peer::seeds },
    Target { name: "manifest", run: manifest::run, seeds: manifest::seeds },
    Target { name: "csr", run: csr::run, seeds: csr::seeds },
    Target { name: "x509", run: x509::run, seeds: x509::seeds },
    Target { name: "text", run: text::run, seeds: text::seeds },
];

/// Plants the bug that `CERTWRIGHT_MUTANT` names, if it names one.
///
/// # Panics
/// When there is no such bug.
pub fn plant() {
    let name = std::env::var("CERTWRIGHT_MUTANT").unwrap_or_default();
    match Mutant::ALL.iter().find(|known| known.name() == name) {
        Some(known) => mutant::plant(*known),
        None => assert!(name.is_empty(), "CERTWRIGHT_MUTANT={name} is no bug of ours"),
    }
}

/// The target of that name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
