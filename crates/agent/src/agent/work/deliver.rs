//! One delivery: verify once, then every target in turn: write, tell the consumer, look at what is served.
//!
//! It refuses to touch a target with anything but a verified pair, and to leave a target on files that its consumer
//! did not take.

use std::collections::BTreeMap;
use std::sync::Arc;

use certwright_core::event::Stage;
use certwright_core::ids::{InstanceId, TargetName};
use certwright_core::spec::{FilesSink, Sink, Target};
use certwright_core::time::Timestamp;
use certwright_core::x509::inspect::Inspected;
use certwright_seams::exec::compute;

use super::{Finished, Progress, ProgressSender, Worker};
use crate::assignment::Told;
use crate::failure::{Failure, FailureReason};
use crate::fault::WriteStep;
use crate::plan::Installed;
use crate::reload::HookContext;
use crate::served;
use crate::sink::files::Written;
use crate::sink::{Bundle, Version};
use crate::verify::{check_newer, verify};

/// What to deliver where.
pub(in crate::agent) struct Delivery {
    pub(in crate::agent) instance: InstanceId,
    pub(in crate::agent) generation: u64,
    /// Targets to write.
    pub(in crate::agent) install: Vec<TargetName>,
    /// Targets to look at.
    pub(in crate::agent) check: Vec<TargetName>,
    /// Whether an attempt at this generation failed before: then it was verified, and said so, before.
    pub(in crate::agent) again: bool,
    /// What the targets hold.
    pub(in crate::agent) known: BTreeMap<TargetName, Arc<Installed>>,
    pub(in crate::agent) progress: ProgressSender,
}

impl Delivery {
    async fn tell(&self, target: Option<&TargetName>, stage: Stage, failure: Option<Failure>) {
        self.tell_installed(target, stage, failure, None).await;
    }

    async fn tell_installed(
        &self,
        target: Option<&TargetName>,
        stage: Stage,
        failure: Option<Failure>,
        installed: Option<Installed>,
    ) {
        let (instance, generation, target) = (self.instance, self.generation, target.cloned());
        let progress = Progress { instance, generation, target, stage, failure, installed };
        // The loop outlives its tasks; when it does not, nobody is left to be told.
        let _ = self.progress.send(progress).await;
    }
}

/// A verified generation on its way: what the targets' steps need of it.
struct Parcel {
    told: Told,
    bundle: Arc<Bundle>,
    certified: Arc<Inspected>,
}

impl Worker {
    /// Delivers; everything that happens is told as it happens.
    pub(in crate::agent) async fn deliver(self: Arc<Self>, delivery: Delivery) -> Finished {
        let mut check = delivery.check.clone();
        if !delivery.install.is_empty() {
            check.extend(self.install(&delivery).await);
        }
        if !check.is_empty() {
            self.check(&delivery, &check).await;
        }
        Finished::Delivery { instance: delivery.instance, generation: delivery.generation }
    }

    /// Verifies and writes; returns the targets that are written.
    async fn install(self: &Arc<Self>, delivery: &Delivery) -> Vec<TargetName> {
        let mut written = Vec::new();
        let _permit = self.disk.acquire().await;
        let (worker, instance, generation) = (self.clone(), delivery.instance, delivery.generation);
        let parcel = match compute(&*self.seams.exec, "files", move || worker.parcel(instance, generation)).await {
            Ok(parcel) => parcel,
            Err(failure) => {
                tracing::warn!(instance = %delivery.instance, generation, reason = failure.reason.code(), %failure, "not installed");
                delivery.tell(None, Stage::Received, Some(failure)).await;
                return written;
            }
        };
        if !delivery.again {
            delivery.tell(None, Stage::Verified, None).await;
        }
        for name in &delivery.install {
            let outcome = match parcel.told.target(name) {
                Some(target) => self.install_one(delivery, &parcel, target).await,
                None => Err(stale(delivery.generation)),
            };
            match outcome {
                Ok(installed) => {
                    tracing::info!(certificate = parcel.told.certificate, target = %name, generation,
                        serial = installed.serial, "installed");
                    delivery.tell_installed(Some(name), Stage::Written, None, Some(installed)).await;
                    written.push(name.clone());
                }
                Err(failure) => {
                    tracing::warn!(certificate = parcel.told.certificate, target = %name, generation,
                        reason = failure.reason.code(), %failure, "not installed");
                    delivery.tell(Some(name), Stage::Verified, Some(failure)).await;
                }
            }
        }
        written.retain(|name| parcel.told.target(name).is_some_and(|target| target.served_check.is_some()));
        written
    }

    /// Loads and verifies.
    fn parcel(&self, instance: InstanceId, generation: u64) -> Result<Parcel, Failure> {
        let told = self.told(instance)?;
        let issued = told.issued.as_ref().filter(|issued| issued.generation == generation);
        let issued = issued.ok_or_else(|| stale(generation))?;
        let key = self.key(&told, generation, &issued.serial)?;
        let missing = || Failure::new(FailureReason::KeyMissing, format!("no private key of generation {generation}"));
        let key = key.ok_or_else(missing)?;
        let now = Timestamp::from_millis(self.seams.clock.wall_millis());
        let pair = verify(issued, &told.spec, key.spki_hash(), &self.trust, now)?;
        let pem = key.to_pem(told.spec.private_key.encoding);
        let pem = pem.map_err(|error| Failure::new(FailureReason::KeyMissing, error))?;
        let version = Version { generation, serial: pair.inspected().serial.clone() };
        let issued = pair.issued();
        let bundle = Bundle::new(version, &issued.certificate, &issued.intermediates, &issued.root, &pem);
        let certified = Arc::new(pair.inspected().clone());
        Ok(Parcel { bundle: Arc::new(bundle), certified, told })
    }

    #[tracing::instrument(name = "install", skip_all, fields(target = %target.name))]
    async fn install_one(
        self: &Arc<Self>,
        delivery: &Delivery,
        parcel: &Parcel,
        target: &Target,
    ) -> Result<Installed, Failure> {
        let Sink::Files(files) = &target.sink else {
            let message = format!("target {} is a Secret, and this agent writes files", target.name);
            return Err(Failure::new(FailureReason::NotSupported, message));
        };
        let known = delivery.known.get(&target.name);
        let wish = parcel.told.wish();
        let digest = wish.targets.iter().find(|wish| wish.name == target.name).map_or(0, |wish| wish.digest);
        let inherit = known.is_some_and(|known| known.digest == digest);
        let (worker, sink) = (self.clone(), files.clone());
        let (bundle, certified) = (parcel.bundle.clone(), parcel.certified.clone());
        let now = Timestamp::from_millis(self.seams.clock.wall_millis());
        let written = compute(&*self.seams.exec, "files", move || {
            if let Some((generation, shown)) = worker.writer.shown(&sink) {
                check_newer((bundle.version().generation, &certified), (generation, &shown), now)?;
            }
            worker.writer.write(&sink, &bundle, inherit)
        });
        let written = written.await?;
        let previous = written.previous.clone().or_else(|| known.map(|known| known.version.clone()));
        self.tell_consumer(parcel, target, files, &written, previous.as_deref()).await?;
        let (worker, sink) = (self.clone(), files.clone());
        let pruned = compute(&*self.seams.exec, "files", move || {
            worker.writer.prune(&sink, &previous.as_deref().into_iter().collect::<Vec<_>>())
        });
        if let Err(failure) = pruned.await {
            tracing::warn!(target = %target.name, %failure, "old versions could not be removed");
        }
        let version = parcel.bundle.version();
        Ok(Installed {
            generation: version.generation,
            serial: version.serial.clone(),
            version: written.version,
            digest,
            stage: Stage::Written,
        })
    }

    /// Runs the reload; when it fails, the link goes back to the previous version, and the failure says whether it did.
    async fn tell_consumer(
        self: &Arc<Self>,
        parcel: &Parcel,
        target: &Target,
        files: &FilesSink,
        written: &Written,
        previous: Option<&str>,
    ) -> Result<(), Failure> {
        let Some(reload) = &target.reload else {
            self.fault.at(WriteStep::Reloaded);
            return Ok(());
        };
        let context = HookContext {
            certificate: parcel.told.certificate.clone(),
            serial: parcel.bundle.version().serial.clone(),
            directory: files.directory.clone(),
            dns_names: parcel.told.spec.dns_names.clone(),
        };
        let outcome = {
            let _permit = self.hooks.acquire().await;
            self.reloader.reload(reload, &context).await
        };
        self.fault.at(WriteStep::Reloaded);
        let Err(failure) = outcome else { return Ok(()) };
        let previous = previous.filter(|previous| *previous != written.version).map(str::to_string);
        Err(self.put_back(files, previous, failure).await)
    }

    /// Puts the previous version back after `failure`; returns what is to be said of both. What it adds comes first: a
    /// command's own words may fill the message.
    async fn put_back(self: &Arc<Self>, files: &FilesSink, previous: Option<String>, failure: Failure) -> Failure {
        let Some(previous) = previous else {
            return Failure::new(
                failure.reason,
                format_args!("{failure}; there is no older set of files to go back to"),
            );
        };
        let (worker, sink, version) = (self.clone(), files.clone(), previous.clone());
        match compute(&*self.seams.exec, "files", move || worker.writer.roll_back(&sink, &version)).await {
            Ok(true) => failure,
            Ok(false) => Failure::new(
                FailureReason::RollBackFailed,
                format_args!("{previous} is gone, the new files stay in place; {failure}"),
            ),
            Err(worse) => Failure::new(FailureReason::RollBackFailed, format_args!("{worse}; {failure}")),
        }
    }

    /// Looks at what is served, all targets at once.
    #[tracing::instrument(name = "served", skip_all)]
    async fn check(&self, delivery: &Delivery, names: &[TargetName]) {
        let told = self.told_async(delivery.instance).await;
        let looks = names.iter().map(|name| {
            let told = &told;
            async move {
                let (stage, failure) = match self.check_one(told.as_ref(), delivery.generation, name).await {
                    Ok(()) => (Stage::Served, None),
                    Err(failure) => (Stage::Written, Some(failure)),
                };
                if let Some(failure) = &failure {
                    tracing::warn!(target = %name, reason = failure.reason.code(), %failure, "not served");
                }
                delivery.tell(Some(name), stage, failure).await;
            }
        });
        futures_util::future::join_all(looks).await;
    }

    async fn check_one(
        &self,
        told: Result<&Told, &Failure>,
        generation: u64,
        name: &TargetName,
    ) -> Result<(), Failure> {
        let told = told.map_err(Clone::clone)?;
        let issued = told.issued.as_ref().filter(|issued| issued.generation == generation);
        let check = told.target(name).and_then(|target| target.served_check.as_ref());
        let (Some(issued), Some(check)) = (issued, check) else { return Err(stale(generation)) };
        served::check(&self.seams, check, &issued.serial).await
    }

    async fn told_async(&self, instance: InstanceId) -> Result<Told, Failure> {
        let store = self.store.clone();
        let assignment = compute(&*self.seams.exec, "files", move || store.load_assignment(instance)).await;
        let assignment = assignment.map_err(|error| Failure::state(&self.store.directory(instance), &error))?;
        Told::parse(assignment).map_err(|cause| Failure::new(FailureReason::TargetFailed, cause))
    }
}

/// What is on disk is not what the loop planned on: another assignment came meanwhile, or this one could not be stored.
fn stale(generation: u64) -> Failure {
    Failure::new(FailureReason::StateFailed, format!("the state directory does not hold generation {generation}"))
}
