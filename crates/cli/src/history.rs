//! `history`: every generation of a certificate, from the log, and how its specification changed.
//!
//! It refuses state: what it prints are the facts as they were written.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use certwright_proto::v1;
use serde_json::{Value, json};

use crate::args::{Format, Global, HistoryArgs, Kind};
use crate::client::Client;
use crate::failure::Failure;
use crate::get::resource;
use crate::output::{self, Table};

/// Runs the verb.
pub async fn run(global: &Global, args: HistoryArgs) -> Result<ExitCode, Failure> {
    let client = Client::new(global)?;
    let stream = resource(Kind::Certificates, &global.namespace, &args.name);
    let request = v1::WatchRequest { from_index: 1, stream_prefix: stream.clone(), ..Default::default() };
    let mut events = Vec::new();
    crate::events::read(&client, request, |event| {
        if event.stream == stream {
            events.push(crate::events::value(event));
        }
        Ok(())
    })
    .await?;
    if events.is_empty() {
        let message = format!("nothing was ever written about {stream}, in the history that is kept");
        return Err(certwright_core::Rejection::new(certwright_core::Reason::NotFound, message).into());
    }
    if let Some([from, to]) = args.diff.as_deref() {
        return compare(global.output, &events, *from, *to);
    }
    match global.output {
        Format::Json | Format::Yaml => output::value(global.output, &Value::Array(events))?,
        Format::Name => events.iter().try_for_each(|event| output::line(&text(event, "index")))?,
        Format::Table | Format::Wide | Format::Junit => {
            let mut table = Table::new(&["INDEX", "AT", "EVENT", "INSTANCE", "GENERATION", "DETAIL"]);
            for event in &events {
                let data = &event["data"];
                let cells = ["index", "at", "type"].map(|key| text(event, key));
                let more = ["instance", "generation"].map(|key| text(data, key));
                table.row(cells.into_iter().chain(more).chain([detail(event)]).collect());
            }
            output::line(&table.render())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints what the specification says at one index that it did not say at another.
fn compare(format: Format, events: &[Value], from: u64, to: u64) -> Result<ExitCode, Failure> {
    let changes = difference(&wish(events, from), &wish(events, to));
    match format {
        Format::Json | Format::Yaml => {
            let object = |(path, before, after): &Change| json!({ "path": path, "from": before, "to": after });
            output::value(format, &changes.iter().map(object).collect())?;
        }
        Format::Name => changes.iter().try_for_each(|(path, ..)| output::line(path))?,
        Format::Table | Format::Wide | Format::Junit => {
            for (path, before, after) in &changes {
                for (sign, value) in [("-", before), ("+", after)] {
                    if !value.is_null() {
                        output::line(&output::plain(&format!("{sign} {path}: {value}")))?;
                    }
                }
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Labels and specification as they were at an index; null before the first.
fn wish(events: &[Value], index: u64) -> Value {
    let until = events.iter().filter(|event| event["index"].as_u64().is_some_and(|at| at <= index));
    let mut declared = until.filter_map(|event| match event["type"].as_str()? {
        "CertificateDeclared" | "CertificateUpdated" => {
            Some(json!({ "labels": event["data"]["labels"], "spec": event["data"]["spec"] }))
        }
        "CertificateDeleted" => Some(Value::Null),
        _ => None,
    });
    declared.next_back().unwrap_or_default()
}

/// A path, what stood there before, what stands there after; null for nothing.
type Change = (String, Value, Value);

/// Every place where two values differ, in the order of paths.
fn difference(before: &Value, after: &Value) -> Vec<Change> {
    let (mut old, mut new) = (BTreeMap::new(), BTreeMap::new());
    flatten(String::new(), before, &mut old);
    flatten(String::new(), after, &mut new);
    let paths: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let at = |values: &BTreeMap<String, Value>, path| values.get(path).cloned().unwrap_or_default();
    let changes = paths.into_iter().map(|path| (path.clone(), at(&old, path), at(&new, path)));
    changes.filter(|(_, old, new)| old != new).collect()
}

fn flatten(path: String, value: &Value, into: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                flatten(if path.is_empty() { key.clone() } else { format!("{path}.{key}") }, member, into);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (place, item) in items.iter().enumerate() {
                flatten(format!("{path}[{place}]"), item, into);
            }
        }
        Value::Null => {}
        leaf => {
            into.insert(path, leaf.clone());
        }
    }
}

/// A member as text, whatever its type; empty when absent.
pub fn text(value: &Value, key: &str) -> String {
    match &value[key] {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// What distinguishes this event from others of its type.
pub fn detail(event: &Value) -> String {
    let data = &event["data"];
    match event["type"].as_str().unwrap_or_default() {
        "CertificateIssued" => format!("serial {} until {}", text(data, "serial"), text(data, "notAfter")),
        "IssuanceOpened" => text(data, "trigger"),
        "IssuanceFailed" => format!("{}: {}", text(data, "reason"), text(data, "message")),
        "CertificateDelivered" => {
            let place = text(data, "target");
            let failure = match &data["failure"] {
                Value::Null => String::new(),
                failure => format!(" failed: {}: {}", text(failure, "reason"), text(failure, "message")),
            };
            format!("{} {place}{failure}", text(data, "stage")).trim_end().to_string()
        }
        "InstanceAdded" => text(data, "agent"),
        "TimeRebased" => format!("from {} to {} by {}", text(data, "from"), text(data, "to"), text(event, "actor")),
        "HistoryTrimmed" => format!("history begins at {}", text(data, "firstIndex")),
        _ => format!("by {}", text(event, "actor")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_names_every_place_once() {
        let before = json!({ "spec": { "dnsNames": ["a", "b"], "duration": "1h" }, "labels": {} });
        let after = json!({ "spec": { "dnsNames": ["a"], "duration": "2h", "isCA": false }, "labels": { "x": "" } });
        let changes = difference(&before, &after);
        let expected = [
            ("labels.x", Value::Null, json!("")),
            ("spec.dnsNames[1]", json!("b"), Value::Null),
            ("spec.duration", json!("1h"), json!("2h")),
            ("spec.isCA", Value::Null, json!(false)),
        ];
        assert_eq!(changes, expected.map(|(path, old, new)| (path.to_owned(), old, new)));
        assert_eq!(difference(&after, &after), []);
    }

    #[test]
    fn what_is_done_to_time_and_history_says_how_far() {
        let event =
            |kind: &str, data: Value| detail(&json!({ "type": kind, "actor": "administrator/ann", "data": data }));
        let rebased = json!({ "from": "2026-12-01T00:00:00Z", "to": "2026-11-01T00:00:00Z" });
        let told = "from 2026-12-01T00:00:00Z to 2026-11-01T00:00:00Z by administrator/ann";
        assert_eq!(event("TimeRebased", rebased), told);
        assert_eq!(event("HistoryTrimmed", json!({ "firstIndex": 812 })), "history begins at 812");
        assert_eq!(event("RenewalsReleased", Value::Null), "by administrator/ann");
    }

    #[test]
    fn a_wish_is_that_of_the_last_declaration_before_it() {
        let event =
            |index: u64, kind: &str, spec: &str| json!({ "index": index, "type": kind, "data": { "spec": spec } });
        let events = [
            event(3, "CertificateDeclared", "one"),
            event(5, "CertificateIssued", "no wish"),
            event(7, "CertificateUpdated", "two"),
            event(9, "CertificateDeleted", ""),
        ];
        for (index, expected) in [(2, None), (3, Some("one")), (6, Some("one")), (8, Some("two")), (9, None)] {
            assert_eq!(wish(&events, index)["spec"].as_str(), expected, "at {index}");
        }
    }
}
