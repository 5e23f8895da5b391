//! What waits to be sent, and what was sent and waits for its acknowledgement.
//!
//! It refuses to grow: of each stage of each target there is one report, the newest, and CSRs are bounded by whoever
//! asks for them.

use std::collections::{BTreeMap, VecDeque};

use certwright_core::event::{Delivered, Stage};
use certwright_core::ids::{CertificateName, InstanceId, TargetName};
use certwright_core::time::Timestamp;
use certwright_proto::agent::v1::{AgentMessage, CsrSubmission, Heartbeat, IdentityRenewal, agent_message::Kind};
use certwright_proto::api::session::report_to_message;
use certwright_proto::api::values::moment_to_message;

use crate::session::IN_FLIGHT_MAX;

/// Which report replaces which.
type Key = (InstanceId, Option<TargetName>, Stage);

/// Messages to the servers.
#[derive(Default)]
pub(super) struct Outbox {
    /// Heartbeat and identity: one each at most.
    heartbeat: Option<AgentMessage>,
    identity: Option<AgentMessage>,
    requests: VecDeque<AgentMessage>,
    reports: BTreeMap<Key, Pending>,
    unsent: VecDeque<Key>,
    sent: BTreeMap<u64, Key>,
    /// Generation and reason of failures that were acknowledged: the same is not said twice.
    said: BTreeMap<Key, (u64, String)>,
    last_id: u64,
}

/// A report that is not acknowledged.
struct Pending {
    certificate: CertificateName,
    delivered: Delivered,
    traceparent: String,
    /// Under which id it is on its way.
    id: Option<u64>,
}

impl Outbox {
    /// Queues a report; an unacknowledged one about the same stage of the same target is replaced.
    pub(super) fn report(&mut self, certificate: &CertificateName, delivered: Delivered, traceparent: &str) {
        let key = (delivered.instance, delivered.target.clone(), delivered.stage);
        match &delivered.failure {
            Some((reason, _)) => {
                let said = self.said.get(&key).is_some_and(|said| said.0 == delivered.generation && said.1 == *reason);
                if said && !self.reports.contains_key(&key) {
                    return;
                }
            }
            None => self.forgive(delivered.instance, delivered.target.as_ref()),
        }
        let pending =
            Pending { certificate: certificate.clone(), delivered, traceparent: traceparent.to_string(), id: None };
        let replaced = self.reports.insert(key.clone(), pending);
        match replaced.map(|replaced| replaced.id) {
            // Its acknowledgement would now be about something else.
            Some(Some(id)) => drop(self.sent.remove(&id)),
            // It is queued already.
            Some(None) => return,
            None => {}
        }
        self.unsent.push_back(key);
    }

    /// After a success the same failure is news again.
    fn forgive(&mut self, instance: InstanceId, target: Option<&TargetName>) {
        for stage in [Stage::Received, Stage::Verified, Stage::Written] {
            self.said.remove(&(instance, target.cloned(), stage));
        }
    }

    /// Queues a CSR.
    pub(super) fn request(&mut self, submission: CsrSubmission, traceparent: String) {
        self.requests.push_back(AgentMessage { kind: Some(Kind::Csr(submission)), traceparent });
    }

    /// Queues a heartbeat.
    pub(super) fn heartbeat(&mut self, clock: Timestamp) {
        let kind = Kind::Heartbeat(Heartbeat { clock: Some(moment_to_message(clock)) });
        self.heartbeat = Some(AgentMessage { kind: Some(kind), traceparent: String::new() });
    }

    /// Queues a request for a new identity.
    pub(super) fn identity(&mut self, renewal: IdentityRenewal) {
        self.identity = Some(AgentMessage { kind: Some(Kind::Identity(renewal)), traceparent: String::new() });
    }

    /// Whether something may be sent now.
    pub(super) fn has_unsent(&self) -> bool {
        let reports = !self.unsent.is_empty() && self.sent.len() < IN_FLIGHT_MAX;
        self.heartbeat.is_some() || self.identity.is_some() || !self.requests.is_empty() || reports
    }

    /// Whether nothing waits, neither to be sent nor to be acknowledged.
    pub(super) fn is_empty(&self) -> bool {
        self.requests.is_empty() && self.reports.is_empty()
    }

    /// The next message.
    pub(super) fn next(&mut self) -> Option<AgentMessage> {
        let urgent = self.heartbeat.take().or_else(|| self.identity.take()).or_else(|| self.requests.pop_front());
        urgent.or_else(|| self.next_report())
    }

    fn next_report(&mut self) -> Option<AgentMessage> {
        if self.sent.len() >= IN_FLIGHT_MAX {
            return None;
        }
        let key = self.unsent.pop_front()?;
        let pending = self.reports.get_mut(&key)?;
        self.last_id += 1;
        pending.id = Some(self.last_id);
        self.sent.insert(self.last_id, key);
        let report = report_to_message(self.last_id, &pending.certificate, &pending.delivered);
        Some(AgentMessage { kind: Some(Kind::Report(report)), traceparent: pending.traceparent.clone() })
    }

    /// A report is acknowledged: returns whose target it was about, when nothing else is pending about that.
    pub(super) fn acknowledge(&mut self, id: u64) -> Option<(InstanceId, TargetName)> {
        let key = self.sent.remove(&id)?;
        let pending = self.reports.remove(&key)?;
        if let Some((reason, _)) = pending.delivered.failure {
            self.said.insert(key.clone(), (pending.delivered.generation, reason));
        }
        let (instance, target) = (key.0, key.1?);
        (!self.is_pending(instance, &target)).then_some((instance, target))
    }

    /// Whether a report about a target is not acknowledged yet.
    pub(super) fn is_pending(&self, instance: InstanceId, target: &TargetName) -> bool {
        let key = |stage| (instance, Some(target.clone()), stage);
        self.reports.range(key(Stage::Received)..=key(Stage::Served)).next().is_some()
    }

    /// Forgets an instance that left the scope.
    pub(super) fn forget(&mut self, instance: InstanceId) {
        self.reports.retain(|key, _| key.0 != instance);
        self.said.retain(|key, _| key.0 != instance);
        self.unsent.retain(|key| key.0 != instance);
        self.sent.retain(|_, key| key.0 != instance);
    }

    /// The stream is gone: reports that were on their way are sent again, everything else is made anew.
    pub(super) fn on_down(&mut self) {
        self.heartbeat = None;
        self.identity = None;
        self.requests.clear();
        for (_, key) in std::mem::take(&mut self.sent) {
            if let Some(pending) = self.reports.get_mut(&key) {
                pending.id = None;
                self.unsent.push_back(key);
            }
        }
    }
}

#[cfg(test)]
mod tests;
