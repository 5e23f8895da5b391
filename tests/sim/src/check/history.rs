//! The history that servers tell in the end: one for all, in order, nothing twice.
//!
//! It refuses to know who asked for what.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use certwright_core::time::Timestamp;
use certwright_proto::api::values::moment_from_message;
use certwright_proto::v1;
use serde_json::Value;

use super::Verdict;

const CHECKER: &str = "history";
/// How far log time may be behind true time: what clocks differ by, and a step of one of them.
const BEHIND_MAX: Duration = Duration::from_secs(2);

/// Compares what every server tells, and looks at it.
pub fn check(verdict: &Verdict, histories: &[(String, Vec<v1::Event>)]) {
    let (_, longest) = histories.iter().max_by_key(|(_, events)| events.len()).expect("there are servers");
    for (server, events) in histories {
        if let Some((one, other)) = events.iter().zip(longest).find(|(one, other)| one != other) {
            verdict.report("I4", CHECKER, format_args!("{server} tells {one:?} where another tells {other:?}"));
        }
        let order: Vec<_> = events.iter().map(place).collect();
        if !order.is_sorted_by(|one, next| one < next) {
            verdict.report("I8", CHECKER, format_args!("{server} tells out of order or twice"));
        }
    }
    once(verdict, longest);
    let at = |event: &v1::Event| event.at.map(|at| (at.seconds, at.nanos));
    if !longest.iter().map(at).is_sorted() {
        verdict.report("I14", CHECKER, format_args!("log time goes back"));
    }
}

/// Log time did not fall behind: the last event is not of before `then`, when it had not happened yet.
pub(crate) fn check_time(verdict: &Verdict, history: &[v1::Event], then: Timestamp) {
    let at = history.last().and_then(|event| event.at.as_ref());
    let at = at.and_then(|at| moment_from_message("at", at).ok()).unwrap_or(Timestamp::EPOCH);
    if then.since(at) > BEHIND_MAX {
        verdict.report("I14", CHECKER, format_args!("the last entry is of {at}, it was {then} before it"));
    }
}

/// Where an event stands.
pub fn place(event: &v1::Event) -> (u64, u32, u32) {
    (event.index, event.ordinal, event.number)
}

/// No serial, no generation of an instance, and no token is used twice.
fn once(verdict: &Verdict, history: &[v1::Event]) {
    let (mut serials, mut generations, mut tokens) = (BTreeSet::new(), BTreeMap::new(), BTreeSet::new());
    for event in history {
        let data: Value = serde_json::from_str(&event.data_json).unwrap_or_default();
        match event.r#type.as_str() {
            "CertificateIssued" => {
                let serial = data["serial"].to_string();
                if !serials.insert(serial.clone()) {
                    verdict.report("I2", CHECKER, format_args!("serial {serial} was issued twice"));
                }
                let generation = (data["instance"].to_string(), data["generation"].to_string());
                if let Some(before) = generations.insert(generation.clone(), serial) {
                    verdict.report("I5", CHECKER, format_args!("{generation:?} was issued twice, first as {before}"));
                }
            }
            "TokenConsumed" if !tokens.insert(event.stream.clone()) => {
                verdict.report("I16", CHECKER, format_args!("{} was consumed twice", event.stream));
            }
            _ => {}
        }
    }
}
