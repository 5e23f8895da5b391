//! Questions about certificates: what is due, who refers to an issuer, which instance is which.
//!
//! It refuses scans: every answer comes from an index and costs what it returns.

use std::collections::BTreeSet;
use std::ops::Bound;

use super::indexes::due::Lane;
use super::{Certificate, Counts, Instance, State};
use crate::event::Trigger;
use crate::ids::{AgentName, CertificateName, InstanceId, IssuerName};
use crate::limits;
use crate::log::Revision;
use crate::spec::{CertificateSpec, Holder};
use crate::time::Timestamp;

/// An instance whose next generation should be opened: since when it is due (the epoch when there is nothing to wait
/// for), its certificate, itself and why.
pub type Due = (Timestamp, CertificateName, InstanceId, Trigger);

impl Certificate {
    /// The instance with this id.
    pub fn instance(&self, id: InstanceId) -> Option<&Instance> {
        self.instances.iter().find(|instance| instance.id == id)
    }

    /// The instance that this agent holds.
    pub fn instance_of(&self, agent: &AgentName) -> Option<&Instance> {
        self.instances.iter().find(|instance| instance.agent == *agent)
    }
}

impl Instance {
    /// When its next generation is due and why; `None` while an issuance is open.
    pub fn due(&self, spec_revision: Revision) -> Option<(Timestamp, Trigger)> {
        if self.open.is_some() {
            return None;
        }
        let (at, trigger) = match self.current {
            None => (Timestamp::EPOCH, Trigger::First),
            Some(current) if current.spec_revision < spec_revision => (Timestamp::EPOCH, Trigger::SpecChanged),
            Some(current) => (current.renew_at, Trigger::Due),
        };
        Some((self.retry_at.map_or(at, |retry_at| at.max(retry_at)), trigger))
    }

    /// When something goes dark if it is not issued: the end of validity, or, for what was never issued or says
    /// something old, a while after it became due.
    fn urgency(&self, trigger: Trigger, now: Timestamp) -> Timestamp {
        let patience = now.plus(limits::FIRST_ISSUANCE_PATIENCE);
        match (self.current, trigger) {
            (None, _) => patience,
            // What is served meanwhile is an older one.
            (Some(current), _) if current.not_before > now => patience,
            (Some(current), Trigger::SpecChanged) => current.not_after.min(patience),
            (Some(current), _) => current.not_after,
        }
    }
}

impl State {
    /// At most `limit` instances that are due at `now`, least life left first; those with an open issuance excluded.
    pub fn due(&self, now: Timestamp, limit: usize) -> Vec<Due> {
        self.due_held(now, limit, limit)
    }

    /// The same, but at most `renewals` whose renewal time came: the others wait while renewals are held back.
    pub fn due_held(&self, now: Timestamp, limit: usize, renewals: usize) -> Vec<Due> {
        let mut due = self.due_in(Lane::Missing, now, limit);
        due.extend(self.due_in(Lane::Renewals, now, renewals.min(limit)));
        let in_order = first_of(due, limit);
        in_order.into_iter().map(|(_, due)| due).collect()
    }

    /// How many instances are due at `now`. Of those that became due while nothing was written no more than
    /// [`limits::DUE_COUNTED_MAX`] are counted: whoever counts keeps entries from being applied.
    pub fn due_count(&self, now: Timestamp) -> usize {
        let index = &self.indexes.due;
        let in_lane =
            |lane| index.queue_len(lane) + index.due_in_calendar(lane, now).take(limits::DUE_COUNTED_MAX).count();
        Lane::ALL.into_iter().map(in_lane).sum()
    }

    /// The first of one lane, each with its urgency.
    fn due_in(&self, lane: Lane, now: Timestamp, limit: usize) -> Vec<(Timestamp, Due)> {
        let index = &self.indexes.due;
        let queued = index.queue(lane).take(limit).map(|(urgency, name, number)| (Some(urgency), name, number));
        let calendar = index.due_in_calendar(lane, now).take(limit).map(|(name, number)| (None, name, number));
        let due = queued.chain(calendar).filter_map(|(urgency, name, number)| {
            let (due, fresh) = self.look_up_due(name, number, now)?;
            Some((urgency.unwrap_or(fresh), due))
        });
        first_of(due.collect(), limit)
    }

    fn look_up_due(&self, name: &CertificateName, number: u32, now: Timestamp) -> Option<(Due, Timestamp)> {
        let certificate = self.certificates.get(name)?;
        let instance = certificate.instances.iter().find(|instance| instance.id.number == number)?;
        let (at, trigger) = instance.due(certificate.spec_revision)?;
        Some(((at, certificate.name.clone(), instance.id, trigger), instance.urgency(trigger, now)))
    }

    /// Lets log time pass: moves a few of those that became due into the queues.
    pub(super) fn advance_due(&mut self, now: Timestamp) {
        for lane in Lane::ALL {
            for _ in 0..super::indexes::due::MOVES_PER_EVENT {
                let Some((name, number)) = self.indexes.due.first_due(lane, now) else { break };
                let urgency = self.look_up_due(&name, number, now).map_or(now, |(_, urgency)| urgency);
                self.indexes.due.queue_first(lane, urgency);
            }
        }
    }

    /// When the next instance becomes due; in the past when one is due already.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.indexes.due.next()
    }

    /// The next `limit` certificates, by name after `after`, that name this issuer.
    pub fn certificates_of_issuer(
        &self,
        issuer: &IssuerName,
        after: Option<&CertificateName>,
        limit: usize,
    ) -> Vec<CertificateName> {
        names_after(self.indexes.holders.by_issuer.get(issuer), after, limit)
    }

    /// How many certificates name this issuer.
    pub fn certificates_of_issuer_count(&self, issuer: &IssuerName) -> usize {
        self.indexes.holders.by_issuer.get(issuer).map_or(0, BTreeSet::len)
    }

    /// At most `limit` certificates whose instances are not as their targets want them.
    pub fn unsettled(&self, limit: usize) -> Vec<CertificateName> {
        let mut names: Vec<CertificateName> = Vec::new();
        for (name, _) in &self.indexes.holders.unsettled {
            if names.last() != Some(name) {
                if names.len() == limit {
                    break;
                }
                names.push(name.clone());
            }
        }
        names
    }

    /// How much there is, for metrics.
    pub fn counts(&self) -> Counts {
        self.indexes.counts
    }

    /// The registered agents that hold at least one target of this specification.
    pub fn holders_of(&self, spec: &CertificateSpec) -> BTreeSet<AgentName> {
        let mut holders = BTreeSet::new();
        for target in &spec.targets {
            match &target.holder {
                Holder::Agent(agent) => holders.extend(self.agents.get(agent).map(|agent| agent.name.clone())),
                Holder::Selector(labels) => {
                    let candidates = self.indexes.holders.may_carry(labels).into_iter().flatten();
                    let agents = candidates.filter_map(|agent| self.agents.get(agent));
                    let matching = agents.filter(|agent| target.holder.matches(&agent.name, &agent.labels));
                    holders.extend(matching.map(|agent| agent.name.clone()));
                }
            }
        }
        holders
    }
}

/// The most urgent ones, in order.
fn first_of(mut due: Vec<(Timestamp, Due)>, limit: usize) -> Vec<(Timestamp, Due)> {
    due.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.2.cmp(&b.1.2)));
    due.truncate(limit);
    due
}

/// A page of a set of names.
pub(super) fn names_after(
    names: Option<&BTreeSet<CertificateName>>,
    after: Option<&CertificateName>,
    limit: usize,
) -> Vec<CertificateName> {
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    let range = names.into_iter().flat_map(|names| names.range::<CertificateName, _>((from, Bound::Unbounded)));
    range.take(limit).cloned().collect()
}
