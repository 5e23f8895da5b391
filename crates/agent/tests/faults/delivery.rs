//! What is delivered, and what is refused: keys, chains, dates, generations, names.

use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use certwright_proto::agent::v1 as wire;

use crate::pki;
use crate::rig::{INSTANCE, MovedClock, Rig, told};
use crate::target::{serial, spec};

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_delivered_beside_a_key_that_never_left() {
    let rig = Rig::new().await;
    rig.estate.declare(INSTANCE, spec(&rig.live()));
    let agent = rig.agent().await;
    rig.written(1).await;
    let live = rig.live();
    assert_eq!(rig.live_serial(), Some(rig.issued_serial()));
    let text = |name: &str| std::fs::read_to_string(live.join(name)).unwrap();
    assert!(text("key.pem").starts_with("-----BEGIN PRIVATE KEY-----\n"), "PKCS#8");
    assert_eq!(text("fullchain.pem"), text("cert.pem") + &text("chain.pem"));
    assert_eq!(text("combined.pem"), text("fullchain.pem") + &text("key.pem"));
    assert_eq!(serial(&live.join("ca.pem")), Some(serial_of(rig.estate.pki.root.der())));
    assert_eq!(serial(&live.join("chain.pem")), Some(serial_of(rig.estate.pki.intermediate.der())));
    for (name, mode) in [("key.pem", 0o600), ("combined.pem", 0o600), ("cert.pem", 0o644), ("ca.pem", 0o644)] {
        assert_eq!(std::fs::metadata(live.join(name)).unwrap().permissions().mode() & 0o777, mode, "{name}");
    }
    // Each stage was reported, in order.
    let stages: Vec<String> = rig.estate.state().reports.iter().map(|report| report.stage.clone()).collect();
    assert_eq!(stages, ["received", "verified", "written"]);
    agent.stop().await;
}

fn serial_of(der: &[u8]) -> String {
    certwright_core::x509::inspect::inspect(der).unwrap().serial
}

#[tokio::test(flavor = "multi_thread")]
async fn renewals_have_new_keys_and_the_old_ones_are_removed() {
    let rig = Rig::new().await;
    rig.estate.declare(INSTANCE, spec(&rig.live()));
    let agent = rig.agent().await;
    rig.written(1).await;
    let first = std::fs::read(rig.live().join("key.pem")).unwrap();
    for generation in 2..=4 {
        assert_eq!(rig.estate.renew(INSTANCE), generation);
        rig.written(generation).await;
    }
    assert_ne!(std::fs::read(rig.live().join("key.pem")).unwrap(), first);
    let state = rig.root.path().join("state/instances").join(INSTANCE);
    rig.until("removal of superseded keys", |_| {
        let names = std::fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(".key")).collect::<Vec<_>>() == ["4.key"]
    })
    .await;
    assert_eq!(std::fs::read_dir(rig.live().join(".versions")).unwrap().count(), 2, "old versions are pruned");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_rotation_never_the_key_stays_and_pkcs1_is_written_when_asked() {
    let rig = Rig::new().await;
    let mut spec = spec(&rig.live());
    spec.private_key = Some(certwright_proto::v1::PrivateKey {
        algorithm: "RSA".into(),
        size: 2048,
        encoding: "PKCS1".into(),
        rotation_policy: "Never".into(),
    });
    rig.estate.declare(INSTANCE, spec);
    let agent = rig.agent().await;
    rig.written(1).await;
    let first = std::fs::read_to_string(rig.live().join("key.pem")).unwrap();
    assert!(first.starts_with("-----BEGIN RSA PRIVATE KEY-----\n"));
    rig.estate.renew(INSTANCE);
    rig.written(2).await;
    assert_eq!(std::fs::read_to_string(rig.live().join("key.pem")).unwrap(), first);
    agent.stop().await;
}

/// Delivers generation 1, then forges generation 2, and expects it refused with `reason` while 1 stays.
async fn refused(
    reason: &str,
    forge: impl Fn(&pki::Pki, &[u8], &mut certwright_proto::agent::v1::Issued) + Send + 'static,
) {
    let rig = Rig::new().await;
    rig.estate.declare(INSTANCE, spec(&rig.live()));
    let agent = rig.agent().await;
    rig.written(1).await;
    let before = rig.issued_serial();
    rig.estate.state().forge = Some(Box::new(forge));
    rig.estate.renew(INSTANCE);
    rig.reported(2, "", "received", reason).await;
    assert_eq!(rig.live_serial(), Some(before), "the good pair stays");
    // The next good one is taken.
    rig.estate.state().forge = None;
    rig.estate.renew(INSTANCE);
    rig.written(3).await;
    assert_eq!(rig.live_serial(), Some(rig.issued_serial()));
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mismatched_key_is_refused() {
    refused("KEY_MISMATCH", |pki, _, issued| {
        let other = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["web.example.org".to_string()]).unwrap();
        let csr = params.serialize_request(&other).unwrap();
        let leaf = pki.leaf(csr.der(), &pki.intermediate, SystemTime::now(), Duration::from_secs(600));
        (issued.certificate, issued.serial) = (leaf.der.into(), leaf.serial);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_chain_is_refused() {
    refused("CHAIN_BROKEN", |pki, csr, issued| {
        // The root is trusted and the intermediate is its own; the certificate is another intermediate's.
        let other = pki::authority("another intermediate", Some(&pki.root));
        let leaf = pki.leaf(csr, &other, SystemTime::now(), Duration::from_secs(600));
        (issued.certificate, issued.serial) = (leaf.der.into(), leaf.serial);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_intermediate_is_refused() {
    refused("CHAIN_BROKEN", |_, _, issued| issued.intermediates.clear()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_names_are_refused() {
    refused("NAMES_MISMATCH", |pki, csr, issued| {
        let parsed = rcgen::CertificateSigningRequestParams::from_der(&csr.into()).unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["evil.example.org".to_string()]).unwrap();
        params.serial_number = Some(rcgen::SerialNumber::from_slice(&hex::decode(&issued.serial).unwrap()));
        let der = params.signed_by(&parsed.public_key, &*pki.intermediate).unwrap().der().to_vec();
        issued.certificate = der.into();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_already_ended_is_refused() {
    refused("EXPIRED", |pki, csr, issued| {
        let start = SystemTime::now() - Duration::from_secs(7200);
        let leaf = pki.leaf(csr, &pki.intermediate, start, Duration::from_secs(3600));
        (issued.certificate, issued.serial) = (leaf.der.into(), leaf.serial);
        (issued.not_before, issued.not_after) = (Some(leaf.not_before.into()), Some(leaf.not_after.into()));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_generation_is_refused() {
    let rig = Rig::new().await;
    rig.estate.declare(INSTANCE, spec(&rig.live()));
    let agent = rig.agent().await;
    rig.written(1).await;
    let older = rig.estate.state().instances[INSTANCE].issued.clone();
    rig.estate.renew(INSTANCE);
    rig.written(2).await;
    let serial = rig.issued_serial();
    // Servers that lost what they promised never to lose.
    rig.estate.change(|state| {
        let instance = state.instances.get_mut(INSTANCE).unwrap();
        instance.issued = older;
        instance.revision += 1;
    });
    rig.reported(1, "", "received", "OLDER_GENERATION").await;
    assert_eq!(rig.live_serial(), Some(serial.clone()));
    agent.stop().await;
    // Also after a restart.
    rig.estate.state().reports.clear();
    let agent = rig.agent().await;
    rig.estate.change(|state| state.instances.get_mut(INSTANCE).unwrap().revision += 1);
    rig.reported(1, "", "received", "OLDER_GENERATION").await;
    assert_eq!(rig.live_serial(), Some(serial));
    agent.stop().await;
}

/// With a clock that is wrong by so many seconds nothing is installed and the reason is told; when the clock is right
/// again, the agent installs by itself.
async fn wrong_clock(seconds: i64, reason: &str) {
    let rig = Rig::new().await;
    rig.estate.declare(INSTANCE, spec(&rig.live()));
    let clock = MovedClock::by(0);
    let agent = rig.agent_with(rig.options(), clock.seams()).await;
    rig.written(1).await;
    let before = rig.issued_serial();
    clock.moved_seconds.store(seconds, Ordering::Relaxed);
    rig.estate.renew(INSTANCE);
    rig.reported(2, "", "received", reason).await;
    assert_eq!(rig.live_serial(), Some(before.clone()));
    agent.stop().await;
    // A restart under the wrong clock still connects, and still installs nothing.
    let agent = rig.agent_with(rig.options(), clock.seams()).await;
    rig.until("second session", |estate| estate.state().hellos.len() == 2).await;
    assert_eq!(rig.live_serial(), Some(before));
    clock.moved_seconds.store(0, Ordering::Relaxed);
    rig.written(2).await;
    assert_eq!(rig.live_serial(), Some(rig.issued_serial()));
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_a_day_behind_installs_nothing_and_recovers() {
    wrong_clock(-86_400, "NOT_YET_VALID").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_a_day_ahead_installs_nothing_and_recovers() {
    wrong_clock(86_400, "EXPIRED").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_certificates_never_share_a_directory() {
    let rig = Rig::new().await;
    rig.estate.declare(INSTANCE, spec(&rig.live()));
    let agent = rig.agent().await;
    rig.written(1).await;
    rig.estate.declare("6-0-1", spec(&rig.live()));
    rig.reported(1, "files", "verified", "TARGET_CONFLICT").await;
    assert_eq!(rig.live_serial(), Some(rig.issued_serial()));
    // When the first leaves the scope, its files stay until the second replaces them, unaided.
    rig.estate.change(|state| {
        let instance = state.instances.get_mut(INSTANCE).unwrap();
        (instance.gone, instance.revision) = (true, instance.revision + 1);
    });
    rig.until("the second certificate", |estate| {
        rig.live_serial() == estate.state().instances["6-0-1"].issued.as_ref().map(|issued| issued.serial.clone())
    })
    .await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_leaves_the_scope_is_left_where_it_is() {
    let rig = Rig::new().await;
    rig.estate.declare(INSTANCE, spec(&rig.live()));
    let agent = rig.agent().await;
    rig.written(1).await;
    let state = rig.root.path().join("state/instances").join(INSTANCE);
    assert!(state.exists());
    rig.estate.change(|state| {
        let instance = state.instances.get_mut(INSTANCE).unwrap();
        (instance.gone, instance.revision) = (true, instance.revision + 1);
    });
    rig.until("end of management", |_| !state.exists()).await;
    assert_eq!(rig.live_serial(), Some(rig.issued_serial()));
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_lost_its_state_takes_its_key_from_the_target() {
    let rig = Rig::new().await;
    rig.estate.declare(INSTANCE, spec(&rig.live()));
    let agent = rig.agent().await;
    rig.written(1).await;
    agent.stop().await;
    std::fs::remove_dir_all(rig.root.path().join("state")).unwrap();
    rig.estate.state().reports.clear();
    let agent = rig.agent().await;
    rig.written(1).await;
    assert!(rig.estate.state().reports.iter().all(|report| report.failure_reason.is_empty()));
    assert_eq!(rig.live_serial(), Some(rig.issued_serial()));
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_lost_its_state_puts_nothing_older_over_what_the_target_shows() {
    let rig = Rig::new().await;
    rig.estate.declare(INSTANCE, spec(&rig.live()));
    rig.estate.state().forge = Some(Box::new(|pki, csr, issued| {
        let start = SystemTime::now() - Duration::from_secs(60);
        let leaf = pki.leaf(csr, &pki.intermediate, start, Duration::from_secs(3600));
        *issued = wire::Issued {
            serial: leaf.serial,
            certificate: leaf.der.into(),
            not_before: Some(leaf.not_before.into()),
            not_after: Some(leaf.not_after.into()),
            ..issued.clone()
        };
    }));
    let agent = rig.agent().await;
    rig.written(1).await;
    let older = rig.estate.state().instances[INSTANCE].issued.clone();
    rig.estate.state().forge = None;
    rig.estate.renew(INSTANCE);
    rig.written(2).await;
    let newer = rig.estate.state().instances[INSTANCE].issued.clone();
    let serial = rig.issued_serial();
    agent.stop().await;
    // The first server that it finds again lags behind; the key of the older one is still at the target.
    std::fs::remove_dir_all(rig.root.path().join("state")).unwrap();
    let say = |issued: Option<wire::Issued>| {
        rig.estate.change(|state| {
            let instance = state.instances.get_mut(INSTANCE).unwrap();
            (instance.issued, instance.revision) = (issued, instance.revision + 1);
            state.reports.clear();
        });
    };
    say(older);
    let agent = rig.agent().await;
    let report = rig.reported(1, "files", "verified", "OLDER_GENERATION").await;
    assert!(report.failure_message.contains(&serial), "{}", report.failure_message);
    assert_eq!(rig.live_serial(), Some(serial.clone()));
    say(newer);
    rig.written(2).await;
    assert_eq!(rig.live_serial(), Some(serial));
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_somebody_deleted_are_written_again_at_the_next_start() {
    let rig = Rig::new().await;
    rig.estate.declare(INSTANCE, spec(&rig.live()));
    let agent = rig.agent().await;
    rig.written(1).await;
    agent.stop().await;
    std::fs::remove_dir_all(rig.live()).unwrap();
    let agent = rig.agent().await;
    rig.until("the files", |_| rig.live_serial() == Some(rig.issued_serial())).await;
    let last = rig.estate.state().reports.last().map(told);
    assert!(last.is_some());
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_somebody_deletes_come_back_under_a_running_agent() {
    let rig = Rig::new().await;
    rig.estate.declare(INSTANCE, spec(&rig.live()));
    let agent = rig.agent().await;
    rig.written(1).await;
    let serial = Some(rig.issued_serial());
    let key = std::fs::read(rig.live().join("key.pem")).unwrap();
    let version = std::fs::canonicalize(rig.live().join(".current")).unwrap();
    for lost in [rig.live().join("key.pem"), version.join("combined.pem"), rig.live().join(".current"), rig.live()] {
        rig.estate.state().reports.clear();
        match lost.symlink_metadata().unwrap().is_dir() {
            true => std::fs::remove_dir_all(&lost).unwrap(),
            false => std::fs::remove_file(&lost).unwrap(),
        }
        rig.reported(1, "files", "verified", "TARGET_LOST").await;
        rig.written(1).await;
        assert_eq!(rig.live_serial(), serial, "{}", lost.display());
        assert_eq!(std::fs::read(rig.live().join("key.pem")).unwrap(), key);
        assert!(lost.exists() || lost.starts_with(&version), "{}", lost.display());
    }
    agent.stop().await;
}
