//! Waiting for a certificate, one line per stage.
//!
//! It refuses to wait for ever: the command's deadline ends it with exit code 124.

use std::collections::BTreeSet;
use std::time::Duration;

use certwright_proto::v1;
use certwright_proto::v1::certificates_client::CertificatesClient;
use tokio::time::Instant;

use crate::client::Client;
use crate::failure::Failure;
use crate::output::note;

/// How often the state is looked at; each look is one local read on a server.
const POLL: Duration = Duration::from_millis(100);

/// Reads one certificate.
pub async fn get(client: &Client, name: &str) -> Result<v1::Certificate, Failure> {
    let request = v1::GetCertificateRequest { name: name.to_string(), min_token: client.min_token() };
    let answer = client
        .call(
            request,
            |channel, request| async move { CertificatesClient::new(channel).get_certificate(request).await },
        )
        .await?;
    answer.certificate.ok_or_else(|| Failure::internal("the server answered without a certificate"))
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

/// Whether every target of the instance has the generation, as far as it is to be proved.
fn delivered(instance: &v1::InstanceStatus, generation: u64, targets: &[v1::Target]) -> bool {
    instance.generation >= generation
        && targets.iter().all(|target| {
            let holds = |delivery: &&v1::DeliveryStatus| delivery.target == target.name;
            match instance.deliveries.iter().find(holds) {
                // A target that another agent holds never reports here.
                None => !target.agent.is_empty() && target.agent != instance.agent,
                Some(delivery) => {
                    let wanted = if target.served_check.is_some() { "served" } else { "written" };
                    delivery.generation >= generation && delivery.stage == wanted && delivery.failure_reason.is_empty()
                }
            }
        })
}

/// Waits until every instance has reached its generation of `wanted` (or any, when it is not named there) on every target.
pub async fn wait_delivered(client: &Client, name: &str, wanted: &[(String, u64)]) -> Result<v1::Certificate, Failure> {
    let mut said = BTreeSet::new();
    loop {
        let certificate = get(client, name).await?;
        let status = certificate.status.clone().unwrap_or_default();
        let targets = certificate.spec.as_ref().map(|spec| spec.targets.clone()).unwrap_or_default();
        let generation_of = |instance: &v1::InstanceStatus| {
            wanted.iter().find(|(id, _)| *id == instance.instance).map_or(1, |(_, generation)| *generation)
        };
        for instance in &status.instances {
            for line in reached(instance, generation_of(instance)) {
                if said.insert(line.clone()) {
                    note(&line);
                }
            }
        }
        let all = !status.instances.is_empty()
            && status.instances.iter().all(|instance| delivered(instance, generation_of(instance), &targets));
        if all {
            return Ok(certificate);
        }
        if Instant::now() + POLL >= client.deadline() {
            return Err(Failure::timed_out(format!("{name} is not delivered everywhere yet")));
        }
        tokio::time::sleep(POLL).await;
    }
}
