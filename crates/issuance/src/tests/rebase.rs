//! Log time set back after clocks were wrong: nothing of the wrong time is left to act on, and nothing is renewed at once.

use std::sync::Arc;
use std::time::Duration;

use certwright_core::command::Command;
use certwright_core::event::{Event, TokenGrant, Trigger};
use certwright_core::ids::{Actor, AuthorityName, Generation, InstanceId, IssuerName};
use certwright_core::limits::{BEGINS_AHEAD_MAX, RETRY_MAX, TOKEN_DURATION_DEFAULT};
use certwright_core::log::RequestId;
use certwright_core::spec::CertificateSpec;
use certwright_core::time::Timestamp;
use certwright_core::{Reason, State};
use certwright_custody::LeafKey;
use certwright_seams::Clock as _;
use futures_util::future::join_all;

use super::server::{Machine, Server, admin, agent, authority, issuer, name, p256, request, spec};
use crate::{Call, CsrSubmission, IssueOrder};

const CERTIFICATES: usize = 40;
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

impl Server {
    /// What this machine's clock shows.
    fn wall(&self) -> Timestamp {
        Timestamp::from_millis(self.clock.wall_millis())
    }

    async fn rebase(&self) -> Option<(Timestamp, Timestamp)> {
        self.control.rebase_time(admin(), self.wall()).await.unwrap().change
    }

    async fn declare(&self, host: &str) {
        let spec = CertificateSpec { duration: Some(Duration::from_secs(30 * 24 * 3600)), ..spec(host) };
        let command = Command::CreateCertificate { name: name(host), spec: Arc::new(spec) };
        self.control.execute(admin(), command).await.unwrap();
    }

    /// The issuance that is open of a certificate, once one is.
    async fn opened(&self, host: &str) -> (InstanceId, Generation) {
        let find = |state: &State| {
            let instance = state.certificates.get(&name(host))?.instances.first()?;
            instance.open.map(|open| (instance.id, open.generation))
        };
        self.until(find).await
    }

    async fn submit(&self, web: &LeafKey, host: &str) {
        let (instance, generation) = self.opened(host).await;
        let csr = request(&p256(), &["ignored.example.org"]);
        let submission = CsrSubmission { certificate: name(host), instance, generation, csr };
        self.control.submit_csr(agent("web", web), submission).await.unwrap();
    }

    /// How many renewals were begun because their time came.
    fn renewals(&self) -> usize {
        let opened = |event: &Event| matches!(event, Event::IssuanceOpened { trigger: Trigger::Due, .. });
        self.events().iter().filter(|(_, event)| opened(event)).count()
    }

    /// All that begins, ends or is waited for behind the entry that set log time back lies within what a right time sets.
    fn is_of_the_right_time(&self) {
        let events = self.events();
        let at = events.iter().position(|(_, event)| matches!(event, Event::TimeRebased { .. })).unwrap();
        let latest = self.wall();
        for (position, event) in &events[at + 1..] {
            assert!(
                event.begins().is_none_or(|begins| begins <= latest.plus(BEGINS_AHEAD_MAX)),
                "{position}: {event:?}"
            );
            match event {
                Event::IssuanceFailed { retry_at, .. } => assert!(*retry_at <= latest.plus(RETRY_MAX), "{position}"),
                Event::TokenCreated { expires_at, .. } => {
                    assert!(*expires_at <= latest.plus(TOKEN_DURATION_DEFAULT), "{position}");
                }
                _ => {}
            }
        }
    }
}

fn order(issuer: &str) -> IssueOrder {
    IssueOrder {
        issuer: IssuerName::parse(issuer).unwrap(),
        csr: request(&p256(), &["direct.example.com"]),
        duration: Some(Duration::from_secs(3600)),
        usages: vec![],
    }
}

/// An estate whose log time is a year ahead of a clock that is right.
async fn poisoned() -> (Server, LeafKey) {
    let (server, web) = Machine::new().estate().await;
    server.clock.set_skew_millis(YEAR.as_millis() as i64);
    server.control.create_token(admin(), TokenGrant::Node, None).await.unwrap();
    server.clock.set_skew_millis(0);
    (server, web)
}

#[tokio::test(start_paused = true)]
async fn what_the_wrong_time_left_behind_is_made_good_a_little_at_a_time() {
    let (server, web) = Machine::new().estate().await;
    for number in 0..CERTIFICATES {
        let host = format!("c{number}");
        server.declare(&host).await;
        server.submit(&web, &host).await;
    }
    server.clock.set_skew_millis(YEAR.as_millis() as i64);
    server.until(|state| state.cluster.hold).await;
    server.control.execute(admin(), Command::ReleaseRenewals).await.unwrap();
    // Half of them are renewed by the wrong time, the others are opened and not answered.
    for number in 0..CERTIFICATES / 2 {
        server.submit(&web, &format!("c{number}")).await;
    }
    server.create_authority("of-the-future", None).await;
    server.create_issuer("of-the-future", issuer("of-the-future")).await;
    server.declare("failed").await;
    let (instance, generation) = server.opened("failed").await;
    let (reason, message) = ("X".to_owned(), "why".to_owned());
    let fail = Command::FailIssuance { certificate: name("failed"), instance, generation, reason, message };
    server.control.execute(Call::by(Actor::System), fail).await.unwrap();
    assert_eq!(server.renewals(), CERTIFICATES);

    server.clock.set_skew_millis(0);
    let (from, to) = server.rebase().await.unwrap();
    assert!(from.since(to) > YEAR - Duration::from_secs(3600), "{from} to {to}");
    assert!(to.since(server.wall()).max(server.wall().since(to)) < Duration::from_secs(1), "{to}");
    server.opened("failed").await;
    let now = server.log.read(|view| view.at);
    assert!(now.since(to) <= RETRY_MAX, "it was tried again in its own time");

    // What was renewed by the wrong time is renewed again: 5 % an hour, until somebody says that all may.
    tokio::time::sleep(Duration::from_secs(1800)).await;
    assert_eq!(server.renewals(), CERTIFICATES + 2);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(server.renewals(), CERTIFICATES + 4);
    server.control.execute(admin(), Command::ReleaseRenewals).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(server.renewals(), CERTIFICATES + CERTIFICATES / 2);
    for number in 0..CERTIFICATES {
        server.submit(&web, &format!("c{number}")).await;
    }
    let latest = server.wall();
    let begins_late = server.log.read(|view| {
        let instances = view.state.certificates.iter().flat_map(|certificate| &certificate.instances);
        instances.filter(|it| it.current.is_some_and(|current| current.not_before > latest)).count()
    });
    assert_eq!(begins_late, 0);

    // What an authority of the future would sign nobody would take.
    let refused = server.control.issue(admin(), order("of-the-future")).await.unwrap_err();
    assert_eq!(refused.reason, Reason::AuthorityNotYetValid);
    let child = AuthorityName::parse("child").unwrap();
    let refused = server.control.create_authority(admin(), child, authority(Some("of-the-future"))).await.unwrap_err();
    assert_eq!(refused.reason, Reason::AuthorityNotYetValid);
    server.control.issue(admin(), order("demo")).await.unwrap();
    server.is_of_the_right_time();
}

#[tokio::test(start_paused = true)]
async fn nothing_that_was_under_way_by_the_wrong_time_stands_behind_it() {
    let (server, web) = poisoned().await;
    for number in 0..8 {
        server.declare(&format!("c{number}")).await;
        server.opened(&format!("c{number}")).await;
    }
    let commands = async |round: usize| {
        let host = format!("c{round}");
        let (instance, generation) = server.opened(&host).await;
        let (reason, message) = ("X".to_owned(), "why".to_owned());
        let fail = Command::FailIssuance { certificate: name(&host), instance, generation, reason, message };
        let _ = server.control.execute(Call::by(Actor::System), fail).await;
        // A token that was to lapse by the time taken back is refused: it was not drawn yet when that went.
        let _ = server.control.create_token(admin(), TokenGrant::Node, None).await;
        server.control.issue(admin(), order("demo")).await.unwrap();
        let _ = server.control.renew_identity(agent("web", &web), request(&web, &[])).await;
    };
    let rebase = async {
        tokio::task::yield_now().await;
        server.rebase().await.unwrap();
    };
    tokio::join!(join_all((0..4).map(&commands)), rebase, join_all((4..8).map(&commands)));
    server.is_of_the_right_time();
    assert!(server.transactions().iter().all(|(.., refused)| !refused));
}

#[tokio::test(start_paused = true)]
async fn it_is_done_once_and_a_repeat_says_the_same() {
    let (server, _) = poisoned().await;
    let keyed = || Call { request_id: Some(RequestId([7; 16])), ..admin() };
    let first = server.control.rebase_time(keyed(), server.wall()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(30)).await;
    let again = server.control.rebase_time(keyed(), server.wall()).await.unwrap();
    assert_eq!((first.change, first.outcome.position), (again.change, again.outcome.position));
    let second = server.control.rebase_time(admin(), server.wall()).await.unwrap();
    assert_eq!((second.change, second.outcome.unchanged), (None, true));
    assert_eq!(server.events().iter().filter(|(_, event)| event.kind() == "TimeRebased").count(), 1);
}

#[tokio::test(start_paused = true)]
async fn whoever_asks_must_show_the_same_time_and_may_operate() {
    let (server, web) = poisoned().await;
    for off in [Duration::from_secs(61), YEAR] {
        for told in [server.wall().plus(off), server.wall().minus(off)] {
            let refused = server.control.rebase_time(admin(), told).await.unwrap_err();
            assert_eq!(refused.reason, Reason::ClocksDisagree, "{refused}");
        }
    }
    let refused = server.control.rebase_time(agent("web", &web), server.wall()).await.unwrap_err();
    assert_eq!(refused.reason, Reason::PermissionDenied);
    assert!(server.control.rebase_time(admin(), server.wall().plus(Duration::from_secs(55))).await.is_ok());
}

/// Whoever set its log time back would lock everybody out.
#[tokio::test(start_paused = true)]
async fn a_cluster_that_was_made_by_wrong_clocks_stays_with_them() {
    let server = Machine::new().boot().await;
    server.clock.set_skew_millis(YEAR.as_millis() as i64);
    server.bootstrap().await.unwrap();
    server.clock.set_skew_millis(0);
    let refused = server.control.rebase_time(admin(), server.wall()).await.unwrap_err();
    assert_eq!(refused.reason, Reason::AuthorityNotYetValid);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_starts_again_finds_the_right_time() {
    let machine = Machine::new();
    let (server, _) = machine.estate().await;
    server.clock.set_skew_millis(YEAR.as_millis() as i64);
    server.control.create_token(admin(), TokenGrant::Node, None).await.unwrap();
    server.clock.set_skew_millis(0);
    let (_, to) = server.rebase().await.unwrap();
    server.kill().await;
    let server = machine.boot().await;
    server.control.leading().await;
    server.control.create_token(admin(), TokenGrant::Node, None).await.unwrap();
    let at = server.log.read(|view| view.at);
    assert!(at >= to && at.since(to) < Duration::from_secs(3600), "{at}");
    assert!(server.log.clock_jump().is_none());
}
