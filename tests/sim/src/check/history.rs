//! The history that servers tell in the end: one for all, in order, nothing twice.
//!
//! It refuses to know who asked for what.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use certwright_core::limits::{BEGINS_AHEAD_MAX, RETRY_MAX, TOKEN_DURATION_MAX};
use certwright_core::time::Timestamp;
use certwright_proto::api::values::moment_from_message;
use certwright_proto::v1;
use serde_json::Value;

use super::Verdict;

const CHECKER: &str = "history";
/// How far log time may be behind true time: what clocks differ by, and a step of one of them.
const BEHIND_MAX: Duration = Duration::from_secs(2);
/// How much later than its entry a moment in an event may be.
const DEADLINES: [(&str, Duration); 3] =
    [("notBefore", BEGINS_AHEAD_MAX), ("retryAt", RETRY_MAX), ("expiresAt", TOKEN_DURATION_MAX)];

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
    in_time(verdict, longest);
}

/// Log time falls right behind an entry that sets it back, no further, and nowhere else; and nothing that comes then was
/// measured by the time that was taken back.
fn in_time(verdict: &Verdict, history: &[v1::Event]) {
    let (mut floor, mut floor_of) = (Timestamp::EPOCH, 0);
    for event in history {
        let at = event.at.as_ref().and_then(|at| moment_from_message("at", at).ok()).unwrap_or(Timestamp::EPOCH);
        if at < floor {
            let text = format_args!("log time goes back: entry {} is of {at}, {floor_of} was of {floor}", event.index);
            verdict.report("I14", CHECKER, text);
        }
        let data: Value = serde_json::from_str(&event.data_json).unwrap_or_default();
        let moment = |key: &str| data.get(key).or_else(|| data["identity"].get(key)).and_then(Value::as_str);
        for (key, longest) in DEADLINES {
            // Whole seconds, written alike, compare as text.
            let latest = at.plus(longest).whole_second().plus(Duration::from_secs(1)).to_string();
            if let Some(late) = moment(key).filter(|moment| **moment > *latest) {
                let text = format_args!("{key} of entry {} is {late}, it is of {at}", event.index);
                verdict.report("I14", CHECKER, text);
            }
        }
        let back = moment("to").filter(|_| event.r#type == "TimeRebased").map(read);
        (floor, floor_of) = (back.map_or(at, |to| at.min(to)), event.index);
    }
}

/// A moment as events print it.
fn read(moment: &str) -> Timestamp {
    let parsed = moment.parse::<prost_types::Timestamp>().ok();
    parsed.and_then(|moment| moment_from_message("moment", &moment).ok()).unwrap_or_default()
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
