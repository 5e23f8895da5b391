//! What tasks come to: remembered on disk, reported, and planned on.
//!
//! It refuses results about generations that are no longer the newest.

use std::sync::Arc;
use std::time::Duration;

use certwright_core::event::Stage;
use certwright_core::ids::{InstanceId, TargetName};
use certwright_proto::agent::v1::CsrSubmission;
use certwright_proto::api::names::certificate_to_message;
use certwright_seams::exec::compute;
use tokio::task::{Id, JoinError};

use super::Agent;
use super::work::{Finished, Progress};
use crate::failure::Failure;
use crate::fault::WriteStep;
use crate::plan::{Attempt, Request};
use crate::store::Facts;

/// After a key could not be made, or after the servers said no without saying when to ask again.
const REQUEST_RETRY: Duration = Duration::from_secs(10);

impl Agent {
    /// A delivery got somewhere, or no further.
    pub(super) async fn on_progress(&mut self, progress: Progress) {
        let Progress { instance, generation, target, stage, failure, installed } = progress;
        let now = self.now();
        let Some(entry) = self.entries.get_mut(&instance) else { return };
        if entry.issued_generation() != generation && installed.is_none() {
            return;
        }
        let changed = installed.is_some() || (stage == Stage::Served && failure.is_none());
        match (&target, &failure) {
            (Some(target), None) => {
                entry.held.attempts.remove(target);
                if let Some(installed) = installed {
                    entry.held.lost.remove(target);
                    entry.held.targets.insert(target.clone(), Arc::new(installed));
                } else if let Some(installed) = entry.held.targets.get_mut(target) {
                    let installed = Arc::make_mut(installed);
                    installed.stage = installed.stage.max(stage);
                }
            }
            (Some(target), Some(_)) => {
                let before = entry.held.attempts.get(target).copied();
                entry.held.attempts.insert(target.clone(), Attempt::after(before, generation, now.monotonic));
            }
            (None, None) => entry.held.refused = None,
            (None, Some(failure)) => entry.on_unverified(generation, failure, now.monotonic),
        }
        self.report(instance, generation, target, stage, failure);
        if changed {
            self.save_facts(instance).await;
            self.worker.fault.at(WriteStep::Recorded);
        }
    }

    /// A task ended, by itself or by a panic.
    pub(super) async fn on_finished(&mut self, ended: Result<(Id, Finished), JoinError>) {
        // What a task told before it ended comes first.
        while let Ok(progress) = self.progress.1.try_recv() {
            self.on_progress(progress).await;
        }
        let finished = match ended {
            Ok((id, finished)) => {
                self.running.remove(&id);
                finished
            }
            Err(error) => {
                tracing::error!(%error, "a task ended early");
                let Some(lost) = self.running.remove(&error.id()) else { return };
                lost
            }
        };
        match finished {
            Finished::Request { instance, generation, outcome } => self.on_request(instance, generation, outcome),
            Finished::Delivery { instance, generation } => {
                let Some(entry) = self.entries.get_mut(&instance) else { return };
                entry.delivering = false;
                // What came meanwhile goes on at once; what is left to do about the same waits for the next tick.
                let moved = entry.issued_generation() != generation;
                if moved {
                    self.ready.insert(instance)
                } else {
                    self.unsettled.insert(instance)
                };
            }
            Finished::Looked { lost } => self.on_looked(lost),
            Finished::Chore => {}
        }
    }

    fn on_request(&mut self, instance: InstanceId, generation: u64, outcome: Result<Vec<u8>, Failure>) {
        let now = self.now();
        let Some(entry) = self.entries.get_mut(&instance) else {
            self.requesting.remove(&instance);
            return;
        };
        let revision = entry.wish.revision;
        match outcome {
            Ok(csr) => {
                entry.held.keys.insert(generation);
                if !self.welcomed || entry.wish.wanted_generation != generation {
                    entry.request = Request::Idle;
                    self.requesting.remove(&instance);
                    self.ready.insert(instance);
                    return;
                }
                entry.request = Request::Sent { generation, at: now.monotonic };
                let certificate = certificate_to_message(&entry.certificate);
                let instance = instance.to_string();
                let submission = CsrSubmission { certificate, instance, generation, csr: csr.into() };
                self.outbox.request(submission, entry.traceparent.clone());
            }
            Err(failure) => {
                tracing::error!(certificate = %entry.certificate, generation, reason = failure.reason.code(), %failure,
                    "no request could be made");
                let retry_at = now.monotonic + REQUEST_RETRY;
                entry.request = Request::Refused { generation, revision, retry_at };
                self.requesting.remove(&instance);
                self.report(instance, generation, None, Stage::Received, Some(failure));
            }
        }
    }

    /// The servers said no to a CSR.
    pub(super) fn on_refused(&mut self, instance: InstanceId, generation: u64, retry_after: Option<Duration>) {
        let retry_at = self.now().monotonic + retry_after.unwrap_or(REQUEST_RETRY);
        let Some(entry) = self.entries.get_mut(&instance) else { return };
        entry.request = Request::Refused { generation, revision: entry.wish.revision, retry_at };
        self.free_request(instance);
    }

    /// A request has its answer: its place is free for another.
    pub(super) fn free_request(&mut self, instance: InstanceId) {
        if self.requesting.remove(&instance) {
            self.ready.extend(self.unsettled.iter().find(|waiting| !self.requesting.contains(waiting)));
        }
    }

    /// A report was acknowledged; when nothing more is pending about its target, that is remembered, soon.
    pub(super) fn on_acknowledged(&mut self, id: u64) {
        if let Some((instance, _)) = self.outbox.acknowledge(id) {
            self.acknowledged.insert(instance);
        }
    }

    /// Remembers of at most so many instances what was acknowledged.
    pub(super) async fn save_acknowledged(&mut self, most: usize) {
        for _ in 0..most {
            let Some(instance) = self.acknowledged.pop_first() else { return };
            self.save_facts(instance).await;
        }
    }

    /// Stores what the targets of an instance hold.
    async fn save_facts(&self, instance: InstanceId) {
        let Some(entry) = self.entries.get(&instance) else { return };
        let facts = Facts::of(&entry.held, |target: &TargetName| !self.outbox.is_pending(instance, target));
        let store = self.store.clone();
        let saved = compute(&*self.seams.exec, "files", move || store.save_facts(instance, &facts)).await;
        if let Err(error) = saved {
            // The target is right all the same: after a restart it is found so, and reported again.
            tracing::error!(%instance, %error, "the state directory cannot be written");
        }
    }
}
