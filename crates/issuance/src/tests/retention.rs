//! History that is let go: when it is old enough, when every certificate in it has ended, and when it is sure what time it is.

use std::sync::Arc;
use std::time::Duration;

use certwright_core::Reason;
use certwright_core::command::Command;
use certwright_core::event::{Event, HistoryTrimmed};
use certwright_core::ids::IssuerName;
use certwright_raft::{Beginning, DIGEST_VERSION};

use super::server::{Machine, Server, admin, agent, p256, request};
use crate::IssueOrder;

const HOUR: Duration = Duration::from_secs(3600);
/// How much longer than asked for history stays.
const MARGIN_HOURS: i64 = 7 * 24;
const HOUR_MILLIS: i64 = 3600 * 1000;

async fn issue(server: &Server, duration: Duration) -> u64 {
    let order = IssueOrder {
        issuer: IssuerName::parse("demo").unwrap(),
        csr: request(&p256(), &["a.example.com"]),
        duration: Some(duration),
        usages: vec![],
    };
    server.control.issue(admin(), order).await.unwrap().position.index
}

/// The clocks jump to so many hours after the beginning, and somebody says that this is right.
async fn jump(server: &Server, hours: i64) {
    server.clock.set_skew_millis(hours * HOUR_MILLIS);
    server.until(|state| state.cluster.hold).await;
}

async fn release(server: &Server) {
    server.control.execute(admin(), Command::ReleaseRenewals).await.unwrap();
}

fn trimmed(server: &Server) -> Option<HistoryTrimmed> {
    server.log.read(|view| view.state.cluster.retention.trimmed)
}

/// Long enough for several looks at the history.
async fn a_while() {
    tokio::time::sleep(Duration::from_secs(1300)).await;
}

#[tokio::test(start_paused = true)]
async fn history_goes_when_it_is_old_and_everything_in_it_has_ended() {
    let machine = Machine::small();
    let (server, web) = machine.estate().await;
    let keep = Command::SetRetention { keep: Some(24 * HOUR) };
    let denied = server.control.execute(agent("web", &web), keep.clone()).await.unwrap_err();
    assert_eq!(denied.reason, Reason::PermissionDenied);
    server.control.execute(admin(), keep).await.unwrap();
    for _ in 0..100 {
        issue(&server, HOUR).await;
    }
    let long = issue(&server, 48 * HOUR).await;
    for _ in 0..250 {
        issue(&server, HOUR).await;
    }
    a_while().await;
    assert_eq!(trimmed(&server), None, "it is too young");

    jump(&server, 30).await;
    release(&server).await;
    a_while().await;
    assert_eq!(trimmed(&server), None, "clocks may be wrong by a week");
    jump(&server, 30 + MARGIN_HOURS).await;
    a_while().await;
    assert_eq!(trimmed(&server), None, "nobody has said that this is the time");
    release(&server).await;
    a_while().await;
    let first = trimmed(&server).expect("most of it is old enough");
    assert!(first.first_index <= long, "the certificate at {long} has not ended: {first:?}");
    assert_eq!(server.log.kept().map(|kept| kept.first_index), Some(first.first_index));
    let serial = |index: u64| server.log.entry(index).unwrap();
    assert!(serial(first.first_index - 1).is_none() && serial(long).is_some());
    assert!(server.log.first_state().await.unwrap().floor().first_index == first.first_index);

    jump(&server, 60 + MARGIN_HOURS).await;
    release(&server).await;
    a_while().await;
    let second = trimmed(&server).unwrap();
    assert!(second.first_index > long && second.last_not_after > first.last_not_after, "{second:?}");
    assert!(!server.log.has_leftovers());
    let kept = server.events();
    assert!(kept.iter().all(|(position, _)| position.index >= second.first_index));
    assert!(kept.iter().any(|(_, event)| matches!(event, Event::HistoryTrimmed(it) if **it == second)));
    // The estate goes on, and comes back, as if nothing had gone.
    issue(&server, HOUR).await;
    server.kill().await;
    let server = machine.boot().await;
    server.clock.set_skew_millis((60 + MARGIN_HOURS) * HOUR_MILLIS);
    server.until(|state| state.cluster.retention.trimmed).await;
    server.control.leading().await;
    issue(&server, HOUR).await;
    assert_eq!(server.log.kept().map(|kept| kept.first_index), Some(second.first_index));
}

#[tokio::test(start_paused = true)]
async fn all_of_it_is_kept_unless_somebody_says_otherwise() {
    let (server, _) = Machine::small().estate().await;
    for _ in 0..150 {
        issue(&server, HOUR).await;
    }
    jump(&server, 10_000).await;
    release(&server).await;
    a_while().await;
    assert_eq!((trimmed(&server), server.log.kept()), (None, None));
}

#[tokio::test(start_paused = true)]
async fn a_jump_keeps_history_in_place_also_where_it_holds_no_renewals_back() {
    let (server, _) = Machine::small().unbraked().estate().await;
    server.control.execute(admin(), Command::SetRetention { keep: Some(24 * HOUR) }).await.unwrap();
    for _ in 0..200 {
        issue(&server, HOUR).await;
    }
    jump(&server, 1000).await;
    a_while().await;
    assert_eq!(trimmed(&server), None, "nobody has said that this is the time");
    release(&server).await;
    a_while().await;
    assert!(trimmed(&server).is_some());
}

#[tokio::test(start_paused = true)]
async fn no_server_deletes_on_the_word_of_a_leader_that_is_wrong_about_the_time() {
    let (server, _) = Machine::small().estate().await;
    server.control.execute(admin(), Command::SetRetention { keep: Some(24 * HOUR) }).await.unwrap();
    for _ in 0..250 {
        issue(&server, HOUR).await;
    }
    let first_index = server.log.status().applied_index - 50;
    let Beginning { floor, digest } = server.log.survey(first_index, Arc::new(|_| Ok(()))).await.unwrap();
    let now = server.log.log_time();
    let (last_at, last_not_after) = (now, now.plus(2 * HOUR));
    let (chain, digest_version) = (floor.chain, DIGEST_VERSION);
    let forged = HistoryTrimmed { first_index, chain, digest, digest_version, last_at, last_not_after };
    server.forge(Event::HistoryTrimmed(Box::new(forged))).await;
    a_while().await;
    assert_eq!(trimmed(&server).map(|it| it.first_index), Some(first_index));
    assert_eq!(server.log.kept(), None, "none of it is old");
    jump(&server, 1000).await;
    a_while().await;
    assert_eq!(server.log.kept(), None, "nobody has said that this is the time");
    release(&server).await;
    a_while().await;
    assert!(server.log.kept().is_some_and(|kept| kept.first_index >= first_index));
}
