//! The context file: which cluster, as whom, by which servers, and the key that proves it.
//!
//! It refuses to be read by others: the file is 0600, the key is zeroised and never printed.

use std::io;
use std::path::{Path, PathBuf};

use certwright_core::ids::{Actor, ClusterId};
use certwright_seams::Disk;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Octets of a context file; one with three servers has about 3 KiB.
pub const CONTEXT_OCTETS_MAX: u64 = 256 * 1024;
/// Permission bits of a context file.
const CONTEXT_MODE: u32 = 0o600;

/// Why a context file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// There is none.
    #[error("there is no context file {0}")]
    Missing(PathBuf),
    /// It could not be read or written.
    #[error("context file {path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// It could be read and makes no sense.
    #[error("context file {path}: {cause}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong; never a secret.
        cause: String,
    },
    /// It is somebody's who is not an agent.
    #[error("context file {path} is that of {actor}, and an agent needs one of its own")]
    NotAgent {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        actor: Actor,
    },
}

/// A context: everything a client needs to reach a cluster and to be known there.
pub struct Context {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// Who the certificate speaks for: `administrator/{name}` or `agent/{name}`.
    pub actor: Actor,
    /// Servers, `host:port`, in no particular order.
    pub servers: Vec<String>,
    /// The system authority's root, PEM.
    pub ca_pem: String,
    /// The identity certificate, PEM, with intermediates if there are any.
    pub certificate_pem: String,
    /// Its private key, PKCS#8 PEM.
    pub key_pem: Zeroizing<String>,
}

/// The file's form.
#[derive(Serialize, Deserialize)]
struct File<'a> {
    cluster_id: String,
    name: String,
    servers: Vec<String>,
    ca: String,
    certificate: String,
    #[serde(borrow)]
    key: std::borrow::Cow<'a, str>,
}

/// What is wrong with the file's form. A value of the wrong type is not quoted: it may be a piece of the key.
fn wrong(error: &serde_json::Error) -> String {
    let said = error.to_string();
    if !error.is_data() || ["missing field", "duplicate field"].iter().any(|plain| said.starts_with(plain)) {
        return said;
    }
    format!("a value of the wrong type at line {} column {}", error.line(), error.column())
}

impl Context {
    /// Reads a context file.
    pub fn load(disk: &dyn Disk, path: &Path) -> Result<Self, ContextError> {
        let octets = match disk.read(path, CONTEXT_OCTETS_MAX) {
            Ok(octets) => Zeroizing::new(octets),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ContextError::Missing(path.to_path_buf()));
            }
            Err(error) => return Err(ContextError::Io { path: path.to_path_buf(), error }),
        };
        Self::parse(&octets).map_err(|cause| ContextError::Malformed { path: path.to_path_buf(), cause })
    }

    /// Writes it, as a whole and durably.
    pub fn save(&self, disk: &dyn Disk, path: &Path) -> Result<(), ContextError> {
        disk.write_atomic(path, &self.format(), CONTEXT_MODE)
            .map_err(|error| ContextError::Io { path: path.to_path_buf(), error })
    }

    /// Parses the file's contents; the error says what is wrong and never quotes a secret.
    pub fn parse(octets: &[u8]) -> Result<Self, String> {
        let file: File<'_> =
            serde_json::from_slice(octets).map_err(|error| format!("not a context: {}", wrong(&error)))?;
        let cluster_id = certwright_proto::identity::parse_cluster_id(&file.cluster_id)
            .ok_or("cluster_id is not 32 hexadecimal digits")?;
        let actor = Actor::parse(&file.name).ok_or("name is neither administrator/NAME nor agent/NAME")?;
        if file.servers.is_empty() {
            return Err("servers is empty".to_string());
        }
        let context = Self {
            cluster_id,
            actor,
            servers: file.servers,
            ca_pem: file.ca,
            certificate_pem: file.certificate,
            key_pem: Zeroizing::new(file.key.into_owned()),
        };
        context.root()?;
        context.chain()?;
        context.key()?;
        Ok(context)
    }

    /// The file's contents, zeroised when dropped.
    pub fn format(&self) -> Zeroizing<Vec<u8>> {
        let file = File {
            cluster_id: self.cluster_id.to_string(),
            name: self.actor.to_string(),
            servers: self.servers.clone(),
            ca: self.ca_pem.clone(),
            certificate: self.certificate_pem.clone(),
            key: std::borrow::Cow::Borrowed(&self.key_pem),
        };
        // Room for everything at once: a vector that grows leaves copies of the key behind.
        let size = 1024 + 2 * (self.ca_pem.len() + self.certificate_pem.len() + self.key_pem.len());
        let mut octets = Zeroizing::new(Vec::with_capacity(size + self.servers.iter().map(String::len).sum::<usize>()));
        serde_json::to_writer_pretty(&mut *octets, &file).expect("strings always serialise into a vector");
        octets
    }

    /// The system authority's root, DER.
    pub fn root(&self) -> Result<CertificateDer<'static>, String> {
        CertificateDer::from_pem_slice(self.ca_pem.as_bytes()).map_err(|_| "ca holds no PEM certificate".to_string())
    }

    /// The identity certificate and its intermediates, DER.
    pub fn chain(&self) -> Result<Vec<CertificateDer<'static>>, String> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(self.certificate_pem.as_bytes()).collect();
        chain.ok().filter(|chain| !chain.is_empty()).ok_or_else(|| "certificate holds no PEM certificate".to_string())
    }

    /// The private key, DER.
    pub fn key(&self) -> Result<PrivateKeyDer<'static>, String> {
        PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).map_err(|_| "key holds no PEM private key".to_string())
    }
}

#[cfg(test)]
mod tests;
