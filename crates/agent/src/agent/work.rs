//! Work off the loop: making keys and requests, and bringing an issued certificate to its targets.
//!
//! It refuses to remember anything: it reads the state directory, acts, and tells the loop.

mod deliver;

use std::sync::Arc;

use certwright_core::event::Stage;
use certwright_core::ids::{InstanceId, TargetName};
use certwright_core::spec::Sink;
use certwright_custody::LeafKey;
use certwright_seams::Seams;
use certwright_seams::exec::compute;
use tokio::sync::{Semaphore, mpsc};

use super::AgentOptions;
use super::look::Believed;
use crate::assignment::Told;
use crate::failure::{Failure, FailureReason};
use crate::fault::{Fault, WriteStep};
use crate::plan::Installed;
use crate::reload::Reloader;
use crate::sink::files::FilesWriter;
use crate::store::Store;
use crate::trust::Trust;
use crate::verify;

pub(super) use deliver::Delivery;

/// Deliveries that hold a key and a chain in memory, and the disk, at once.
const DISK_MAX: usize = 4;
/// Hooks at once: a reload is somebody else's CPU.
const HOOKS_MAX: usize = 4;

/// What the work needs, shared by all of it.
pub(super) struct Worker {
    pub(super) seams: Seams,
    pub(super) store: Arc<Store>,
    pub(super) trust: Trust,
    pub(super) writer: FilesWriter,
    pub(super) reloader: Reloader,
    pub(super) fault: Fault,
    disk: Semaphore,
    hooks: Semaphore,
}

/// What a delivery has come to, told as it happens.
pub(super) struct Progress {
    pub(super) instance: InstanceId,
    pub(super) generation: u64,
    /// `None` for stages before any target.
    pub(super) target: Option<TargetName>,
    /// How far it got.
    pub(super) stage: Stage,
    /// Why no further.
    pub(super) failure: Option<Failure>,
    /// What the target holds now, when that changed.
    pub(super) installed: Option<Installed>,
}

/// How a task ended.
#[derive(Clone, Debug)]
pub(super) enum Finished {
    /// A request is there, or why not.
    Request {
        instance: InstanceId,
        generation: u64,
        /// The CSR, DER.
        outcome: Result<Vec<u8>, Failure>,
    },
    /// A delivery has told all there was to tell.
    Delivery { instance: InstanceId, generation: u64 },
    /// Targets whose files are not all there.
    Looked { lost: Vec<(InstanceId, TargetName)> },
    /// Nothing that the loop waits for.
    Chore,
}

impl Worker {
    pub(super) fn new(options: &AgentOptions, seams: Seams, store: Arc<Store>, trust: Trust) -> Self {
        Self {
            trust,
            writer: FilesWriter::new(seams.disk.clone(), options.fault.clone()),
            reloader: Reloader::new(options.hooks.clone(), seams.disk.clone()),
            fault: options.fault.clone(),
            disk: Semaphore::new(DISK_MAX),
            hooks: Semaphore::new(HOOKS_MAX),
            store,
            seams,
        }
    }

    /// Finds or makes the key of a generation, makes it durable, and makes its CSR.
    pub(super) async fn request(self: Arc<Self>, instance: InstanceId, generation: u64) -> Finished {
        let worker = self.clone();
        let _permit = self.disk.acquire().await;
        let outcome = compute(&*self.seams.exec, "keys", move || worker.make_request(instance, generation)).await;
        Finished::Request { instance, generation, outcome }
    }

    /// Looks whether targets hold what they are believed to hold; one that cannot be looked at is not called lost.
    pub(super) async fn look(self: Arc<Self>, believed: Believed) -> Finished {
        let worker = self.clone();
        let lost = compute(&*self.seams.exec, "files", move || {
            let mut lost = Vec::new();
            for (instance, targets) in believed {
                let Ok(told) = worker.told(instance) else { continue };
                let gone = |(name, installed): (TargetName, Arc<Installed>)| match &told.target(&name)?.sink {
                    Sink::Files(files) => {
                        let intact = worker.writer.is_intact(files, &installed.version);
                        matches!(intact, Ok(false)).then_some((instance, name))
                    }
                    Sink::Secret { .. } => None,
                };
                lost.extend(targets.into_iter().filter_map(gone));
            }
            lost
        })
        .await;
        Finished::Looked { lost }
    }

    /// Removes keys that can never be installed again.
    pub(super) async fn drop_keys(self: Arc<Self>, instance: InstanceId, generations: Vec<u64>) -> Finished {
        let store = self.store.clone();
        compute(&*self.seams.exec, "files", move || {
            for generation in generations {
                if let Err(error) = store.remove_key(instance, generation) {
                    tracing::warn!(%instance, generation, %error, "a superseded key could not be removed");
                }
            }
        })
        .await;
        Finished::Chore
    }

    fn make_request(&self, instance: InstanceId, generation: u64) -> Result<Vec<u8>, Failure> {
        let told = self.told(instance)?;
        let key = match self.stored_key(instance, generation)? {
            Some(key) => key,
            None => self.make_key(&told, generation)?,
        };
        let names = verify::wanted(&told.spec);
        key.request(&names).map_err(|error| Failure::new(FailureReason::KeyMissing, error))
    }

    /// A new key, or with rotation policy Never the one of the newest generation under another number.
    fn make_key(&self, told: &Told, generation: u64) -> Result<LeafKey, Failure> {
        let instance = told.instance;
        let algorithm = told.spec.private_key.algorithm;
        let kept = match told.issued.as_ref().filter(|_| told.keeps_key()) {
            Some(issued) => self.key(told, issued.generation, &issued.serial)?,
            None => None,
        };
        let unusable = |error| Failure::new(FailureReason::KeyMissing, error);
        let key = match kept.filter(|key| key.algorithm() == algorithm) {
            Some(key) => key,
            None => LeafKey::generate(algorithm).map_err(unusable)?,
        };
        self.fault.at(WriteStep::KeyMade);
        let pkcs8 = key.to_pkcs8().map_err(unusable)?;
        self.store
            .save_key(instance, generation, &pkcs8)
            .map_err(|error| Failure::state(&self.store.directory(instance), &error))?;
        self.fault.at(WriteStep::KeyStored);
        Ok(key)
    }

    /// The key of an issued generation: from the state directory, or from a target that still holds it.
    fn key(&self, told: &Told, generation: u64, serial: &str) -> Result<Option<LeafKey>, Failure> {
        if let Some(key) = self.stored_key(told.instance, generation)? {
            return Ok(Some(key));
        }
        let version = crate::sink::Version { generation, serial: serial.to_string() };
        let held = told.spec.targets.iter().filter_map(|target| match &target.sink {
            Sink::Files(files) => self.writer.key_pem(files, &version),
            Sink::Secret { .. } => None,
        });
        let parse = |pem: zeroize::Zeroizing<Vec<u8>>| LeafKey::from_pem(std::str::from_utf8(&pem).ok()?).ok();
        Ok(held.filter_map(parse).next())
    }

    fn stored_key(&self, instance: InstanceId, generation: u64) -> Result<Option<LeafKey>, Failure> {
        let stored = self.store.load_key(instance, generation);
        let stored = stored.map_err(|error| Failure::state(&self.store.directory(instance), &error))?;
        let unusable = |error| Failure::new(FailureReason::KeyMissing, error);
        stored.map(|der| LeafKey::from_der(&der).map_err(unusable)).transpose()
    }

    /// What the servers said last of an instance.
    fn told(&self, instance: InstanceId) -> Result<Told, Failure> {
        let assignment = self.store.load_assignment(instance);
        let assignment = assignment.map_err(|error| Failure::state(&self.store.directory(instance), &error))?;
        Told::parse(assignment).map_err(|cause| Failure::new(FailureReason::TargetFailed, cause))
    }
}

/// Where a task tells what it comes to.
pub(super) type ProgressSender = mpsc::Sender<Progress>;
