//! Which changes issue again, and who holds what.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use crate::limits;
use crate::spec::{CertificateSpec, KeyAlgorithm, Usage};
use crate::tests::fixtures::{agent, issuer, labels, on, selecting, spec, target};

type Change = fn(&mut CertificateSpec);

#[test]
fn what_the_certificate_must_say() {
    let says_more: [(&str, Change); 11] = [
        ("commonName", |s| s.common_name = Some("web".to_owned())),
        ("dnsNames", |s| s.dns_names.push("www.example.test".to_owned())),
        ("ipAddresses", |s| s.ip_addresses.push([10, 0, 0, 1].into())),
        ("uris", |s| s.uris.push("spiffe://example.test/web".to_owned())),
        ("emailAddresses", |s| s.email_addresses.push("web@example.test".to_owned())),
        ("subject", |s| s.subject.organizations.push("Example".to_owned())),
        ("duration", |s| s.duration = Some(Duration::from_secs(7200))),
        ("usages", |s| s.usages = vec![Usage::ServerAuth]),
        ("isCA", |s| s.is_ca = true),
        ("privateKey.algorithm", |s| s.private_key.algorithm = KeyAlgorithm::EcdsaP384),
        ("issuerRef", |s| s.issuer = issuer("other")),
    ];
    for (what, change) in says_more {
        let mut changed = spec(on("a1"));
        change(&mut changed);
        assert!(!changed.asks_the_same(&spec(on("a1"))), "{what}");
        assert!(changed.asks_the_same(&changed.clone()), "{what}");
    }
}

#[test]
fn what_does_not_matter_to_the_certificate() {
    let says_the_same: [(&str, Change); 7] = [
        ("targets", |s| s.targets.push(target("more", on("a2")))),
        ("labels", |s| s.labels = labels(&[("team", "edge")])),
        ("renewBefore", |s| s.renew_before = Some(Duration::from_secs(60))),
        ("renewBeforePercentage", |s| s.renew_before_percentage = Some(50)),
        ("revisionHistoryLimit", |s| s.revision_history_limit = Some(3)),
        ("repetition", |s| s.dns_names.push(s.dns_names[0].clone())),
        ("defaults written out", |s| s.usages = vec![Usage::KeyEncipherment, Usage::DigitalSignature]),
    ];
    for (what, change) in says_the_same {
        let mut changed = spec(on("a1"));
        change(&mut changed);
        assert!(changed.asks_the_same(&spec(on("a1"))), "{what}");
    }
    let mut silent = spec(on("a1"));
    silent.duration = None;
    let mut outspoken = spec(on("a1"));
    outspoken.duration = Some(limits::DURATION_DEFAULT);
    assert!(silent.asks_the_same(&outspoken), "the default duration written out");
}

#[test]
fn a_ca_certificate_also_signs() {
    let mut wanted = spec(on("a1"));
    wanted.is_ca = true;
    let usages = [Usage::DigitalSignature, Usage::KeyEncipherment, Usage::CertSign];
    assert_eq!(wanted.effective_usages(), usages);
    wanted.usages = vec![Usage::CertSign, Usage::CrlSign];
    assert_eq!(wanted.effective_usages(), [Usage::CertSign, Usage::CrlSign]);
}

#[test]
fn who_holds_what() {
    let zone_a = labels(&[("zone", "a"), ("tier", "edge")]);
    let table = [
        (on("a1"), true),
        (on("a2"), false),
        (selecting(&[("zone", "a")]), true),
        (selecting(&[("zone", "a"), ("tier", "edge")]), true),
        (selecting(&[("zone", "a"), ("tier", "core")]), false),
        (selecting(&[("other", "a")]), false),
        // Nothing selected is nobody, not everybody.
        (selecting(&[]), false),
    ];
    for (holder, held) in table {
        assert_eq!(spec(holder.clone()).is_held_by(&agent("a1"), &zone_a), held, "{holder:?}");
    }
    let mut both = spec(on("a1"));
    both.targets.push(target("other", on("a2")));
    let (a1, none) = (agent("a1"), labels(&[]));
    let held: Vec<_> = both.targets_of(&a1, &none).map(|target| target.name.as_str()).collect();
    assert_eq!(held, ["files"]);
}
