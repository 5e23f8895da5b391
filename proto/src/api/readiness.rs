//! Whether a certificate is ready and whether it is being issued, in cert-manager's conditions and reasons.
//!
//! It refuses to flicker: while a good generation is in place, issuing or delivering the next one changes nothing.

use certwright_core::event::{Stage, Trigger};
use certwright_core::state::{Certificate, Delivery, Generated, Instance};
use certwright_core::time::Timestamp;

use super::values::moment_to_message;
use crate::v1;

/// One condition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Condition {
    /// Whether it holds.
    pub holds: bool,
    /// cert-manager's reason, or ours where it has none.
    pub reason: String,
    /// One sentence for people.
    pub message: String,
    /// Since when, where the state remembers it.
    pub since: Option<Timestamp>,
}

impl Condition {
    fn new(holds: bool, reason: &str, message: impl Into<String>, since: Option<Timestamp>) -> Self {
        Self { holds, reason: reason.to_owned(), message: message.into(), since }
    }

    /// The condition as a message of this type.
    pub fn to_message(&self, condition_type: &str) -> v1::Condition {
        v1::Condition {
            r#type: condition_type.to_owned(),
            status: if self.holds { "True" } else { "False" }.to_owned(),
            reason: self.reason.clone(),
            message: self.message.clone(),
            last_transition_time: self.since.map(moment_to_message),
        }
    }
}

/// Condition `Ready` at log time `now`: every instance has a certificate that is valid, says what the specification
/// wants, and is in place on its agent.
pub fn ready(certificate: &Certificate, now: Timestamp) -> Condition {
    if certificate.instances.is_empty() {
        let message = "no agent holds a target of this certificate";
        return Condition::new(false, "NoAgent", message, Some(certificate.updated_at));
    }
    unready(certificate, now).unwrap_or_else(|| {
        let message = "the certificate is up to date and has not expired";
        Condition::new(true, "Ready", message, first_delivered(certificate))
    })
}

/// When the last instance had its first generation in place; later ones do not change the condition, and of those before
/// the newest the state remembers no delivery.
fn first_delivered(certificate: &Certificate) -> Option<Timestamp> {
    let first = |instance: &Instance| {
        let written = |delivery: &&Delivery| delivery.target.is_some() && delivery.stage >= Stage::Written;
        let is_first = instance.current.as_ref().is_some_and(|current| current.generation == 1);
        let times = instance.deliveries.iter().filter(|_| is_first).filter(written).map(|delivery| delivery.at);
        times.min()
    };
    let times: Option<Vec<Timestamp>> = certificate.instances.iter().map(first).collect();
    times?.into_iter().max()
}

/// Whether condition `Ready` holds, for those who do not ask why not.
pub fn is_ready(certificate: &Certificate, now: Timestamp) -> bool {
    !certificate.instances.is_empty() && unready(certificate, now).is_none()
}

fn unready(certificate: &Certificate, now: Timestamp) -> Option<Condition> {
    certificate.instances.iter().find_map(|instance| instance_unready(certificate, instance, now))
}

/// Why this instance keeps its certificate from being ready.
fn instance_unready(certificate: &Certificate, instance: &Instance, now: Timestamp) -> Option<Condition> {
    let agent = &instance.agent;
    let no = |reason, message, since| Some(Condition::new(false, reason, message, Some(since)));
    let Some(current) = &instance.current else {
        return no("DoesNotExist", format!("agent {agent} has no certificate yet"), certificate.created_at);
    };
    if current.not_after <= now {
        return no("Expired", format!("the certificate of agent {agent} has expired"), current.not_after);
    }
    if current.spec_revision < certificate.spec_revision {
        let message = format!("the certificate of agent {agent} is not yet what the specification wants");
        return no("RequestChanged", message, certificate.updated_at);
    }
    undelivered(instance, current)
}

/// Why the agent does not have a good pair in place.
fn undelivered(instance: &Instance, current: &Generated) -> Option<Condition> {
    let agent = &instance.agent;
    let failed = |delivery: &&Delivery| delivery.generation == current.generation && delivery.failure.is_some();
    if let Some(delivery) = instance.deliveries.iter().find(failed) {
        let (reason, message) = delivery.failure.as_deref()?;
        let target = delivery.target.as_ref().map_or_else(String::new, |target| format!(", target {target}"));
        let message = format!("agent {agent}{target}: {reason}: {message}");
        return Some(Condition::new(false, "DeliveryFailed", message, Some(delivery.at)));
    }
    // An earlier generation that is in place serves until this one is.
    if instance.deliveries.iter().any(|delivery| delivery.target.is_some() && delivery.stage >= Stage::Written) {
        return None;
    }
    let message = format!("agent {agent} has not written the certificate yet");
    Some(Condition::new(false, "Delivering", message, Some(current.not_before)))
}

/// Condition `Issuing`: true while an issuance is open, false after one that failed; absent otherwise, as in
/// cert-manager.
pub fn issuing(certificate: &Certificate) -> Option<Condition> {
    certificate.instances.iter().find_map(open).or_else(|| certificate.instances.iter().find_map(failed))
}

fn open(instance: &Instance) -> Option<Condition> {
    let open = instance.open.as_ref()?;
    let (reason, why) = match open.trigger {
        Trigger::First => ("DoesNotExist", "there is none yet"),
        Trigger::Due => ("Renewing", "its renewal time has come"),
        Trigger::Requested => ("ManuallyTriggered", "somebody asked for it"),
        Trigger::SpecChanged => ("RequestChanged", "the specification changed"),
        Trigger::Restored => ("Restored", "the agent holds a certificate that is not in the restored log"),
        Trigger::Direct => ("Requested", "a caller asked for it"),
    };
    let message = format!("issuing generation {} for agent {}: {why}", open.generation, instance.agent);
    Some(Condition::new(true, reason, message, Some(open.opened_at)))
}

fn failed(instance: &Instance) -> Option<Condition> {
    let (reason, message, at) = instance.last_failure.as_deref().filter(|_| instance.failures > 0)?;
    let retry = instance.retry_at.map_or_else(String::new, |at| format!("; next attempt at {at}"));
    let message = format!("attempt {} for agent {} failed: {message}{retry}", instance.failures, instance.agent);
    Some(Condition::new(false, reason, message, Some(*at)))
}

#[cfg(test)]
mod tests;
