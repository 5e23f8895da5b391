//! What must hold, whatever the seed: files that fit together, one state, one history, nothing twice, nothing lost.
//!
//! It refuses to repair or to wait: a difference is a failure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use certwright_core::time::Timestamp;
use certwright_core::x509::inspect::{inspect, verify_chain};
use certwright_core::x509::pem;
use certwright_custody::LeafKey;
use certwright_proto::v1;
use certwright_seams::sim::SimDisk;
use certwright_seams::{Clock, Disk};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::administrator::{Client, PATIENCE, PAUSE};
use super::estate::SERVERS;

/// Octets of a delivered file at most.
const FILE_OCTETS_MAX: u64 = 64 * 1024;

/// A consumer that looks at delivered files all the time.
pub(super) struct Watcher<'a> {
    disk: &'a SimDisk,
    live: PathBuf,
    clock: Arc<dyn Clock>,
    serials: Vec<String>,
}

impl<'a> Watcher<'a> {
    /// A consumer of one directory.
    pub(super) fn new(disk: &'a SimDisk, live: &str, clock: Arc<dyn Clock>) -> Self {
        Self { disk, live: live.into(), clock, serials: Vec::new() }
    }

    /// Every serial seen, in order.
    pub(super) fn serials(&self) -> &[String] {
        &self.serials
    }

    /// Waits for a certificate that was not there before.
    pub(super) async fn next(&mut self) {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(serial) = self.look()
                && self.serials.last() != Some(&serial)
            {
                assert!(!self.serials.contains(&serial), "{serial} came back after {:?}", self.serials);
                return self.serials.push(serial);
            }
            assert!(Instant::now() < end, "nothing new was delivered after {:?}", self.serials);
            sleep(PAUSE).await;
        }
    }

    /// The serial that is there, if any; it fits its key and its chain.
    fn look(&self) -> Option<String> {
        let read = |name: &str| self.disk.read(&self.live.join(name), FILE_OCTETS_MAX);
        let certificate = pem::certificates(&read("cert.pem").ok()?).unwrap().remove(0);
        let leaf = inspect(&certificate).unwrap();
        if self.serials.last() != Some(&leaf.serial) {
            let key = LeafKey::from_pem(std::str::from_utf8(&read("key.pem").unwrap()).unwrap()).unwrap();
            assert_eq!(key.spki_hash(), leaf.spki_hash, "key.pem is not the key of cert.pem");
            let intermediates = pem::certificates(&read("chain.pem").unwrap()).unwrap();
            let roots = pem::certificates(&read("ca.pem").unwrap()).unwrap();
            let now = Timestamp::from_millis(self.clock.wall_millis());
            verify_chain(&certificate, &intermediates, &roots, now).unwrap();
        }
        Some(leaf.serial)
    }
}

/// All servers have the same state at the same index.
pub(super) async fn digests(client: &Client) {
    let answer = client.digests(SERVERS.len()).await;
    let values: BTreeSet<_> = answer.digests.values().collect();
    assert_eq!(values.len(), 1, "the servers' states differ: {answer:?}");
}

/// All servers tell the same history, as far as each knows it.
pub(super) fn histories(histories: &[Vec<v1::Event>]) {
    for (history, server) in histories.iter().zip(SERVERS) {
        for (one, other) in history.iter().zip(&histories[0]) {
            assert_eq!(one, other, "{server} and {} tell different histories", SERVERS[0]);
        }
        let order: Vec<_> = history.iter().map(|event| (event.index, event.ordinal, event.number)).collect();
        assert!(order.is_sorted_by(|one, next| one < next), "{server} tells {order:?}");
        assert!(history.len() > 10, "{server} tells only {} events", history.len());
    }
}

/// No serial and no generation of an instance twice, everything acknowledged or delivered among them.
pub(super) fn issued(history: &[v1::Event], acknowledged: &[String], delivered: &[String]) {
    let (mut serials, mut generations) = (BTreeSet::new(), BTreeMap::new());
    for event in history.iter().filter(|event| event.r#type == "CertificateIssued") {
        let data: Value = serde_json::from_str(&event.data_json).unwrap();
        let text = |field: &str| data[field].as_str().unwrap().to_owned();
        let generation = (text("instance"), data["generation"].as_u64().unwrap());
        assert!(serials.insert(text("serial")), "serial {} was issued twice", text("serial"));
        let before = generations.insert(generation, text("serial"));
        assert_eq!(before, None, "{} {} was issued twice", text("instance"), data["generation"]);
    }
    for serial in acknowledged.iter().chain(delivered) {
        assert!(serials.contains(serial), "{serial} was acknowledged and is lost");
    }
    let unique: BTreeSet<_> = acknowledged.iter().collect();
    assert_eq!(unique.len(), acknowledged.len(), "an answer was given to two orders: {acknowledged:?}");
    assert_eq!(delivered.len(), 3, "one delivery, one renewal across the crash, one after it: {delivered:?}");
}
