//! `history`: every generation of a certificate, from the log.
//!
//! It refuses state: what it prints are the facts as they were written.

use std::process::ExitCode;

use certwright_proto::v1;
use serde_json::Value;

use crate::args::{Format, Global, Kind, NameArgs};
use crate::client::Client;
use crate::failure::Failure;
use crate::get::resource;
use crate::output::{self, Table};

/// Runs the verb.
pub async fn run(global: &Global, args: NameArgs) -> Result<ExitCode, Failure> {
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
        let message = format!("nothing was ever written about {stream}");
        return Err(certwright_core::Rejection::new(certwright_core::Reason::NotFound, message).into());
    }
    match global.output {
        Format::Json | Format::Yaml => output::value(global.output, &Value::Array(events))?,
        Format::Name => events.iter().try_for_each(|event| output::line(&text(event, "index")))?,
        Format::Table | Format::Wide => {
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
        _ => format!("by {}", text(event, "actor")),
    }
}
