//! Log time that jumps: the estate is not renewed at once.

use std::sync::Arc;
use std::time::Duration;

use certwright_core::command::Command;
use certwright_core::event::{Event, Trigger};
use certwright_core::spec::CertificateSpec;

use super::server::{Machine, Server, admin, agent, name, p256, request, spec};
use crate::CsrSubmission;

const CERTIFICATES: usize = 40;
const YEAR_MILLIS: i64 = 365 * 24 * 3600 * 1000;

async fn declare(server: &Server, host: &str) {
    let spec = CertificateSpec { duration: Some(Duration::from_secs(30 * 24 * 3600)), ..spec(host) };
    server
        .control
        .execute(admin(), Command::CreateCertificate { name: name(host), spec: Arc::new(spec) })
        .await
        .unwrap();
}

/// How many renewals were begun because their time came.
fn renewals(server: &Server) -> usize {
    let opened = |event: &Event| matches!(event, Event::IssuanceOpened { trigger: Trigger::Due, .. });
    server.events().iter().filter(|(_, event)| opened(event)).count()
}

/// Waits until so many renewals were begun.
async fn begins(server: &Server, expected: usize) {
    let all = async {
        while renewals(server) < expected {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(600), all).await.expect("they never began");
}

/// The same, and no more within half a minute.
async fn settles(server: &Server, expected: usize) {
    begins(server, expected).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(renewals(server), expected);
}

#[tokio::test(start_paused = true)]
async fn after_a_jump_a_few_an_hour_are_renewed_until_somebody_says_that_time_is_right() {
    let (server, web) = Machine::new().estate().await;
    for number in 0..CERTIFICATES {
        let host = format!("c{number}");
        declare(&server, &host).await;
        let find = |state: &certwright_core::State| {
            let instance = state.certificates.get(&name(&host))?.instances.first()?;
            instance.open.map(|open| (instance.id, open.generation))
        };
        let (instance, generation) = server.until(find).await;
        let csr = request(&p256(), &["ignored.example.org"]);
        let submission = CsrSubmission { certificate: name(&host), instance, generation, csr };
        server.control.submit_csr(agent("web", &web), submission).await.unwrap();
    }
    assert_eq!(renewals(&server), 0);

    server.clock.set_skew_millis(YEAR_MILLIS);
    settles(&server, 2).await; // 5 %
    let hold = server.log.read(|view| view.state.cluster.hold).unwrap();
    assert!(hold.ahead_millis.abs_diff(YEAR_MILLIS as u64) < 60_000, "{hold:?}");
    // What was never issued does not wait.
    declare(&server, "new").await;
    server.until(|state| state.certificates.get(&name("new"))?.instances.first()?.open).await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    settles(&server, 4).await;

    // Administrators say so, and nobody else.
    let denied = server.control.execute(agent("web", &web), Command::ReleaseRenewals).await.unwrap_err();
    assert_eq!(denied.reason, certwright_core::Reason::PermissionDenied);
    server.control.execute(admin(), Command::ReleaseRenewals).await.unwrap();
    settles(&server, CERTIFICATES).await;
    assert_eq!(server.log.read(|view| view.state.cluster.hold), None);
}
