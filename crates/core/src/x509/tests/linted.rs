//! Lint and assembly: what is composed wrongly, outlives its issuer or is signed wrongly goes no further.

use super::support::*;
use crate::rejection::{Reason, Rejection};
use crate::spec::{KeyAlgorithm, Subject, Usage};
use crate::x509::*;

fn verified() -> VerifiedCsr {
    csr::parse(&request_for("DNS:a.example.com")).unwrap().verify().unwrap()
}

fn lint_leaf(plan: &LeafPlan<'_>) -> Result<Linted, Rejection> {
    lint::lint(compose::leaf(plan)?, &Profile::Leaf { issuer: &issuer_spec() })
}

fn refused(plan: &LeafPlan<'_>) -> (Reason, Option<String>) {
    let error = lint_leaf(plan).unwrap_err();
    (error.reason, error.field)
}

#[test]
fn validity_in_order_and_inside_the_issuers() {
    let (authority, csr, subject) = (TestAuthority::root(KeyAlgorithm::EcdsaP256), verified(), Subject::default());
    let plan = authority.plan(&csr, &subject, &[]);
    let end = authority.certificate.not_after();
    let start = authority.certificate.not_before();
    let day_before_end = end.minus(DAY);
    lint_leaf(&LeafPlan { not_before: day_before_end, not_after: end, ..plan }).unwrap();
    let second = std::time::Duration::from_secs(1);
    let outlives = LeafPlan { not_before: day_before_end, not_after: end.plus(second), ..plan };
    assert_eq!(refused(&outlives).0, Reason::IssuerExpiresFirst);
    let early = LeafPlan { not_before: start.minus(second), not_after: NOW, ..plan };
    assert_eq!(refused(&early), (Reason::LintFailed, Some("validity".to_owned())));
    let nothing = LeafPlan { not_after: NOW, ..plan };
    assert_eq!(refused(&nothing), (Reason::LintFailed, Some("validity".to_owned())));
}

#[test]
fn milliseconds_are_cut_before_they_are_compared() {
    let (authority, csr, subject) = (TestAuthority::root(KeyAlgorithm::EcdsaP256), verified(), Subject::default());
    let millis = std::time::Duration::from_millis(999);
    let plan = LeafPlan {
        not_before: NOW.plus(millis),
        not_after: NOW.plus(DAY).plus(millis),
        ..authority.plan(&csr, &subject, &[])
    };
    let linted = lint_leaf(&plan).unwrap();
    assert_eq!((linted.facts().not_before, linted.facts().not_after), (NOW, NOW.plus(DAY)));
}

#[test]
fn names_are_linted_again() {
    let (authority, csr, subject) = (TestAuthority::root(KeyAlgorithm::EcdsaP256), verified(), Subject::default());
    let plan = authority.plan(&csr, &subject, &[]);
    let nobody = Names::default();
    assert_eq!(refused(&LeafPlan { names: &nobody, ..plan }), (Reason::LintFailed, Some("names".to_owned())));
    let bad = Names { dns_names: vec!["*.com".to_owned()], ..Names::default() };
    assert_eq!(refused(&LeafPlan { names: &bad, ..plan }).0, Reason::InvalidSpec);
    let repeated = Names { dns_names: vec!["A.example.com".into(), "a.example.com".into()], ..Names::default() };
    let linted = lint_leaf(&LeafPlan { names: &repeated, ..plan }).unwrap();
    assert_eq!(linted.facts().names.dns_names, ["a.example.com"]);
}

#[test]
fn bytes_that_say_something_else_than_decided() {
    let (authority, csr, subject) = (TestAuthority::root(KeyAlgorithm::EcdsaP256), verified(), Subject::default());
    let good = compose::leaf(&authority.plan(&csr, &subject, &[])).unwrap();
    let profile = Profile::Leaf { issuer: &issuer_spec() };
    let another = compose::leaf(&LeafPlan { serial: serial(1), ..authority.plan(&csr, &subject, &[]) }).unwrap();
    let swapped = Composed { tbs_der: another.tbs_der, ..good.clone() };
    assert_eq!(lint::lint(swapped, &profile).unwrap_err().field.as_deref(), Some("decided"));
    let mut refused = 0;
    for at in 0..good.tbs_der.len() {
        let mut altered = good.clone();
        altered.tbs_der[at] ^= 0x01;
        refused += usize::from(lint::lint(altered, &profile).is_err());
    }
    assert_eq!(refused, good.tbs_der.len(), "every altered octet is noticed");
    lint::lint(good, &profile).unwrap();
}

#[test]
fn signatures_by_another_key_or_altered() {
    let (authority, other) =
        (TestAuthority::root(KeyAlgorithm::EcdsaP256), TestAuthority::root(KeyAlgorithm::EcdsaP256));
    let (csr, subject) = (verified(), Subject::default());
    let plan = authority.plan(&csr, &subject, &[]);
    let error = other.finish(lint_leaf(&plan).unwrap()).unwrap_err();
    assert_eq!((error.reason, error.field.as_deref()), (Reason::LintFailed, Some("signature")));
    for signature in [&[][..], &[0; 64]] {
        assert_eq!(lint_leaf(&plan).unwrap().assemble(signature).unwrap_err().field.as_deref(), Some("signature"));
    }
    authority.finish(lint_leaf(&plan).unwrap()).unwrap();
}

#[test]
fn path_lengths_nest() {
    let root = TestAuthority::root(KeyAlgorithm::EcdsaP256);
    let two = root.below("two", KeyAlgorithm::EcdsaP256, Some(1)).unwrap();
    let three = two.below("three", KeyAlgorithm::EcdsaP256, Some(0)).unwrap();
    three.issue(&request_for("DNS:a.example.com"), &[]).unwrap();
    for path_len in [Some(1), Some(2), None] {
        let error = two.below("wide", KeyAlgorithm::EcdsaP256, path_len).err().unwrap();
        assert_eq!((error.reason, error.field.as_deref()), (Reason::LintFailed, Some("path")), "{path_len:?}");
    }
    assert!(three.below("four", KeyAlgorithm::EcdsaP256, Some(0)).is_err());
}

#[test]
fn authorities_sign_with_keys_that_clients_verify() {
    let ed25519 = pair(KeyAlgorithm::Ed25519);
    let spec = authority_spec("ed", KeyAlgorithm::Ed25519, None);
    let plan = AuthorityPlan {
        serial: serial(1),
        not_before: NOW,
        not_after: NOW.plus(DAY),
        spec: &spec,
        spki_der: &rcgen::PublicKeyData::subject_public_key_info(&ed25519),
        issuer: None,
    };
    assert_eq!(compose::authority(&plan).unwrap_err().reason, Reason::KeyNotAllowed);
}

#[test]
fn leaves_are_no_issuers() {
    let authority = TestAuthority::root(KeyAlgorithm::EcdsaP256);
    let leaf = authority.issue(&request_for("DNS:a.example.com"), &[]).unwrap();
    assert_eq!(IssuerCertificate::parse(leaf.der()).unwrap_err().reason, Reason::LintFailed);
    assert_eq!(IssuerCertificate::parse(b"nothing").unwrap_err().reason, Reason::LintFailed);
    let trailing = [authority.certificate.der(), &[0]].concat();
    assert_eq!(IssuerCertificate::parse(&trailing).unwrap_err().reason, Reason::LintFailed);
}

#[test]
fn name_constraints_of_the_issuer_hold() {
    let openssl = OpenSsl::new();
    openssl.key("ec:prime256v1");
    let extra = ["-x509", "-days", "36500", "-addext", "nameConstraints=critical,permitted;DNS:example.com"];
    openssl.run(&[&["req", "-new", "-key", "key.pem", "-out", "ca.pem", "-subj", "/CN=Narrow"], &extra[..]].concat());
    let der = pem::certificates(&openssl.read("ca.pem")).unwrap().remove(0);
    let issuer = IssuerCertificate::parse(&der).unwrap();
    let start = issuer.not_before();
    for (name, allowed) in [("a.example.com", true), ("a.example.org", false)] {
        let csr = csr::parse(&request_for(&format!("DNS:{name}"))).unwrap().verify().unwrap();
        let plan = LeafPlan {
            serial: serial(1),
            not_before: start,
            not_after: start.plus(DAY),
            names: csr.names(),
            subject: &Subject::default(),
            usages: &[Usage::ServerAuth],
            is_ca: false,
            spki_der: csr.spki_der(),
            issuer: &issuer,
        };
        match lint_leaf(&plan) {
            Ok(_) => assert!(allowed, "{name}"),
            Err(error) => assert_eq!((allowed, error.field.as_deref()), (false, Some("constraints")), "{error}"),
        }
    }
}
