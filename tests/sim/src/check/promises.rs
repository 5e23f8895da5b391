//! What was promised to callers: that a certificate is kept before it is handed out, and that nothing answered is lost.
//!
//! It refuses to trust servers about it: it looks at the disks.

use std::cell::RefCell;
use std::collections::BTreeMap;

use certwright_proto::v1;
use serde_json::Value;

use crate::stage::Stage;

const CHECKER: &str = "promises";

/// A certificate that a caller holds.
struct Issued {
    serial: String,
    index: u64,
    /// Servers on whose platters its event was at that moment, where somebody could look.
    kept_by: Option<usize>,
}

/// What callers were told.
#[derive(Default)]
pub struct Promises(RefCell<Vec<Issued>>);

impl Promises {
    /// A certificate has just arrived.
    pub fn issued(&self, estate: &impl Stage, serial: &str, index: u64) {
        let needle = hex::decode(serial).unwrap_or_default();
        let kept_by = estate.kept_by(&needle);
        self.0.borrow_mut().push(Issued { serial: serial.to_owned(), index, kept_by });
    }

    /// How many callers hold.
    pub fn count(&self) -> usize {
        self.0.borrow().len()
    }

    /// Compares with what the log holds in the end.
    pub fn check(&self, estate: &impl Stage, history: &[v1::Event]) {
        self.check_first(self.count(), estate, history);
    }

    /// The same for those that came first, while others may still come.
    pub fn check_first(&self, count: usize, estate: &impl Stage, history: &[v1::Event]) {
        let issued: BTreeMap<String, &v1::Event> = history.iter().filter_map(issuance).collect();
        let majority = estate.servers().len() / 2 + 1;
        for Issued { serial, index, kept_by } in self.0.borrow().iter().take(count) {
            let found = issued.get(serial);
            let (is_there, is_kept, verdict) =
                (found.is_some(), kept_by.is_none_or(|servers| servers >= majority), estate.verdict());
            if let Some(event) = found.filter(|event| event.index != *index) {
                verdict.report("I3", CHECKER, format_args!("{serial} is at {}, not at {index}", event.index));
            }
            match (is_there, is_kept) {
                (true, true) => {}
                (true, false) => verdict.report(
                    "I1",
                    CHECKER,
                    format_args!("{serial} was handed out when {kept_by:?} of {} kept it", estate.servers().len()),
                ),
                (false, true) => verdict.report("I3", CHECKER, format_args!("{serial} at {index} is lost")),
                (false, false) => {
                    verdict.report("I12", CHECKER, format_args!("{serial} was handed out and never agreed on"));
                }
            }
        }
    }
}

/// The serial of an event that issues one.
fn issuance(event: &v1::Event) -> Option<(String, &v1::Event)> {
    let data: Value = serde_json::from_str(&event.data_json).ok().filter(|_| event.r#type == "CertificateIssued")?;
    Some((data["serial"].as_str()?.to_owned(), event))
}
