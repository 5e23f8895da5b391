//! `verify`: delivered files fit together and are valid; a server's log is whole.
//!
//! It refuses to ask a server: what it says rests on the files alone.

use std::path::Path;
use std::process::ExitCode;

use certwright_core::time::Timestamp;
use certwright_core::x509::inspect::{Inspected, inspect, verify_chain};
use certwright_core::x509::pem;
use certwright_custody::LeafKey;
use certwright_seams::{Disk, Seams};
use serde_json::json;
use zeroize::Zeroizing;

use crate::args::{Format, Global, VerifyArgs};
use crate::failure::Failure;
use crate::limits::PEM_FILE_OCTETS_MAX;
use crate::{log, output};

/// Runs the verb.
pub async fn run(global: &Global, args: VerifyArgs) -> Result<ExitCode, Failure> {
    let seams = Seams::system();
    let server = seams.disk.exists(&args.directory.join("node.json")).unwrap_or(false);
    if server {
        return log::verify(&args.directory, &seams);
    }
    let leaf = files(&*seams.disk, &args.directory, Timestamp::from_millis(seams.clock.wall_millis()))?;
    match global.output {
        Format::Json | Format::Yaml => {
            let value = json!({"serial": leaf.serial, "not_after": leaf.not_after.to_string(), "verified": true});
            output::value(global.output, &value)?;
        }
        _ => output::line(&format!("verified: serial {} until {}", leaf.serial, leaf.not_after))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Checks delivered files: the key fits the certificate, the chain leads to the root, the dates hold at `now`.
pub fn files(disk: &dyn Disk, directory: &Path, now: Timestamp) -> Result<Inspected, Failure> {
    let read = |name: &str| {
        let path = directory.join(name);
        disk.read(&path, PEM_FILE_OCTETS_MAX).map(Zeroizing::new).map_err(|error| Failure::file(path.display(), error))
    };
    let fix = "let the agent deliver again: certwright renew NAME --wait";
    let leaf = pem::certificates(&read("cert.pem")?)?;
    let leaf = leaf.first().ok_or_else(|| Failure::finding("cert.pem holds no certificate", fix))?;
    let intermediates = pem::certificates(&read("chain.pem")?).unwrap_or_default();
    let roots = pem::certificates(&read("ca.pem")?)?;
    verify_chain(leaf, &intermediates, &roots, now).map_err(|error| Failure::finding(error.to_string(), fix))?;
    let inspected = inspect(leaf)?;
    let key = read("key.pem")?;
    let key = std::str::from_utf8(&key).map_err(|error| Failure::file("key.pem", error))?;
    let key = LeafKey::from_pem(key).map_err(|error| Failure::finding(format!("key.pem: {error}"), fix))?;
    if key.spki_hash() != inspected.spki_hash {
        return Err(Failure::finding("key.pem is not the key of cert.pem", fix));
    }
    Ok(inspected)
}
