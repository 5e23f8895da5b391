//! Stored certificates from declaration to renewal, once for each generation.

use std::sync::Arc;
use std::time::Duration;

use certwright_core::Reason;
use certwright_core::command::{Command, Etag};
use certwright_core::event::{Event, Trigger};
use certwright_core::ids::{Generation, InstanceId};
use certwright_core::spec::KeyAlgorithm;
use certwright_core::state::{Generated, State};
use certwright_custody::LeafKey;

use super::server::{Machine, Server, admin, agent, name, p256, request, spec};
use crate::{Call, CsrSubmission};

async fn declare(server: &Server, host: &str) {
    let command = Command::CreateCertificate { name: name(host), spec: Arc::new(spec(host)) };
    server.control.execute(admin(), command).await.unwrap();
}

fn open(state: &State, host: &str) -> Option<(InstanceId, Generation, Trigger)> {
    let instance = state.certificates.get(&name(host))?.instances.first()?;
    Some((instance.id, instance.open?.generation, instance.open?.trigger))
}

fn current(state: &State, host: &str) -> Option<Generated> {
    state.certificates.get(&name(host))?.instances.first()?.current
}

fn submission(host: &str, instance: InstanceId, generation: Generation, key: &LeafKey) -> CsrSubmission {
    CsrSubmission { certificate: name(host), instance, generation, csr: request(key, &["ignored.example.org"]) }
}

#[tokio::test(start_paused = true)]
async fn declared_opened_requested_issued_and_renewed_in_time() {
    let (server, web) = Machine::new().estate().await;
    declare(&server, "a").await;
    let (instance, generation, trigger) = server.until(|state| open(state, "a")).await;
    assert_eq!((generation, trigger), (1, Trigger::First));
    let key = p256();
    let outcome = server.control.submit_csr(agent("web", &web), submission("a", instance, 1, &key)).await.unwrap();
    assert!(!outcome.unchanged);
    let first = server.log.read(|view| current(view.state, "a")).unwrap();
    assert_eq!((first.generation, first.spki_hash, first.position), (1, key.spki_hash(), outcome.position));

    let (again, generation, trigger) = server.until(|state| open(state, "a")).await;
    assert_eq!((again, generation, trigger), (instance, 2, Trigger::Due));
    let opened_at = server.log.read(|view| view.at);
    assert!(opened_at >= first.renew_at && opened_at < first.renew_at.plus(Duration::from_secs(2)));
    let second = p256();
    server.control.submit_csr(agent("web", &web), submission("a", instance, 2, &second)).await.unwrap();
    let renewed = server.log.read(|view| current(view.state, "a")).unwrap();
    assert_eq!(renewed.generation, 2);
    assert!(renewed.not_after > first.not_after && renewed.serial != first.serial);
}

#[tokio::test(start_paused = true)]
async fn a_generation_is_issued_once_however_often_it_is_asked_for() {
    let (server, web) = Machine::new().estate().await;
    declare(&server, "a").await;
    let (instance, generation, _) = server.until(|state| open(state, "a")).await;
    let (key, other) = (p256(), p256());
    let ask = |key: &LeafKey| server.control.submit_csr(agent("web", &web), submission("a", instance, generation, key));
    let (one, two, three) = tokio::join!(ask(&key), ask(&key), ask(&key));
    let position = one.unwrap().position;
    assert_eq!(two.unwrap().position, position);
    assert_eq!(three.unwrap().position, position);
    let again = ask(&key).await.unwrap();
    assert!(again.unchanged && again.position == position);
    assert_eq!(ask(&other).await.unwrap_err().reason, Reason::GenerationConflict);
    let issued = server.events().into_iter().filter(|(_, event)| event.kind() == "CertificateIssued").count();
    assert_eq!(issued, 1);
    assert!(server.transactions().iter().all(|(.., refused)| !refused));
}

#[tokio::test(start_paused = true)]
async fn only_the_holder_asks_and_only_for_what_is_open() {
    let (server, web) = Machine::new().estate().await;
    let other = server.admit("other").await;
    declare(&server, "a").await;
    let (instance, generation, _) = server.until(|state| open(state, "a")).await;
    let key = p256();
    let asked = |call, generation| server.control.submit_csr(call, submission("a", instance, generation, &key));
    assert_eq!(asked(agent("other", &other), generation).await.unwrap_err().reason, Reason::NotFound);
    assert_eq!(asked(admin(), generation).await.unwrap_err().reason, Reason::PermissionDenied);
    assert_eq!(asked(agent("web", &web), generation + 1).await.unwrap_err().reason, Reason::IssuanceNotOpen);
    let issued = server.events().into_iter().filter(|(_, event)| event.kind() == "CertificateIssued").count();
    assert_eq!(issued, 0);
}

#[tokio::test(start_paused = true)]
async fn a_lasting_refusal_is_recorded_and_tried_again_later() {
    let (server, web) = Machine::new().estate().await;
    declare(&server, "a").await;
    let (instance, generation, _) = server.until(|state| open(state, "a")).await;
    let wrong = LeafKey::generate(KeyAlgorithm::EcdsaP384).unwrap();
    let refused = server.control.submit_csr(agent("web", &web), submission("a", instance, generation, &wrong)).await;
    assert_eq!(refused.unwrap_err().reason, Reason::KeyNotAllowed);
    let failure = server.events().into_iter().find_map(|(_, event)| match event {
        Event::IssuanceFailed { reason, retry_at, .. } => Some((reason, retry_at)),
        _ => None,
    });
    let (reason, retry_at) = failure.unwrap();
    assert_eq!(reason, "KEY_NOT_ALLOWED");
    let (_, again, _) = server.until(|state| open(state, "a")).await;
    assert_eq!(again, generation, "the same generation, opened again");
    assert!(server.log.read(|view| view.at) >= retry_at);
    let key = p256();
    server.control.submit_csr(agent("web", &web), submission("a", instance, generation, &key)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_names_are_those_of_the_intent() {
    let (server, web) = Machine::new().estate().await;
    declare(&server, "a").await;
    let (instance, generation, _) = server.until(|state| open(state, "a")).await;
    server.control.submit_csr(agent("web", &web), submission("a", instance, generation, &p256())).await.unwrap();
    let certificate = server.events().into_iter().find_map(|(_, event)| match event {
        Event::CertificateIssued(issued) => Some(issued.certificate.clone()),
        _ => None,
    });
    let text = String::from_utf8_lossy(&certificate.unwrap()).into_owned();
    assert!(text.contains("a.example.com") && !text.contains("ignored.example.org"));
}

/// A hundred intents at once: all opened, all issued, nothing refused by replicas.
#[tokio::test(start_paused = true)]
async fn many_intents_are_opened_at_a_bounded_pace() {
    let (server, web) = Machine::new().estate().await;
    let hosts: Vec<String> = (0..100).map(|number| format!("n{number}")).collect();
    for host in &hosts {
        declare(&server, host).await;
    }
    let key = p256();
    for host in &hosts {
        let (instance, generation, _) = server.until(|state| open(state, host)).await;
        server.control.submit_csr(agent("web", &web), submission(host, instance, generation, &key)).await.unwrap();
    }
    let issued = server.events().into_iter().filter(|(_, event)| event.kind() == "CertificateIssued").count();
    assert_eq!(issued, 100);
    assert!(server.transactions().iter().all(|(.., refused)| !refused));
}

/// An agent that joined again has another key; connections made with the old one may still stand, on servers that have
/// not heard of it.
#[tokio::test(start_paused = true)]
async fn a_connection_under_an_old_key_can_do_nothing_more() {
    let (server, old) = Machine::new().estate().await;
    declare(&server, "a").await;
    let (instance, generation, _) = server.until(|state| open(state, "a")).await;
    let new = server.admit("web").await;
    let before = server.events().len();

    let csr = p256();
    let ask = |key: &LeafKey| server.control.submit_csr(agent("web", key), submission("a", instance, generation, &csr));
    let report = |key: &LeafKey| server.control.report(agent("web", key), vec![]);
    let renew = |key: &LeafKey| server.control.renew_identity(agent("web", key), request(&old, &[]));
    for refused in [ask(&old).await.err(), report(&old).await.err(), renew(&old).await.map(drop).err()] {
        assert_eq!(refused.map(|it| it.reason), Some(Reason::Unauthenticated));
    }
    let nameless = Call { key: None, ..agent("web", &new) };
    let refused = server.control.submit_csr(nameless, submission("a", instance, generation, &csr)).await;
    assert_eq!(refused.unwrap_err().reason, Reason::Unauthenticated);
    assert_eq!(server.events().len(), before);

    report(&new).await.unwrap();
    ask(&new).await.unwrap();
    assert_eq!(ask(&old).await.unwrap_err().reason, Reason::Unauthenticated, "nor learn what was answered");
    let agent = certwright_core::ids::AgentName::parse("web").unwrap();
    server.control.execute(admin(), Command::RemoveAgent { agent, etag: Etag::default() }).await.unwrap();
    assert_eq!(report(&new).await.unwrap_err().reason, Reason::Unauthenticated);
}
