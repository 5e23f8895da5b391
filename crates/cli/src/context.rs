//! `context`: who one is, on which cluster, until when; and the renewal of that identity.
//!
//! It refuses to print the key.

use std::process::ExitCode;

use certwright_agent::Context;
use certwright_core::ids::Actor;
use certwright_core::spec::KeyAlgorithm;
use certwright_core::x509::inspect::inspect;
use certwright_core::x509::pem;
use certwright_core::{Reason, Rejection};
use certwright_proto::v1;
use certwright_proto::v1::cluster_client::ClusterClient;
use serde_json::json;

use crate::args::{ContextArgs, Format, Global};
use crate::client::{self, Client};
use crate::failure::Failure;
use crate::output;

/// Runs the verb.
pub async fn run(global: &Global, args: ContextArgs) -> Result<ExitCode, Failure> {
    let seams = certwright_seams::Seams::system();
    let path = client::context_path(global);
    if args.renew {
        let client = Client::new(global)?;
        let context = Context::load(&*seams.disk, &path)?;
        renew(&client, &context).await?.save(&*seams.disk, &path)?;
        output::note("renewed");
    }
    let context = Context::load(&*seams.disk, &path)?;
    let chain = context.chain().map_err(Failure::internal)?;
    let leaf = inspect(chain.first().map(AsRef::as_ref).unwrap_or_default())?;
    let value = json!({
        "file": path.display().to_string(), "name": context.actor.to_string(), "clusterId": context.cluster_id.to_string(),
        "servers": context.servers, "serial": leaf.serial.to_string(), "notAfter": leaf.not_after.to_string(),
    });
    match global.output {
        Format::Json | Format::Yaml => output::value(global.output, &value)?,
        Format::Name => output::line(&context.actor.to_string())?,
        Format::Table | Format::Wide | Format::Junit => {
            for key in ["file", "name", "clusterId", "servers", "serial", "notAfter"] {
                let text = match &value[key] {
                    serde_json::Value::String(text) => text.clone(),
                    serde_json::Value::Array(list) => {
                        list.iter().filter_map(|item| item.as_str()).collect::<Vec<_>>().join(", ")
                    }
                    other => other.to_string(),
                };
                output::line(&format!("{key:<12}{text}"))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A new key and certificate for the same identity.
async fn renew(client: &Client, context: &Context) -> Result<Context, Failure> {
    let Actor::Administrator(person) = &context.actor else {
        let message = format!("{} is not an administrator; an agent renews its identity by itself", context.actor);
        return Err(Rejection::new(Reason::PermissionDenied, message).into());
    };
    let key = crate::issue::new_key(KeyAlgorithm::EcdsaP256)?;
    let csr = crate::issue::request(&key, Some(person.as_str()), &[])?;
    let request = v1::RenewIdentityRequest { csr: csr.into() };
    let call = |channel, request| async move { ClusterClient::new(channel).renew_identity(request).await };
    let answer = client.call(request, call).await?;
    Ok(Context {
        cluster_id: context.cluster_id,
        actor: context.actor.clone(),
        servers: context.servers.clone(),
        ca_pem: context.ca_pem.clone(),
        certificate_pem: pem::certificate(&answer.certificate),
        key_pem: crate::issue::key_pem(&key)?,
    })
}
