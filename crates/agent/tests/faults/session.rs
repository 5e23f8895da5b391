//! The session: absent servers, lost servers, draining ones, resumption, lost answers, a young identity.

use std::time::Duration;

use crate::rig::{INSTANCE, RECOVERS_WITHIN, Rig};
use crate::target::spec;

#[tokio::test(flavor = "multi_thread")]
async fn servers_absent_at_the_start_are_found_when_they_come() {
    let mut rig = Rig::new().await;
    let address = rig.server.address;
    rig.server = rig.estate.serve(9, "127.0.0.1:0".parse().unwrap()).await; // takes the first one away
    rig.estate.declare(INSTANCE, spec(&rig.live()));
    let agent = rig.agent().await;
    // Somebody listens who is no server: the agent is seen to try, and to try again.
    let nobody = tokio::net::TcpListener::bind(address).await.unwrap();
    for _ in 0..2 {
        drop(tokio::time::timeout(RECOVERS_WITHIN, nobody.accept()).await.expect("another attempt").unwrap());
    }
    drop(nobody);
    assert!(rig.estate.state().hellos.is_empty());
    rig.server = rig.estate.serve(1, address).await;
    rig.written(1).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_start_without_servers_finishes_what_was_issued() {
    let mut rig = Rig::new().await;
    rig.estate.declare(INSTANCE, spec(&rig.live()));
    let agent = rig.agent().await;
    rig.written(1).await;
    agent.stop().await;
    rig.server = rig.estate.serve(9, "127.0.0.1:0".parse().unwrap()).await;
    std::fs::remove_dir_all(rig.live()).unwrap();
    let agent = rig.agent().await;
    rig.until("the files", |_| rig.live_serial() == Some(rig.issued_serial())).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_assignment_that_cannot_be_read_is_told_again() {
    let rig = Rig::new().await;
    rig.estate.declare(INSTANCE, spec(&rig.live()));
    let agent = rig.agent().await;
    rig.written(1).await;
    rig.until("a resume token", |_| rig.root.path().join("state/resume.json").exists()).await;
    agent.stop().await;
    let instances = rig.root.path().join("state/instances");
    std::fs::write(instances.join(INSTANCE).join("assignment"), b"\xff\xff").unwrap();
    // Nobody knows this one any more.
    std::fs::create_dir(instances.join("5-9-9")).unwrap();
    let agent = rig.agent().await;
    rig.until("second session", |estate| estate.state().hellos.len() == 2).await;
    assert!(rig.estate.state().hellos[1].resume.is_none());
    rig.estate.renew(INSTANCE);
    rig.written(2).await;
    agent.stop().await;
    assert!(!instances.join("5-9-9").exists());
    let agent = rig.agent().await;
    rig.until("third session", |estate| estate.state().hellos.len() == 3).await;
    assert!(rig.estate.state().hellos[2].resume.is_some());
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_resumes_and_is_told_only_what_changed() {
    let rig = Rig::new().await;
    for number in 1..=3 {
        rig.estate.declare(&format!("5-0-{number}"), spec(&rig.root.path().join(format!("live-{number}"))));
    }
    let agent = rig.agent().await;
    rig.until("three deliveries", |estate| {
        estate.state().reports.iter().filter(|report| report.stage == "written").count() == 3
    })
    .await;
    agent.stop().await;
    let sent = rig.estate.state().assignments_sent;
    let agent = rig.agent().await;
    rig.until("second session", |estate| estate.state().hellos.len() == 2).await;
    assert!(rig.estate.state().hellos[1].resume.is_some());
    rig.estate.renew("5-0-2");
    rig.until("a delivery", |estate| {
        estate.state().reports.iter().any(|report| report.generation == 2 && report.stage == "written")
    })
    .await;
    assert!(
        rig.estate.state().assignments_sent - sent <= 2 + 3,
        "told again: {}",
        rig.estate.state().assignments_sent - sent
    );
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_understood_is_told_again_in_the_next_session() {
    let rig = Rig::new().await;
    rig.estate.declare(INSTANCE, spec(&rig.live()));
    let agent = rig.agent().await;
    rig.written(1).await;
    // A specification that this agent does not understand; what comes after it is understood.
    rig.estate.change(|state| {
        let instance = state.instances.get_mut(INSTANCE).unwrap();
        instance.revision += 1;
        let algorithm = "of a later time".to_string();
        instance.spec.private_key = Some(certwright_proto::v1::PrivateKey { algorithm, ..Default::default() });
    });
    rig.estate.declare("6-0-1", spec(&rig.root.path().join("other")));
    rig.until("the other one", |estate| {
        estate.state().reports.iter().any(|report| report.instance == "6-0-1" && report.stage == "written")
    })
    .await;
    agent.stop().await;
    assert_eq!(rig.estate.state().hellos.len(), 1, "asking again at once would bring the same");
    let asked = rig.estate.state().assignments_sent;
    let agent = rig.agent().await;
    rig.until("it again", |estate| estate.state().assignments_sent > asked).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_complete_scope_ends_the_management_of_what_it_does_not_name() {
    let rig = Rig::new().await;
    rig.estate.declare(INSTANCE, spec(&rig.live()));
    rig.estate.declare("6-0-1", spec(&rig.root.path().join("other")));
    let agent = rig.agent().await;
    rig.until("two deliveries", |estate| {
        estate.state().reports.iter().filter(|report| report.stage == "written").count() == 2
    })
    .await;
    agent.stop().await;
    // The servers forgot that they ever knew it, and the token is of no use.
    rig.estate.change(|state| state.instances.remove("6-0-1"));
    std::fs::remove_file(rig.root.path().join("state/resume.json")).unwrap();
    let agent = rig.agent().await;
    let gone = rig.root.path().join("state/instances/6-0-1");
    rig.until("end of management", |_| !gone.exists()).await;
    assert!(rig.root.path().join("other/cert.pem").exists(), "its files stay");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unanswered_requests_and_unacknowledged_reports_are_sent_again_elsewhere() {
    let mut rig = Rig::new().await;
    let second = rig.estate.serve(2, "127.0.0.1:0".parse().unwrap()).await;
    let servers = [rig.server.address, second.address];
    let context = rig.estate.context("edge", &servers, Duration::from_secs(3600));
    std::fs::write(rig.root.path().join("context"), context).unwrap();
    rig.estate.state().mute = true;
    rig.estate.declare(INSTANCE, spec(&rig.live()));
    let agent = rig.agent().await;
    rig.until("a request", |estate| !estate.state().csrs.is_empty()).await;
    rig.estate.change(|state| (state.mute, state.deaf) = (false, true));
    // Both go away with the answers; they come back, and the same key is asked for again.
    drop(std::mem::replace(&mut rig.server, rig.estate.serve(9, "127.0.0.1:0".parse().unwrap()).await));
    drop(second);
    let _second = rig.estate.serve(2, servers[1]).await;
    rig.written(1).await;
    let keys: std::collections::BTreeSet<_> = rig
        .estate
        .state()
        .csrs
        .iter()
        .map(|(_, _, csr)| certwright_core::x509::csr::parse(csr).unwrap().claimed_key().hash())
        .collect();
    assert_eq!(keys.len(), 1, "one key for one generation");
    let unacknowledged = rig.estate.state().reports.len();
    rig.estate.change(|state| state.deaf = false);
    agent.stop().await;
    let agent = rig.agent().await;
    rig.until("the report again", |estate| estate.state().reports.len() > unacknowledged).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_server_is_left_at_once() {
    let rig = Rig::new().await;
    let second = rig.estate.serve(2, "127.0.0.1:0".parse().unwrap()).await;
    let context = rig.estate.context("edge", &[rig.server.address, second.address], Duration::from_secs(3600));
    std::fs::write(rig.root.path().join("context"), context).unwrap();
    let agent = rig.agent().await;
    rig.until("a session", |estate| estate.state().hellos.len() == 1).await;
    let first = rig.estate.state().sessions[0];
    let start = std::time::Instant::now();
    if first == 1 {
        rig.server.draining.cancel()
    } else {
        second.draining.cancel()
    }
    rig.until("a session elsewhere", |estate| estate.state().sessions.get(1) == Some(&(3 - first))).await;
    // Who notices by its silence alone takes longer.
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_identity_is_renewed_at_half_its_life_and_used_without_a_restart() {
    let rig = Rig::new().await;
    let context = rig.estate.context("edge", &[rig.server.address], Duration::from_secs(8));
    std::fs::write(rig.root.path().join("context"), &context).unwrap();
    let before = rig.registered(&context);
    let agent = rig.agent().await;
    rig.until("a new identity", |estate| !estate.state().identity_serials.is_empty()).await;
    let seams = certwright_seams::Seams::system();
    let path = rig.root.path().join("context");
    let wanted = rig.estate.state().identity_serials[0].clone();
    rig.until("it on disk", |_| {
        let context = certwright_agent::Context::load(&*seams.disk, &path).unwrap();
        certwright_core::x509::inspect::inspect(&context.chain().unwrap()[0]).unwrap().serial == wanted
    })
    .await;
    // The same process opens the next session with it, at once; its key is a new one, and nowhere else.
    let held = certwright_agent::Context::load(&*seams.disk, &path).unwrap();
    let key = certwright_core::x509::inspect::inspect(&held.chain().unwrap()[0]).unwrap().spki_hash;
    assert_ne!(key, before);
    rig.until("a session with the new identity", |estate| estate.state().session_keys.last() == Some(&Some(key))).await;
    rig.until("one copy of the key", |_| !rig.root.path().join("state/identity.key").exists()).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_of_another_cluster_are_refused() {
    let rig = Rig::new().await;
    let other = crate::estate::Estate::new();
    let foreign = other.serve(1, "127.0.0.1:0".parse().unwrap()).await;
    let context = rig.estate.context("edge", &[foreign.address], Duration::from_secs(3600));
    let context = certwright_agent::Context::parse(context.as_bytes()).unwrap();
    let connector = certwright_agent::Connector::new(&context, &certwright_seams::Seams::system()).unwrap();
    let refused = connector.connect().await.expect_err("no connection");
    assert!(matches!(refused, certwright_agent::ConnectError::Untrusted(_)), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_accepts_and_never_answers_holds_up_nobody() {
    let rig = Rig::new().await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let servers = [silent.local_addr().unwrap(), rig.server.address];
    let context = rig.estate.context("edge", &servers, Duration::from_secs(3600));
    let context = certwright_agent::Context::parse(context.as_bytes()).unwrap();
    let connector = certwright_agent::Connector::new(&context, &certwright_seams::Seams::system()).unwrap();
    let start = std::time::Instant::now();
    // Avoiding the good one puts the silent one first.
    let good = rig.server.address.to_string();
    let (_, server) = connector.connect_avoiding(Some(&good)).await.unwrap();
    assert_eq!(server, good);
    assert!(start.elapsed() >= Duration::from_millis(250), "the silent one was asked first");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_state_directory_has_one_agent() {
    let rig = Rig::new().await;
    let agent = rig.agent().await;
    let second = certwright_agent::Agent::new(rig.options(), certwright_seams::Seams::system()).await;
    assert!(second.err().expect("refused").to_string().contains("in use"));
    agent.stop().await;
}
