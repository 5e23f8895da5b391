//! What was promised to callers: that a certificate is kept before it is handed out, and that nothing answered is lost.
//!
//! It refuses to trust servers about it: it looks at the disks.

use std::cell::RefCell;
use std::path::Path;

use certwright_proto::v1;
use memchr::memmem;
use serde_json::Value;

use crate::estate::Estate;
use crate::machine::VOLUME;

const CHECKER: &str = "promises";

/// A certificate that a caller holds.
struct Issued {
    serial: String,
    index: u64,
    /// Servers on whose platters its event was at that moment.
    kept_by: usize,
}

/// What callers were told.
#[derive(Default)]
pub(crate) struct Promises(RefCell<Vec<Issued>>);

impl Promises {
    /// A certificate has just arrived.
    pub(crate) fn issued(&self, estate: &Estate, serial: &str, index: u64) {
        let needle = hex::decode(serial).unwrap_or_default();
        let kept = |server: &&String| {
            let mut found = false;
            let log = Path::new(VOLUME).join("server/log");
            let look = |octets: &[u8]| found |= memmem::find(octets, &needle).is_some();
            // A server without a log keeps nothing.
            let _ = estate.machine(server).disk.durable(&log, look);
            found
        };
        let kept_by = estate.servers().iter().filter(kept).count();
        self.0.borrow_mut().push(Issued { serial: serial.to_owned(), index, kept_by });
    }

    /// Compares with what the log holds in the end.
    pub(crate) fn check(&self, estate: &Estate, history: &[v1::Event]) {
        let majority = estate.servers().len() / 2 + 1;
        for Issued { serial, index, kept_by } in &*self.0.borrow() {
            let found = history.iter().find(|event| {
                let data = || serde_json::from_str::<Value>(&event.data_json).unwrap_or_default();
                event.r#type == "CertificateIssued" && data()["serial"] == *serial
            });
            let (is_there, is_kept, verdict) = (found.is_some(), *kept_by >= majority, &estate.verdict);
            if let Some(event) = found.filter(|event| event.index != *index) {
                verdict.report("I3", CHECKER, format_args!("{serial} is at {}, not at {index}", event.index));
            }
            match (is_there, is_kept) {
                (true, true) => {}
                (true, false) => verdict.report(
                    "I1",
                    CHECKER,
                    format_args!("{serial} was handed out when {kept_by} of {} kept it", estate.servers().len()),
                ),
                (false, true) => verdict.report("I3", CHECKER, format_args!("{serial} at {index} is lost")),
                (false, false) => {
                    verdict.report("I12", CHECKER, format_args!("{serial} was handed out and never agreed on"));
                }
            }
        }
    }
}
