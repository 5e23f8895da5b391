//! Direct issuance: what is answered is logged, once, and under the policy of that place in the log.

use std::collections::BTreeSet;
use std::time::Duration;

use certwright_core::Reason;
use certwright_core::command::Command;
use certwright_core::event::Event;
use certwright_core::ids::{Actor, IssuerName};
use certwright_core::log::RequestId;
use certwright_seams::sim::{Fault, Operation};

use super::server::{Machine, admin, issuer, p256, request};
use crate::{Call, IssueOrder};

fn order(host: &str) -> IssueOrder {
    IssueOrder {
        issuer: IssuerName::parse("demo").unwrap(),
        csr: request(&p256(), &[host]),
        duration: Some(Duration::from_secs(3600)),
        usages: vec![],
    }
}

fn keyed(id: u8) -> Call {
    Call { request_id: Some(RequestId([id; 16])), ..admin() }
}

#[tokio::test(start_paused = true)]
async fn what_is_answered_is_in_the_log_with_its_chain() {
    let (server, _) = Machine::new().estate().await;
    let answer = server.control.issue(admin(), order("a.example.com")).await.unwrap();
    let events = server.events();
    let logged = events.iter().find_map(|(position, event)| match event {
        Event::CertificateIssued(issued) if *position == answer.position => Some((**issued).clone()),
        _ => None,
    });
    assert_eq!(logged, Some(answer.issued.clone()));
    assert_eq!(answer.chain.len(), 1);
    assert_eq!(answer.issued.renew_at, None);
    let before = server.log.read(|view| view.state.certificates.len());
    assert_eq!(before, 0, "live state does not remember it");
}

#[tokio::test(start_paused = true)]
async fn a_repeat_gets_the_first_certificate_and_other_content_is_refused() {
    let (server, _) = Machine::new().estate().await;
    let first = order("a.example.com");
    let one = server.control.issue(keyed(1), first.clone()).await.unwrap();
    let two = server.control.issue(keyed(1), first).await.unwrap();
    assert_eq!((&one.issued, one.position), (&two.issued, two.position));
    let refused = server.control.issue(keyed(1), order("b.example.com")).await.unwrap_err();
    assert_eq!(refused.reason, Reason::RequestIdReused);

    let same = order("c.example.com");
    let (one, two, three) = tokio::join!(
        server.control.issue(keyed(2), same.clone()),
        server.control.issue(keyed(2), same.clone()),
        server.control.issue(keyed(2), order("d.example.com")),
    );
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!((&one.issued, one.position), (&two.issued, two.position), "also when both are in flight");
    assert_eq!(three.unwrap_err().reason, Reason::RequestIdReused);
    assert!(server.transactions().iter().all(|(.., refused)| !refused));
}

#[tokio::test(start_paused = true)]
async fn what_policy_denies_is_neither_signed_nor_logged() {
    let (server, web) = Machine::new().estate().await;
    let before = server.events().len();
    for (order, reason) in [
        (order("a.example.org"), Reason::PolicyDenied),
        (IssueOrder { csr: b"nonsense".to_vec(), ..order("a.example.com") }, Reason::InvalidCsr),
        (IssueOrder { issuer: IssuerName::parse("none").unwrap(), ..order("a.example.com") }, Reason::IssuerNotFound),
        (
            IssueOrder { duration: Some(Duration::from_secs(400 * 24 * 3600)), ..order("a.example.com") },
            Reason::PolicyDenied,
        ),
    ] {
        assert_eq!(server.control.issue(admin(), order).await.unwrap_err().reason, reason);
    }
    let stranger = server.control.issue(Call::by(Actor::Anonymous), order("a.example.com")).await.unwrap_err();
    assert_eq!(stranger.reason, Reason::Unauthenticated);
    let of_agent = server.control.issue(super::server::agent("web", &web), order("a.example.com")).await.unwrap_err();
    assert_eq!(of_agent.reason, Reason::PermissionDenied);
    assert_eq!(server.events().len(), before);
}

/// Validation says what issuing would say, and leaves nothing behind.
#[tokio::test(start_paused = true)]
async fn what_is_only_validated_is_neither_signed_nor_logged() {
    let (server, web) = Machine::new().estate().await;
    let (before, signed) = (server.events().len(), signatures(&server));
    let wanted = order("a.example.com");
    let answer = server.control.validate(keyed(1), wanted.clone()).await.unwrap();
    assert_eq!(answer.not_after.since(answer.not_before).as_secs() / 100, 36);
    assert_eq!(answer.chain.len(), 1);
    for (order, reason) in [
        (order("a.example.org"), Reason::PolicyDenied),
        (IssueOrder { csr: b"nonsense".to_vec(), ..order("a.example.com") }, Reason::InvalidCsr),
        (IssueOrder { issuer: IssuerName::parse("none").unwrap(), ..order("a.example.com") }, Reason::IssuerNotFound),
        (
            IssueOrder { duration: Some(Duration::from_secs(6 * 365 * 24 * 3600)), ..order("a.example.com") },
            Reason::PolicyDenied,
        ),
    ] {
        assert_eq!(server.control.validate(admin(), order).await.unwrap_err().reason, reason);
    }
    let of_agent = server.control.validate(super::server::agent("web", &web), wanted.clone()).await.unwrap_err();
    assert_eq!(of_agent.reason, Reason::PermissionDenied);
    assert_eq!((server.events().len(), signatures(&server)), (before, signed));

    // The request id is still free.
    let issued = server.control.issue(keyed(1), wanted).await.unwrap().issued;
    assert_eq!(issued.not_after.since(issued.not_before), answer.not_after.since(answer.not_before));
    assert!(signatures(&server) > signed);
}

/// How often something was signed.
fn signatures(server: &super::server::Server) -> u64 {
    let families = server.registry.gather();
    let signed = families.iter().find(|family| family.name() == "certwright_sign_duration_seconds").unwrap();
    signed.get_metric()[0].get_histogram().get_sample_count()
}

/// Certificates composed under an issuer that changes meanwhile are composed again under the new one.
#[tokio::test(start_paused = true)]
async fn nothing_composed_under_an_old_issuer_is_appended_after_the_new_one() {
    let (server, _) = Machine::new().estate().await;
    let name = IssuerName::parse("demo").unwrap();
    let strict = certwright_core::spec::IssuerSpec { max_duration: Some(Duration::from_secs(60)), ..issuer("root") };
    let mut tasks = Vec::new();
    for number in 0..40 {
        let control = server.control.clone();
        tasks.push(tokio::spawn(async move { control.issue(admin(), order(&format!("n{number}.example.com"))).await }));
        if number == 20 {
            let (control, name, spec) = (server.control.clone(), name.clone(), strict.clone());
            tokio::spawn(async move {
                let etag = certwright_core::command::Etag::default();
                control.execute(admin(), Command::UpdateIssuer { name, etag, spec }).await.unwrap();
            });
        }
    }
    let (mut issued, mut denied) = (Vec::new(), 0);
    for task in tasks {
        match task.await.unwrap() {
            Ok(answer) => issued.push(answer),
            Err(rejection) => {
                assert_eq!(rejection.reason, Reason::PolicyDenied, "{rejection}");
                denied += 1;
            }
        }
    }
    let changed = server.until(|state| {
        let issuer = state.issuers.get(&name)?;
        (issuer.revision == 2).then_some(())
    });
    changed.await;
    let events = server.events();
    let updated = events.iter().find(|(_, event)| matches!(event, Event::IssuerUpdated { .. })).unwrap().0;
    assert!(issued.iter().all(|answer| answer.position < updated), "a long one stands behind the new rule");
    let serials: BTreeSet<_> = issued.iter().map(|answer| answer.issued.serial).collect();
    assert_eq!(serials.len(), issued.len());
    assert!(!issued.is_empty() && denied > 0, "{} issued, {denied} denied", issued.len());
    assert!(server.transactions().iter().all(|(.., refused)| !refused));
}

/// A server that can no longer write answers nobody with a certificate.
#[tokio::test(start_paused = true)]
async fn without_the_log_no_certificate_leaves() {
    let machine = Machine::new();
    let (server, _) = machine.estate().await;
    server.control.issue(admin(), order("a.example.com")).await.unwrap();
    machine.disk.inject(Fault {
        operation: Operation::Sync,
        path_contains: "/log/".into(),
        after: 0,
        times: u64::MAX,
        kind: std::io::ErrorKind::StorageFull,
    });
    let answers = (0..8).map(|number| {
        let control = server.control.clone();
        tokio::spawn(async move { control.issue(admin(), order(&format!("n{number}.example.com"))).await })
    });
    let mut released = 0;
    for answer in answers.collect::<Vec<_>>() {
        released += u32::from(answer.await.unwrap().is_ok());
    }
    assert_eq!(released, 0);
}

/// A leader that stops while requests are under way: what it answered is in the log, the rest it refused.
#[tokio::test(start_paused = true)]
async fn a_leader_that_stops_releases_only_what_is_logged() {
    let machine = Machine::new();
    let (server, _) = machine.estate().await;
    let tasks: Vec<_> = (0..32)
        .map(|number| {
            let control = server.control.clone();
            tokio::spawn(async move { control.issue(admin(), order(&format!("n{number}.example.com"))).await })
        })
        .collect();
    tokio::task::yield_now().await;
    server.control.stop();
    let mut released = BTreeSet::new();
    for task in tasks {
        match task.await.unwrap() {
            Ok(answer) => drop(released.insert(answer.issued.serial)),
            Err(rejection) => assert_eq!(rejection.reason, Reason::NotLeader, "{rejection}"),
        }
    }
    let late = server.control.issue(admin(), order("late.example.com")).await.unwrap_err();
    assert_eq!(late.reason, Reason::NotLeader);
    server.kill().await;
    let server = machine.boot().await;
    server.control.leading().await;
    let logged: BTreeSet<_> = server
        .events()
        .into_iter()
        .filter_map(|(_, event)| match event {
            Event::CertificateIssued(issued) => Some(issued.serial),
            _ => None,
        })
        .collect();
    assert!(released.is_subset(&logged));
}
