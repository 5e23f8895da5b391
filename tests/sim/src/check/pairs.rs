//! A consumer that looks at what an agent delivers, in every tick: I6.
//!
//! It refuses to be told when to look.

use std::path::PathBuf;
use std::sync::Arc;

use certwright_core::time::Timestamp;
use certwright_core::x509::inspect::{inspect, verify_chain};
use certwright_core::x509::pem;
use certwright_custody::LeafKey;
use certwright_seams::Disk;

/// Octets of a delivered file at most.
const FILE_OCTETS_MAX: u64 = 64 * 1024;
const CHECKER: &str = "pairs";
/// What is read of a delivery.
const NAMES: [&str; 4] = ["cert.pem", "key.pem", "chain.pem", "ca.pem"];

/// One target.
pub struct Consumer {
    agent: String,
    disk: Arc<dyn Disk>,
    live: PathBuf,
    last: Vec<u8>,
    serials: Vec<String>,
}

impl Consumer {
    /// A consumer of one directory on one agent's machine.
    pub fn new(agent: &str, disk: Arc<dyn Disk>, live: PathBuf) -> Self {
        Self { agent: agent.to_owned(), disk, live, last: Vec::new(), serials: Vec::new() }
    }

    /// Whose target it is.
    pub fn agent(&self) -> &str {
        &self.agent
    }

    /// Whole pairs that it has seen, one after the other.
    pub fn pairs(&self) -> usize {
        self.serials.len()
    }

    /// It must have seen this in the end.
    pub fn check(&self, newest: Option<&String>, verdict: &super::Verdict) {
        if !newest.is_some_and(|newest| self.serials.contains(newest)) {
            verdict.report("I8", CHECKER, format_args!("{} has not delivered {newest:?}", self.agent));
        }
    }

    /// Looks, at that time of the agent's clock.
    pub fn look(&mut self, now: Timestamp, verdict: &super::Verdict) {
        let read = |name: &str| self.disk.read(&self.live.join(name), FILE_OCTETS_MAX);
        // Before the first delivery there is nothing, and during it the names come one by one.
        let is_there = |name: &str| self.disk.exists(&self.live.join(name)).unwrap_or(false);
        if self.serials.is_empty() && !NAMES.iter().all(|name| is_there(name)) {
            return;
        }
        // Real agents do not wait while their files are read: what fails once is looked at again.
        let certificate = match read("cert.pem").or_else(|_| read("cert.pem")) {
            Ok(certificate) if certificate == self.last => return,
            Ok(certificate) => certificate,
            Err(error) => {
                // Told once.
                if !std::mem::take(&mut self.last).is_empty() {
                    verdict.report("I6", CHECKER, format_args!("{}: cert.pem: {error}", self.agent));
                }
                return;
            }
        };
        match self.pair(&certificate, now) {
            Ok(serial) if self.serials.contains(&serial) => {
                verdict.report("I6", CHECKER, format_args!("{}: {serial} came back", self.agent));
            }
            Ok(serial) => self.serials.push(serial),
            // What was switched meanwhile, too.
            Err(_) if read("cert.pem").is_ok_and(|now| now != certificate) => return,
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
