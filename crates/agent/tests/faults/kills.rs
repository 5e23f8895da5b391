//! `kill -9` at every named step of a delivery, with a reader that looks every millisecond.

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, SystemTime};

use certwright_agent::fault::WriteStep;
use certwright_proto::v1;

use crate::rig::{INSTANCE, Rig};
use crate::target::{Reader, spec};

/// The signal by which a killed agent ends.
const KILL: i32 = 9;

/// A hook that notes which serial it was called for.
fn noting(rig: &Rig) -> v1::Reload {
    let note = format!("echo $CERTWRIGHT_SERIAL >> {}/hooked", rig.root.path().display());
    v1::Reload { exec: vec!["/bin/sh".into(), "-c".into(), note], ..Default::default() }
}

fn hooked(rig: &Rig) -> Vec<String> {
    let text = std::fs::read_to_string(rig.root.path().join("hooked")).unwrap_or_default();
    text.lines().map(str::to_string).collect()
}

/// Kills an agent at `step` while it delivers `generation`, restarts it, and waits until it is right.
async fn kill_and_recover(rig: &Rig, step: WriteStep, generation: u64) {
    let mut killed = rig.process(Some(step.name()));
    if generation > 1 {
        // The agent restarted before may still hold the lock for a moment.
        rig.estate.renew(INSTANCE);
    }
    let status = killed.ended().await;
    assert_eq!(status.signal(), Some(KILL), "{step}: killed there, and nowhere else: {status}");
    let restarted = rig.process(None);
    rig.written(generation).await;
    assert_eq!(rig.live_serial(), Some(rig.issued_serial()), "{step}");
    assert!(hooked(rig).contains(&rig.issued_serial()), "{step}: the consumer was told");
    drop(restarted);
}

/// Exactly one key was made for a generation: a key whose CSR was sent is never lost.
fn assert_one_key(rig: &Rig, step: WriteStep, generation: u64) {
    let keys: std::collections::BTreeSet<[u8; 32]> = rig
        .estate
        .state()
        .csrs
        .iter()
        .filter(|(_, of, _)| *of == generation)
        .map(|(_, _, csr)| certwright_core::x509::csr::parse(csr).unwrap().claimed_key().hash())
        .collect();
    assert_eq!(keys.len(), 1, "{step}: CSRs of generation {generation} are all for one key");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_step_of_a_renewal() {
    let rig = Rig::new().await;
    let mut spec = spec(&rig.live());
    spec.targets[0].reload = Some(noting(&rig));
    rig.estate.declare(INSTANCE, spec);
    let first = rig.process(None);
    rig.written(1).await;
    drop(first);
    let reader = Reader::start(rig.live());
    for (at, &step) in WriteStep::DELIVERY.iter().enumerate() {
        let generation = at as u64 + 2;
        kill_and_recover(&rig, step, generation).await;
        assert_one_key(&rig, step, generation);
    }
    let seen = reader.end();
    assert!(seen.bad.is_empty(), "half pairs: {:?}", seen.bad);
    assert_eq!(seen.vanished, 0, "a pair was there all the time");
    assert_eq!(seen.serials.len(), WriteStep::DELIVERY.len() + 1, "every generation was seen");
    assert!(seen.looks > 1000, "{} looks", seen.looks);
    assert!(std::fs::read_dir(rig.live().join(".versions")).unwrap().count() <= 2, "nothing half done is left");
    let leftovers: Vec<_> = std::fs::read_dir(rig.live()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(leftovers.len(), 8, "six names, the link and the versions: {leftovers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_step_of_taking_a_directory_over() {
    for &step in WriteStep::DELIVERY {
        let rig = Rig::new().await;
        let mut spec = spec(&rig.live());
        spec.targets[0].reload = Some(noting(&rig));
        rig.estate.declare(INSTANCE, spec);
        let before = found(&rig);
        let reader = Reader::start(rig.live());
        rig.until("the first look", |_| reader.has_seen(&before)).await;
        kill_and_recover(&rig, step, 1).await;
        let seen = reader.end();
        assert!(seen.bad.is_empty(), "{step}: half pairs: {:?}", seen.bad);
        assert_eq!(seen.vanished, 0, "{step}: a pair was there all the time");
        assert!(seen.serials.len() <= 2, "{step}: what was found, and what was issued");
        assert!(rig.live().join(".replaced/key.pem").exists(), "{step}: what was found is kept");
    }
}

/// Puts a pair of plain files where the target will be; returns its serial.
fn found(rig: &Rig) -> String {
    std::fs::create_dir_all(rig.live()).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["web.example.org".to_string()]).unwrap();
    let request = params.serialize_request(&key).unwrap();
    let leaf = rig.estate.pki.leaf(request.der(), &rig.estate.pki.root, SystemTime::now(), Duration::from_secs(3600));
    std::fs::write(rig.live().join("cert.pem"), certwright_core::x509::pem::certificate(&leaf.der)).unwrap();
    std::fs::write(rig.live().join("key.pem"), key.serialize_pem()).unwrap();
    leaf.serial
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_step_of_a_first_delivery() {
    for &step in WriteStep::DELIVERY {
        let rig = Rig::new().await;
        let mut spec = spec(&rig.live());
        spec.targets[0].reload = Some(noting(&rig));
        rig.estate.declare(INSTANCE, spec);
        let reader = Reader::start(rig.live());
        kill_and_recover(&rig, step, 1).await;
        assert_one_key(&rig, step, 1);
        let seen = reader.end();
        assert!(seen.bad.is_empty(), "{step}: half pairs: {:?}", seen.bad);
        assert_eq!(seen.vanished, 0, "{step}");
    }
}

/// The key and the serial of the identity in a context file.
fn identity(rig: &Rig) -> ([u8; 32], String) {
    let context = std::fs::read(rig.root.path().join("context")).unwrap();
    let chain = certwright_agent::Context::parse(&context).unwrap().chain().unwrap();
    let leaf = certwright_core::x509::inspect::inspect(&chain[0]).unwrap();
    (leaf.spki_hash, leaf.serial)
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_step_of_an_identity_renewal() {
    for &step in WriteStep::IDENTITY {
        let rig = Rig::new().await;
        let context = rig.estate.context("edge", &[rig.server.address], Duration::from_secs(8));
        std::fs::write(rig.root.path().join("context"), &context).unwrap();
        let before = rig.registered(&context);
        let mut killed = rig.process(Some(step.name()));
        assert_eq!(killed.ended().await.signal(), Some(KILL), "{step}");
        let restarted = rig.process(None);
        rig.until("the new identity in use", |estate| {
            let (key, serial) = identity(&rig);
            let state = estate.state();
            let known = state.keys.unwrap();
            (known.present, known.previous, state.session_keys.last()) == (key, Some(before), Some(&Some(key)))
                && state.identity_serials.contains(&serial)
        })
        .await;
        assert_ne!(identity(&rig).0, before, "{step}: a new key");
        drop(restarted);
    }
}
