//! What a start finds: assignments, keys, facts; targets are compared with what is remembered of them.
//!
//! It refuses to believe its own memory of a target that says otherwise.

use certwright_core::event::Stage;
use certwright_core::ids::{InstanceId, TargetName};
use certwright_core::spec::Sink;
use certwright_proto::api::names;
use certwright_seams::exec::compute;

use super::Agent;
use super::entry::Entry;
use crate::assignment::Told;
use crate::plan::Held;
use crate::sink::files::FilesWriter;
use crate::store::{Recovered, StoreError};

/// What is found of an instance.
enum Found {
    /// All of it; of these targets the last report was not acknowledged.
    Whole(InstanceId, Box<Entry>, Vec<TargetName>),
    /// Its assignment is gone: it must be told again. What is held keeps older generations away then.
    Held(InstanceId, Held),
}

impl Agent {
    /// Recovers everything; nothing is sent or written yet.
    pub(super) async fn recover(&mut self) -> Result<(), StoreError> {
        let (store, writer) = (self.store.clone(), self.worker.writer.clone());
        let now = self.now().monotonic;
        let found = compute(&*self.seams.exec, "files", move || {
            let mut found = Vec::new();
            store.recover(|recovered| found.push(understand(recovered, &writer, now))).map(|()| found)
        })
        .await?;
        let (mut sum, mut whole) = (0u64, true);
        for found in found {
            let (instance, entry, unacknowledged) = match found {
                Found::Whole(instance, entry, unacknowledged) => (instance, entry, unacknowledged),
                Found::Held(instance, held) => {
                    self.remembered.insert(instance, held);
                    whole = false;
                    continue;
                }
            };
            sum = sum.wrapping_add(entry.sum);
            // What is installed keeps its directory, whoever plans first.
            for target in entry.wish.targets.iter().filter(|target| entry.held.targets.contains_key(&target.name)) {
                if let Some(directory) = &target.directory {
                    self.claims.entry(directory.clone()).or_insert_with(|| (instance, target.name.clone()));
                }
            }
            self.entries.insert(instance, *entry);
            self.ready.insert(instance);
            for target in unacknowledged {
                let installed = self.entries.get(&instance).and_then(|entry| entry.held.targets.get(&target));
                if let Some((generation, stage)) = installed.map(|installed| (installed.generation, installed.stage)) {
                    self.report(instance, generation, Some(target), stage, None);
                }
            }
        }
        let store = self.store.clone();
        let token = compute(&*self.seams.exec, "files", move || store.load_resume(sum).filter(|_| whole)).await;
        tracing::info!(instances = self.entries.len(), resume = token.is_some(), "state recovered");
        self.resume.send_replace(token);
        Ok(())
    }
}

fn understand(recovered: Recovered, writer: &FilesWriter, now: std::time::Duration) -> Found {
    let Recovered { instance, assignment, facts, keys } = recovered;
    let mut held = Held { keys, targets: facts.installed(), ..Held::default() };
    let told = assignment.and_then(|(assignment, sum)| Some((Told::parse(assignment).ok()?, sum)));
    let understood = told.and_then(|(told, sum)| Some((names::certificate(&told.certificate).ok()?, told, sum)));
    let Some((certificate, told, sum)) = understood else {
        // Where its targets are nobody knows: they are written anew.
        held.lost = held.targets.keys().cloned().collect();
        return Found::Held(instance, held);
    };
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
    let mut entry = Entry::new(certificate, told.wish(), held, now);
    entry.sum = sum;
    Found::Whole(instance, Box::new(entry), unacknowledged)
}
