//! `events` and the reading of the log that `history` shares: every fact, once, in order.
//!
//! It refuses gaps: when a server goes away the stream goes on from the last token on another one.

use std::ops::RangeInclusive;
use std::process::ExitCode;

use certwright_core::Reason;
use certwright_proto::status::from_status;
use certwright_proto::v1;
use certwright_proto::v1::events_client::EventsClient;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::args::{EventsArgs, Format, Global};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{self, moment};

/// Entries that are looked at first for the newest events of one object.
const LOOK_BACK_FIRST: u64 = 1_000;
/// Entries that are looked at in all: reading them takes a moment, not minutes.
const LOOK_BACK_MAX: u64 = 100_000;

/// Runs the verb.
pub async fn run(global: &Global, args: EventsArgs) -> Result<ExitCode, Failure> {
    let client = Client::new(global)?;
    let format = global.output;
    let request = v1::WatchRequest {
        token: None,
        from_index: args.from.max(1),
        to_index: args.to.unwrap_or(0),
        follow: args.follow,
        stream_prefix: args.stream,
    };
    let source = format!("certwright://{}", client.cluster_id());
    let each = |event: &v1::Event| match args.cloudevents {
        true => output::line(&cloud_event(&source, event).to_string()),
        false => print(format, event),
    };
    read(&client, request, each).await?;
    Ok(ExitCode::SUCCESS)
}

/// Reads what the request asks for, resuming on another server when one goes away.
pub async fn read(
    client: &Client,
    mut request: v1::WatchRequest,
    mut each: impl FnMut(&v1::Event) -> Result<(), Failure>,
) -> Result<(), Failure> {
    loop {
        let sent = request.clone();
        // A watch that follows outlives the command's deadline; only starting it is bounded.
        let outcome = client.call(sent, |channel, mut message| async move {
            message.metadata_mut().remove("grpc-timeout");
            EventsClient::new(channel).watch(message).await
        });
        let mut stream = outcome.await?;
        let lost = loop {
            match stream.message().await {
                Ok(Some(answer)) => {
                    if let Some(event) = &answer.event {
                        each(event)?;
                    }
                    request.token = answer.token.or(request.token);
                }
                Ok(None) if !request.follow => return Ok(()),
                Ok(None) => break None,
                Err(status) => break Some(status),
            }
        };
        if let Some(status) = lost {
            let over = !request.follow && Instant::now() >= client.deadline();
            if over || from_status(&status).retry_after.is_none() && !cut_off(&status) {
                return Err(status.into());
            }
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

/// The newest events that `wanted` lets through, newest first, out of a range of entries; and the index down to which was
/// looked. The log is read backwards, a portion at a time, and not without bound: `history` tells the rest.
pub async fn newest(
    client: &Client,
    stream_prefix: &str,
    wanted: impl Fn(&v1::Event) -> bool,
    range: RangeInclusive<u64>,
    count: usize,
) -> Result<(Vec<v1::Event>, u64), Failure> {
    let (mut found, mut end, mut portion) = (Vec::new(), *range.end(), LOOK_BACK_FIRST);
    let oldest = (*range.start()).max(end.saturating_sub(LOOK_BACK_MAX)).max(1);
    while end >= oldest && found.len() < count {
        let start = (end + 1).saturating_sub(portion).max(oldest);
        let request = v1::WatchRequest {
            from_index: start,
            to_index: end,
            stream_prefix: stream_prefix.to_string(),
            ..v1::WatchRequest::default()
        };
        let mut part = Vec::new();
        let outcome = read(client, request, |event| {
            part.extend(wanted(event).then(|| event.clone()));
            Ok(())
        });
        match outcome.await {
            // This server joined later than that.
            Err(failure) if failure.code() == Reason::TokenTooOld.code() => break,
            outcome => outcome?,
        }
        found.extend(part.into_iter().rev());
        (end, portion) = (start - 1, portion * 10);
    }
    found.truncate(count);
    Ok((found, end + 1))
}

/// Whether the transport broke, rather than the server refusing.
fn cut_off(status: &tonic::Status) -> bool {
    use tonic::Code;
    matches!(status.code(), Code::Unavailable | Code::Cancelled | Code::Unknown | Code::Internal)
}

/// An event as JSON.
pub fn value(event: &v1::Event) -> Value {
    let data: Value = serde_json::from_str(&event.data_json).unwrap_or(Value::Null);
    let mut value = json!({
        "epoch": event.epoch, "index": event.index, "ordinal": event.ordinal, "number": event.number, "stream": event.stream,
        "revision": event.revision, "type": event.r#type, "at": moment(event.at.as_ref()), "actor": event.actor, "data": data,
    });
    if !event.trace_id.is_empty() {
        value["trace"] = Value::String(event.trace_id.clone());
    }
    value
}

/// The event in the JSON format of CloudEvents 1.0. Its id is its place in the log. The index is text: integers of
/// CloudEvents have 32 bits.
fn cloud_event(source: &str, event: &v1::Event) -> Value {
    let data: Value = serde_json::from_str(&event.data_json).unwrap_or(Value::Null);
    json!({
        "specversion": "1.0",
        "id": format!("{}-{}-{}", event.index, event.ordinal, event.number),
        // Positions recur after a restore, within another epoch.
        "source": format!("{source}/epochs/{}", event.epoch),
        "type": format!("dev.certwright.{}", event.r#type),
        "subject": event.stream,
        "time": moment(event.at.as_ref()),
        "datacontenttype": "application/json",
        // Extension attributes are lower case and flat.
        "actor": event.actor,
        "index": event.index.to_string(),
        "data": data,
    })
}

fn print(format: Format, event: &v1::Event) -> Result<(), Failure> {
    match format {
        Format::Json => output::line(&value(event).to_string()),
        Format::Yaml => output::line(&format!("---\n{}", output::yaml(&value(event))?.trim_end())),
        Format::Name => output::line(&format!("{}.{}", event.index, event.ordinal)),
        Format::Table | Format::Wide | Format::Junit => {
            let at = moment(event.at.as_ref());
            let mut line =
                format!("{:>6}.{:<3} {at:<24} {:<28} {}", event.index, event.ordinal, event.r#type, event.stream);
            if format == Format::Wide {
                line.push_str(&format!("  by {}  {}", event.actor, event.data_json));
            }
            output::line(&output::plain(&line))
        }
    }
}
