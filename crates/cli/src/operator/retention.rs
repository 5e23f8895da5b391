//! `operator retention`: for how long history is kept.
//!
//! It refuses to delete anything: it says what is wanted, and the servers let go of what may go.

use std::process::ExitCode;
use std::time::Duration;

use certwright_core::limits::RETENTION_GRACE;
use certwright_core::{Reason, Rejection};
use certwright_proto::api::values::span_to_message;
use certwright_proto::manifest::duration;
use certwright_proto::v1;
use certwright_proto::v1::cluster_client::ClusterClient;
use serde_json::json;

use crate::args::{Format, Global, RetentionVerb};
use crate::client::Client;
use crate::failure::Failure;
use crate::output;

/// What keeps all.
const FOREVER: &str = "forever";

/// Runs the verb.
pub(super) async fn run(global: &Global, verb: RetentionVerb) -> Result<ExitCode, Failure> {
    match verb {
        RetentionVerb::Show => show(global).await,
        RetentionVerb::Set { keep } => set(global, &keep).await,
    }
}

fn keep_of(retention: &v1::Retention) -> String {
    let keep = retention.keep.as_ref().and_then(|keep| u64::try_from(keep.seconds).ok());
    keep.map_or(FOREVER.to_owned(), |seconds| duration::format(Duration::from_secs(seconds)))
}

async fn show(global: &Global) -> Result<ExitCode, Failure> {
    let cluster = crate::status::cluster(&Client::new(global)?).await?;
    let retention = cluster.retention.unwrap_or_default();
    let (keep, first) = (keep_of(&retention), retention.first_index);
    let until = retention.last_at.as_ref().map(|at| output::moment(Some(at)));
    match (global.output, until) {
        (Format::Json | Format::Yaml, until) => {
            output::value(global.output, &json!({"keep": keep, "firstIndex": first, "letGoUntil": until}))?;
        }
        (_, None) => output::line(&format!("history is kept {}; nothing was let go", worded(&keep)))?,
        (_, Some(until)) => {
            output::line(&format!("history is kept {}; it begins with entry {first}, after {until}", worded(&keep)))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn worded(keep: &str) -> String {
    if keep == FOREVER { keep.to_owned() } else { format!("for {keep}") }
}

async fn set(global: &Global, keep: &str) -> Result<ExitCode, Failure> {
    let wanted = match keep {
        FOREVER => None,
        text => {
            let invalid = |what: String| Rejection::field(Reason::Usage, "KEEP", format!("{what}, or {FOREVER}"));
            Some(duration::parse(text).map_err(invalid)?)
        }
    };
    let client = Client::new(global)?;
    let request = v1::SetRetentionRequest { keep: wanted.map(span_to_message), request_id: client.request_id() };
    let call = |channel, request| async move { ClusterClient::new(channel).set_retention(request).await };
    let answer = client.call(request, call).await?;
    client.wrote(answer.token);
    let keep = wanted.map_or(FOREVER.to_owned(), duration::format);
    match global.output {
        Format::Json | Format::Yaml => {
            output::value(global.output, &json!({"keep": keep, "changed": !answer.unchanged}))?;
        }
        _ if wanted.is_none() => output::line(&format!("history is kept {}", worded(&keep)))?,
        _ => {
            let grace = duration::format(RETENTION_GRACE);
            output::line(&format!(
                "history is kept {}; nothing goes within {grace} of a shorter time being set",
                worded(&keep)
            ))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
