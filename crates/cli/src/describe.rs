//! `describe`: everything about one object and what happened to it last, for people.
//!
//! It refuses to be parsed: `get -o json` is for programs.

mod certificate;
mod estate;
mod page;

use std::process::ExitCode;

use certwright_core::time::Timestamp;
use certwright_proto::v1;
use serde_json::Value;

use crate::args::{DescribeArgs, Format, Global, Kind};
use crate::client::Client;
use crate::failure::Failure;
use crate::get::{now, one, past_of, resource};
use crate::output::{self, Table, age, moment, timestamp, until};
use page::Page;

/// Events shown of one object.
const EVENTS_MAX: usize = 10;

/// Where an object's events are in the log.
struct Place {
    /// Start of the name of their stream.
    stream: String,
    /// The node they are about, in the stream of the cluster itself.
    node_id: Option<u64>,
    /// The oldest entry that can hold one.
    since: u64,
    /// The state that was read.
    token: Option<v1::Token>,
}

impl Place {
    /// Of an object with a stream of its own; its uid says where it was created.
    fn of(stream: &str, uid: &str, token: Option<v1::Token>) -> Self {
        let since = uid.split('-').next().and_then(|index| index.parse().ok()).unwrap_or(1);
        Self { stream: stream.to_string(), node_id: None, since, token }
    }

    fn holds(&self, event: &v1::Event) -> bool {
        event.stream == self.stream
            && self.node_id.is_none_or(|id| crate::events::value(event)["data"]["nodeId"].as_u64() == Some(id))
    }
}

/// Runs the verb.
pub async fn run(global: &Global, args: DescribeArgs) -> Result<ExitCode, Failure> {
    let client = Client::new(global)?;
    let name = resource(args.kind, &global.namespace, &args.name);
    let as_of = past_of(args.kind, args.as_of)?;
    match global.output {
        Format::Table | Format::Wide | Format::Junit => {
            let now = now(&client);
            let (mut page, place) = match args.kind {
                Kind::Certificates => certificate::page(&client, &name, as_of, now).await?,
                Kind::Issuers => estate::issuer(&client, &name, now).await?,
                Kind::Authorities => estate::authority(&client, &name, now).await?,
                Kind::Agents => estate::agent(&client, &name, now).await?,
                Kind::Servers => estate::server(&client, &args.name, now).await?,
                Kind::Tokens => estate::token(&client, &name, now).await?,
            };
            happened(&client, &mut page, &place, now).await?;
            output::line(&page.text())?;
        }
        Format::Name => output::line(&crate::apply::short(&one(&client, args.kind, &name, as_of).await?.name))?,
        format => output::value(format, &one(&client, args.kind, &name, as_of).await?.value)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What a document says of itself: name, namespace, labels, kind, identity.
fn head(page: &mut Page, document: &Value) {
    let metadata = &document["metadata"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    page.field(0, "Name", &text(&metadata["name"]));
    if metadata["namespace"].is_string() {
        page.field(0, "Namespace", &text(&metadata["namespace"]));
    }
    let labels = metadata["labels"].as_object().into_iter().flatten();
    page.list(0, "Labels", &labels.map(|(key, value)| format!("{key}={}", text(value))).collect::<Vec<_>>());
    page.field(0, "API Version", &text(&document["apiVersion"]));
    page.field(0, "Kind", &text(&document["kind"]));
    page.field(0, "UID", &text(&metadata["uid"]));
    page.field(0, "Etag", &text(&metadata["etag"]));
}

/// A moment with its distance from now: `2026-11-22T12:56:50Z (3m ago)`; empty when absent.
fn when(at: Option<&prost_types::Timestamp>, now: Timestamp) -> String {
    match at.and_then(timestamp) {
        None => String::new(),
        Some(moment_at) if moment_at <= now => format!("{} ({} ago)", moment(at), age(at, now)),
        Some(_) => format!("{} (in {})", moment(at), until(at, now)),
    }
}

/// The newest events, the last one at the bottom.
async fn happened(client: &Client, page: &mut Page, place: &Place, now: Timestamp) -> Result<(), Failure> {
    let newest = match &place.token {
        Some(token) => certwright_proto::token::read(token)?.position.index,
        None => return Ok(()),
    };
    let range = place.since..=newest;
    let (mut events, oldest) =
        crate::events::newest(client, &place.stream, |event| place.holds(event), range, EVENTS_MAX).await?;
    page.gap();
    let cut = if oldest > place.since && events.len() < EVENTS_MAX {
        format!(" from index {oldest} on")
    } else {
        String::new()
    };
    if events.is_empty() {
        page.field(0, "Events", &format!("none{cut}"));
        return Ok(());
    }
    page.heading(0, &format!("Events{cut}"));
    // Only certificates have instances and generations.
    let more: &[&'static str] = if place.stream.starts_with("namespaces/") { &["INSTANCE", "GENERATION"] } else { &[] };
    let mut table = Table::new(&[&["AGE", "INDEX", "TYPE"], more, &["DETAIL"]].concat());
    events.reverse();
    for event in &events {
        let value = crate::events::value(event);
        let data = more.iter().map(|key| crate::history::text(&value["data"], &key.to_lowercase()));
        let first = [age(event.at.as_ref(), now), event.index.to_string(), event.r#type.clone()];
        table.row(first.into_iter().chain(data).chain([crate::history::detail(&value)]).collect());
    }
    page.table(1, &table);
    Ok(())
}
