//! `apply`: manifests in, intent declared, one line per object.
//!
//! It refuses to apply half a file it cannot read: everything is parsed before anything is sent.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use certwright_core::Reason;
use certwright_core::spec::AuthoritySpec;
use certwright_proto::api::authority::authority_from_message;
use certwright_proto::manifest::{self, Resource};
use certwright_proto::v1;
use certwright_proto::v1::authorities_client::AuthoritiesClient;
use certwright_proto::v1::certificates_client::CertificatesClient;
use certwright_proto::v1::issuers_client::IssuersClient;
use certwright_seams::Disk;
use serde_json::{Value, json};

use crate::args::{ApplyArgs, Format, Global};
use crate::client::Client;
use crate::failure::Failure;
use crate::limits::MANIFEST_OCTETS_MAX;
use crate::output;
use crate::stages::wait_delivered;

/// Runs the verb.
pub async fn run(global: &Global, args: ApplyArgs) -> Result<ExitCode, Failure> {
    let client = Client::new(global)?;
    let mut documents = Vec::new();
    for path in &args.filename {
        for (name, text) in read(&*client.seams().disk, path)? {
            let parsed = manifest::parse(&text, &global.namespace).map_err(|mut rejection| {
                rejection.message = format!("{name}: {}", rejection.message);
                Failure::from(rejection)
            })?;
            documents.extend(parsed.into_iter().map(|document| (name.clone(), document.resource)));
        }
    }
    if documents.is_empty() {
        return Err(Failure::usage("there is no document to apply", "name a file with at least one manifest"));
    }
    // Certificates refer to issuers, issuers to authorities: what is referred to goes first.
    documents.sort_by_key(|(_, document)| match document {
        Resource::Authority(_) => 0,
        Resource::Issuer(_) => 1,
        Resource::Certificate(_) | Resource::Agent(_) => 2,
    });
    let mut certificates = Vec::new();
    for (file, document) in documents {
        let place = format!("{file}: {}", short(document.name()));
        let applied = apply(&client, document, args.dry_run).await.map_err(|failure| failure.about(place))?;
        print(global.output, &applied, args.dry_run)?;
        if applied.kind == "Certificate" {
            certificates.push(applied.name);
        }
    }
    if args.wait && !args.dry_run {
        for name in certificates {
            wait_delivered(&client, &name, &[]).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What became of one document.
pub struct Applied {
    kind: &'static str,
    /// Resource name.
    name: String,
    action: &'static str,
    etag: String,
    /// Where it took effect; for what was unchanged, where that was seen.
    token: Option<v1::Token>,
}

/// One document, one line of text, one line of JSON, or one document of YAML, as soon as it is known.
fn print(format: Format, applied: &Applied, dry_run: bool) -> Result<(), Failure> {
    let dry = if dry_run { " (dry run)" } else { "" };
    match format {
        Format::Name => output::line(&short(&applied.name)),
        Format::Json => output::line(&value(applied, dry_run)?.to_string()),
        Format::Yaml => output::line(&format!("---\n{}", output::yaml(&value(applied, dry_run)?)?.trim_end())),
        Format::Table | Format::Wide | Format::Junit => {
            output::line(&format!("{} {}{dry}", short(&applied.name), applied.action))
        }
    }
}

fn value(applied: &Applied, dry_run: bool) -> Result<Value, Failure> {
    // An etag is uid and revision.
    let revision = applied.etag.rsplit_once('.').and_then(|(_, revision)| revision.parse::<u64>().ok());
    let index = applied.token.as_ref().map(certwright_proto::token::read).transpose()?;
    let mut value = json!({
        "kind": applied.kind, "name": applied.name, "action": applied.action, "etag": applied.etag, "revision": revision,
        "index": index.map(|resume| resume.position.index),
    });
    if dry_run {
        value["dryRun"] = Value::Bool(true);
    }
    Ok(value)
}

/// `namespaces/web/certificates/shop` as people say it: `certificate/shop`.
pub fn short(name: &str) -> String {
    let mut parts = name.rsplit('/');
    let object = parts.next().unwrap_or_default();
    let kind = match parts.next().unwrap_or_default() {
        "authorities" => "authority",
        "nodes" => "server",
        plural => plural.trim_end_matches('s'),
    };
    format!("{kind}/{object}")
}

/// Files of a path, in order of name, with what they hold.
fn read(disk: &dyn Disk, path: &Path) -> Result<Vec<(String, String)>, Failure> {
    if path == Path::new("-") {
        let mut text = String::new();
        let mut input = std::io::Read::take(std::io::stdin(), MANIFEST_OCTETS_MAX + 1);
        std::io::Read::read_to_string(&mut input, &mut text).map_err(|error| Failure::file("standard input", error))?;
        if text.len() as u64 > MANIFEST_OCTETS_MAX {
            let large =
                std::io::Error::new(std::io::ErrorKind::InvalidData, format!("at most {MANIFEST_OCTETS_MAX} octets"));
            return Err(Failure::read("standard input", &large));
        }
        return Ok(vec![("standard input".to_string(), text)]);
    }
    let files: Vec<PathBuf> = match disk.stat(path).map_err(|error| Failure::file(path.display(), error))?.is_dir {
        false => vec![path.to_path_buf()],
        true => {
            let names = disk.list(path).map_err(|error| Failure::file(path.display(), error))?;
            let manifests = names.into_iter().map(|name| path.join(name));
            manifests
                .filter(|file| file.extension().is_some_and(|end| end == "yaml" || end == "yml" || end == "json"))
                .collect()
        }
    };
    let load = |file: PathBuf| {
        let octets = disk.read(&file, MANIFEST_OCTETS_MAX).map_err(|error| Failure::read(file.display(), &error))?;
        let text = String::from_utf8(octets).map_err(|error| Failure::file(file.display(), error))?;
        Ok((file.display().to_string(), text))
    };
    files.into_iter().map(load).collect()
}

/// Sends one document; answers what became of it.
pub async fn apply(client: &Client, document: Resource, validate_only: bool) -> Result<Applied, Failure> {
    let request_id = client.request_id();
    let name = document.name().to_string();
    match document {
        Resource::Certificate(certificate) => {
            let request = v1::UpdateCertificateRequest {
                certificate: Some(*certificate),
                validate_only,
                request_id,
                allow_missing: true,
            };
            let answer = client
                .call(request, |channel, request| async move {
                    CertificatesClient::new(channel).update_certificate(request).await
                })
                .await?;
            client.wrote(answer.token.clone());
            let certificate = answer.certificate.unwrap_or_default();
            let written = !validate_only && certificate.create_time == certificate.update_time;
            let action = verb(answer.unchanged, written || certificate.etag.is_empty());
            Ok(Applied { kind: "Certificate", name, action, etag: certificate.etag, token: answer.token })
        }
        Resource::Issuer(issuer) => {
            let request =
                v1::UpdateIssuerRequest { issuer: Some(issuer), validate_only, request_id, allow_missing: true };
            let answer = client
                .call(
                    request,
                    |channel, request| async move { IssuersClient::new(channel).update_issuer(request).await },
                )
                .await?;
            client.wrote(answer.token.clone());
            let etag = answer.issuer.unwrap_or_default().etag;
            // The first revision is the creation; what only would be created has none.
            let action = verb(answer.unchanged, !validate_only && etag.ends_with(".1") || etag.is_empty());
            Ok(Applied { kind: "Issuer", name, action, etag, token: answer.token })
        }
        Resource::Agent(_) => Err(Failure::usage(
            "an agent cannot be declared",
            "let it join with a token: certwright token create --role agent",
        )),
        Resource::Authority(authority) => {
            let wanted = authority.clone();
            let request = v1::CreateAuthorityRequest { authority: Some(authority), validate_only, request_id };
            let outcome = client
                .call(request, |channel, request| async move {
                    AuthoritiesClient::new(channel).create_authority(request).await
                })
                .await;
            let (action, answer) = match outcome {
                Err(failure) if failure.code() == "ALREADY_EXISTS" => {
                    ("unchanged", same_authority(client, wanted).await?)
                }
                outcome => ("created", outcome?),
            };
            client.wrote(answer.token.clone());
            let etag = answer.authority.unwrap_or_default().etag;
            Ok(Applied { kind: "Authority", name, action, etag, token: answer.token })
        }
    }
}

/// Refuses what would change an authority: its key and what was certified of it stay under its name.
async fn same_authority(client: &Client, wanted: v1::Authority) -> Result<v1::AuthorityResponse, Failure> {
    let name = wanted.name.clone();
    let request = v1::GetRequest { name: name.clone(), min_token: client.min_token() };
    let answer = client
        .call(request, |channel, request| async move { AuthoritiesClient::new(channel).get_authority(request).await })
        .await?;
    let (_, wanted) = authority_from_message(Some(wanted))?;
    let (_, there) = authority_from_message(answer.authority.clone())?;
    let differs = differences(&wanted, &there);
    if differs.is_empty() {
        return Ok(answer);
    }
    Err(Failure::new(
        Reason::AlreadyExists,
        format!("it is there with another {}", differs.join(", ")),
        "an authority stays as it was made: declare it as it is there, or under another name",
    ))
}

/// The fields in which two authorities differ, by their names in manifests.
fn differences(wanted: &AuthoritySpec, there: &AuthoritySpec) -> Vec<&'static str> {
    let fields = [
        ("spec.commonName", wanted.common_name == there.common_name),
        ("spec.keyAlgorithm", wanted.key_algorithm == there.key_algorithm),
        ("spec.parent", wanted.parent == there.parent),
        ("spec.duration", wanted.duration == there.duration),
        ("spec.pathLen", wanted.path_len == there.path_len),
        ("spec.purpose", wanted.purpose == there.purpose),
    ];
    fields.into_iter().filter(|(_, same)| !same).map(|(name, _)| name).collect()
}

fn verb(unchanged: bool, created: bool) -> &'static str {
    match (unchanged, created) {
        (true, _) => "unchanged",
        (false, true) => "created",
        (false, false) => "configured",
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn resource_names_print_as_kind_and_name() {
        let cases = [
            ("namespaces/web/certificates/shop", "certificate/shop"),
            ("issuers/demo", "issuer/demo"),
            ("authorities/demo-root", "authority/demo-root"),
        ];
        for (name, short) in cases {
            assert_eq!(super::short(name), short);
        }
    }
}
