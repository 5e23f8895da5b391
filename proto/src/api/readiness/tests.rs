//! Conditions of a certificate through its life.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::storage::tests::samples;

/// Issued, delivered, nothing under way.
fn settled() -> Certificate {
    let mut certificate = samples::certificate();
    certificate.instances.truncate(1);
    let instance = &mut certificate.instances[0];
    instance.open = None;
    instance.failures = 0;
    instance.last_failure = None;
    instance.retry_at = None;
    instance.deliveries.iter_mut().for_each(|delivery| delivery.failure = None);
    certificate
}

fn ready_at(change: impl FnOnce(&mut Certificate), millis: u64) -> (bool, String) {
    let mut certificate = settled();
    change(&mut certificate);
    let condition = ready(&certificate, samples::at(millis));
    assert_eq!(is_ready(&certificate, samples::at(millis)), condition.holds);
    (condition.holds, condition.reason)
}

fn yes() -> (bool, String) {
    (true, "Ready".into())
}

fn no(reason: &str) -> (bool, String) {
    (false, reason.into())
}

#[test]
fn ready_follows_the_worst_instance() {
    assert_eq!(ready_at(|_| (), 15_000), yes());
    assert_eq!(ready_at(|it| it.instances.push(samples::bare_instance()), 15_000), no("DoesNotExist"));
    assert_eq!(ready_at(|it| it.instances.clear(), 15_000), no("NoAgent"));
}

#[test]
fn expiry_is_the_moment_of_not_after() {
    assert_eq!(ready_at(|_| (), 39_999), yes());
    assert_eq!(ready_at(|_| (), 40_000), no("Expired"));
}

#[test]
fn a_changed_specification_is_not_ready_until_it_is_issued() {
    assert_eq!(ready_at(|it| it.spec_revision = 5, 15_000), no("RequestChanged"));
    assert_eq!(ready_at(|it| it.spec_revision = 4, 15_000), yes());
}

#[test]
fn the_first_delivery_counts_and_the_next_one_does_not_flicker() {
    assert_eq!(ready_at(|it| it.instances[0].deliveries.truncate(1), 15_000), no("Delivering"));
    let renewed = |it: &mut Certificate| it.instances[0].current.as_mut().unwrap().generation = 10;
    assert_eq!(ready_at(renewed, 15_000), yes());
}

#[test]
fn ready_is_told_since_its_first_delivery_where_that_is_remembered() {
    let mut certificate = settled();
    certificate.instances[0].current.as_mut().unwrap().generation = 1;
    let written = certificate.instances[0].deliveries.iter().find(|it| it.target.is_some()).unwrap().at;
    assert_eq!(ready(&certificate, samples::at(15_000)).since, Some(written));
    certificate.instances[0].current.as_mut().unwrap().generation = 2;
    assert_eq!(ready(&certificate, samples::at(15_000)).since, None);
}

#[test]
fn a_failed_delivery_of_the_newest_generation_counts() {
    let fail = |it: &mut Certificate| {
        it.instances[0].deliveries[1].failure = Some(Box::new(("RELOAD_FAILED".into(), "exit status 1".into())));
    };
    assert_eq!(ready_at(fail, 15_000), no("DeliveryFailed"));
    let mut certificate = settled();
    fail(&mut certificate);
    assert_eq!(ready(&certificate, samples::at(0)).message, "agent edge-1, target nginx: RELOAD_FAILED: exit status 1");
    let superseded = |it: &mut Certificate| {
        fail(it);
        it.instances[0].current.as_mut().unwrap().generation = 10;
    };
    assert_eq!(ready_at(superseded, 15_000), yes());
}

#[test]
fn issuing() {
    assert_eq!(super::issuing(&settled()), None);

    let open = super::issuing(&samples::certificate()).unwrap();
    assert_eq!((open.holds, &*open.reason, open.since), (true, "ManuallyTriggered", Some(samples::at(12_000))));
    assert_eq!(open.message, "issuing generation 10 for agent edge-1: somebody asked for it");

    let mut failed = samples::certificate();
    failed.instances[0].open = None;
    let failed = super::issuing(&failed).unwrap();
    assert_eq!((failed.holds, &*failed.reason), (false, "ISSUER_NOT_READY"));
    assert!(
        failed.message.ends_with(&format!("not yet; next attempt at {}", samples::at(8_002))),
        "{}",
        failed.message
    );
}

#[test]
fn messages() {
    let message = ready(&settled(), samples::at(40_000)).to_message("Ready");
    assert_eq!((&*message.r#type, &*message.status, &*message.reason), ("Ready", "False", "Expired"));
    assert_eq!(message.last_transition_time, Some(moment_to_message(samples::at(40_000))));
}
