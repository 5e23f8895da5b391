//! Log time is set back: what was measured by the time that is taken back is measured anew.
//!
//! It refuses to touch what is history: when a thing was made stays as it was written. What is compared with the present
//! changes: deadlines, what is due, the brake on renewals, and until when an epoch's beginning, a release and a retention count.

use std::time::Duration;

use crate::ids::{CertificateName, InstanceId, TokenId};
use crate::limits::{REBASES_MAX, RETRY_MAX, TOKEN_DURATION_MAX};
use crate::mutant::{self, Mutant};
use crate::state::indexes::Facts;
use crate::state::indexes::due::Lane;
use crate::state::{Cluster, Instance, Rebase, RenewalHold, State};
use crate::time::Timestamp;

impl Rebase {
    /// A deadline that was set by the time that is taken back keeps what was left of it, `longest` at most; one that was set
    /// before that stays.
    fn carried(&self, set_at: Timestamp, deadline: Timestamp, longest: Duration) -> Timestamp {
        if set_at <= self.to {
            return deadline;
        }
        self.to.plus(deadline.since(self.from).min(longest))
    }

    /// Whether the instance waits for a moment that the time taken back had set: to be tried again, or to renew what begins
    /// only in the future.
    fn strands(&self, instance: &Instance) -> bool {
        let retries_late = instance.retry_at.is_some() && failed_at(instance) > Some(self.to);
        let current = instance.current.as_ref();
        retries_late || current.is_some_and(|current| current.not_before > self.to && current.renew_at > self.to)
    }

    fn reschedule(&self, instance: &mut Instance) {
        let set_at = failed_at(instance).unwrap_or(self.to);
        instance.retry_at = instance.retry_at.map(|retry_at| self.carried(set_at, retry_at, RETRY_MAX));
        if let Some(current) = instance.current.as_mut().filter(|current| current.not_before > self.to) {
            // Nobody who has the right time takes it.
            current.renew_at = current.renew_at.min(self.to);
        }
    }
}

fn failed_at(instance: &Instance) -> Option<Timestamp> {
    instance.last_failure.as_ref().map(|failure| failure.2)
}

impl Cluster {
    fn rebase(&mut self, rebase: &Rebase) {
        self.released_at = self.released_at.map(|at| at.min(rebase.to));
        self.retention.rebase(rebase.to);
        for epoch in &mut self.epochs {
            epoch.at = epoch.at.min(rebase.to);
        }
        if self.rebases.len() == REBASES_MAX {
            self.rebases.remove(0);
        }
        self.rebases.push(*rebase);
        if !mutant::is(Mutant::RebaseUnheld) {
            let ahead_millis = rebase.from.since(rebase.to).as_millis() as u64;
            self.hold = Some(RenewalHold::new(rebase.to, ahead_millis));
        }
    }
}

impl State {
    /// Looks at every certificate, once in a cluster's life or twice: by the time that is taken back any of them may have
    /// been renewed, or have failed.
    pub(super) fn rebase(&mut self, rebase: &Rebase) {
        self.cluster.rebase(rebase);
        let late = self.tokens.iter().filter(|token| token.created_at > rebase.to);
        let tokens: Vec<TokenId> = late.map(|token| token.id.clone()).collect();
        for id in tokens {
            if let Some(token) = self.tokens.get_mut(&id) {
                token.expires_at = rebase.carried(token.created_at, token.expires_at, TOKEN_DURATION_MAX);
            }
        }
        self.unqueue();
        let certificates = self.certificates.iter();
        let stranded: Vec<(CertificateName, InstanceId)> = certificates
            .flat_map(|certificate| certificate.instances.iter().map(|instance| (&certificate.name, instance)))
            .filter(|(_, instance)| rebase.strands(instance))
            .map(|(name, instance)| (name.clone(), instance.id))
            .collect();
        for (name, id) in stranded {
            // Its agent need not hear of it: what it was sent has not changed.
            self.change_instance(&name, id, |instance, _| rebase.reschedule(instance));
        }
    }

    /// What had become due is due in its own time again.
    fn unqueue(&mut self) {
        if mutant::is(Mutant::RebaseUnheld) {
            return;
        }
        for lane in Lane::ALL {
            for (name, number) in self.indexes.due.unqueue(lane) {
                let Some(certificate) = self.certificates.get(&name) else { continue };
                let mut instances = certificate.instances.iter();
                if let Some(instance) = instances.find(|instance| instance.id.number == number) {
                    self.indexes.due.put(&name, &Facts::of(instance, certificate.spec_revision));
                }
            }
        }
    }
}
