//! Which instances come and go with agents, labels and targets; a bounded number at a time.
//!
//! It refuses to finish what does not fit into one transaction: the rest stays unsettled and is reconciled.

use super::draft::Draft;
use crate::event::Event;
use crate::ids::{AgentName, CertificateName, InstanceId, Uid};
use crate::limits;
use crate::spec::{CertificateSpec, Labels};
use crate::state::Certificate;

/// One agent comes to hold a target.
pub(super) fn add(draft: &mut Draft<'_>, name: &CertificateName, uid: Uid, number: u32, agent: AgentName) {
    let instance = InstanceId { certificate: uid, number };
    draft.push(name.stream(), Event::InstanceAdded { instance, agent });
}

/// Pairs a certificate with the agents that hold its targets by `spec`: removals first, so that there is room.
pub(super) fn pair(draft: &mut Draft<'_>, name: &CertificateName, certificate: &Certificate, spec: &CertificateSpec) {
    let holders = draft.state.holders_of(spec);
    let mut left = limits::RECONCILE_MAX;
    let mut held = certificate.instances.len();
    for instance in certificate.instances.iter().filter(|instance| !holders.contains(&instance.agent)) {
        if left == 0 {
            return;
        }
        (left, held) = (left - 1, held - 1);
        draft.push(name.stream(), Event::InstanceRemoved { instance: instance.id });
    }
    let missing = holders.into_iter().filter(|agent| certificate.instance_of(agent).is_none());
    let room = limits::INSTANCES_MAX.saturating_sub(held);
    for (agent, number) in missing.zip(certificate.next_instance..).take(left.min(room)) {
        add(draft, name, certificate.uid, number, agent);
    }
}

/// What changes for certificates when an agent comes, changes its labels or goes (`None`: it is not registered).
pub(super) fn follow(draft: &mut Draft<'_>, agent: &AgentName, before: Option<&Labels>, after: Option<&Labels>) {
    let last = draft.len() + limits::RECONCILE_MAX;
    for name in draft.state.concerned(agent, before, after) {
        if draft.len() >= last {
            return;
        }
        let Some(certificate) = draft.state.certificates.get(&name) else {
            continue;
        };
        let wanted = after.is_some_and(|labels| certificate.spec().is_held_by(agent, labels));
        match certificate.instance_of(agent) {
            Some(instance) if !wanted => {
                draft.push(name.stream(), Event::InstanceRemoved { instance: instance.id });
            }
            None if wanted && certificate.instances.len() < limits::INSTANCES_MAX => {
                add(draft, &name, certificate.uid, certificate.next_instance, agent.clone());
            }
            _ => {}
        }
    }
}
