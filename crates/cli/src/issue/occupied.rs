//! Whose key lies already where `issue` shall write.
//!
//! It refuses to replace a key that an earlier `issue` did not leave there, and to come between an agent and its target.

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

/// What `issue` writes beside cert.pem and key.pem; others write one or two of these names, not all.
const OURS: [&str; 4] = ["ca.pem", "chain.pem", "combined.pem", "fullchain.pem"];

/// Refuses with `ALREADY_EXISTS` a directory into which an agent delivers: its files are the agent's links.
pub(super) fn refuse_target(disk: &dyn Disk, directory: &Path) -> Result<(), Failure> {
    // Whether or not the link still leads somewhere.
    if disk.stat(&directory.join(".current")).is_err() {
        return Ok(());
    }
    refusal(directory, "an agent delivers into this directory", "name another directory with --out")
}

fn refusal(directory: &Path, what: &str, fix: &str) -> Result<(), Failure> {
    let message = format!("{}: {what}", directory.join("key.pem").display());
    Err(Failure::new(Reason::AlreadyExists, message, fix))
}

/// Refuses with `ALREADY_EXISTS` a directory whose key is somebody else's; says when a set of an earlier `issue` is
/// going to be replaced. With a request, the key there must be the request's own.
pub(super) fn refuse(disk: &dyn Disk, directory: &Path, request: Option<&Vec<u8>>) -> Result<(), Failure> {
    let there = |name: &str| disk.exists(&directory.join(name)).unwrap_or(false);
    if !there("key.pem") {
        return Ok(());
    }
    let key = key(disk, directory);
    if let Some(request) = request {
        let asked = csr::parse(request)?.verify()?.spki_hash();
        return match key {
            Some(key) if key == asked => Ok(()),
            _ => refusal(directory, "it is not the key of the request", "name another directory with --out"),
        };
    }
    match certificate(disk, directory) {
        Some((spki, serial)) if key == Some(spki) && OURS.iter().all(|name| there(name)) => {
            note(&format!("replacing key and certificate in {}: serial {serial}", directory.display()));
            Ok(())
        }
        _ => refusal(
            directory,
            "it is not of a set that issue wrote",
            "name another directory with --out, or replace it with --force",
        ),
    }
}

/// Which key is there; `None` when it cannot be read as one.
fn key(disk: &dyn Disk, directory: &Path) -> Option<[u8; 32]> {
    let octets = disk.read(&directory.join("key.pem"), PEM_FILE_OCTETS_MAX).map(Zeroizing::new).ok()?;
    Some(LeafKey::from_pem(std::str::from_utf8(&octets).ok()?).ok()?.spki_hash())
}

/// Key and serial of the certificate that is there.
fn certificate(disk: &dyn Disk, directory: &Path) -> Option<([u8; 32], String)> {
    let octets = disk.read(&directory.join("cert.pem"), PEM_FILE_OCTETS_MAX).ok()?;
    let seen = inspect(pem::certificates(&octets).ok()?.first()?).ok()?;
    Some((seen.spki_hash, seen.serial))
}
