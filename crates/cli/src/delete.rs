//! `delete`: one object, conditionally when an etag is given.
//!
//! It refuses to delete what others refer to; the server says who does.

use std::process::ExitCode;

use certwright_proto::v1;
use certwright_proto::v1::agents_client::AgentsClient;
use certwright_proto::v1::certificates_client::CertificatesClient;
use certwright_proto::v1::issuers_client::IssuersClient;
use certwright_proto::v1::tokens_client::TokensClient;

use crate::args::{DeleteArgs, Global, Kind};
use crate::client::Client;
use crate::failure::Failure;
use crate::get::resource;
use crate::output;

/// Runs the verb.
pub async fn run(global: &Global, args: DeleteArgs) -> Result<ExitCode, Failure> {
    let client = Client::new(global)?;
    let name = resource(args.kind, &global.namespace, &args.name);
    let (etag, request_id) = (args.etag, client.request_id());
    let request = v1::DeleteRequest {
        name: name.clone(),
        etag: etag.clone(),
        validate_only: false,
        request_id: request_id.clone(),
    };
    match args.kind {
        Kind::Certificates => {
            let request = v1::DeleteCertificateRequest { name: name.clone(), etag, validate_only: false, request_id };
            let call =
                |channel, request| async move { CertificatesClient::new(channel).delete_certificate(request).await };
            client.call(request, call).await?
        }
        Kind::Issuers => {
            client
                .call(
                    request,
                    |channel, request| async move { IssuersClient::new(channel).delete_issuer(request).await },
                )
                .await?
        }
        Kind::Agents => {
            client
                .call(request, |channel, request| async move { AgentsClient::new(channel).delete_agent(request).await })
                .await?
        }
        Kind::Tokens => {
            client
                .call(request, |channel, request| async move { TokensClient::new(channel).revoke_token(request).await })
                .await?
        }
        Kind::Servers => {
            let fix = format!("take it out of the cluster: certwright operator raft remove {}", args.name);
            return Err(Failure::usage("a server is not deleted", fix));
        }
        Kind::Authorities => {
            return Err(Failure::usage(
                "authorities cannot be deleted",
                "delete the issuers that use it; what it signed stays valid",
            ));
        }
    };
    output::line(&format!("{} deleted", crate::apply::short(&name)))?;
    Ok(ExitCode::SUCCESS)
}
