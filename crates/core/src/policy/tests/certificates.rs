//! One denial after another, on a certificate that is fine otherwise.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::ids::Serial;
use crate::limits::{BACKDATE_MAX, IDENTITY_DURATION_MAX, ISSUER_DURATION_DEFAULT_MAX, NAMES_MAX};
use crate::policy::evaluate;
use crate::rejection::{Reason, Rejection};
use crate::spec::{AuthorityPurpose, AuthoritySpec, IssuerKind, IssuerSpec, KeyAlgorithm, Usage};
use crate::time::Timestamp;
use crate::x509::usage::KeyUsages;
use crate::x509::{FinalCertificate, Names, Profile, PublicKey, SignatureAlgorithm};

const HOUR: Duration = Duration::from_secs(3600);

fn leaf() -> FinalCertificate {
    let spki = [&[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00][..], &[7; 32]].concat();
    FinalCertificate {
        serial: Serial::from_random([1; 20]),
        signature_algorithm: SignatureAlgorithm::EcdsaSha256,
        issuer_der: Vec::new(),
        subject_der: Vec::new(),
        not_before: Timestamp::from_seconds(1_000_000),
        not_after: Timestamp::from_seconds(1_000_000).plus(HOUR),
        names: Names { dns_names: vec!["a.example.com".into()], ..Names::default() },
        key: PublicKey::parse(&spki).unwrap(),
        is_ca: false,
        path_len: None,
        key_usages: KeyUsages::DIGITAL_SIGNATURE,
        extended_usages: BTreeSet::from([Usage::ServerAuth]),
        subject_key_identifier: Vec::new(),
        authority_key_identifier: Vec::new(),
    }
}

fn issuer(suffixes: &[&str]) -> IssuerSpec {
    IssuerSpec {
        kind: IssuerKind::Reserved("test".into()),
        max_duration: Some(HOUR),
        allowed_dns_suffixes: suffixes.iter().map(|suffix| (*suffix).to_owned()).collect(),
    }
}

fn denied(outcome: Result<(), Rejection>, field: &str) {
    let error = outcome.expect_err(field);
    assert_eq!((error.reason, error.field.as_deref()), (Reason::PolicyDenied, Some(field)), "{error}");
}

fn judge(change: impl FnOnce(&mut FinalCertificate)) -> Result<(), Rejection> {
    let mut certificate = leaf();
    change(&mut certificate);
    evaluate(&certificate, &Profile::Leaf { issuer: &issuer(&["example.com", ".internal"]) })
}

#[test]
fn what_leaves_may_not_be() {
    judge(|_| {}).unwrap();
    denied(judge(|it| it.is_ca = true), "isCA");
    denied(judge(|it| it.key_usages = it.key_usages.and(KeyUsages::CERT_SIGN)), "isCA");
    denied(judge(|it| it.key_usages = it.key_usages.and(KeyUsages::CRL_SIGN)), "isCA");
    denied(judge(|it| it.extended_usages = BTreeSet::from([Usage::Any])), "usages");
    denied(judge(|it| it.extended_usages = BTreeSet::from([Usage::OcspSigning])), "usages");
    denied(judge(|it| it.names.uris.push("certwright://00/agent/x".into())), "uris");
    denied(judge(|it| it.names.uris.push("CertWright:x".into())), "uris");
    denied(judge(|it| it.names.dns_names = vec!["a.example.com".into(); NAMES_MAX + 1]), "names");
}

#[test]
fn lifetimes_to_the_second() {
    let second = Duration::from_secs(1);
    judge(|it| it.not_before = it.not_before.minus(BACKDATE_MAX)).unwrap();
    denied(judge(|it| it.not_before = it.not_before.minus(BACKDATE_MAX + second)), "duration");
    let unsaid = IssuerSpec { max_duration: None, ..issuer(&[]) };
    let mut certificate = leaf();
    certificate.not_after = certificate.not_before.plus(ISSUER_DURATION_DEFAULT_MAX + BACKDATE_MAX);
    evaluate(&certificate, &Profile::Leaf { issuer: &unsaid }).unwrap();
    certificate.not_after = certificate.not_after.plus(second);
    denied(evaluate(&certificate, &Profile::Leaf { issuer: &unsaid }), "duration");
}

#[test]
fn suffixes_by_whole_labels_wherever_a_dns_name_stands() {
    let dns = |name: &str| judge(|it| it.names.dns_names = vec![name.to_owned()]);
    for inside in ["example.com", "a.b.EXAMPLE.com", "*.example.com", "x.internal", "internal"] {
        dns(inside).unwrap_or_else(|error| panic!("{inside}: {error}"));
    }
    for outside in ["badexample.com", "example.com.evil.org", "com", "example.org"] {
        denied(dns(outside), "dnsNames");
    }
    denied(judge(|it| it.names.common_name = Some("evil.org".into())), "dnsNames");
    judge(|it| it.names.common_name = Some("Jane Doe".into())).unwrap();
    denied(judge(|it| it.names.email_addresses = vec!["a@evil.org".into()]), "dnsNames");
    denied(judge(|it| it.names.uris = vec!["https://evil.org/x".into()]), "dnsNames");
    judge(|it| it.names.uris = vec!["https://a.example.com/x".into(), "urn:x".into()]).unwrap();
    let mut anywhere = leaf();
    anywhere.names.dns_names = vec!["evil.org".into()];
    evaluate(&anywhere, &Profile::Leaf { issuer: &issuer(&[]) }).unwrap();
}

#[test]
fn authorities_are_what_was_declared() {
    let spec = AuthoritySpec {
        common_name: "CA".into(),
        key_algorithm: KeyAlgorithm::Ed25519,
        parent: None,
        duration: HOUR,
        path_len: Some(0),
        purpose: AuthorityPurpose::Issuing,
    };
    let good = FinalCertificate {
        is_ca: true,
        path_len: Some(0),
        key_usages: KeyUsages::of_authority(),
        extended_usages: BTreeSet::new(),
        names: Names { common_name: Some("CA".into()), ..Names::default() },
        ..leaf()
    };
    let judge = |change: &dyn Fn(&mut FinalCertificate)| {
        let mut certificate = good.clone();
        change(&mut certificate);
        evaluate(&certificate, &Profile::Authority { spec: &spec })
    };
    judge(&|_| {}).unwrap();
    denied(judge(&|it| it.is_ca = false), "pathLen");
    denied(judge(&|it| it.path_len = None), "pathLen");
    denied(judge(&|it| it.names.common_name = Some("other".into())), "names");
    denied(judge(&|it| it.names.dns_names = vec!["a.b".into()]), "names");
    denied(judge(&|it| it.key_usages = it.key_usages.and(KeyUsages::DIGITAL_SIGNATURE)), "usages");
    denied(judge(&|it| it.not_after = it.not_after.plus(HOUR)), "duration");
    let other = AuthoritySpec { key_algorithm: KeyAlgorithm::EcdsaP256, ..spec.clone() };
    denied(evaluate(&good, &Profile::Authority { spec: &other }), "keyAlgorithm");
}

#[test]
fn identities_are_for_tls_and_carry_our_scheme() {
    let good = FinalCertificate {
        names: Names { uris: vec!["certwright://00/agent/x".into()], ..Names::default() },
        extended_usages: BTreeSet::from([Usage::ClientAuth, Usage::ServerAuth]),
        ..leaf()
    };
    evaluate(&good, &Profile::Identity).unwrap();
    let foreign =
        FinalCertificate { names: Names { uris: vec!["https://x".into()], ..Names::default() }, ..good.clone() };
    denied(evaluate(&foreign, &Profile::Identity), "uris");
    let code = FinalCertificate { extended_usages: BTreeSet::from([Usage::CodeSigning]), ..good.clone() };
    denied(evaluate(&code, &Profile::Identity), "usages");
    let ca = FinalCertificate { is_ca: true, ..good.clone() };
    denied(evaluate(&ca, &Profile::Identity), "isCA");
    let not_after = good.not_before.plus(IDENTITY_DURATION_MAX + BACKDATE_MAX + Duration::from_secs(1));
    denied(evaluate(&FinalCertificate { not_after, ..good }, &Profile::Identity), "duration");
}
