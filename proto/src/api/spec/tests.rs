//! Specifications there and back; what is refused names its field.

#![allow(clippy::unwrap_used)]

use certwright_core::Reason;
use certwright_core::spec::{KeyAlgorithm, KeyEncoding, RotationPolicy};
use proptest::prelude::*;

use super::*;
use crate::storage::tests::samples;

fn message() -> v1::CertificateSpec {
    spec_to_message(&samples::spec())
}

fn refuse(change: impl FnOnce(&mut v1::CertificateSpec)) -> (Reason, String) {
    let mut spec = message();
    change(&mut spec);
    let rejection = spec_from_message(spec, Labels::new()).unwrap_err();
    (rejection.reason, rejection.field.unwrap())
}

#[test]
fn a_full_specification_goes_there_and_back() {
    let spec = samples::spec();
    assert_eq!(spec_from_message(message(), spec.labels.clone()).unwrap(), spec);
}

#[test]
fn a_message_that_says_little_gets_the_defaults_of_its_dialect() {
    let little = |dialect: v1::certificate_spec::Dialect| v1::CertificateSpec {
        dialect: dialect.into(),
        issuer: "demo".into(),
        dns_names: vec!["a.example.com".into()],
        ..v1::CertificateSpec::default()
    };
    let ours = spec_from_message(little(v1::certificate_spec::Dialect::Certwright), Labels::new()).unwrap();
    assert_eq!(ours.private_key, Default::default());
    assert_eq!((ours.duration, ours.usages.len(), ours.is_ca), (None, 0, false));
    let theirs = spec_from_message(little(v1::certificate_spec::Dialect::CertManager), Labels::new()).unwrap();
    assert_eq!(theirs.private_key.algorithm, KeyAlgorithm::Rsa2048);
    assert_eq!(theirs.private_key.encoding, KeyEncoding::Pkcs1);
    assert_eq!(theirs.private_key.rotation_policy, RotationPolicy::Always);
}

#[test]
fn keys() {
    use v1::certificate_spec::Dialect::{CertManager, Certwright};
    let allowed = [
        (Certwright, "", 0, "", KeyAlgorithm::EcdsaP256, KeyEncoding::Pkcs8),
        (Certwright, "", 384, "", KeyAlgorithm::EcdsaP384, KeyEncoding::Pkcs8),
        (Certwright, "", 3072, "PKCS1", KeyAlgorithm::Rsa3072, KeyEncoding::Pkcs1),
        (Certwright, "RSA", 0, "", KeyAlgorithm::Rsa2048, KeyEncoding::Pkcs8),
        (Certwright, "RSA", 4096, "", KeyAlgorithm::Rsa4096, KeyEncoding::Pkcs8),
        (Certwright, "ECDSA", 256, "PKCS1", KeyAlgorithm::EcdsaP256, KeyEncoding::Pkcs1),
        (Certwright, "Ed25519", 0, "", KeyAlgorithm::Ed25519, KeyEncoding::Pkcs8),
        (CertManager, "", 0, "", KeyAlgorithm::Rsa2048, KeyEncoding::Pkcs1),
        (CertManager, "ECDSA", 384, "PKCS8", KeyAlgorithm::EcdsaP384, KeyEncoding::Pkcs8),
        (CertManager, "Ed25519", 7, "PKCS1", KeyAlgorithm::Ed25519, KeyEncoding::Pkcs8),
    ];
    for (dialect, algorithm, size, encoding, key, encoded) in allowed {
        let mut spec = message();
        spec.dialect = dialect.into();
        let (algorithm, encoding, rotation_policy) = (algorithm.into(), encoding.into(), "Never".into());
        spec.private_key = Some(v1::PrivateKey { algorithm, size, encoding, rotation_policy });
        let read = spec_from_message(spec, Labels::new()).unwrap().private_key;
        assert_eq!((read.algorithm, read.encoding, read.rotation_policy), (key, encoded, RotationPolicy::Never));
    }
    let refused = [
        ("RSA", 1024, "", "", Reason::KeyNotAllowed, "spec.privateKey.size"),
        ("RSA", 8192, "", "", Reason::KeyNotAllowed, "spec.privateKey.size"),
        ("ECDSA", 521, "", "", Reason::KeyNotAllowed, "spec.privateKey.size"),
        ("DSA", 0, "", "", Reason::KeyNotAllowed, "spec.privateKey.algorithm"),
        ("rsa", 0, "", "", Reason::KeyNotAllowed, "spec.privateKey.algorithm"),
        ("Ed25519", 0, "PKCS1", "", Reason::InvalidSpec, "spec.privateKey.encoding"),
        ("RSA", 0, "PEM", "", Reason::InvalidSpec, "spec.privateKey.encoding"),
        ("RSA", 0, "", "Sometimes", Reason::InvalidSpec, "spec.privateKey.rotationPolicy"),
    ];
    for (algorithm, size, encoding, rotation_policy, reason, field) in refused {
        let (algorithm, encoding, rotation_policy) = (algorithm.into(), encoding.into(), rotation_policy.into());
        let key = v1::PrivateKey { algorithm, size, encoding, rotation_policy };
        assert_eq!(refuse(|spec| spec.private_key = Some(key)), (reason, field.to_owned()));
    }
}

#[test]
fn fields_that_are_not_there_yet() {
    type Change = fn(&mut v1::CertificateSpec);
    let table: [(Change, &str); 4] = [
        (|spec| spec.key_sharing = "Sealed".into(), "spec.keySharing"),
        (|spec| spec.renewal_windows = vec!["0 3 * * *".into()], "spec.renewal.windows"),
        (|spec| spec.fallback_issuers = vec!["other".into()], "spec.fallbackIssuerRefs"),
        (|spec| spec.targets[1].secret = Some(v1::SecretSink::default()), "spec.targets[1].secret"),
    ];
    for (change, field) in table {
        assert_eq!(refuse(change), (Reason::NotYetSupported, field.to_owned()));
    }
}

#[test]
fn wrong_fields_are_named() {
    type Change = fn(&mut v1::CertificateSpec);
    let negative = prost_types::Duration { seconds: -1, nanos: 0 };
    assert_eq!(refuse(|spec| spec.duration = Some(negative)).1, "spec.duration");
    assert_eq!(refuse(|spec| spec.renew_before = Some(negative)).1, "spec.renewBefore");
    let table: [(Change, &str); 14] = [
        (|spec| spec.dialect = 7, "spec.dialect"),
        (|spec| spec.ip_addresses[1] = "300.1.1.1".into(), "spec.ipAddresses[1]"),
        (|spec| spec.renew_before_percentage = Some(256), "spec.renewBeforePercentage"),
        (|spec| spec.usages[1] = "flying".into(), "spec.usages[1]"),
        (|spec| spec.issuer.clear(), "spec.issuerRef.name"),
        (|spec| spec.issuer = "No!".into(), "spec.issuerRef.name"),
        (|spec| spec.targets[0].name.clear(), "spec.targets[0].name"),
        (|spec| spec.targets[0].agent = "edge-1".into(), "spec.targets[0].selector"),
        (|spec| spec.targets[1].agent.clear(), "spec.targets[1].agent"),
        (|spec| spec.targets[1].agent = "No!".into(), "spec.targets[1].agent"),
        (|spec| spec.targets[1].files = None, "spec.targets[1].files"),
        (|spec| spec.targets[1].reload.as_mut().unwrap().exec.clear(), "spec.targets[1].reload.exec"),
        (|spec| spec.targets[1].reload.as_mut().unwrap().signal = "HUP".into(), "spec.targets[1].reload.signal"),
        (|spec| spec.targets[1].reload.as_mut().unwrap().pid_file = "/p".into(), "spec.targets[1].reload.pidFile"),
    ];
    for (change, field) in table {
        assert_eq!(refuse(change).1, field);
    }
}

#[test]
fn a_reload_without_timeout_gets_30_seconds() {
    let mut spec = message();
    spec.targets[0].reload.as_mut().unwrap().timeout_seconds = 0;
    let spec = spec_from_message(spec, Labels::new()).unwrap();
    assert_eq!(spec.targets[0].reload.as_ref().unwrap().timeout_seconds, 30);
}

proptest! {
    #[test]
    fn messages_are_canonical(
        dns_names in proptest::collection::vec("\\PC{0,12}", 0..4),
        ip_addresses in proptest::collection::vec(any::<std::net::IpAddr>(), 0..4),
        seconds in proptest::option::of(0..1_u64 << 40),
        percentage in proptest::option::of(any::<u8>()),
        secret_name in "[a-z]{0,3}",
    ) {
        let spec = CertificateSpec {
            dns_names,
            ip_addresses,
            duration: seconds.map(std::time::Duration::from_secs),
            renew_before_percentage: percentage,
            secret_name: optional(secret_name),
            ..samples::spec()
        };
        let read = spec_from_message(spec_to_message(&spec), spec.labels.clone()).unwrap();
        prop_assert_eq!(read, spec);
    }
}
