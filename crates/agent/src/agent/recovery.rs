//! What a start finds: assignments, keys, facts; targets are compared with what is remembered of them.
//!
//! It refuses to believe its own memory of a target that says otherwise.

use certwright_core::event::Stage;
use certwright_core::ids::InstanceId;
use certwright_core::spec::Sink;
use certwright_proto::api::names;
use certwright_seams::exec::compute;

use super::Agent;
use super::entry::Entry;
use crate::assignment::Told;
use crate::plan::Held;
use crate::sink::files::FilesWriter;
use crate::store::{Recovered, StoreError};

/// One recovered instance, and of which targets the last report was not acknowledged.
struct Found {
    instance: InstanceId,
    entry: Entry,
    unacknowledged: Vec<certwright_core::ids::TargetName>,
}

impl Agent {
    /// Recovers everything; nothing is sent or written yet.
    pub(super) async fn recover(&mut self) -> Result<(), StoreError> {
        let (store, writer) = (self.store.clone(), self.worker.writer.clone());
        let now = self.now().monotonic;
        let found = compute(&*self.seams.exec, "files", move || {
            let mut found = Vec::new();
            store.recover(|recovered| found.extend(understand(recovered, &writer, now))).map(|()| found)
        })
        .await?;
        let mut sum = 0u64;
        for Found { instance, entry, unacknowledged } in found {
            sum = sum.wrapping_add(entry.sum);
            // What is installed keeps its directory, whoever plans first.
            for target in entry.wish.targets.iter().filter(|target| entry.held.targets.contains_key(&target.name)) {
                if let Some(directory) = &target.directory {
                    self.claims.entry(directory.clone()).or_insert_with(|| (instance, target.name.clone()));
                }
            }
            self.entries.insert(instance, entry);
            self.ready.insert(instance);
            for target in unacknowledged {
                let installed = self.entries.get(&instance).and_then(|entry| entry.held.targets.get(&target));
                if let Some((generation, stage)) = installed.map(|installed| (installed.generation, installed.stage)) {
                    self.report(instance, generation, Some(target), stage, None);
                }
            }
        }
        let store = self.store.clone();
        let token = compute(&*self.seams.exec, "files", move || store.load_resume(sum)).await;
        tracing::info!(instances = self.entries.len(), resume = token.is_some(), "state recovered");
        self.resume.send_replace(token);
        Ok(())
    }
}

fn understand(recovered: Recovered, writer: &FilesWriter, now: std::time::Duration) -> Option<Found> {
    let Recovered { instance, assignment, sum, facts, keys } = recovered;
    let told = Told::parse(assignment).ok()?;
    let certificate = names::certificate(&told.certificate).ok()?;
    let mut held = Held { keys, targets: facts.installed(), ..Held::default() };
    for (name, installed) in &held.targets {
        // A target that is no longer ours: the memory of it keeps older generations away should it come back.
        let Some(Sink::Files(files)) = told.target(name).map(|target| &target.sink) else { continue };
        let _ = writer.recover(files);
        if !writer.is_intact(files, &installed.version).unwrap_or(false) {
            held.lost.insert(name.clone());
        }
    }
    let acknowledged = |name: &str| facts.targets.get(name).is_some_and(|facts| facts.acknowledged);
    let unacknowledged: Vec<_> = held
        .targets
        .iter()
        .filter(|(name, installed)| !acknowledged(name.as_str()) && installed.stage >= Stage::Written)
        .filter(|(name, _)| !held.lost.contains(*name))
        .map(|(name, _)| name.clone())
        .collect();
    let mut entry = Entry::new(certificate, told.wish(), now);
    entry.known = held.targets.values().map(|installed| installed.generation).max().unwrap_or(0);
    entry.held = held;
    entry.sum = sum;
    Some(Found { instance, entry, unacknowledged })
}
