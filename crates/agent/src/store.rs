//! The agent's state directory: what it was told, what it did, and the private keys that are on their way.
//!
//! It refuses to let a CSR leave before its key is durable, and to be used by two agents at once.
//!
//! ```text
//! STATE/lock                              held while an agent runs
//! STATE/resume.json                       where to go on, and the sum of the assignments it belongs to
//! STATE/trust-bundle                      the roots that servers announced
//! STATE/checkpoint                        the newest checkpoint of the servers' log, with its signature and key
//! STATE/identity.key                      private key of the agent's next identity, PKCS#8 DER, 0600
//! STATE/instances/ID/assignment           the newest assignment, as it came
//! STATE/instances/ID/facts.json           what each target holds
//! STATE/instances/ID/7.key                private key of generation 7, PKCS#8 DER, 0600
//! ```

mod facts;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use certwright_core::ids::{ClusterId, InstanceId};
use certwright_proto::agent::v1::{Assignment, Checkpoint, TrustBundle};
use certwright_seams::Disk;
use certwright_seams::disk::{File, Open};
use prost::Message;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

pub use facts::{Facts, TargetFacts};

use crate::checkpoint::{CHECKPOINT_OCTETS_MAX, Kept};
use crate::trust::TRUST_OCTETS_MAX;

/// Octets of an assignment: a chain of a few certificates and a specification with a hundred names.
pub const ASSIGNMENT_OCTETS_MAX: u64 = 1024 * 1024;
/// Octets of a facts file: sixteen targets with a failure each.
const FACTS_OCTETS_MAX: u64 = 256 * 1024;
/// Octets of a private key: RSA-4096 has 2.4 KiB.
const KEY_OCTETS_MAX: u64 = 16 * 1024;
/// Octets of the resume file.
const RESUME_OCTETS_MAX: u64 = 4096;

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another agent runs on it.
    #[error("state directory {0} is in use by another agent; give each agent a directory of its own")]
    InUse(PathBuf),
    /// It cannot be read or written.
    #[error("state directory: {path}: {error}")]
    Io {
        /// What was touched.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

/// The state directory. All calls block: run them on a worker.
pub struct Store {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    /// Held for the store's life.
    _lock: Box<dyn File>,
}

/// One instance as a crash or a stop left it.
pub struct Recovered {
    /// The instance.
    pub instance: InstanceId,
    /// The newest assignment, with its share of the sum that a resume token belongs to; `None` when a power cut took it. What was
    /// installed is remembered all the same.
    pub assignment: Option<(Assignment, u64)>,
    /// What each target holds.
    pub facts: Facts,
    /// Generations whose key is there.
    pub keys: BTreeSet<u64>,
}

/// Where to go on.
#[derive(Serialize, Deserialize)]
struct Resume {
    token: String,
    /// Sum over the assignments that the token stands for: assignments are not synced one by one, and a token that
    /// claims more than survived a power cut would hide changes for ever.
    sum: u64,
    /// When the machine still runs since the token was stored, nothing written before it can be lost.
    boot: Option<String>,
}

impl Store {
    /// Opens (or creates) the directory and takes its lock.
    pub fn open(disk: Arc<dyn Disk>, root: &Path) -> Result<Self, StoreError> {
        let at = |path: &Path| {
            let path = path.to_path_buf();
            move |error: io::Error| StoreError::Io { path, error }
        };
        let instances = root.join("instances");
        disk.create_dir_durable(root, 0o700).map_err(at(root))?;
        disk.create_dir_durable(&instances, 0o700).map_err(at(&instances))?;
        let path = root.join("lock");
        let lock = disk.open(&path, Open::Create(0o600)).map_err(at(&path))?;
        match lock.lock() {
            Ok(()) => Ok(Self { disk, root: root.to_path_buf(), _lock: lock }),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(StoreError::InUse(root.to_path_buf())),
            Err(error) => Err(StoreError::Io { path, error }),
        }
    }

    /// Every instance, one at a time, so that a thousand assignments are not in memory at once. An assignment that cannot be
    /// read is left out, and must be told again.
    pub fn recover(&self, mut each: impl FnMut(Recovered)) -> Result<(), StoreError> {
        let root = self.root.join("instances");
        let at = |error: io::Error| StoreError::Io { path: root.clone(), error };
        for name in self.disk.list(&root).map_err(at)? {
            let Some(instance) = name.to_str().and_then(InstanceId::parse) else { continue };
            let keys = self.tidy(instance).map_err(at)?;
            let assignment = self.read_assignment(instance);
            each(Recovered { instance, assignment, facts: self.load_facts(instance), keys });
        }
        Ok(())
    }

    /// Stores an assignment as a whole; returns its share of the sum. Not synced: see [`Store::recover`].
    pub fn save_assignment(&self, instance: InstanceId, assignment: &Assignment) -> io::Result<u64> {
        let octets = assignment.encode_to_vec();
        self.replace(instance, "assignment", &octets)?;
        Ok(sum(instance, &octets))
    }

    /// The newest assignment of an instance.
    pub fn load_assignment(&self, instance: InstanceId) -> io::Result<Assignment> {
        let octets = self.disk.read(&self.path(instance, "assignment"), ASSIGNMENT_OCTETS_MAX)?;
        Assignment::decode(octets.as_slice()).map_err(io::Error::other)
    }

    /// Makes durable what each target holds. A file that a power cut tears would make the agent forget an installation,
    /// and take an older generation of a server that lags.
    pub fn save_facts(&self, instance: InstanceId, facts: &Facts) -> io::Result<()> {
        let octets = serde_json::to_vec(facts).map_err(io::Error::other)?;
        self.disk.write_atomic(&self.path(instance, "facts.json"), &octets, 0o600)
    }

    /// Makes a private key durable. Only then may its CSR be sent.
    pub fn save_key(&self, instance: InstanceId, generation: u64, pkcs8: &[u8]) -> io::Result<()> {
        let directory = self.directory(instance);
        self.disk.create_dir_all(&directory, 0o700)?;
        self.disk.write_atomic(&directory.join(format!("{generation}.key")), pkcs8, 0o600)?;
        // The directory's own name may be as young as the key.
        self.disk.sync_dir(&self.root.join("instances"))
    }

    /// The private key of a generation, PKCS#8 DER.
    pub fn load_key(&self, instance: InstanceId, generation: u64) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
        self.read_key(&self.path(instance, &format!("{generation}.key")))
    }

    fn read_key(&self, path: &Path) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
        match self.disk.read(path, KEY_OCTETS_MAX) {
            Ok(octets) => Ok(Some(Zeroizing::new(octets))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes one private key; one that is not there is fine.
    pub fn remove_key(&self, instance: InstanceId, generation: u64) -> io::Result<()> {
        self.remove(&self.path(instance, &format!("{generation}.key")))
    }

    /// Forgets an instance: it left the scope, its id never recurs.
    pub fn remove_instance(&self, instance: InstanceId) -> io::Result<()> {
        match self.disk.remove_dir_all(&self.directory(instance)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Stores where to go on, and the sum of all assignments at that moment.
    pub fn save_resume(&self, token: &str, sum: u64) -> io::Result<()> {
        let resume = Resume { token: token.to_string(), sum, boot: self.boot() };
        let octets = serde_json::to_vec(&resume).map_err(io::Error::other)?;
        self.disk.write_atomic(&self.root.join("resume.json"), &octets, 0o600)
    }

    /// Makes the key of the next identity durable. Only then may it be asked for.
    pub fn save_identity_key(&self, pkcs8: &[u8]) -> io::Result<()> {
        self.disk.write_atomic(&self.root.join("identity.key"), pkcs8, 0o600)
    }

    /// The key of the next identity, PKCS#8 DER.
    pub fn load_identity_key(&self) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
        self.read_key(&self.root.join("identity.key"))
    }

    /// The identity has its key; this copy is not needed.
    pub fn remove_identity_key(&self) -> io::Result<()> {
        self.remove(&self.root.join("identity.key"))
    }

    /// Makes announced roots durable. Only then may they be trusted.
    pub fn save_trust(&self, announced: &TrustBundle) -> io::Result<()> {
        self.disk.write_atomic(&self.root.join("trust-bundle"), &announced.encode_to_vec(), 0o600)
    }

    /// The roots that were announced last; `None` before the first contact. One that cannot be read is an error: taking
    /// it for absent would trust whoever speaks next.
    pub fn load_trust(&self) -> Result<Option<TrustBundle>, StoreError> {
        let path = self.root.join("trust-bundle");
        let octets = match self.disk.read(&path, TRUST_OCTETS_MAX) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            octets => octets,
        };
        let bundle = octets.and_then(|octets| TrustBundle::decode(octets.as_slice()).map_err(io::Error::other));
        bundle.map(Some).map_err(|error| StoreError::Io { path, error })
    }

    /// Makes a checkpoint of the servers' log durable. Only then is it kept.
    pub fn save_checkpoint(&self, checkpoint: &Checkpoint) -> io::Result<()> {
        self.disk.write_atomic(&self.root.join("checkpoint"), &checkpoint.encode_to_vec(), 0o600)
    }

    /// The checkpoint kept last; `None` before the first one. One that cannot be read is an error: taking it for absent
    /// would believe whoever speaks next.
    pub fn load_checkpoint(&self, cluster_id: ClusterId) -> Result<Option<Kept>, StoreError> {
        let path = self.root.join("checkpoint");
        let octets = match self.disk.read(&path, CHECKPOINT_OCTETS_MAX) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            octets => octets,
        };
        let checkpoint = octets.and_then(|octets| {
            let checkpoint = Checkpoint::decode(octets.as_slice()).map_err(io::Error::other)?;
            Kept::verified(&checkpoint, cluster_id).map_err(io::Error::other)
        });
        checkpoint.map(Some).map_err(|error| StoreError::Io { path, error })
    }

    /// Where to go on, when no power cut can have taken anything of what the token stands for.
    pub fn load_resume(&self, sum: u64) -> Option<String> {
        let octets = self.disk.read(&self.root.join("resume.json"), RESUME_OCTETS_MAX).ok()?;
        let resume: Resume = serde_json::from_slice(&octets).ok()?;
        let same_boot = resume.boot.is_some() && resume.boot == self.boot();
        (same_boot || resume.sum == sum).then_some(resume.token)
    }

    /// What names the machine's present boot (proc(5)); `None` where there is no such file.
    fn boot(&self) -> Option<String> {
        // Files of /proc claim to be empty: they are read to a fixed size.
        let mut octets = [0; 36];
        let file = self.disk.open(Path::new("/proc/sys/kernel/random/boot_id"), Open::Read).ok()?;
        let read = file.read_at(0, &mut octets).ok()?;
        (read == octets.len()).then(|| String::from_utf8_lossy(&octets).to_string())
    }

    fn load_facts(&self, instance: InstanceId) -> Facts {
        let octets = self.disk.read(&self.path(instance, "facts.json"), FACTS_OCTETS_MAX);
        octets.ok().and_then(|octets| serde_json::from_slice(&octets).ok()).unwrap_or_default()
    }

    fn read_assignment(&self, instance: InstanceId) -> Option<(Assignment, u64)> {
        let octets = self.disk.read(&self.path(instance, "assignment"), ASSIGNMENT_OCTETS_MAX).ok()?;
        let assignment = Assignment::decode(octets.as_slice()).ok()?;
        (assignment.instance == instance.to_string()).then(|| (assignment, sum(instance, &octets)))
    }

    /// Removes temporary files of a crash; returns the generations whose key is there.
    fn tidy(&self, instance: InstanceId) -> io::Result<BTreeSet<u64>> {
        let directory = self.directory(instance);
        let mut keys = BTreeSet::new();
        for name in self.disk.list(&directory)? {
            let name = name.to_string_lossy();
            if name.starts_with('.') {
                self.remove(&directory.join(&*name))?;
            } else if let Some(generation) = name.strip_suffix(".key").and_then(|number| number.parse().ok()) {
                keys.insert(generation);
            }
        }
        Ok(keys)
    }

    /// Replaces a file as a whole, without waiting for the disk.
    fn replace(&self, instance: InstanceId, name: &str, octets: &[u8]) -> io::Result<()> {
        let path = self.path(instance, name);
        let directory = self.directory(instance);
        self.disk.create_dir_all(&directory, 0o700)?;
        let temporary = directory.join(format!(".{name}"));
        self.remove(&temporary)?;
        self.disk.open(&temporary, Open::CreateNew(0o600))?.write_at(0, octets)?;
        self.disk.rename(&temporary, &path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match self.disk.remove(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Where an instance's files are.
    pub fn directory(&self, instance: InstanceId) -> PathBuf {
        self.root.join("instances").join(instance.to_string())
    }

    fn path(&self, instance: InstanceId, name: &str) -> PathBuf {
        self.directory(instance).join(name)
    }
}

/// An assignment's share of the sum: the first eight octets of a SHA-256.
fn sum(instance: InstanceId, octets: &[u8]) -> u64 {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    context.update(instance.to_string().as_bytes());
    context.update(&[0]);
    context.update(octets);
    let digest = context.finish();
    u64::from_be_bytes(digest.as_ref()[..8].try_into().expect("SHA-256 has more than eight octets"))
}

#[cfg(test)]
mod tests;
