//! A server's data directory: who it is (`node.json`), its key and certificate, and the lock that keeps others out.
//!
//! It refuses directories that hold anything else, or another server's or cluster's data.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use certwright_core::ids::{ClusterId, NodeId, NodeName};
use certwright_core::spec::{KeyAlgorithm, KeyEncoding};
use certwright_core::{Reason, Rejection};
use certwright_custody::LeafKey;
use certwright_seams::disk::{Disk, File, Open};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::limits::DATA_FILE_OCTETS_MAX;

const RECORD: &str = "node.json";
pub(crate) const LOG: &str = "log";
pub(crate) const BACKFILL: &str = "backfill";
pub(crate) const BASE: &str = "base";
const LOCK: &str = "lock";
const KEY: &str = "node.key";
const CERTIFICATE: &str = "node.crt";
const PEERS: &str = "peers.json";
const ADMINISTRATOR_KEY: &str = "administrator.key";

/// How far a data directory has come; written last in each step, so that a killed step is simply repeated.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Its cluster is being created.
    Bootstrapping,
    /// It asked to join and may or may not have been answered.
    Joining,
    /// A backup is being restored into it.
    Restoring,
    /// It is a member.
    Member,
}

/// What `node.json` holds.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Version of this file's shape.
    pub version: u32,
    /// The cluster, lower-case hex.
    pub cluster_id: String,
    /// This node; 0 while joining.
    pub node_id: NodeId,
    /// Epoch of the cluster.
    pub epoch: u64,
    /// Name for people.
    pub name: String,
    /// How far it has come.
    pub phase: Phase,
    /// Where it listens, so that a later start needs no flags.
    pub api_listen: String,
    /// The internal port.
    pub raft_listen: String,
    /// The read-only HTTP port.
    pub http_listen: String,
    /// Whether it has had a log: votes may have been given, so that it must not go on with an empty one.
    #[serde(default)]
    pub log_created: bool,
}

impl Record {
    /// The cluster id.
    pub fn cluster(&self) -> Result<ClusterId, Rejection> {
        let octets = hex::decode(&self.cluster_id).ok().and_then(|octets| octets.try_into().ok());
        octets.map(ClusterId).ok_or_else(|| foreign("node.json", "its cluster id is not 32 hex digits"))
    }

    /// The node's name.
    pub fn node_name(&self) -> Result<NodeName, Rejection> {
        NodeName::parse(&self.name)
    }
}

/// A member as a joiner learned it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KnownPeer {
    /// Its id.
    pub node_id: NodeId,
    /// Its internal port.
    pub raft_address: String,
    /// SHA-256 of its SubjectPublicKeyInfo, lower-case hex.
    pub spki_hash: String,
}

/// An open, locked data directory.
pub struct DataDir {
    path: PathBuf,
    disk: Arc<dyn Disk>,
    /// Held for as long as the directory is open.
    _lock: Box<dyn File>,
}

impl DataDir {
    /// Opens and locks a directory, creating it when it is absent. `FOREIGN_DATA` when it holds something else,
    /// `DATA_IN_USE` when another process has it.
    pub fn open(path: &Path, disk: Arc<dyn Disk>) -> Result<Self, Rejection> {
        let failed = |error| file_failed("open", path, error);
        disk.create_dir_durable(path, 0o700).map_err(failed)?;
        let names = disk.list(path).map_err(failed)?;
        let ours = |name: &PathBuf| name.file_name().is_some_and(|name| name == RECORD || name == LOCK);
        if !names.is_empty() && !names.iter().any(ours) {
            return Err(foreign(&path.display().to_string(), "it is not empty and holds no node.json"));
        }
        let lock = disk.open(&path.join(LOCK), Open::Create(0o600)).map_err(failed)?;
        lock.lock().map_err(|error| match error.kind() {
            std::io::ErrorKind::WouldBlock => Rejection::new(
                Reason::DataInUse,
                format!("the data directory {} is open in another process", path.display()),
            ),
            _ => file_failed("lock", path, error),
        })?;
        Ok(Self { path: path.to_path_buf(), disk, _lock: lock })
    }

    /// The same for a directory that must hold nothing at all; one in which a restore was cut short says so.
    pub fn create(path: &Path, disk: Arc<dyn Disk>) -> Result<Self, Rejection> {
        let names = match disk.exists(path) {
            Ok(true) => disk.list(path).map_err(|error| file_failed("open", path, error))?,
            _ => Vec::new(),
        };
        let data = Self::open(path, disk)?;
        if data.record()?.is_some_and(|record| record.phase == Phase::Restoring) {
            return Err(data.unfinished());
        }
        match names.is_empty() {
            true => Ok(data),
            false => Err(foreign(&path.display().to_string(), "it is not empty")),
        }
    }

    /// What is said of a directory in which a restore was cut short.
    pub(crate) fn unfinished(&self) -> Rejection {
        let message = format!("a restore into {} began and did not end", self.path.display());
        Rejection::new(Reason::RestoreUnfinished, message)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Who lives here; `None` in a fresh directory.
    pub fn record(&self) -> Result<Option<Record>, Rejection> {
        let Some(bytes) = self.read(RECORD)? else { return Ok(None) };
        let record: Record = serde_json::from_slice(&bytes)
            .map_err(|error| foreign("node.json", &format!("it does not parse: {error}")))?;
        match record.version {
            1 => Ok(Some(record)),
            other => Err(foreign("node.json", &format!("its version {other} is not one this build reads"))),
        }
    }

    /// Replaces `node.json`.
    pub fn write_record(&self, record: &Record) -> Result<(), Rejection> {
        let text = serde_json::to_vec_pretty(record).expect("strings and numbers always serialise");
        self.write(RECORD, &text)
    }

    /// `FOREIGN_DATA` when this server has had a log and none is here: an empty one would forget its votes.
    pub fn check_log(&self, record: &Record) -> Result<(), Rejection> {
        let log = self.path.join(LOG);
        let failed = |error| file_failed("list", &log, error);
        if !record.log_created {
            return Ok(());
        }
        let names =
            if self.disk.exists(&log).map_err(failed)? { self.disk.list(&log).map_err(failed)? } else { vec![] };
        if names.iter().any(|name| name.extension().is_some_and(|extension| extension == "seg")) {
            return Ok(());
        }
        let why = "this server's log is gone and its votes with it; remove the server from the cluster, wipe the \
                   directory and join again under a new id";
        Err(foreign(&log.display().to_string(), why))
    }

    /// Remembers for good that there is a log from now on.
    pub fn remember_log(&self, record: &mut Record) -> Result<(), Rejection> {
        if record.log_created {
            return Ok(());
        }
        record.log_created = true;
        self.write_record(record)
    }

    /// The node's key pair, made when absent.
    pub fn node_key(&self) -> Result<LeafKey, Rejection> {
        self.key_pair(KEY)
    }

    /// The first administrator's key pair, kept until its context is written.
    pub fn administrator_key(&self) -> Result<LeafKey, Rejection> {
        self.key_pair(ADMINISTRATOR_KEY)
    }

    /// Forgets the administrator's key.
    pub fn forget_administrator_key(&self) -> Result<(), Rejection> {
        let path = self.path.join(ADMINISTRATOR_KEY);
        let failed = |error| file_failed("remove", &path, error);
        if self.disk.exists(&path).map_err(failed)? {
            self.disk.remove(&path).map_err(failed)?;
        }
        Ok(())
    }

    /// The node's certificate and the system authority's, PEM, in this order.
    pub fn certificates(&self) -> Result<Option<Vec<u8>>, Rejection> {
        self.read(CERTIFICATE)
    }

    /// Replaces them.
    pub fn write_certificates(&self, pem: &[u8]) -> Result<(), Rejection> {
        self.write(CERTIFICATE, pem)
    }

    /// The members a joiner was told of.
    pub fn peers(&self) -> Result<Vec<KnownPeer>, Rejection> {
        let Some(bytes) = self.read(PEERS)? else { return Ok(Vec::new()) };
        serde_json::from_slice(&bytes).map_err(|error| foreign(PEERS, &format!("it does not parse: {error}")))
    }

    /// Remembers them.
    pub fn write_peers(&self, peers: &[KnownPeer]) -> Result<(), Rejection> {
        let text = serde_json::to_vec_pretty(peers).expect("strings and numbers always serialise");
        self.write(PEERS, &text)
    }

    fn key_pair(&self, name: &str) -> Result<LeafKey, Rejection> {
        if let Some(pem) = self.read(name)? {
            let pem = Zeroizing::new(pem);
            let text = std::str::from_utf8(&pem).map_err(|_| foreign(name, "it is not PEM"))?;
            return LeafKey::from_pem(text).map_err(|error| foreign(name, &error.to_string()));
        }
        let failed = |error| Rejection::new(Reason::Internal, format!("cannot make a key pair: {error}"));
        let key = LeafKey::generate(KeyAlgorithm::EcdsaP256).map_err(failed)?;
        self.write(name, key.to_pem(KeyEncoding::Pkcs8).map_err(failed)?.as_bytes())?;
        Ok(key)
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Rejection> {
        let path = self.path.join(name);
        let failed = |error| file_failed("read", &path, error);
        if !self.disk.exists(&path).map_err(failed)? {
            return Ok(None);
        }
        self.disk.read(&path, DATA_FILE_OCTETS_MAX).map(Some).map_err(failed)
    }

    fn write(&self, name: &str, data: &[u8]) -> Result<(), Rejection> {
        let path = self.path.join(name);
        self.disk.write_atomic(&path, data, 0o600).map_err(|error| file_failed("write", &path, error))
    }
}

/// A file of the data directory that could not be used.
pub(crate) fn file_failed(verb: &str, path: &Path, error: std::io::Error) -> Rejection {
    Rejection::new(Reason::FileFailed, format!("cannot {verb} {}: {error}", path.display()))
}

/// A data directory that is not this server's.
pub(crate) fn foreign(what: &str, why: &str) -> Rejection {
    Rejection::new(Reason::ForeignData, format!("{what} cannot be used: {why}"))
}

#[cfg(test)]
mod tests;
