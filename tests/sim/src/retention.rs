//! History that is let go at the end of a run, while servers lose their power: nobody loses a certificate that has not ended,
//! and everybody tells the same from the same entry on.
//!
//! It refuses to trust what the servers say of what they let go: it has read all of it before.

use std::time::Duration;

use certwright_core::limits::RETENTION_MARGIN;
use certwright_core::spec::KeyAlgorithm;
use certwright_core::x509::Names;
use certwright_custody::LeafKey;
use certwright_proto::v1;
use certwright_seams::Entropy;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::client::{Client, PAUSE, Stuck};
use crate::estate::{Estate, Order};
use crate::stage::Stage;
use crate::workload::ISSUER;

const CHECKER: &str = "retention";
/// In one run of that many.
const RUNS: u64 = 3;
/// As short as it may be.
const KEEP: Duration = Duration::from_secs(24 * 3600);
/// Everybody sleeps for so long, and by as much longer as clocks were ahead: longer than that, and than anything but one
/// certificate lasts, by more than history stays besides.
const ASLEEP: Duration = Duration::from_secs(6 * 3600).saturating_add(KEEP).saturating_add(RETENTION_MARGIN);
/// How much longer that one lasts.
const LONG: Duration = Duration::from_secs(18 * 3600);
/// Certificates before it and after it: segments and snapshots on both sides.
const CERTIFICATES: usize = 240;
/// The longest that everybody may have been ahead of: what callers and agents know each other by lasts a year.
const AHEAD_MAX: Duration = Duration::from_secs(60 * 86_400);
/// Everywhere: a leader that had nothing to let go looks again ten minutes later.
const GONE_WITHIN: Duration = Duration::from_secs(900);
/// How long a server is without power.
const DOWN: Duration = Duration::from_secs(2);

/// Has history let go in one run of a few.
pub(crate) async fn let_go(
    estate: &Estate,
    callers: &[(String, Client)],
    client: &Client,
    was_ahead: Duration,
) -> Result<bool, Stuck> {
    let draw = estate.draw(9);
    if !draw.next_u64().is_multiple_of(RUNS) || was_ahead > AHEAD_MAX {
        return Ok(false);
    }
    estate.trace.tell("retention", format_args!("{KEEP:?}"));
    client.set_retention(KEEP).await?;
    issue(client, CERTIFICATES).await?;
    client.issue_lasting(ISSUER, &request(), ASLEEP + was_ahead + LONG).await?;
    issue(client, CERTIFICATES).await?;
    estate.sleep(ASLEEP + was_ahead);
    let asleep = Instant::now();
    while client.cluster(true).await?.renewal_hold.is_none() {
        if asleep.elapsed() > GONE_WITHIN {
            return Err(Stuck("renewals are not held after a day was lost".into()));
        }
        sleep(PAUSE).await;
    }
    let before = client.events().await?;
    client.release_renewals().await?;
    estate.fault("history let go");
    let first = everywhere(estate, client, &draw).await?;
    lost(estate, &before, first);
    for (server, caller) in callers {
        let told = caller.events().await?;
        let kept: Vec<_> = before.iter().filter(|event| event.index >= first).collect();
        if told.first().is_none_or(|event| event.index < first)
            || !kept.iter().copied().eq(told.iter().take(kept.len()))
        {
            let begins = told.first().map(|event| event.index);
            estate.verdict.report(
                "I8",
                CHECKER,
                format_args!("{server} begins with {begins:?}, not with {first}, or differs"),
            );
        }
    }
    Ok(true)
}

fn request() -> Vec<u8> {
    let key = LeafKey::generate(KeyAlgorithm::EcdsaP256).expect("a key");
    let names = Names { dns_names: vec!["kept.example.com".into()], ..Names::default() };
    key.request(&names).expect("a request")
}

async fn issue(client: &Client, count: usize) -> Result<(), Stuck> {
    let csr = request();
    for _ in 0..count {
        client.issue(ISSUER, &csr, &client.request_id()).await?;
    }
    Ok(())
}

/// Waits until every server begins where the log says, and cuts the power of one on the way.
async fn everywhere(estate: &Estate, client: &Client, draw: &impl Entropy) -> Result<u64, Stuck> {
    let (begun, servers) = (Instant::now(), estate.servers());
    let struck = Duration::from_millis(draw.next_u64() % 12_000);
    let victim = &servers[draw.next_u64() as usize % servers.len()];
    let mut is_struck = false;
    loop {
        let seen = client.cluster(true).await?;
        let first = seen.retention.as_ref().map_or(0, |retention| retention.first_index);
        let members = || seen.nodes.iter().filter(|node| node.role != "removed");
        let is_everywhere = members()
            .all(|node| node.history_first_index == first && !node.history_incomplete && node.role != "unreachable");
        if is_struck && first > 0 && is_everywhere {
            return Ok(first);
        }
        if !is_struck && begun.elapsed() >= struck {
            estate.fault("server without power while history goes");
            estate.order(Order::PowerCut(victim.clone()));
            sleep(DOWN).await;
            estate.order(Order::Start(victim.clone()));
            is_struck = true;
        }
        if begun.elapsed() > GONE_WITHIN {
            return Err(Stuck(format!("history does not begin with {first} everywhere: {seen:?}")));
        }
        sleep(PAUSE).await;
    }
}

/// Whatever went had ended.
fn lost(estate: &Estate, before: &[v1::Event], first: u64) {
    let now = estate.true_time().whole_second().to_string();
    for event in before.iter().filter(|event| event.index < first && event.r#type == "CertificateIssued") {
        let data: Value = serde_json::from_str(&event.data_json).unwrap_or_default();
        // Both are whole seconds, written alike.
        let ends = data["notAfter"].as_str();
        if ends.is_none_or(|ends| ends >= now.as_str()) {
            let (serial, index) = (&data["serial"], event.index);
            estate.verdict.report(
                "I3",
                CHECKER,
                format_args!("{serial} at {index} ends at {ends:?}, and was let go by {now}"),
            );
        }
    }
}
