//! Checks of the estate: authorities, agents, certificates, and the administrator who asks.
//!
//! It refuses to hold an estate in memory: pages are judged as they come.

use std::time::Duration;

use certwright_agent::Context;
use certwright_core::limits::BEGINS_AHEAD_MAX;
use certwright_core::time::Timestamp;
use certwright_core::x509::inspect::inspect;
use certwright_proto::v1;
use certwright_proto::v1::agents_client::AgentsClient;
use certwright_proto::v1::certificates_client::CertificatesClient;

use super::{Check, Level};
use crate::client::Client;
use crate::failure::Failure;
use crate::output;

/// Objects asked for at a time.
const PAGE: i32 = 500;
/// An administrator's identity should not end sooner.
const ADMINISTRATOR_WARN: Duration = Duration::from_secs(14 * 86_400);
/// An agent renews its identity at half of its 24 hours: one with less than a quarter left does not.
const AGENT_WARN: Duration = Duration::from_secs(6 * 3600);
/// An authority should not end sooner.
const AUTHORITY_WARN: Duration = Duration::from_secs(30 * 86_400);
/// A renewal takes moments once it is due.
const OVERDUE: Duration = Duration::from_secs(60);

type Found = Vec<(Level, String)>;

/// All of them.
pub(super) async fn checks(
    client: &Client,
    context: &Context,
    cluster: &v1::GetClusterResponse,
    now: Timestamp,
) -> Result<Vec<Check>, Failure> {
    let mut checks = vec![administrator(context, now)?];
    checks.push(authorities(&crate::get::authorities(client).await?, now));
    checks.extend(agents(client, cluster, now).await?);
    checks.extend(certificates(client, now).await?);
    Ok(checks)
}

/// What is left until then; nothing when it is past.
fn left(end: Timestamp, now: Timestamp) -> Option<Duration> {
    (end > now).then(|| end.since(now))
}

fn moment(moment: Option<&prost_types::Timestamp>) -> Option<Timestamp> {
    moment.and_then(output::timestamp)
}

fn administrator(context: &Context, now: Timestamp) -> Result<Check, Failure> {
    let chain = context.chain().map_err(Failure::internal)?;
    let end = inspect(chain.first().map(AsRef::as_ref).unwrap_or_default())?.not_after;
    let found = match left(end, now) {
        None => Some((Level::Error, format!("{} ended {end}", context.actor))),
        Some(left) if left < ADMINISTRATOR_WARN => Some((Level::Warn, format!("{} ends {end}", context.actor))),
        Some(_) => None,
    };
    let good = format!("{} until {end}", context.actor);
    Ok(Check::new("identities/administrator", good, found.into_iter().collect(), "certwright context --renew"))
}

fn authorities(authorities: &[v1::Authority], now: Timestamp) -> Check {
    let found = authorities.iter().filter_map(|authority| {
        let name = &authority.name;
        let Some(end) = moment(authority.not_after.as_ref()) else {
            return Some((Level::Warn, format!("{name} has no certificate yet")));
        };
        let begin = moment(authority.not_before.as_ref()).filter(|begin| *begin > now.plus(BEGINS_AHEAD_MAX));
        if let Some(begin) = begin {
            return Some((Level::Error, format!("{name} begins {begin}: it was made while clocks were ahead")));
        }
        match left(end, now) {
            None => Some((Level::Error, format!("{name} ended {end}"))),
            Some(left) if left < AUTHORITY_WARN => Some((Level::Warn, format!("{name} ends {end}"))),
            Some(_) => None,
        }
    });
    let found: Found = found.collect();
    let good = format!("none of {} ends within 30 days", authorities.len());
    let hint = "create its successor, let consumers trust it (certwright ca bundle), then point the issuers at it";
    Check::new("authorities/expiry", good, found, hint)
}

async fn agents(client: &Client, cluster: &v1::GetClusterResponse, now: Timestamp) -> Result<[Check; 2], Failure> {
    let (mut found, mut page_token) = (Found::new(), String::new());
    loop {
        let request = v1::ListRequest { page_size: PAGE, page_token, min_token: client.min_token() };
        let call = |channel, request| async move { AgentsClient::new(channel).list_agents(request).await };
        let page = client.call(request, call).await?;
        found.extend(page.agents.iter().filter_map(|agent| identity(agent, now)));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let good = "every agent renews its identity".to_string();
    let hint = "start the agent; one whose identity has ended joins again with a token for its name";
    let identities = Check::new("identities/agents", good, found, hint);
    let connected: u64 = cluster.nodes.iter().map(|node| node.sessions).sum();
    let text = format!("{connected} of {} agents are connected", cluster.agents);
    let away = (connected < cluster.agents).then(|| (Level::Warn, text.clone())).into_iter().collect();
    let hint = "certwright get agents -o wide; start those that are away, delete those that are gone for good";
    Ok([identities, Check::new("agents/connected", text, away, hint)])
}

fn identity(agent: &v1::Agent, now: Timestamp) -> Option<(Level, String)> {
    let end = moment(agent.identity_not_after.as_ref())?;
    match left(end, now) {
        None => Some((Level::Error, format!("the identity of {} ended {end}", agent.name))),
        Some(left) if left < AGENT_WARN => Some((Level::Warn, format!("the identity of {} ends {end}", agent.name))),
        Some(_) => None,
    }
}

/// What is wrong with certificates, by check.
#[derive(Default)]
struct Wrong {
    all: usize,
    ready: Found,
    deliveries: Found,
    renewals: Found,
}

async fn certificates(client: &Client, now: Timestamp) -> Result<[Check; 3], Failure> {
    let (mut wrong, mut page_token) = (Wrong::default(), String::new());
    loop {
        let request = v1::ListCertificatesRequest {
            parent: "namespaces/-".to_string(),
            page_size: PAGE,
            page_token,
            filter: String::new(),
            min_token: client.min_token(),
        };
        let call = |channel, request| async move { CertificatesClient::new(channel).list_certificates(request).await };
        let page = client.call(request, call).await?;
        page.certificates.iter().for_each(|certificate| wrong.judge(certificate, now));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let Wrong { all, ready, deliveries, renewals } = wrong;
    let why = "certwright why NAME -n NAMESPACE says what it waits for";
    Ok([
        Check::new("certificates/ready", format!("all {all} are valid and in place"), ready, why),
        Check::new("certificates/deliveries", "no delivery failed".to_string(), deliveries, why),
        Check::new("certificates/renewals", "none is overdue".to_string(), renewals, why),
    ])
}

impl Wrong {
    fn judge(&mut self, certificate: &v1::Certificate, now: Timestamp) {
        self.all += 1;
        let name = &certificate.name;
        if let Some(ready) = crate::get::condition(certificate, "Ready").filter(|ready| ready.status != "True") {
            let text = format!("{name}: {}", ready.message);
            match &*ready.reason {
                "DeliveryFailed" => self.deliveries.push((Level::Error, text)),
                "Expired" => self.ready.push((Level::Error, text)),
                _ => self.ready.push((Level::Warn, text)),
            }
        }
        let instances = certificate.status.iter().flat_map(|status| &status.instances);
        self.renewals.extend(instances.filter_map(|instance| overdue(name, instance, now)));
    }
}

/// A renewal that should have happened, or that keeps failing: an error when a tenth of the life or less is left.
fn overdue(name: &str, instance: &v1::InstanceStatus, now: Timestamp) -> Option<(Level, String)> {
    let (begin, end) = (moment(instance.not_before.as_ref())?, moment(instance.not_after.as_ref())?);
    let due = moment(instance.renewal_time.as_ref())?;
    let agent = &instance.agent;
    let late = now.since(due) > OVERDUE && now > due;
    let text = match instance.failed_attempts {
        0 if !late => return None,
        0 => format!("{name} on {agent} was due {due}"),
        failed => format!("{name} on {agent} failed {failed} times: {}", instance.last_failure_message),
    };
    let urgent = left(end, now).is_none_or(|left| left < end.since(begin) / 10);
    Some((if urgent { Level::Error } else { Level::Warn }, text))
}

#[cfg(test)]
mod tests {
    use certwright_proto::api::values::moment_to_message;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    fn at(seconds: i64) -> Option<prost_types::Timestamp> {
        let shift = Duration::from_secs(seconds.unsigned_abs());
        let moment =
            if seconds < 0 { Timestamp::from_millis(NOW.millis() - shift.as_millis() as u64) } else { NOW.plus(shift) };
        Some(moment_to_message(moment))
    }

    #[test]
    fn a_renewal_is_overdue_a_minute_after_it_was_due_and_urgent_near_the_end() {
        let instance = |begin, due, end, failed_attempts| v1::InstanceStatus {
            agent: "edge".into(),
            not_before: at(begin),
            renewal_time: at(due),
            not_after: at(end),
            failed_attempts,
            ..v1::InstanceStatus::default()
        };
        for (instance, level) in [
            (instance(-100, 10, 1000, 0), None),
            (instance(-1000, -30, 1000, 0), None),
            (instance(-1000, -61, 1000, 0), Some(Level::Warn)),
            (instance(-1000, 10, 1000, 2), Some(Level::Warn)),
            (instance(-1000, -61, 50, 0), Some(Level::Error)),
            (instance(-1000, -61, -1, 0), Some(Level::Error)),
        ] {
            let found = overdue("web", &instance, NOW).map(|(level, _)| level);
            assert_eq!(found, level, "{instance:?}");
        }
    }

    #[test]
    fn an_agent_that_does_not_renew_is_found_before_its_identity_ends() {
        let agent = |end| v1::Agent { name: "agents/edge".into(), identity_not_after: at(end), ..Default::default() };
        for (end, level) in [(86_000, None), (6 * 3600 - 1, Some(Level::Warn)), (-1, Some(Level::Error))] {
            assert_eq!(identity(&agent(end), NOW).map(|(level, _)| level), level, "{end}");
        }
    }

    #[test]
    fn conditions_go_to_the_check_that_they_belong_to() {
        let certificate = |reason: &str, status: &str| {
            let (r#type, reason, status) = ("Ready".into(), reason.into(), status.into());
            let conditions = vec![v1::Condition { r#type, reason, status, ..Default::default() }];
            let status = Some(v1::CertificateStatus { conditions, ..Default::default() });
            v1::Certificate { name: "web".into(), status, ..Default::default() }
        };
        let mut wrong = Wrong::default();
        for (reason, status) in
            [("Ready", "True"), ("Expired", "False"), ("NoAgent", "False"), ("DeliveryFailed", "False")]
        {
            wrong.judge(&certificate(reason, status), NOW);
        }
        let levels = |found: &Found| found.iter().map(|(level, _)| *level).collect::<Vec<_>>();
        assert_eq!((wrong.all, levels(&wrong.ready)), (4, vec![Level::Error, Level::Warn]));
        assert_eq!(levels(&wrong.deliveries), [Level::Error]);
    }
}
