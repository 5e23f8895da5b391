//! Issuers, authorities, labels.

use std::time::Duration;

use crate::limits;
use crate::rejection::Reason;
use crate::spec::{AuthoritySpec, IssuerKind, IssuerSpec, Labels, validate_labels};
use crate::tests::fixtures::{authority_spec, issuer_spec, labels};

#[test]
fn issuers() {
    let suffixes = |list: &[&str]| IssuerSpec {
        allowed_dns_suffixes: list.iter().map(|suffix| (*suffix).to_owned()).collect(),
        ..issuer_spec("root")
    };
    let at_most = |duration| IssuerSpec { max_duration: Some(duration), ..issuer_spec("root") };
    let many = |count: usize| IssuerSpec {
        allowed_dns_suffixes: vec!["example.test".to_owned(); count],
        ..issuer_spec("root")
    };
    let rows = [
        (None, issuer_spec("root")),
        (None, suffixes(&["example.test", ".example.test", "test"])),
        (Some("spec.allowedDnsSuffixes[1]"), suffixes(&["example.test", "*.example.test"])),
        (Some("spec.allowedDnsSuffixes[0]"), suffixes(&[""])),
        (None, many(limits::VALUES_MAX)),
        (Some("spec.allowedDnsSuffixes"), many(limits::VALUES_MAX + 1)),
        (None, at_most(limits::DURATION_MIN)),
        (Some("spec.maxDuration"), at_most(limits::DURATION_MIN - Duration::from_nanos(1))),
        (Some("spec.maxDuration"), at_most(limits::DURATION_MAX + Duration::from_nanos(1))),
    ];
    for (field, spec) in rows {
        let refused = spec.validate().err();
        assert_eq!(refused.as_ref().and_then(|rejection| rejection.field.as_deref()), field, "{spec:?}");
    }
    let reserved = IssuerSpec { kind: IssuerKind::Reserved("vault".to_owned()), ..issuer_spec("root") };
    assert_eq!(reserved.validate().unwrap_err().reason, Reason::NotYetSupported);
}

#[test]
fn authorities() {
    let named = |name: String| AuthoritySpec { common_name: name, ..authority_spec(None) };
    let living = |duration| AuthoritySpec { duration, ..authority_spec(None) };
    let rows = [
        (None, named("x".repeat(limits::COMMON_NAME_OCTETS_MAX))),
        (Some("commonName"), named("x".repeat(limits::COMMON_NAME_OCTETS_MAX + 1))),
        (Some("commonName"), named(String::new())),
        (None, living(limits::DURATION_MAX)),
        (Some("duration"), living(limits::DURATION_MAX + Duration::from_nanos(1))),
        (Some("duration"), living(Duration::ZERO)),
    ];
    for (field, spec) in rows {
        let refused = spec.validate().err();
        assert_eq!(refused.as_ref().and_then(|rejection| rejection.field.as_deref()), field, "{spec:?}");
    }
}

#[test]
fn label_rules() {
    let prefix = |octets: usize| {
        let mut prefix = "p".repeat(octets);
        (63..octets).step_by(64).for_each(|dot| prefix.replace_range(dot..=dot, "."));
        prefix
    };
    let longest = format!("{}/{}", prefix(253), "n".repeat(63));
    assert_eq!(longest.len(), limits::LABEL_OCTETS_MAX);
    let too_long = format!("{}/{}", prefix(253), "n".repeat(64));
    let rows: [(&str, &str, bool); 14] = [
        ("zone", "a", true),
        ("zone", "", true),
        ("app.kubernetes.io/name", "web", true),
        ("UPPER_case", "Value-1.2_3", true),
        (&longest, "a", true),
        (&too_long, "a", false),
        ("", "a", false),
        ("-zone", "a", false),
        ("zone-", "a", false),
        ("zo ne", "a", false),
        ("Prefix.Upper/name", "a", false),
        ("a/b/c", "a", false),
        ("zone", "-a", false),
        ("zone", "ä", false),
    ];
    for (key, value, right) in rows {
        assert_eq!(validate_labels("labels", &labels(&[(key, value)])).is_ok(), right, "{key:?}={value:?}");
    }
    assert!(validate_labels("labels", &labels(&[("k", &"v".repeat(63))])).is_ok());
    let rejection = validate_labels("labels", &labels(&[("k", &"v".repeat(64))])).unwrap_err();
    assert_eq!(rejection.field.as_deref(), Some("labels.k"));
    let many = |count: usize| (0..count).map(|n| (format!("l{n}"), String::new())).collect::<Labels>();
    assert!(validate_labels("labels", &many(limits::LABELS_MAX)).is_ok());
    assert!(validate_labels("labels", &many(limits::LABELS_MAX + 1)).is_err());
}
