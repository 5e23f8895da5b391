//! Reports: one for each stage of each target, the newest, sent until it is acknowledged.
#![allow(clippy::unwrap_used)]

use certwright_core::ids::Uid;
use certwright_core::log::Position;

use super::*;

fn instance(number: u32) -> InstanceId {
    InstanceId { certificate: Uid(Position { index: 5, ordinal: 0 }), number }
}

fn delivered(number: u32, generation: u64, stage: Stage, failure: Option<&str>) -> Delivered {
    Delivered {
        instance: instance(number),
        generation,
        target: Some(TargetName::parse("files").unwrap()),
        stage,
        failure: failure.map(|reason| (reason.to_string(), String::new())),
        elapsed: std::time::Duration::ZERO,
    }
}

fn report(outbox: &mut Outbox, delivered: Delivered) {
    outbox.report(&CertificateName::parse("web", "front").unwrap(), delivered, "");
}

/// Everything that can be sent now: id, generation, stage, failure.
fn sent(outbox: &mut Outbox) -> Vec<(u64, u64, String, String)> {
    std::iter::from_fn(|| outbox.next())
        .map(|message| match message.kind.unwrap() {
            Kind::Report(report) => (report.id, report.generation, report.stage, report.failure_reason),
            other => panic!("{other:?}"),
        })
        .collect()
}

fn line(id: u64, generation: u64, stage: &str, failure: &str) -> (u64, u64, String, String) {
    (id, generation, stage.to_string(), failure.to_string())
}

#[test]
fn a_newer_report_replaces_the_older_of_the_same_stage() {
    let mut outbox = Outbox::default();
    report(&mut outbox, delivered(1, 1, Stage::Written, None));
    report(&mut outbox, delivered(1, 1, Stage::Served, None));
    report(&mut outbox, delivered(1, 2, Stage::Written, None));
    assert_eq!(sent(&mut outbox), [line(1, 2, "written", ""), line(2, 1, "served", "")]);
    assert!(!outbox.has_unsent());
}

#[test]
fn an_acknowledgement_of_what_was_replaced_meanwhile_is_none() {
    let mut outbox = Outbox::default();
    report(&mut outbox, delivered(1, 1, Stage::Written, None));
    assert_eq!(sent(&mut outbox).len(), 1);
    report(&mut outbox, delivered(1, 2, Stage::Written, None));
    assert_eq!(outbox.acknowledge(1), None);
    assert_eq!(sent(&mut outbox), [line(2, 2, "written", "")]);
    assert_eq!(outbox.acknowledge(2), Some((instance(1), TargetName::parse("files").unwrap())));
    assert!(outbox.is_empty());
}

#[test]
fn a_target_is_acknowledged_when_nothing_of_it_is_pending() {
    let mut outbox = Outbox::default();
    report(&mut outbox, delivered(1, 1, Stage::Written, None));
    report(&mut outbox, delivered(1, 1, Stage::Served, None));
    report(&mut outbox, delivered(2, 1, Stage::Written, None));
    sent(&mut outbox);
    assert_eq!(outbox.acknowledge(1), None);
    assert_eq!(outbox.acknowledge(2).map(|(instance, _)| instance), Some(instance(1)));
    assert!(outbox.is_pending(instance(2), &TargetName::parse("files").unwrap()));
}

#[test]
fn what_was_on_its_way_is_sent_again_in_the_next_session() {
    let mut outbox = Outbox::default();
    report(&mut outbox, delivered(1, 1, Stage::Written, None));
    report(&mut outbox, delivered(2, 1, Stage::Written, None));
    assert_eq!(sent(&mut outbox).len(), 2);
    outbox.acknowledge(1);
    outbox.heartbeat(Timestamp::EPOCH);
    outbox.on_down();
    assert_eq!(sent(&mut outbox), [line(3, 1, "written", "")]);
}

#[test]
fn the_same_failure_is_said_once_until_there_was_a_success() {
    let mut outbox = Outbox::default();
    let fails = |outbox: &mut Outbox| {
        report(outbox, delivered(1, 2, Stage::Verified, Some("HOOK_FAILED")));
        sent(outbox).len()
    };
    assert_eq!(fails(&mut outbox), 1);
    outbox.acknowledge(1);
    assert_eq!(fails(&mut outbox), 0, "said and acknowledged");
    report(&mut outbox, delivered(1, 2, Stage::Verified, Some("HOOK_TIMEOUT")));
    assert_eq!(sent(&mut outbox).len(), 1, "another reason is news");
    outbox.acknowledge(2);
    report(&mut outbox, delivered(1, 2, Stage::Written, None));
    assert_eq!(sent(&mut outbox).len(), 1);
    assert_eq!(fails(&mut outbox), 1, "after a success it is news again");
}

#[test]
fn one_report_more_than_may_be_under_way_waits() {
    let mut outbox = Outbox::default();
    let most = u32::try_from(IN_FLIGHT_MAX).unwrap();
    for number in 0..=most {
        report(&mut outbox, delivered(number, 1, Stage::Written, None));
    }
    assert_eq!(sent(&mut outbox).len(), IN_FLIGHT_MAX);
    assert!(!outbox.has_unsent());
    outbox.acknowledge(1);
    assert_eq!(sent(&mut outbox).len(), 1);
}

#[test]
fn an_instance_that_left_is_forgotten() {
    let mut outbox = Outbox::default();
    report(&mut outbox, delivered(1, 1, Stage::Written, None));
    report(&mut outbox, delivered(2, 1, Stage::Written, None));
    outbox.forget(instance(1));
    assert_eq!(sent(&mut outbox).len(), 1);
    assert!(!outbox.is_pending(instance(1), &TargetName::parse("files").unwrap()));
}
