//! Which roots a delivered chain may end at: those announced, or those of the operator's file, and no others.

use std::time::{Duration, SystemTime};

use certwright_core::x509::pem;

use crate::pki::{self, Authority, Pki};
use crate::rig::{INSTANCE, Rig};
use crate::target::spec;

/// A sound chain to another root: everything about it is right but where it ends.
fn elsewhere(root: &Authority, pki: &Pki, csr: &[u8], issued: &mut certwright_proto::agent::v1::Issued) {
    let leaf = pki.leaf(csr, root, SystemTime::now(), Duration::from_secs(600));
    (issued.certificate, issued.serial) = (leaf.der.into(), leaf.serial);
    (issued.not_before, issued.not_after) = (Some(leaf.not_before.into()), Some(leaf.not_after.into()));
    issued.intermediates.clear();
    issued.root = root.der().to_vec().into();
}

/// Delivers generation 1, then one that chains to the returned root; says the serial of the good pair too.
async fn strayed(rig: &Rig) -> (Vec<u8>, String) {
    rig.written(1).await;
    let before = rig.issued_serial();
    let root = pki::authority("another root", None);
    let der = root.der().to_vec();
    rig.estate.state().forge = Some(Box::new(move |pki, csr, issued| elsewhere(&root, pki, csr, issued)));
    rig.estate.renew(INSTANCE);
    let report = rig.reported(2, "", "received", "UNTRUSTED_ROOT").await;
    assert!(report.failure_message.contains("another root"), "{}", report.failure_message);
    assert_eq!(rig.live_serial(), Some(before.clone()), "the good pair stays");
    (der, before)
}

fn announce(rig: &Rig, name: &str, root: Vec<u8>) {
    rig.estate.change(|state| state.roots.push((name.to_string(), root)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_was_not_announced_is_refused_until_it_is() {
    let rig = Rig::new().await;
    rig.estate.declare(INSTANCE, spec(&rig.live()));
    let agent = rig.agent().await;
    let (root, before) = strayed(&rig).await;
    // Neither a restart nor a delivery makes it trusted.
    agent.stop().await;
    rig.estate.state().reports.clear();
    let agent = rig.agent().await;
    rig.reported(2, "", "received", "UNTRUSTED_ROOT").await;
    assert_eq!(rig.live_serial(), Some(before));
    // An announcement to the whole estate does, at once.
    announce(&rig, "other", root);
    rig.written(2).await;
    assert_eq!(rig.live_serial(), Some(rig.issued_serial()));
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_announcement_takes_no_root_back() {
    let rig = Rig::new().await;
    rig.estate.declare(INSTANCE, spec(&rig.live()));
    let agent = rig.agent().await;
    rig.written(1).await;
    let path = rig.root.path().join("state/trust-bundle");
    let held = std::fs::read(&path).unwrap();
    // Remembered as announced far in the future of what these servers say.
    agent.stop().await;
    let mut bundle: certwright_proto::agent::v1::TrustBundle = prost::Message::decode(&held[..]).unwrap();
    bundle.index = u64::MAX;
    std::fs::write(&path, prost::Message::encode_to_vec(&bundle)).unwrap();
    announce(&rig, "other", pki::authority("another root", None).der().to_vec());
    let agent = rig.agent().await;
    // What comes after the announcement was heard after it.
    rig.estate.renew(INSTANCE);
    rig.written(2).await;
    assert_eq!(std::fs::read(&path).unwrap(), prost::Message::encode_to_vec(&bundle));
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operators_trust_bundle_is_the_last_word() {
    let rig = Rig::new().await;
    let mut options = rig.options();
    let file = rig.root.path().join("roots.pem");
    std::fs::write(&file, pem::certificate(rig.estate.pki.root.der())).unwrap();
    options.trust_bundle = Some(file);
    rig.estate.declare(INSTANCE, spec(&rig.live()));
    let agent = rig.agent_with(options, certwright_seams::Seams::system()).await;
    let (root, before) = strayed(&rig).await;
    announce(&rig, "other", root);
    rig.estate.state().reports.clear();
    rig.estate.renew(INSTANCE);
    rig.reported(3, "", "received", "UNTRUSTED_ROOT").await;
    assert_eq!(rig.live_serial(), Some(before), "announced, and refused all the same");
    rig.estate.state().forge = None;
    rig.estate.renew(INSTANCE);
    rig.written(4).await;
    agent.stop().await;
}
