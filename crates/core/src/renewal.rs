//! When a certificate is valid and when it is renewed: cert-manager's rule, and a jitter of our own.
//!
//! It refuses to look at the clock: a renewal time is fixed once, when a generation is issued, and stored in its event.

use std::time::Duration;

use crate::ids::{Generation, InstanceId};
use crate::limits;
use crate::shard::Fnv;
use crate::spec::{CertificateSpec, Dialect};
use crate::time::Timestamp;

/// Share of the lead that jitter may add: renewals come up to this much earlier, never later.
const JITTER_LEAD_PERCENT: u32 = 5;

/// Start and end of validity of a certificate composed at `now`, whole seconds (RFC 5280 section 4.1.2.5): back-dated by
/// `min(30 s, 10 % of duration)` against clocks that are behind; the end counts from `now`.
pub fn validity(now: Timestamp, duration: Duration) -> (Timestamp, Timestamp) {
    let backdate = limits::BACKDATE_MAX.min(duration / 10);
    (now.minus(backdate).whole_second(), now.plus(duration).whole_second())
}

/// How long before expiry renewal is due by cert-manager's rule, for the lifetime that was really issued:
/// `renewBefore` where it is shorter than the lifetime, else the percentage of it, else a third of it.
pub fn lead(spec: &CertificateSpec, not_before: Timestamp, not_after: Timestamp) -> Duration {
    let lifetime = not_after.since(not_before);
    match (spec.renew_before, spec.renew_before_percentage) {
        (Some(before), _) if !before.is_zero() && before < lifetime => before,
        (_, Some(percentage)) => lifetime * u32::from(percentage) / 100,
        _ => lifetime / 3,
    }
}

/// When to renew a generation that is valid from `not_before` to `not_after`.
///
/// The time is cut to whole seconds. Certificates of our own dialect renew earlier by up to 5 % of the lead, by a hash
/// of instance and generation, so that what was issued together is not renewed together. Never before `not_before`.
pub fn renew_at(
    spec: &CertificateSpec,
    instance: InstanceId,
    generation: Generation,
    not_before: Timestamp,
    not_after: Timestamp,
) -> Timestamp {
    let lead = lead(spec, not_before, not_after);
    let early = match spec.dialect {
        Dialect::CertManager => Duration::ZERO,
        Dialect::Certwright => jitter(instance, generation, lead * JITTER_LEAD_PERCENT / 100),
    };
    not_after.minus(lead + early).whole_second().max(not_before)
}

/// A duration below or equal to `bound`, drawn by a hash of instance and `salt`: the same on every replica.
pub fn jitter(instance: InstanceId, salt: u64, bound: Duration) -> Duration {
    let mut hash = Fnv::default();
    hash.write_u64(instance.certificate.0.index);
    hash.write_u64(u64::from(instance.certificate.0.ordinal));
    hash.write_u64(u64::from(instance.number));
    hash.write_u64(salt);
    let millis = u64::try_from(bound.as_millis()).unwrap_or(u64::MAX).saturating_add(1);
    Duration::from_millis(hash.finish() % millis.max(1))
}

/// How long to wait after the `failures`-th failure in a row (from 1): doubling from the first wait to the longest, then
/// shortened by up to a quarter so that what failed together is not repeated together.
pub fn backoff(instance: InstanceId, failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let wait = (limits::RETRY_FIRST * (1 << doublings)).min(limits::RETRY_MAX);
    wait - jitter(instance, u64::from(failures), wait / 4)
}

#[cfg(test)]
mod tests;
