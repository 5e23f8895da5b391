//! `issue`: one certificate without a stored intent, for a CSR or for a key made here.
//!
//! It refuses to send a key: with `--dns` it is made here and stays in the output directory.

mod occupied;

use std::path::Path;
use std::process::ExitCode;

use certwright_core::spec::{KeyAlgorithm, KeyEncoding};
use certwright_core::x509::{Names, pem};
use certwright_core::{Reason, Rejection};
use certwright_custody::LeafKey;
use certwright_proto::v1;
use certwright_proto::v1::certificates_client::CertificatesClient;
use certwright_seams::Disk;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use crate::args::{Format, Global, IssueArgs};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{self, moment};

/// A new private key on this machine.
pub fn new_key(algorithm: KeyAlgorithm) -> Result<LeafKey, Failure> {
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
            let key = new_key(KeyAlgorithm::EcdsaP256)?;
            (request(&key, None, &args.dns)?, Some(key))
        }
    };
    if let Some(out) = &args.out {
        occupied::refuse_target(&*disk, out)?;
        if !args.force {
            occupied::refuse(&*disk, out, key.is_none().then_some(&csr))?;
        }
    }
    let wanted = v1::IssueRequest {
        issuer: args.issuer,
        csr: csr.into(),
        duration: args.duration.map(certwright_proto::api::values::span_to_message),
        usages: Vec::new(),
        request_id: client.request_id(),
        id: 0,
        validate_only: args.validate_only,
    };
    let sign =
        client.call(wanted, |channel, request| async move { CertificatesClient::new(channel).issue(request).await });
    let out = match &args.out {
        Some(out) if !args.validate_only => out,
        _ => return validated(global.output, &sign.await?),
    };
    let key = key.as_ref().map(key_pem).transpose()?;
    let place = Place::prepare(&*disk, out, key.as_ref())?;
    let issued = match sign.await {
        Ok(issued) => issued,
        Err(failure) => {
            place.leave();
            return Err(failure);
        }
    };
    let files = place.fill(&issued, key.as_ref())?;
    print(global.output, &issued, files)
}

/// Says what would be issued.
fn validated(format: Format, answer: &v1::IssueResponse) -> Result<ExitCode, Failure> {
    let (from, to) = (moment(answer.not_before.as_ref()), moment(answer.not_after.as_ref()));
    match format {
        Format::Json => output::line(&json!({"validated": true, "not_before": from, "not_after": to}).to_string())?,
        Format::Yaml => output::value(format, &json!({"validated": true, "not_before": from, "not_after": to}))?,
        Format::Name => {}
        Format::Table | Format::Wide | Format::Junit => {
            output::line(&format!("would be signed until {to} (nothing was)"))?
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Says what was issued and where it is.
fn print(format: Format, issued: &v1::IssueResponse, files: Map<String, Value>) -> Result<ExitCode, Failure> {
    let value = json!({
        "serial": issued.serial, "index": issued.index, "not_before": moment(issued.not_before.as_ref()),
        "not_after": moment(issued.not_after.as_ref()), "files": files,
    });
    match format {
        Format::Json => output::line(&value.to_string())?,
        Format::Yaml => output::value(format, &value)?,
        Format::Name => output::line(&issued.serial)?,
        Format::Table | Format::Wide | Format::Junit => {
            output::line(&format!("serial {} until {}", issued.serial, moment(issued.not_after.as_ref())))?;
            files.values().filter_map(Value::as_str).try_for_each(output::line)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Where the files go, known to be writable before anything is signed.
struct Place<'a> {
    disk: &'a dyn Disk,
    directory: &'a Path,
    /// Whether it was made for this.
    made: bool,
}

/// Holds the key until its certificate is there, so that a refusal leaves the pair before as it was.
const KEY_BEFORE: &str = "key.pem.unsigned";

impl<'a> Place<'a> {
    /// Makes the directory and writes the key there, beside the files that it may hold already.
    fn prepare(disk: &'a dyn Disk, directory: &'a Path, key: Option<&Zeroizing<String>>) -> Result<Self, Failure> {
        let made = !disk.exists(directory).map_err(|error| Failure::file(directory.display(), error))?;
        disk.create_dir_all(directory, 0o755).map_err(|error| Failure::file(directory.display(), error))?;
        let place = Self { disk, directory, made };
        let text = key.map_or("", |key| key.as_str());
        disk.write_atomic(&directory.join(KEY_BEFORE), text.as_bytes(), 0o600).map_err(|error| {
            place.leave();
            Failure::file(directory.display(), error)
        })?;
        Ok(place)
    }

    /// Leaves it as it was found; what cannot be removed is in nobody's way.
    fn leave(&self) {
        let _ = match self.made {
            true => self.disk.remove_dir_all(self.directory),
            false => self.disk.remove(&self.directory.join(KEY_BEFORE)),
        };
    }

    fn drop_combined(&self) -> Result<(), Failure> {
        let path = self.directory.join("combined.pem");
        self.disk.remove(&path).map_err(|error| Failure::file(path.display(), error))?;
        output::note(&format!("{} is removed: the key for it is not here", path.display()));
        Ok(())
    }

    /// Writes the files an agent would write; the key and what holds it only for their owner.
    fn fill(&self, issued: &v1::IssueResponse, key: Option<&Zeroizing<String>>) -> Result<Map<String, Value>, Failure> {
        let leaf = pem::certificate(&issued.certificate);
        let (root, intermediates) =
            issued.chain.split_last().map_or((None, &[][..]), |(root, rest)| (Some(root), rest));
        let chain: String = intermediates.iter().map(|der| pem::certificate(der)).collect();
        let mut contents = vec![
            ("cert.pem", Zeroizing::new(leaf.clone()), 0o644),
            ("chain.pem", Zeroizing::new(chain.clone()), 0o644),
            ("fullchain.pem", Zeroizing::new(format!("{leaf}{chain}")), 0o644),
            ("ca.pem", Zeroizing::new(root.map(|der| pem::certificate(der)).unwrap_or_default()), 0o644),
        ];
        let combined = occupied::is_there(self.disk, self.directory, "combined.pem")?;
        let kept = || combined.then(|| occupied::key_of(self.disk, self.directory, &issued.certificate)).flatten();
        match key.cloned().or_else(kept) {
            Some(key) => {
                contents.push(("combined.pem", Zeroizing::new(format!("{leaf}{chain}{}", key.as_str())), 0o600));
                contents.push(("key.pem", key, 0o600));
            }
            // An older certificate's: whoever reads it would not notice.
            None if combined => self.drop_combined()?,
            None => {}
        }
        let mut files = Map::new();
        for (name, text, mode) in contents {
            let path = self.directory.join(name);
            let written = self.disk.write_atomic(&path, text.as_bytes(), mode);
            written.map_err(|error| Failure::file(path.display(), error))?;
            files.insert(name.to_string(), Value::String(path.display().to_string()));
        }
        let before = self.directory.join(KEY_BEFORE);
        self.disk.remove(&before).map_err(|error| Failure::file(before.display(), error))?;
        Ok(files)
    }
}
