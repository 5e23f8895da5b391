//! A consumer that looks at what an agent delivers, in every tick: I6.
//!
//! It refuses to be told when to look.

use std::path::PathBuf;

use certwright_core::time::Timestamp;
use certwright_core::x509::inspect::{inspect, verify_chain};
use certwright_core::x509::pem;
use certwright_custody::LeafKey;
use certwright_seams::Disk;
use certwright_seams::sim::SimDisk;

/// Octets of a delivered file at most.
const FILE_OCTETS_MAX: u64 = 64 * 1024;
const CHECKER: &str = "pairs";

/// One target.
pub(crate) struct Consumer {
    agent: String,
    disk: SimDisk,
    live: PathBuf,
    last: Vec<u8>,
    serials: Vec<String>,
}

impl Consumer {
    /// A consumer of one directory on one agent's machine.
    pub(crate) fn new(agent: &str, disk: SimDisk, live: PathBuf) -> Self {
        Self { agent: agent.to_owned(), disk, live, last: Vec::new(), serials: Vec::new() }
    }

    /// Whose target it is.
    pub(crate) fn agent(&self) -> &str {
        &self.agent
    }

    /// It must have seen this in the end.
    pub(crate) fn check(&self, newest: Option<&String>, verdict: &super::Verdict) {
        if !newest.is_some_and(|newest| self.serials.contains(newest)) {
            verdict.report("I8", CHECKER, format_args!("{} has not delivered {newest:?}", self.agent));
        }
    }

    /// Looks, at that time of the agent's clock.
    pub(crate) fn look(&mut self, now: Timestamp, verdict: &super::Verdict) {
        let read = |name: &str| self.disk.read(&self.live.join(name), FILE_OCTETS_MAX);
        // Before the first delivery there is nothing.
        let Ok(certificate) = read("cert.pem") else { return };
        if certificate == self.last {
            return;
        }
        match self.pair(&certificate, now) {
            Ok(serial) if self.serials.contains(&serial) => {
                verdict.report("I6", CHECKER, format_args!("{}: {serial} came back", self.agent));
            }
            Ok(serial) => self.serials.push(serial),
            Err(what) => verdict.report("I6", CHECKER, format_args!("{}: {what}", self.agent)),
        }
        self.last = certificate;
    }

    /// The serial of what is there, if it fits together.
    fn pair(&self, certificate: &[u8], now: Timestamp) -> Result<String, String> {
        let read = |name: &str| {
            self.disk.read(&self.live.join(name), FILE_OCTETS_MAX).map_err(|error| format!("{name}: {error}"))
        };
        let certificates = |octets: &[u8]| pem::certificates(octets).map_err(|error| error.to_string());
        let leaf = certificates(certificate)?.remove(0);
        let facts = inspect(&leaf).map_err(|error| error.to_string())?;
        let key = String::from_utf8(read("key.pem")?).map_err(|error| error.to_string())?;
        let key = LeafKey::from_pem(&key).map_err(|error| error.to_string())?;
        if key.spki_hash() != facts.spki_hash {
            return Err("key.pem is not the key of cert.pem".to_owned());
        }
        let (intermediates, roots) = (certificates(&read("chain.pem")?)?, certificates(&read("ca.pem")?)?);
        verify_chain(&leaf, &intermediates, &roots, now).map_err(|error| error.to_string())?;
        Ok(facts.serial)
    }
}
