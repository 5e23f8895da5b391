//! All machines are suspended for an hour and wake up together: time has passed, and only an operator can say that it has.
//!
//! It refuses to move one clock alone, which the nemesis does.

use std::collections::BTreeMap;
use std::time::Duration;

use certwright_core::time::Timestamp;
use certwright_proto::v1;
use certwright_seams::Entropy;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::client::{Client, Stuck};
use crate::estate::Estate;
use crate::stage::Stage;

/// For so long: everything that agents deliver is due then, and has expired.
const ASLEEP: Duration = Duration::from_secs(3600);
/// How long what happens then is looked at.
const WATCHED: Duration = Duration::from_secs(10);
/// Until the clocks have been compared entries may bear the time of before.
const COMPARED_WITHIN: Duration = Duration::from_secs(60);
/// So far ahead of the others a leader's clock may take decisions along, while it alone is known to have slept: five seconds,
/// and what clocks differ by.
const AHEAD_MAX: Duration = Duration::from_secs(6);
/// How often.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// What a small estate may renew in an hour without an operator's word.
const RENEWALS_MAX: usize = 1;

/// Suspends the estate in one run of four, and has renewals released after it.
pub(crate) async fn suspend(estate: &Estate, client: &Client) -> Result<(), Stuck> {
    if !estate.draw(8).next_u64().is_multiple_of(4) {
        return Ok(());
    }
    estate.trace.tell("suspension", format_args!("{ASLEEP:?}"));
    estate.fault("all suspended");
    estate.sleep(ASLEEP);
    let awake = estate.true_time();
    let (end, mut is_held) = (Instant::now() + WATCHED, false);
    while Instant::now() < end {
        is_held |= client.cluster(true).await?.renewal_hold.is_some();
        sleep(LOOK_EVERY).await;
    }
    let begun = begun_early(&client.events().await?, awake);
    if begun.len() > RENEWALS_MAX {
        estate.verdict.report("I14", "suspension", format_args!("renewals were begun without a word: {begun:?}"));
    } else if !is_held {
        return Err(Stuck(format!("renewals are not held {WATCHED:?} after an hour was lost")));
    }
    client.release_renewals().await
}

/// Renewals that were begun after that moment by the time that nobody was awake: what was due without it was due all the
/// same, perhaps before the clocks had been compared.
fn begun_early(events: &[v1::Event], awake: Timestamp) -> Vec<String> {
    let (mut renew_at, mut begun) = (BTreeMap::new(), Vec::new());
    for event in events {
        let data: Value = serde_json::from_str(&event.data_json).unwrap_or_default();
        let at = event.at.as_ref().map_or(Timestamp::EPOCH, |at| Timestamp::from_seconds(at.seconds as u64));
        match &*event.r#type {
            "CertificateIssued" => drop(renew_at.insert(&event.stream, data["renewAt"].as_str().map(str::to_owned))),
            "IssuanceOpened" if at.plus(COMPARED_WITHIN) > awake => {
                // Both are whole seconds, written alike.
                let passed = at.minus(ASLEEP).plus(AHEAD_MAX).to_string();
                let due = renew_at.get(&event.stream).cloned().flatten();
                if due.as_ref().is_none_or(|due| *due > passed) {
                    begun.push(format!("{} at {at}, due at {due:?}", event.stream));
                }
            }
            _ => {}
        }
    }
    begun
}
