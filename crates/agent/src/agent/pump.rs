//! From plans to tasks: takes instances that are ready, plans them, starts what the plan says.
//!
//! It refuses more than a bounded number of tasks and of unanswered CSRs; what finds no room is looked at again.

use certwright_core::event::{Delivered, Stage};
use certwright_core::ids::{InstanceId, TargetName};

use tracing::Instrument;

use super::work::{Delivery, Finished};
use super::{Agent, TASKS_MAX};
use crate::failure::{Failure, FailureReason};
use crate::plan::{Action, Attempt, Request, plan};
use crate::session::IN_FLIGHT_MAX;
use crate::telemetry;

impl Agent {
    /// Plans ready instances while there is room for tasks.
    pub(super) fn pump(&mut self) {
        while self.tasks.len() < TASKS_MAX {
            let Some(instance) = self.ready.pop_first() else { return };
            self.plan_one(instance);
        }
    }

    fn plan_one(&mut self, instance: InstanceId) {
        let now = self.now();
        let Some(entry) = self.entries.get(&instance) else { return };
        let plan = plan(&entry.wish, &entry.held, entry.request, self.welcomed, now);
        if !plan.settled {
            self.unsettled.insert(instance);
        }
        for action in plan.actions {
            match action {
                Action::Request { generation } => self.start_request(instance, generation),
                Action::Refuse { generation, failure } => self.refuse(instance, generation, failure),
                Action::Deliver { generation, install, check } => {
                    self.start_delivery(instance, generation, install, check);
                }
                Action::DropKeys { below } => self.start_drop_keys(instance, below),
            }
        }
    }

    fn start_request(&mut self, instance: InstanceId, generation: u64) {
        if self.requesting.len() >= IN_FLIGHT_MAX && !self.requesting.contains(&instance) {
            return;
        }
        let Some(entry) = self.entries.get_mut(&instance) else { return };
        entry.request = Request::Making;
        self.requesting.insert(instance);
        let lost = Failure::new(FailureReason::KeyMissing, "the task that makes the key ended early");
        let span = tracing::info_span!("request", certificate = %entry.certificate, generation);
        entry.traceparent = telemetry::follow(&span, &entry.traceparent);
        let task = self.worker.clone().request(instance, generation).instrument(span);
        self.spawn(task, Finished::Request { instance, generation, outcome: Err(lost) });
    }

    fn refuse(&mut self, instance: InstanceId, generation: u64, failure: Failure) {
        let Some(entry) = self.entries.get_mut(&instance) else { return };
        tracing::warn!(certificate = %entry.certificate, generation, reason = failure.reason.code(), %failure, "refused");
        entry.held.refused = Some((generation, failure.reason));
        self.report(instance, generation, None, Stage::Received, Some(failure));
    }

    fn start_delivery(
        &mut self,
        instance: InstanceId,
        generation: u64,
        install: Vec<TargetName>,
        check: Vec<TargetName>,
    ) {
        if self.entries.get(&instance).is_none_or(|entry| entry.delivering) {
            return;
        }
        let (install, conflicting): (Vec<_>, Vec<_>) =
            install.into_iter().partition(|target| self.claim(instance, target));
        for target in conflicting {
            self.conflict(instance, generation, target);
        }
        let Some(entry) = self.entries.get_mut(&instance) else { return };
        if install.is_empty() && check.is_empty() {
            return;
        }
        entry.delivering = true;
        self.look.disturb(instance);
        let known = entry.held.targets.clone();
        let again = entry.held.attempts.values().any(|attempt| attempt.generation == generation)
            && entry.held.refused.is_none();
        let progress = self.progress.0.clone();
        let delivery = Delivery { instance, generation, install, check, again, known, progress };
        let span = tracing::info_span!("deliver", certificate = %entry.certificate, generation);
        entry.traceparent = telemetry::follow(&span, &entry.traceparent);
        let task = self.worker.clone().deliver(delivery).instrument(span);
        self.spawn(task, Finished::Delivery { instance, generation });
    }

    fn start_drop_keys(&mut self, instance: InstanceId, below: u64) {
        let Some(entry) = self.entries.get_mut(&instance) else { return };
        let kept = entry.held.keys.split_off(&below);
        let dropped = std::mem::replace(&mut entry.held.keys, kept);
        let task = self.worker.clone().drop_keys(instance, dropped.into_iter().collect());
        self.spawn(task, Finished::Chore);
    }

    pub(super) fn spawn(&mut self, task: impl Future<Output = Finished> + Send + 'static, when_lost: Finished) {
        let id = self.tasks.spawn(task).id();
        self.running.insert(id, when_lost);
    }

    /// Whether a target may write its directory: the first that claims it keeps it until it leaves the scope.
    fn claim(&mut self, instance: InstanceId, target: &TargetName) -> bool {
        let Some(entry) = self.entries.get(&instance) else { return false };
        let wish = entry.wish.targets.iter().find(|wish| wish.name == *target);
        let Some(directory) = wish.and_then(|wish| wish.directory.clone()) else { return true };
        let claimed = self.claims.entry(directory).or_insert_with(|| (instance, target.clone()));
        *claimed == (instance, target.clone())
    }

    fn conflict(&mut self, instance: InstanceId, generation: u64, target: TargetName) {
        let now = self.now();
        let Some(entry) = self.entries.get_mut(&instance) else { return };
        let before = entry.held.attempts.get(&target).copied();
        entry.held.attempts.insert(target.clone(), Attempt::after(before, generation, now.monotonic));
        let failure = Failure::new(FailureReason::TargetConflict, "another certificate writes the same directory");
        self.report(instance, generation, Some(target), Stage::Verified, Some(failure));
    }

    /// Queues a report about an instance.
    pub(super) fn report(
        &mut self,
        instance: InstanceId,
        generation: u64,
        target: Option<TargetName>,
        stage: Stage,
        failure: Option<Failure>,
    ) {
        let now = self.now();
        let Some(entry) = self.entries.get(&instance) else { return };
        let delivered = Delivered {
            instance,
            generation,
            target,
            stage,
            failure: failure.map(|failure| (failure.reason.code().to_string(), failure.message)),
            elapsed: now.monotonic.saturating_sub(entry.received_at),
        };
        self.outbox.report(&entry.certificate, delivered, &entry.traceparent);
    }
}
