//! `why`: what a certificate waits for, in sentences, and what to do about it.
//!
//! It refuses to guess: every sentence comes from state that can be read with `get`.

use std::process::ExitCode;

use certwright_agent::failure::FailureReason;
use certwright_core::Reason;
use certwright_core::time::Timestamp;
use certwright_proto::v1;
use serde_json::json;

use crate::args::{Format, Global, Kind, NameArgs};
use crate::client::Client;
use crate::failure::Failure;
use crate::get::{condition, now, resource};
use crate::output::{self, moment, until};

/// The way out of a reason that this program does not know yet.
const CORRECT_IT: &str = "correct what the message names";

/// One finding: whether it is as it should be, what it is, what to do.
struct Finding {
    good: bool,
    text: String,
    next: String,
}

/// Runs the verb.
pub async fn run(global: &Global, args: NameArgs) -> Result<ExitCode, Failure> {
    let client = Client::new(global)?;
    let name = resource(Kind::Certificates, &global.namespace, &args.name);
    let certificate = crate::stages::get(&client, &name).await?;
    let mut findings = explain(&certificate, now(&client));
    findings.extend(unregistered(&client, &certificate).await?);
    match global.output {
        Format::Json | Format::Yaml => {
            let findings: Vec<_> = findings
                .iter()
                .map(|finding| json!({"good": finding.good, "text": finding.text, "next": finding.next}))
                .collect();
            output::value(global.output, &json!({"name": name, "findings": findings}))?;
        }
        _ => {
            for finding in &findings {
                let sign = if finding.good { "ok:" } else { "no:" };
                output::line(&format!("{sign} {}", output::plain(&finding.text)))?;
                if !finding.next.is_empty() {
                    output::line(&format!("    {}", output::plain(&finding.next)))?;
                }
            }
        }
    }
    Ok(if findings.iter().all(|finding| finding.good) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Everything there is to say about a certificate.
fn explain(certificate: &v1::Certificate, now: Timestamp) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(ready) = condition(certificate, "Ready") {
        let text = format!("ready is {}: {}", ready.status, ready.message);
        findings.push(Finding { good: ready.status == "True", text, next: String::new() });
    }
    let instances = certificate.status.as_ref().map(|status| status.instances.as_slice()).unwrap_or_default();
    if instances.is_empty() {
        findings.push(Finding {
            good: false,
            text: "no registered agent holds a target of it, so there is nobody to make its key".to_string(),
            next: "name an agent in spec.targets, or register one that carries the labels: certwright get agents"
                .to_string(),
        });
    }
    instances.iter().for_each(|instance| explain_instance(instance, now, &mut findings));
    findings
}

/// Agents that targets name and that nobody has joined as.
async fn unregistered(client: &Client, certificate: &v1::Certificate) -> Result<Vec<Finding>, Failure> {
    let targets = certificate.spec.as_ref().map(|spec| spec.targets.as_slice()).unwrap_or_default();
    let instances = certificate.status.as_ref().map(|status| status.instances.as_slice()).unwrap_or_default();
    let mut findings = Vec::new();
    for target in targets.iter().filter(|target| !target.agent.is_empty()) {
        let name = &target.agent;
        let known = instances.iter().any(|instance| instance.agent == *name);
        if !known && crate::stages::agent(client, name).await?.is_none() {
            findings.push(Finding {
                good: false,
                text: format!("target {} is for agent {name}, which is not registered", target.name),
                next: format!("let it join with a token: certwright token create --role agent --agent {name}"),
            });
        }
    }
    Ok(findings)
}

fn explain_instance(instance: &v1::InstanceStatus, now: Timestamp, findings: &mut Vec<Finding>) {
    let who = &instance.agent;
    if instance.generation > 0 {
        let text = format!(
            "{who} has generation {}, valid for {}, renewed in {}",
            instance.generation,
            until(instance.not_after.as_ref(), now),
            until(instance.renewal_time.as_ref(), now)
        );
        let good = instance.not_after.as_ref().and_then(output::timestamp).is_some_and(|end| end > now);
        findings.push(Finding { good, text, next: String::new() });
    }
    if instance.failed_attempts > 0 {
        findings.push(Finding {
            good: false,
            text: format!(
                "{} attempts failed, the last with {}: {}",
                instance.failed_attempts, instance.last_failure_reason, instance.last_failure_message
            ),
            next: [
                Reason::from_code(&instance.last_failure_reason).map_or(CORRECT_IT, Reason::fix),
                &format!("the next attempt is at {}", moment(instance.next_attempt_time.as_ref())),
            ]
            .join("; "),
        });
    } else if instance.issuing_generation > 0 {
        findings.push(Finding {
            good: instance.generation > 0,
            text: format!("generation {} is open and waits for {who} to send a request", instance.issuing_generation),
            next: format!("check that the agent runs and is connected: certwright get agent {who}"),
        });
    }
    for delivery in &instance.deliveries {
        let place = if delivery.target.is_empty() { who.clone() } else { format!("{who} target {}", delivery.target) };
        if delivery.failure_reason.is_empty() {
            let good = delivery.generation >= instance.generation;
            let text = format!("{place}: generation {} {}", delivery.generation, delivery.stage);
            findings.push(Finding { good, text, next: String::new() });
        } else {
            let (reason, cause) = (&delivery.failure_reason, &delivery.failure_message);
            let text = format!("{place}: generation {}: {reason}: {cause}", delivery.generation);
            let next = FailureReason::from_code(reason).map_or(CORRECT_IT, FailureReason::fix);
            findings.push(Finding { good: false, text, next: next.to_string() });
        }
    }
}

#[cfg(test)]
mod tests {
    use certwright_core::time::Timestamp;
    use certwright_proto::v1;

    use super::{Finding, explain_instance};

    fn findings(instance: &v1::InstanceStatus) -> Vec<Finding> {
        let mut findings = Vec::new();
        explain_instance(instance, Timestamp::from_millis(0), &mut findings);
        findings
    }

    #[test]
    fn a_failure_is_told_with_its_cause_and_then_its_way_out() {
        let delivery = v1::DeliveryStatus {
            target: "files".into(),
            generation: 1,
            stage: "verified".into(),
            failure_reason: "TARGET_FULL".into(),
            failure_message: "/tls: no space".into(),
            ..v1::DeliveryStatus::default()
        };
        let delivery =
            v1::InstanceStatus { agent: "a".into(), deliveries: vec![delivery], ..v1::InstanceStatus::default() };
        let told = findings(&delivery).remove(0);
        assert_eq!(told.text, "a target files: generation 1: TARGET_FULL: /tls: no space");
        assert_eq!(told.next, "free space at the target; the agent tries again by itself");

        let attempt = v1::InstanceStatus {
            failed_attempts: 3,
            last_failure_reason: "POLICY_DENIED".into(),
            ..v1::InstanceStatus::default()
        };
        let told = findings(&attempt).remove(0);
        let way_out = "ask for names, usages and lifetimes that the issuer allows; the next attempt is at ";
        assert!(told.next.starts_with(way_out), "{}", told.next);
    }
}
