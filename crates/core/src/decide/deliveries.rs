//! Decisions about agents' reports: what is new in them.
//!
//! It refuses nothing loudly: a report about what is gone, older, or known already is dropped, because the agent would
//! only send it again.

use super::cut;
use super::draft::Draft;
use crate::event::{Delivered, Event};
use crate::ids::{AgentName, CertificateName, TargetName};
use crate::limits;
use crate::state::{Certificate, Delivery, Instance};

pub(super) fn record(draft: &mut Draft<'_>, agent: &AgentName, deliveries: &[(CertificateName, Delivered)]) {
    for (name, report) in deliveries {
        let Some(certificate) = draft.state.certificates.get(name) else {
            continue;
        };
        let instance = certificate.instance(report.instance).filter(|instance| instance.agent == *agent);
        if instance.is_some_and(|instance| concerns(certificate, instance, report) && is_news(instance, report)) {
            let mut report = report.clone();
            if let Some((reason, message)) = &mut report.failure {
                *reason = cut(reason, limits::REASON_OCTETS_MAX);
                *message = cut(message, limits::MESSAGE_OCTETS_MAX);
            }
            draft.push_free(name.stream(), Event::CertificateDelivered(report));
        }
    }
}

/// Whether the report is about a generation that was issued and a target that is there.
fn concerns(certificate: &Certificate, instance: &Instance, report: &Delivered) -> bool {
    let target_exists = |name: &TargetName| certificate.spec().targets.iter().any(|target| target.name == *name);
    instance.current.is_some_and(|current| report.generation <= current.generation)
        && report.target.as_ref().is_none_or(target_exists)
}

/// Whether the report says more than the newest about the same target: a newer generation, a further stage, a failure
/// or the end of one.
fn is_news(instance: &Instance, report: &Delivered) -> bool {
    let superseded = |known: &Delivery| known.supersedes_all_before_targets() && known.generation >= report.generation;
    if report.target.is_none() && report.failure.is_none() && instance.deliveries.iter().any(superseded) {
        return false;
    }
    let Some(known) = instance.deliveries.iter().find(|known| known.target == report.target) else {
        return true;
    };
    let reported = Delivery::of(report, known.at);
    match known.generation.cmp(&report.generation) {
        std::cmp::Ordering::Less => true,
        std::cmp::Ordering::Greater => false,
        std::cmp::Ordering::Equal if known.failure.is_none() && reported.failure.is_none() => {
            reported.stage > known.stage
        }
        std::cmp::Ordering::Equal => reported != *known,
    }
}
