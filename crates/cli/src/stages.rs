//! Waiting for a certificate, one line per stage.
//!
//! It refuses to wait for ever: the command's deadline ends it with exit code 124.

use std::collections::{BTreeMap, BTreeSet};

use certwright_proto::v1;
use certwright_proto::v1::agents_client::AgentsClient;
use certwright_proto::v1::certificates_client::CertificatesClient;
use certwright_proto::v1::get_certificate_request::AsOf;

use crate::client::Client;
use crate::failure::Failure;
use crate::output::{note, plain};

/// Reads one certificate as it is.
pub async fn get(client: &Client, name: &str) -> Result<v1::Certificate, Failure> {
    Ok(get_as_of(client, name, None).await?.0)
}

/// Reads one certificate as it was, and which state the answer is of.
pub async fn get_as_of(
    client: &Client,
    name: &str,
    as_of: Option<AsOf>,
) -> Result<(v1::Certificate, Option<v1::Token>), Failure> {
    let request = v1::GetCertificateRequest { name: name.to_string(), min_token: client.min_token(), as_of };
    let call = |channel, request| async move { CertificatesClient::new(channel).get_certificate(request).await };
    let answer = client.call(request, call).await?;
    let certificate = answer.certificate.ok_or_else(|| Failure::internal("the server answered without it"))?;
    Ok((certificate, answer.token))
}

/// What one instance has reached of a generation, as lines for people.
fn reached(instance: &v1::InstanceStatus, generation: u64) -> Vec<String> {
    let mut lines = Vec::new();
    let who = &instance.agent;
    if instance.issuing_generation == generation || instance.generation >= generation {
        lines.push(format!("{who}: generation {generation} opened"));
    }
    if instance.generation >= generation {
        lines.push(format!("{who}: generation {} issued, serial {}", instance.generation, instance.serial));
    }
    for delivery in instance.deliveries.iter().filter(|delivery| delivery.generation >= generation) {
        let place = if delivery.target.is_empty() { String::new() } else { format!(" target {}", delivery.target) };
        match delivery.failure_reason.as_str() {
            "" => lines.extend(passed(&delivery.stage).iter().map(|stage| match *stage {
                "received" | "verified" => format!("{who}: {stage}"),
                stage => format!("{who}:{place} {stage}"),
            })),
            reason => lines
                .push(format!("{who}:{place} failed after {}: {reason}: {}", delivery.stage, delivery.failure_message)),
        }
    }
    if !instance.last_failure_reason.is_empty() {
        let text =
            format!("{who}: attempt failed: {}: {}", instance.last_failure_reason, instance.last_failure_message);
        lines.push(text);
    }
    lines
}

/// The stages up to this one: a look may come after several of them.
fn passed(stage: &str) -> &'static [&'static str] {
    const STAGES: [&str; 4] = ["received", "verified", "written", "served"];
    let reached = STAGES.iter().position(|known| *known == stage);
    &STAGES[..reached.map_or(0, |place| place + 1)]
}

/// Whether an agent holds a target: it is named there, or carries all the labels that are.
fn holds(agent: &v1::Agent, target: &v1::Target) -> bool {
    match target.agent.as_str() {
        "" => target.selector.iter().all(|(key, value)| agent.labels.get(key) == Some(value)),
        name => agent.name.strip_prefix("agents/") == Some(name),
    }
}

/// Whether every target that the instance's agent holds has the generation, as far as it is to be proved. A target that
/// another agent holds never reports here.
fn delivered(instance: &v1::InstanceStatus, agent: &v1::Agent, generation: u64, targets: &[v1::Target]) -> bool {
    instance.generation >= generation
        && targets.iter().filter(|target| holds(agent, target)).all(|target| {
            let reported = instance.deliveries.iter().find(|delivery| delivery.target == target.name);
            reported.is_some_and(|delivery| {
                let wanted = if target.served_check.is_some() { "served" } else { "written" };
                delivery.generation >= generation && delivery.stage == wanted && delivery.failure_reason.is_empty()
            })
        })
}

/// Reads one agent by its short name; nothing when it is not registered.
pub async fn agent(client: &Client, name: &str) -> Result<Option<v1::Agent>, Failure> {
    let request = v1::GetRequest { name: format!("agents/{name}"), min_token: client.min_token() };
    let answer = client
        .call(request, |channel, request| async move { AgentsClient::new(channel).get_agent(request).await })
        .await;
    match answer {
        Ok(answer) => Ok(answer.agent),
        Err(failure) if failure.code() == "NOT_FOUND" => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Whether every instance is where it shall be. Agents are read only once their instance has its generation, and once:
/// what they hold follows from their labels.
async fn all_delivered(
    client: &Client,
    instances: &[v1::InstanceStatus],
    generation_of: impl Fn(&v1::InstanceStatus) -> u64,
    targets: &[v1::Target],
    agents: &mut BTreeMap<String, v1::Agent>,
) -> Result<bool, Failure> {
    for instance in instances {
        let generation = generation_of(instance);
        if instance.generation < generation {
            return Ok(false);
        }
        if !agents.contains_key(&instance.agent) {
            let Some(agent) = agent(client, &instance.agent).await? else { return Ok(false) };
            agents.insert(instance.agent.clone(), agent);
        }
        if !delivered(instance, &agents[&instance.agent], generation, targets) {
            return Ok(false);
        }
    }
    Ok(!instances.is_empty())
}

/// Waits until every instance has reached its generation of `wanted` (or any, when it is not named there) on every target.
pub async fn wait_delivered(client: &Client, name: &str, wanted: &[(String, u64)]) -> Result<v1::Certificate, Failure> {
    let (mut said, mut agents) = (BTreeSet::new(), BTreeMap::new());
    let look = async || {
        let certificate = get(client, name).await?;
        let status = certificate.status.clone().unwrap_or_default();
        let targets = certificate.spec.as_ref().map(|spec| spec.targets.clone()).unwrap_or_default();
        let generation_of = |instance: &v1::InstanceStatus| {
            wanted.iter().find(|(id, _)| *id == instance.instance).map_or(1, |(_, generation)| *generation)
        };
        for instance in &status.instances {
            for line in reached(instance, generation_of(instance)) {
                if said.insert(line.clone()) {
                    note(&plain(&line));
                }
            }
        }
        let is_delivered = all_delivered(client, &status.instances, generation_of, &targets, &mut agents).await?;
        Ok(if is_delivered { Ok(certificate) } else { Err(format!("{name} is not delivered everywhere yet")) })
    };
    client.wait_for(look).await
}

#[cfg(test)]
mod tests {
    use certwright_proto::v1;

    use super::delivered;

    fn agent(name: &str, region: &str) -> v1::Agent {
        let labels = [("region".to_string(), region.to_string())].into();
        v1::Agent { name: format!("agents/{name}"), labels, ..v1::Agent::default() }
    }

    fn instance(agent: &str, written: &[&str]) -> v1::InstanceStatus {
        let report = |target: &&str| v1::DeliveryStatus {
            target: target.to_string(),
            generation: 2,
            stage: "written".into(),
            ..v1::DeliveryStatus::default()
        };
        let deliveries = written.iter().map(report).collect();
        v1::InstanceStatus { agent: agent.into(), generation: 2, deliveries, ..v1::InstanceStatus::default() }
    }

    #[test]
    fn an_instance_is_delivered_when_the_targets_of_its_own_agent_are() {
        let selector = [("region".to_string(), "eu".to_string())].into();
        let targets = [
            v1::Target { name: "named".into(), agent: "a".into(), ..v1::Target::default() },
            v1::Target { name: "selected".into(), selector, ..v1::Target::default() },
        ];
        let (a, b, both) = (agent("a", "us"), agent("b", "eu"), agent("a", "eu"));
        assert!(delivered(&instance("a", &["named"]), &a, 2, &targets));
        assert!(delivered(&instance("b", &["selected"]), &b, 2, &targets));
        assert!(!delivered(&instance("a", &["named"]), &both, 2, &targets));
        assert!(!delivered(&instance("b", &[]), &b, 2, &targets));
        assert!(!delivered(&instance("b", &["selected"]), &b, 3, &targets));
    }
}
