//! `operator clock`: what log time and the servers' clocks show, and log time set back to them.
//!
//! It refuses to set a clock: that is the machine's business.

use std::process::ExitCode;
use std::time::Duration;

use certwright_core::limits::REBASE_MIN;
use certwright_core::time::Timestamp;
use certwright_proto::api::values::moment_to_message;
use certwright_proto::manifest::duration;
use certwright_proto::v1;
use certwright_proto::v1::cluster_client::ClusterClient;
use serde_json::{Value, json};

use crate::args::{ClockVerb, Format, Global};
use crate::client::Client;
use crate::failure::Failure;
use crate::get::now;
use crate::output::{self, Table, moment, timestamp};
use crate::status;

/// Runs the verb; without one, shows.
pub(super) async fn run(global: &Global, client: &Client, verb: Option<ClockVerb>) -> Result<ExitCode, Failure> {
    match verb {
        None => show(global, &status::cluster(client).await?, now(client))?,
        Some(ClockVerb::Rebase { yes_clocks_are_right }) => rebase(global, client, yes_clocks_are_right).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// How far log time is ahead of the answering server's clock; `None` when that server does not say.
pub fn ahead(cluster: &v1::GetClusterResponse) -> Option<Duration> {
    let (log_time, clock) = (timestamp(cluster.log_time.as_ref()?)?, timestamp(cluster.clock.as_ref()?)?);
    Some(log_time.since(clock))
}

/// A span as people say it, to the second.
pub fn seconds(span: Duration) -> String {
    duration::format(Duration::from_secs(span.as_secs()))
}

/// How far this machine's clock, which showed that, is ahead of the answering server's, give or take the way of the answer.
fn caller_offset_millis(cluster: &v1::GetClusterResponse, now: Timestamp) -> Option<i64> {
    let clock = timestamp(cluster.clock.as_ref()?)?;
    Some(now.millis().cast_signed() - clock.millis().cast_signed())
}

fn show(global: &Global, cluster: &v1::GetClusterResponse, now: Timestamp) -> Result<(), Failure> {
    let (ahead, here) = (ahead(cluster), caller_offset_millis(cluster, now));
    let offset = |millis: Option<i64>| millis.map_or("unknown".to_string(), |millis| format!("{millis:+}ms"));
    match global.output {
        Format::Json | Format::Yaml => output::value(global.output, &shown(cluster, ahead, here)),
        Format::Name => cluster.nodes.iter().try_for_each(|node| output::line(&node.name)),
        Format::Table | Format::Wide | Format::Junit => {
            let mut table = Table::new(&["SERVER", "OFFSET"]);
            for node in &cluster.nodes {
                table.row(vec![node.name.clone(), offset(node.clock_offset_millis)]);
            }
            table.row(vec!["(this machine)".to_string(), offset(here)]);
            output::line(&table.render())?;
            output::line(&match ahead {
                None => format!("{} does not say what log time is", cluster.answered_by),
                Some(ahead) if ahead <= REBASE_MIN => format!("log time is with {}'s clock", cluster.answered_by),
                Some(ahead) => {
                    let (log_time, by) = (moment(cluster.log_time.as_ref()), seconds(ahead));
                    format!("log time {log_time} is {by} ahead of {}'s clock", cluster.answered_by)
                }
            })
        }
    }
}

fn shown(cluster: &v1::GetClusterResponse, ahead: Option<Duration>, here: Option<i64>) -> Value {
    let server = |node: &v1::Node| json!({"name": node.name, "offset_millis": node.clock_offset_millis});
    json!({
        "log_time": moment(cluster.log_time.as_ref()),
        "clock": moment(cluster.clock.as_ref()),
        "answered_by": cluster.answered_by,
        "ahead_millis": ahead.map(|ahead| ahead.as_millis() as u64),
        "caller_offset_millis": here,
        "servers": cluster.nodes.iter().map(server).collect::<Vec<_>>(),
    })
}

async fn rebase(global: &Global, client: &Client, is_sure: bool) -> Result<(), Failure> {
    if !is_sure {
        return Err(Failure::usage(
            "what was issued since then by log time is renewed, and history is told by the time that the servers show now",
            "look at certwright operator clock, compare with a clock that is none of theirs, and say --yes-clocks-are-right",
        ));
    }
    let request =
        v1::RebaseTimeRequest { request_id: client.request_id(), clock: Some(moment_to_message(now(client))) };
    let call = |channel, request| async move { ClusterClient::new(channel).rebase_time(request).await };
    let answer = client.call(request, call).await?;
    client.wrote(answer.token);
    let (from, to) = (moment(answer.from.as_ref()), moment(answer.to.as_ref()));
    match (global.output, answer.unchanged) {
        (Format::Json | Format::Yaml, true) => output::value(global.output, &json!({"rebased": false})),
        (Format::Json | Format::Yaml, false) => {
            output::value(global.output, &json!({"rebased": true, "from": from, "to": to}))
        }
        (_, true) => output::line("log time is with the clocks"),
        (_, false) => {
            output::line(&format!("log time was set back from {from} to {to}"))?;
            output::note("renewals are held back: look at what is due, then: certwright operator renewals release");
            Ok(())
        }
    }
}
