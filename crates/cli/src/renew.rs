//! `renew`: a new generation of every instance, now.
//!
//! It refuses to say "renewed" before the new generation is where it is used, when asked to wait.

use std::process::ExitCode;

use certwright_proto::v1;
use certwright_proto::v1::certificates_client::CertificatesClient;
use serde_json::json;

use crate::args::{Format, Global, Kind, RenewArgs};
use crate::client::Client;
use crate::failure::Failure;
use crate::get::resource;
use crate::output;
use crate::stages::wait_delivered;

/// Runs the verb.
pub async fn run(global: &Global, args: RenewArgs) -> Result<ExitCode, Failure> {
    let client = Client::new(global)?;
    let name = resource(Kind::Certificates, &global.namespace, &args.name);
    let request = v1::RenewCertificateRequest { name: name.clone(), request_id: client.request_id() };
    let answer = client
        .call(
            request,
            |channel, request| async move { CertificatesClient::new(channel).renew_certificate(request).await },
        )
        .await?;
    client.wrote(answer.token);
    let mut certificate = answer.certificate.unwrap_or_default();
    let wanted: Vec<(String, u64)> = certificate
        .status
        .iter()
        .flat_map(|status| &status.instances)
        .map(|instance| (instance.instance.clone(), instance.issuing_generation.max(instance.generation)))
        .collect();
    if args.wait {
        certificate = wait_delivered(&client, &name, &wanted).await?;
    }
    let instances = certificate.status.map(|status| status.instances).unwrap_or_default();
    match global.output {
        Format::Json | Format::Yaml => {
            let instances: Vec<_> = instances
                .iter()
                .map(|instance| {
                    json!({"instance": instance.instance, "agent": instance.agent, "generation": instance.generation,
                    "issuingGeneration": instance.issuing_generation, "serial": instance.serial})
                })
                .collect();
            output::value(global.output, &json!({"name": name, "instances": instances}))?;
        }
        Format::Name => output::line(&crate::apply::short(&name))?,
        Format::Table | Format::Wide | Format::Junit => {
            let done = if args.wait { "renewed" } else { "renewal opened" };
            output::line(&format!("{} {done}", crate::apply::short(&name)))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
