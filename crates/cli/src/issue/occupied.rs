//! Whose files lie already where `issue` shall write.
//!
//! It refuses to replace what an earlier `issue` did not leave there, and to come between an agent and its target.

use std::io::ErrorKind;
use std::path::Path;

use certwright_core::Reason;
use certwright_core::x509::inspect::inspect;
use certwright_core::x509::{csr, pem};
use certwright_custody::LeafKey;
use certwright_seams::Disk;
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::limits::PEM_FILE_OCTETS_MAX;
use crate::output::note;

/// Every name that `issue` writes to, the one most missed first.
const NAMES: [&str; 6] = ["key.pem", "cert.pem", "chain.pem", "fullchain.pem", "ca.pem", "combined.pem"];
/// What it writes for a request: others write some of these names, not all.
const CERTIFICATES: [&str; 4] = ["cert.pem", "chain.pem", "fullchain.pem", "ca.pem"];

/// Refuses with `ALREADY_EXISTS` a directory into which an agent delivers: its files are the agent's links.
pub(super) fn refuse_target(disk: &dyn Disk, directory: &Path) -> Result<(), Failure> {
    let link = directory.join(".current");
    // Whether or not the link still leads somewhere.
    match disk.stat(&link) {
        Ok(_) => {
            refusal(directory, "key.pem", "an agent delivers into this directory", "name another directory with --out")
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Failure::file(link.display(), error)),
    }
}

fn refusal(directory: &Path, name: &str, what: &str, fix: &str) -> Result<(), Failure> {
    let message = format!("{}: {what}", directory.join(name).display());
    Err(Failure::new(Reason::AlreadyExists, message, fix))
}

/// Refuses with `ALREADY_EXISTS` a directory that holds a file of ours by name which is not of a set that `issue` wrote;
/// says when such a set is going to be replaced. With a request, a key there must be the request's own. A file that cannot
/// be looked at may be anything: that refuses, too.
pub(super) fn refuse(disk: &dyn Disk, directory: &Path, request: Option<&Vec<u8>>) -> Result<(), Failure> {
    let mut there = Vec::new();
    for name in NAMES {
        if is_there(disk, directory, name)? {
            there.push(name);
        }
    }
    let Some(first) = there.first() else { return Ok(()) };
    let is_set = CERTIFICATES.iter().all(|name| there.contains(name)) && is_one(disk, directory);
    let key = key(disk, directory).map(|(_, spki)| spki);
    let fits = match request {
        Some(request) => {
            let asked = csr::parse(request)?.verify()?.spki_hash();
            if there.contains(&"key.pem") && key != Some(asked) {
                let fix = "name another directory with --out";
                return refusal(directory, "key.pem", "it is not the key of the request", fix);
            }
            // Nothing beside the key, or what came for an earlier request.
            is_set || there == ["key.pem"]
        }
        None => match certificate(disk, directory) {
            Some((spki, serial)) if key == Some(spki) && is_set && there.len() == NAMES.len() => {
                note(&format!("replacing key and certificate in {}: serial {serial}", directory.display()));
                true
            }
            _ => false,
        },
    };
    let fix = match request {
        Some(_) => "name another directory with --out",
        None => "name another directory with --out, or replace it with --force",
    };
    if fits { Ok(()) } else { refusal(directory, first, "it is not of a set that issue wrote", fix) }
}

/// Whether there is such a file; a failure is no answer.
pub(super) fn is_there(disk: &dyn Disk, directory: &Path, name: &str) -> Result<bool, Failure> {
    let path = directory.join(name);
    disk.exists(&path).map_err(|error| Failure::file(path.display(), error))
}

/// The key that is there, as it is written, when it is this certificate's.
pub(super) fn key_of(disk: &dyn Disk, directory: &Path, certificate: &[u8]) -> Option<Zeroizing<String>> {
    let (text, spki) = key(disk, directory)?;
    (inspect(certificate).ok()?.spki_hash == spki).then_some(text)
}

/// Whether the chain that is there begins with the certificate that is there, as `issue` writes them.
fn is_one(disk: &dyn Disk, directory: &Path) -> bool {
    let read = |name: &str| disk.read(&directory.join(name), PEM_FILE_OCTETS_MAX).ok();
    let (certificate, chain, full) = (read("cert.pem"), read("chain.pem"), read("fullchain.pem"));
    full.is_some_and(|full| certificate.zip(chain).is_some_and(|(leaf, rest)| full == [leaf, rest].concat()))
}

/// The key that is there and whose it is; `None` when it cannot be read as one.
fn key(disk: &dyn Disk, directory: &Path) -> Option<(Zeroizing<String>, [u8; 32])> {
    let octets = disk.read(&directory.join("key.pem"), PEM_FILE_OCTETS_MAX).map(Zeroizing::new).ok()?;
    let text = Zeroizing::new(std::str::from_utf8(&octets).ok()?.to_string());
    let spki = LeafKey::from_pem(&text).ok()?.spki_hash();
    Some((text, spki))
}

/// Key and serial of the certificate that is there.
fn certificate(disk: &dyn Disk, directory: &Path) -> Option<([u8; 32], String)> {
    let octets = disk.read(&directory.join("cert.pem"), PEM_FILE_OCTETS_MAX).ok()?;
    let seen = inspect(pem::certificates(&octets).ok()?.first()?).ok()?;
    Some((seen.spki_hash, seen.serial))
}
