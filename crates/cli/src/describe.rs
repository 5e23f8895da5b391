//! `describe`: everything about one object, for people.
//!
//! It refuses to be parsed: `get -o json` is for programs.

use std::process::ExitCode;

use certwright_proto::v1;

use crate::args::{Format, Global, Kind, ObjectArgs};
use crate::client::Client;
use crate::failure::Failure;
use crate::get::{now, one, resource};
use crate::output::{self, moment, until};

/// Runs the verb.
pub async fn run(global: &Global, args: ObjectArgs) -> Result<ExitCode, Failure> {
    let client = Client::new(global)?;
    let name = resource(args.kind, &global.namespace, &args.name);
    let people = matches!(global.output, Format::Table | Format::Wide);
    if args.kind == Kind::Certificates && people {
        let certificate = crate::stages::get(&client, &name).await?;
        output::line(&describe(&certificate, now(&client)))?;
    } else {
        let row = one(&client, args.kind, &name).await?;
        let format = if people { Format::Yaml } else { global.output };
        output::value(format, &row.value)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The page about one certificate.
fn describe(certificate: &v1::Certificate, now: certwright_core::time::Timestamp) -> String {
    let spec = certificate.spec.clone().unwrap_or_default();
    let status = certificate.status.clone().unwrap_or_default();
    let mut lines = vec![
        field("Name", &certificate.name),
        field("Issuer", &spec.issuer),
        field("DNS names", &spec.dns_names.join(", ")),
        field("Created", &moment(certificate.create_time.as_ref())),
        field("Changed", &moment(certificate.update_time.as_ref())),
        field("Etag", &certificate.etag),
    ];
    for condition in &status.conditions {
        lines.push(field(
            &condition.r#type,
            &format!("{} {}: {}", condition.status, condition.reason, condition.message),
        ));
    }
    for instance in &status.instances {
        lines.push(format!("\nInstance {} on {}", instance.instance, instance.agent));
        lines.extend(describe_instance(instance, now));
    }
    lines.join("\n")
}

fn describe_instance(instance: &v1::InstanceStatus, now: certwright_core::time::Timestamp) -> Vec<String> {
    let mut lines = Vec::new();
    if instance.generation > 0 {
        lines.push(field("  Generation", &instance.generation.to_string()));
        lines.push(field("  Serial", &instance.serial));
        lines.push(field(
            "  Valid",
            &format!("{} to {}", moment(instance.not_before.as_ref()), moment(instance.not_after.as_ref())),
        ));
        let left = until(instance.renewal_time.as_ref(), now);
        lines.push(field("  Renews", &format!("{} (in {left})", moment(instance.renewal_time.as_ref()))));
    }
    if instance.issuing_generation > 0 {
        lines.push(field("  Issuing", &format!("generation {} ({})", instance.issuing_generation, instance.trigger)));
    }
    if instance.failed_attempts > 0 {
        let text = format!(
            "{} times, last {} at {}: {}; next attempt {}",
            instance.failed_attempts,
            instance.last_failure_reason,
            moment(instance.last_failure_time.as_ref()),
            instance.last_failure_message,
            moment(instance.next_attempt_time.as_ref()),
        );
        lines.push(field("  Failed", &text));
    }
    for delivery in &instance.deliveries {
        let place = if delivery.target.is_empty() { "agent" } else { &delivery.target };
        let failure = match delivery.failure_reason.as_str() {
            "" => String::new(),
            reason => format!(", failed: {reason}: {}", delivery.failure_message),
        };
        let text = format!(
            "generation {} {} at {}{failure}",
            delivery.generation,
            delivery.stage,
            moment(delivery.time.as_ref())
        );
        lines.push(field(&format!("  Target {place}"), &text));
    }
    lines
}

fn field(name: &str, value: &str) -> String {
    format!("{:<16}{}", format!("{name}:"), if value.is_empty() { "-" } else { value })
}
