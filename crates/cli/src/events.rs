//! `events` and the reading of the log that `history` shares: every fact, once, in order.
//!
//! It refuses gaps: when a server goes away the stream goes on from the last token on another one.

use std::process::ExitCode;

use certwright_proto::status::from_status;
use certwright_proto::v1;
use certwright_proto::v1::events_client::EventsClient;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::args::{EventsArgs, Format, Global};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{self, moment};

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
    read(&client, request, |event| print(format, event)).await?;
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

/// Whether the transport broke, rather than the server refusing.
fn cut_off(status: &tonic::Status) -> bool {
    use tonic::Code;
    matches!(status.code(), Code::Unavailable | Code::Cancelled | Code::Unknown | Code::Internal)
}

/// An event as JSON.
pub fn value(event: &v1::Event) -> Value {
    let data: Value = serde_json::from_str(&event.data_json).unwrap_or(Value::Null);
    let mut value = json!({
        "index": event.index, "ordinal": event.ordinal, "number": event.number, "stream": event.stream,
        "revision": event.revision, "type": event.r#type, "at": moment(event.at.as_ref()), "actor": event.actor, "data": data,
    });
    if !event.trace_id.is_empty() {
        value["trace"] = Value::String(event.trace_id.clone());
    }
    value
}

fn print(format: Format, event: &v1::Event) -> Result<(), Failure> {
    match format {
        Format::Json => output::line(&value(event).to_string()),
        Format::Yaml => output::line(&format!("---\n{}", output::yaml(&value(event))?.trim_end())),
        Format::Name => output::line(&format!("{}.{}", event.index, event.ordinal)),
        Format::Table | Format::Wide => {
            let at = moment(event.at.as_ref());
            let mut line =
                format!("{:>6}.{:<3} {at:<24} {:<28} {}", event.index, event.ordinal, event.r#type, event.stream);
            if format == Format::Wide {
                line.push_str(&format!("  by {}  {}", event.actor, event.data_json));
            }
            output::line(&line)
        }
    }
}
