//! The page about one certificate: what was wished for, how it stands, where it is.
//!
//! It refuses to explain what to do; `why` does that.

use certwright_core::time::Timestamp;
use certwright_proto::manifest::{self, Resource};
use certwright_proto::v1;
use certwright_proto::v1::get_certificate_request::AsOf;

use super::page::Page;
use super::{Place, head, when};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::Table;

/// Reads it and describes it.
pub(super) async fn page(
    client: &Client,
    name: &str,
    as_of: Option<AsOf>,
    now: Timestamp,
) -> Result<(Page, Place), Failure> {
    let (certificate, token) = crate::stages::get_as_of(client, name, as_of).await?;
    Ok((describe(&certificate, now), Place::of(name, &certificate.uid, token)))
}

fn describe(certificate: &v1::Certificate, now: Timestamp) -> Page {
    let mut page = Page::default();
    let document = manifest::to_json(&Resource::Certificate(Box::new(certificate.clone())));
    head(&mut page, &document);
    page.field(0, "Created", &when(certificate.create_time.as_ref(), now));
    page.field(0, "Changed", &when(certificate.update_time.as_ref(), now));
    page.gap();
    page.heading(0, "Spec");
    page.members(1, &document["spec"]);
    let status = certificate.status.clone().unwrap_or_default();
    page.gap();
    page.heading(0, "Conditions");
    let mut table = Table::new(&["TYPE", "STATUS", "REASON", "LAST TRANSITION", "MESSAGE"]);
    for it in &status.conditions {
        let since = when(it.last_transition_time.as_ref(), now);
        table.row(vec![it.r#type.clone(), it.status.clone(), it.reason.clone(), since, it.message.clone()]);
    }
    page.table(1, &table);
    page.gap();
    if status.instances.is_empty() {
        page.field(0, "Instances", "none: no registered agent holds a target");
        return page;
    }
    page.heading(0, "Instances");
    status.instances.iter().for_each(|instance| describe_instance(&mut page, instance, now));
    page
}

fn describe_instance(page: &mut Page, instance: &v1::InstanceStatus, now: Timestamp) {
    page.heading(1, &instance.instance);
    page.field(2, "Key Owner", &format!("agent {}", instance.agent));
    let issued = instance.generation > 0;
    page.field(2, "Generation", &if issued { instance.generation.to_string() } else { String::new() });
    page.field(2, "Serial", &instance.serial);
    page.field(2, "Not Before", &when(instance.not_before.as_ref(), now));
    page.field(2, "Not After", &when(instance.not_after.as_ref(), now));
    page.field(2, "Renewal Time", &when(instance.renewal_time.as_ref(), now));
    if instance.issuing_generation > 0 {
        page.field(2, "Issuing", &format!("generation {} ({})", instance.issuing_generation, instance.trigger));
    }
    if !instance.last_failure_reason.is_empty() {
        page.field(2, "Failed Attempts", &instance.failed_attempts.to_string());
        page.field(2, "Last Failure", &format!("{}: {}", instance.last_failure_reason, instance.last_failure_message));
        page.field(2, "Failed At", &when(instance.last_failure_time.as_ref(), now));
        page.field(2, "Next Try", &when(instance.next_attempt_time.as_ref(), now));
    }
    if instance.deliveries.is_empty() {
        page.field(2, "Deliveries", "none reported");
        return;
    }
    page.heading(2, "Deliveries");
    let mut table = Table::new(&["TARGET", "AGENT", "STAGE", "GENERATION", "TIME", "FAILURE"]);
    for it in &instance.deliveries {
        let target = if it.target.is_empty() { "(all)".to_string() } else { it.target.clone() };
        let failure = match it.failure_reason.as_str() {
            "" => String::new(),
            reason => format!("{reason}: {}", it.failure_message),
        };
        let generation = it.generation.to_string();
        table.row(vec![
            target,
            instance.agent.clone(),
            it.stage.clone(),
            generation,
            when(it.time.as_ref(), now),
            failure,
        ]);
    }
    page.table(3, &table);
}

#[cfg(test)]
mod tests {
    use certwright_core::time::Timestamp;
    use certwright_proto::v1;

    use super::describe;

    #[test]
    fn failures_are_told_with_their_next_try() {
        let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        let delivery = v1::DeliveryStatus {
            target: "files".into(),
            generation: 2,
            stage: "verified".into(),
            failure_reason: "TARGET_FULL".into(),
            failure_message: "/tls: no space".into(),
            time: at(990),
        };
        let instance = v1::InstanceStatus {
            instance: "18-0-1".into(),
            agent: "edge".into(),
            generation: 2,
            serial: "AB".into(),
            not_before: at(900),
            not_after: at(1_100),
            renewal_time: at(1_030),
            failed_attempts: 3,
            last_failure_reason: "POLICY_DENIED".into(),
            last_failure_message: "no".into(),
            last_failure_time: at(940),
            next_attempt_time: at(1_010),
            deliveries: vec![delivery],
            ..Default::default()
        };
        let ready = v1::Condition {
            r#type: "Ready".into(),
            status: "False".into(),
            reason: "DeliveryFailed".into(),
            message: "edge cannot write".into(),
            last_transition_time: at(990),
        };
        let status = v1::CertificateStatus { conditions: vec![ready], instances: vec![instance] };
        let name = "namespaces/web/certificates/shop".to_string();
        let certificate = v1::Certificate { name, status: Some(status), ..Default::default() };
        let text = describe(&certificate, Timestamp::from_seconds(1_000)).text();
        for line in [
            "Name:                 shop",
            "Namespace:            web",
            "  Ready   False    DeliveryFailed   1970-01-01T00:16:30Z (10s ago)   edge cannot write",
            "    Key Owner:        agent edge",
            "    Not After:        1970-01-01T00:18:20Z (in 100s)",
            "    Failed Attempts:  3",
            "    Last Failure:     POLICY_DENIED: no",
            "    Next Try:         1970-01-01T00:16:50Z (in 10s)",
            "      files    edge    verified   2            1970-01-01T00:16:30Z (10s ago)   TARGET_FULL: /tls: no space",
        ] {
            assert!(text.lines().any(|found| found == line), "{line:?} is not in\n{text}");
        }
    }
}
