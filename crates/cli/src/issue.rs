//! `issue`: one certificate without a stored intent, for a CSR or for a key made here.
//!
//! It refuses to send a key: with `--dns` it is made here and stays in the output directory.

use std::path::Path;
use std::process::ExitCode;

use certwright_core::spec::{KeyAlgorithm, KeyEncoding};
use certwright_core::x509::{Names, pem};
use certwright_core::{Reason, Rejection};
use certwright_custody::LeafKey;
use certwright_proto::v1;
use certwright_proto::v1::certificates_client::CertificatesClient;
use certwright_seams::{Disk, Seams};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use crate::args::{Format, Global, IssueArgs};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{self, moment};

/// A new private key on this machine.
pub fn new_key(_: &Seams, algorithm: KeyAlgorithm) -> Result<LeafKey, Failure> {
    LeafKey::generate(algorithm).map_err(|error| Failure::internal(error.to_string()))
}

/// A request that proves possession of the key and names these names.
pub fn request(key: &LeafKey, common_name: Option<&str>, dns_names: &[String]) -> Result<Vec<u8>, Failure> {
    let names =
        Names { common_name: common_name.map(str::to_string), dns_names: dns_names.to_vec(), ..Names::default() };
    key.request(&names).map_err(|error| Failure::from(Rejection::new(Reason::InvalidSpec, error.to_string())))
}

/// The key as PKCS#8 PEM.
pub fn key_pem(key: &LeafKey) -> Result<Zeroizing<String>, Failure> {
    key.to_pem(KeyEncoding::Pkcs8).map_err(|error| Failure::internal(error.to_string()))
}

/// Runs the verb.
pub async fn run(global: &Global, args: IssueArgs) -> Result<ExitCode, Failure> {
    let client = Client::new(global)?;
    let disk = client.seams().disk.clone();
    let (csr, key) = match &args.csr {
        Some(file) => {
            let limit = certwright_core::limits::CSR_OCTETS_MAX as u64;
            let csr = disk.read(file, limit).map_err(|error| Failure::read(file.display(), &error))?;
            (csr, None)
        }
        None => {
            let key = new_key(client.seams(), KeyAlgorithm::EcdsaP256)?;
            (request(&key, None, &args.dns)?, Some(key))
        }
    };
    let wanted = v1::IssueRequest {
        issuer: args.issuer,
        csr: csr.into(),
        duration: args.duration.map(certwright_proto::api::values::span_to_message),
        usages: Vec::new(),
        request_id: client.request_id(),
        id: 0,
        validate_only: false,
    };
    let issued = client
        .call(wanted, |channel, request| async move { CertificatesClient::new(channel).issue(request).await })
        .await?;
    let key = key.as_ref().map(key_pem).transpose()?;
    let files = write(&*disk, &args.out, &issued, key.as_ref())?;
    let value = json!({
        "serial": issued.serial, "index": issued.index, "not_before": moment(issued.not_before.as_ref()),
        "not_after": moment(issued.not_after.as_ref()), "files": files,
    });
    match global.output {
        Format::Json => output::line(&value.to_string())?,
        Format::Yaml => output::value(global.output, &value)?,
        Format::Name => output::line(&issued.serial)?,
        Format::Table | Format::Wide => {
            output::line(&format!("serial {} until {}", issued.serial, moment(issued.not_after.as_ref())))?;
            files.values().filter_map(Value::as_str).try_for_each(output::line)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes the files an agent would write; the key and what holds it only for their owner.
fn write(
    disk: &dyn Disk,
    directory: &Path,
    issued: &v1::IssueResponse,
    key: Option<&Zeroizing<String>>,
) -> Result<Map<String, Value>, Failure> {
    disk.create_dir_all(directory, 0o755).map_err(|error| Failure::file(directory.display(), error))?;
    let leaf = pem::certificate(&issued.certificate);
    let (root, intermediates) = issued.chain.split_last().map_or((None, &[][..]), |(root, rest)| (Some(root), rest));
    let chain: String = intermediates.iter().map(|der| pem::certificate(der)).collect();
    let mut contents = vec![
        ("cert.pem", Zeroizing::new(leaf.clone()), 0o644),
        ("chain.pem", Zeroizing::new(chain.clone()), 0o644),
        ("fullchain.pem", Zeroizing::new(format!("{leaf}{chain}")), 0o644),
        ("ca.pem", Zeroizing::new(root.map(|der| pem::certificate(der)).unwrap_or_default()), 0o644),
    ];
    if let Some(key) = key {
        contents.push(("combined.pem", Zeroizing::new(format!("{leaf}{chain}{}", key.as_str())), 0o600));
        contents.push(("key.pem", key.clone(), 0o600));
    }
    let mut files = Map::new();
    for (name, text, mode) in contents {
        let path = directory.join(name);
        disk.write_atomic(&path, text.as_bytes(), mode).map_err(|error| Failure::file(path.display(), error))?;
        files.insert(name.to_string(), Value::String(path.display().to_string()));
    }
    Ok(files)
}
