//! The sequencer: one winner, one effect for each request id, nothing refused in the log.

use std::sync::Arc;

use certwright_core::command::{Command, Etag};
use certwright_core::event::{EpochCause, EpochOpened};
use certwright_core::log::RequestId;
use certwright_core::{Event, Reason, Rejection};
use futures_util::future::join_all;

use super::server::{Machine, admin, name, spec};
use crate::sequencer::QUEUE_MAX;
use crate::{Call, Outcome};

async fn create(server: &super::server::Server) -> Etag {
    let command = Command::CreateCertificate { name: name("web"), spec: Arc::new(spec("a")) };
    server.control.execute(admin(), command).await.unwrap();
    etag(server)
}

fn etag(server: &super::server::Server) -> Etag {
    server.log.read(|view| view.state.certificates.get(&name("web")).unwrap().etag())
}

fn update(etag: &Etag, host: &str) -> Command {
    Command::UpdateCertificate { name: name("web"), etag: etag.clone(), spec: Arc::new(spec(host)) }
}

#[tokio::test(start_paused = true)]
async fn of_two_changes_of_one_version_one_wins_and_the_log_holds_only_that() {
    // An agent that never answers, so that nothing else touches the certificate after its issuance was opened.
    let (server, _) = Machine::new().estate().await;
    create(&server).await;
    server.until(|state| state.certificates.get(&name("web"))?.instances.first()?.open).await;
    let etag = etag(&server);
    let results: [Result<Outcome, Rejection>; 4] = tokio::join!(
        server.control.execute(admin(), update(&etag, "b")),
        server.control.execute(admin(), update(&etag, "c")),
        server.control.execute(admin(), update(&etag, "d")),
        server.control.execute(admin(), update(&etag, "e")),
    )
    .into();
    let won = results.iter().filter(|result| result.is_ok()).count();
    let lost = results.iter().filter_map(|result| result.as_ref().err());
    assert_eq!(won, 1);
    assert!(lost.into_iter().all(|rejection| rejection.reason == Reason::EtagMismatch));
    let transactions = server.transactions();
    assert!(transactions.iter().all(|(.., refused)| !refused), "replicas refused something");
    let updates = server.events().into_iter().filter(|(_, event)| event.kind() == "CertificateUpdated").count();
    assert_eq!(updates, 1);
}

#[tokio::test(start_paused = true)]
async fn a_repeated_command_takes_effect_once_and_answers_the_same() {
    let (server, _) = Machine::new().estate().await;
    let call = || Call { request_id: Some(RequestId([5; 16])), ..admin() };
    let command = || Command::CreateCertificate { name: name("web"), spec: Arc::new(spec("a")) };
    let (one, two) = tokio::join!(server.control.execute(call(), command()), server.control.execute(call(), command()));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!((one.position, one.at), (two.position, two.at));
    let three = server.control.execute(call(), command()).await.unwrap();
    assert_eq!((one.position, one.at), (three.position, three.at));
    let other = Command::CreateCertificate { name: name("web"), spec: Arc::new(spec("b")) };
    let refused = server.control.execute(call(), other).await.unwrap_err();
    assert_eq!(refused.reason, Reason::RequestIdReused);
    let unkeyed = server.control.execute(admin(), command()).await.unwrap_err();
    assert_eq!(unkeyed.reason, Reason::AlreadyExists);
}

#[tokio::test(start_paused = true)]
async fn a_request_of_before_a_restore_is_neither_done_again_nor_taken_for_done() {
    let (server, _) = Machine::new().estate().await;
    let call = || Call { request_id: Some(RequestId([5; 16])), ..admin() };
    let command = || Command::CreateCertificate { name: name("web"), spec: Arc::new(spec("a")) };
    let done = server.control.execute(call(), command()).await.unwrap();
    server
        .forge(Event::EpochOpened(Box::new(EpochOpened {
            epoch: 2,
            cause: EpochCause::Restored,
            after_index: done.position.index,
            after_chain: [3; 32],
            after: done.at,
            at: done.at,
        })))
        .await;
    let before = server.events().len();
    let refused = server.control.execute(call(), command()).await.unwrap_err();
    assert_eq!(refused.reason, Reason::OldEpoch);
    assert_eq!(server.events().len(), before);
}

#[tokio::test(start_paused = true)]
async fn so_many_commands_wait_and_one_more_is_refused_until_there_is_room() {
    const EXCESS: usize = 100;
    /// What the leader may have under way of its own.
    const OWN: usize = 10;
    let (server, _) = Machine::new().estate().await;
    let command = || Command::CreateCertificate { name: name("web"), spec: Arc::new(spec("a")) };
    let ask = || server.control.execute(Call { validate_only: true, ..admin() }, command());
    let answers = join_all((0..QUEUE_MAX + EXCESS).map(|_| ask())).await;
    let refused: Vec<Reason> = answers.into_iter().filter_map(|answer| Some(answer.err()?.reason)).collect();
    assert!(refused.iter().all(|reason| *reason == Reason::Overloaded), "{refused:?}");
    assert!((EXCESS..=EXCESS + OWN).contains(&refused.len()), "{} were refused", refused.len());
    ask().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn validation_and_what_is_so_already_append_nothing() {
    let (server, _) = Machine::new().estate().await;
    let last = || server.log.status().last_log_index;
    let before = server.events().len();
    let only = Call { validate_only: true, ..admin() };
    let command = Command::CreateCertificate { name: name("web"), spec: Arc::new(spec("a")) };
    let outcome = server.control.execute(only.clone(), command).await.unwrap();
    assert!(!outcome.unchanged && outcome.position.index <= last(), "it would have changed something");
    let bad = Command::UpdateCertificate { name: name("web"), etag: Etag::default(), spec: Arc::new(spec("a")) };
    assert_eq!(server.control.execute(only, bad).await.unwrap_err().reason, Reason::NotFound);
    assert_eq!(server.events().len(), before);

    create(&server).await;
    server.until(|state| state.certificates.get(&name("web"))?.instances.first()?.open).await;
    let before = server.events().len();
    for validate_only in [false, true] {
        let call = Call { validate_only, ..admin() };
        let same = server.control.execute(call, update(&Etag::default(), "a")).await.unwrap();
        assert!(same.unchanged);
    }
    assert_eq!(server.events().len(), before);
}

#[tokio::test(start_paused = true)]
async fn callers_without_the_right_are_refused_before_anything_is_decided() {
    let (server, web) = Machine::new().estate().await;
    let command = Command::CreateCertificate { name: name("web"), spec: Arc::new(spec("a")) };
    for (call, reason) in [
        (super::server::agent("web", &web), Reason::PermissionDenied),
        (Call::by(certwright_core::ids::Actor::Anonymous), Reason::Unauthenticated),
        (Call::by(certwright_core::ids::Actor::Node(1)), Reason::PermissionDenied),
    ] {
        assert_eq!(server.control.execute(call, command.clone()).await.unwrap_err().reason, reason);
    }
    // Internal commands are nobody's but the leader's.
    let internal = Command::ProveDataKey { node_id: 1, data_key_id: 1 };
    assert_eq!(server.control.execute(admin(), internal).await.unwrap_err().reason, Reason::PermissionDenied);
}
