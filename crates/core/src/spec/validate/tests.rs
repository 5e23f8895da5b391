//! Every field rule: what is right passes, what is one too many or wrong is named.
#![allow(clippy::unwrap_used)]

mod estate;
mod targets;

use std::time::Duration;

use crate::limits;
use crate::rejection::Reason;
use crate::spec::{CertificateSpec, Dialect};
use crate::tests::fixtures::{on, spec};

type Change = fn(&mut CertificateSpec);

fn second(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Checks that each change passes, or is refused at a field.
fn table(base: &CertificateSpec, rows: &[(Option<&str>, Change)]) {
    for (n, (field, change)) in rows.iter().enumerate() {
        let mut changed = base.clone();
        change(&mut changed);
        match (changed.validate(), field) {
            (Ok(()), None) => {}
            (Err(rejection), Some(field)) => {
                assert_eq!(rejection.reason, Reason::InvalidSpec, "row {n}: {rejection:?}");
                assert_eq!(rejection.field.as_deref(), Some(*field), "row {n}: {rejection:?}");
                assert!(!rejection.message.is_empty());
            }
            (result, _) => panic!("row {n}: {result:?}, expected {field:?}"),
        }
    }
}

fn cert_manager() -> CertificateSpec {
    CertificateSpec { dialect: Dialect::CertManager, secret_name: Some("web-tls".to_owned()), ..spec(on("a1")) }
}

#[test]
fn names() {
    table(
        &spec(on("a1")),
        &[
            (None, |_| {}),
            (Some("spec.dnsNames"), |s| s.dns_names.clear()),
            (None, |s| {
                s.dns_names.clear();
                s.common_name = Some("web".to_owned());
            }),
            (None, |s| s.common_name = Some("x".repeat(limits::COMMON_NAME_OCTETS_MAX))),
            (Some("spec.commonName"), |s| s.common_name = Some("x".repeat(limits::COMMON_NAME_OCTETS_MAX + 1))),
            (None, |s| s.dns_names.push("*.example.test".to_owned())),
            (Some("spec.dnsNames[1]"), |s| s.dns_names.push("a..b".to_owned())),
            (Some("spec.dnsNames[1]"), |s| s.dns_names.push(long_dns(limits::DNS_NAME_OCTETS_MAX + 1))),
            (None, |s| s.dns_names.push(long_dns(limits::DNS_NAME_OCTETS_MAX))),
            (None, |s| s.ip_addresses.push([10, 0, 0, 1].into())),
            (Some("spec.ipAddresses[0]"), |s| s.ip_addresses.push([0, 0, 0, 0].into())),
            (None, |s| s.uris.push("spiffe://example.test/web".to_owned())),
            (Some("spec.uris[0]"), |s| s.uris.push("web".to_owned())),
            (None, |s| s.uris.push(format!("urn:{}", "x".repeat(limits::URI_OCTETS_MAX - 4)))),
            (Some("spec.uris[0]"), |s| s.uris.push(format!("urn:{}", "x".repeat(limits::URI_OCTETS_MAX - 3)))),
            (None, |s| s.email_addresses.push("web@example.test".to_owned())),
            (Some("spec.emailAddresses[0]"), |s| s.email_addresses.push("web".to_owned())),
            (None, |s| s.dns_names = (0..limits::NAMES_MAX).map(|n| format!("w{n}.example.test")).collect()),
            (Some("spec.dnsNames"), |s| {
                s.dns_names = (0..limits::NAMES_MAX).map(|n| format!("w{n}.example.test")).collect();
                s.uris.push("spiffe://example.test/web".to_owned());
            }),
        ],
    );
}

/// A DNS name of exactly so many octets.
fn long_dns(octets: usize) -> String {
    let mut name = "a.".repeat(octets / 2);
    name.truncate(octets);
    if name.ends_with('.') {
        name.pop();
        name.push('a');
    }
    name
}

#[test]
fn times_of_our_own() {
    table(
        &spec(on("a1")),
        &[
            (None, |s| s.duration = None),
            (None, |s| s.duration = Some(limits::DURATION_MIN)),
            (Some("spec.duration"), |s| s.duration = Some(limits::DURATION_MIN - Duration::from_nanos(1))),
            (None, |s| s.duration = Some(limits::DURATION_MAX)),
            (Some("spec.duration"), |s| s.duration = Some(limits::DURATION_MAX + second(1))),
            (None, |s| s.renew_before = Some(second(3599))),
            (Some("spec.renewBefore"), |s| s.renew_before = Some(second(3600))),
            (Some("spec.renewBefore"), |s| s.renew_before = Some(Duration::ZERO)),
            (None, |s| s.renew_before_percentage = Some(1)),
            (None, |s| s.renew_before_percentage = Some(99)),
            (Some("spec.renewBeforePercentage"), |s| s.renew_before_percentage = Some(0)),
            (Some("spec.renewBeforePercentage"), |s| s.renew_before_percentage = Some(100)),
            (Some("spec.renewBeforePercentage"), |s| {
                s.renew_before = Some(second(60));
                s.renew_before_percentage = Some(50);
            }),
        ],
    );
}

#[test]
fn times_of_cert_manager() {
    table(
        &cert_manager(),
        &[
            (None, |s| s.duration = Some(limits::CERT_MANAGER_DURATION_MIN)),
            (Some("spec.duration"), |s| s.duration = Some(limits::CERT_MANAGER_DURATION_MIN - second(1))),
            (None, |s| s.renew_before = Some(limits::CERT_MANAGER_RENEW_BEFORE_MIN)),
            (Some("spec.renewBefore"), |s| {
                s.renew_before = Some(limits::CERT_MANAGER_RENEW_BEFORE_MIN - second(1));
            }),
            // Its webhook looks at the other side of the percentage: 92 % of an hour leaves 288 s.
            (None, |s| s.renew_before_percentage = Some(91)),
            (Some("spec.renewBeforePercentage"), |s| s.renew_before_percentage = Some(92)),
            // And only when a duration is given.
            (None, |s| {
                s.duration = None;
                s.renew_before_percentage = Some(99);
            }),
        ],
    );
}

#[test]
fn details() {
    table(
        &spec(on("a1")),
        &[
            (None, |s| s.revision_history_limit = Some(1)),
            (Some("spec.revisionHistoryLimit"), |s| s.revision_history_limit = Some(0)),
            (None, |s| s.is_ca = true),
            (None, |s| s.targets.clear()),
        ],
    );
    table(
        &cert_manager(),
        &[
            (Some("spec.secretName"), |s| s.secret_name = None),
            (Some("spec.secretName"), |s| s.secret_name = Some("Web".to_owned())),
        ],
    );
    let ours = CertificateSpec { dialect: Dialect::Certwright, ..cert_manager() };
    let rejection = ours.validate().unwrap_err();
    assert_eq!((rejection.reason, rejection.field.as_deref()), (Reason::NotYetSupported, Some("spec.secretName")));
}

#[test]
fn subjects() {
    table(
        &spec(on("a1")),
        &[
            (None, |s| s.subject.organizations.push("x".repeat(64))),
            (Some("spec.subject.organizations[0]"), |s| s.subject.organizations.push("x".repeat(65))),
            (Some("spec.subject.organizations[1]"), |s| s.subject.organizations = vec!["x".to_owned(), String::new()]),
            (Some("spec.subject.organizationalUnits[0]"), |s| s.subject.organizational_units.push("a\nb".to_owned())),
            (None, |s| s.subject.countries.push("DE".to_owned())),
            (Some("spec.subject.countries[0]"), |s| s.subject.countries.push("de".to_owned())),
            (Some("spec.subject.countries[0]"), |s| s.subject.countries.push("D".to_owned())),
            (None, |s| s.subject.localities.push("x".repeat(128))),
            (Some("spec.subject.localities[0]"), |s| s.subject.localities.push("x".repeat(129))),
            (Some("spec.subject.provinces[0]"), |s| s.subject.provinces.push("x".repeat(129))),
            (Some("spec.subject.streetAddresses[0]"), |s| s.subject.street_addresses.push("x".repeat(129))),
            (Some("spec.subject.postalCodes[0]"), |s| s.subject.postal_codes.push("x".repeat(41))),
            (Some("spec.subject.serialNumber"), |s| s.subject.serial_number = Some("x".repeat(65))),
            (None, |s| s.subject.organizations = vec!["x".to_owned(); limits::VALUES_MAX]),
            (Some("spec.subject.organizations"), |s| {
                s.subject.organizations = vec!["x".to_owned(); limits::VALUES_MAX + 1];
            }),
        ],
    );
}

#[test]
fn the_whole_is_bounded() {
    let mut large = spec(on("a1"));
    let reload = crate::spec::Reload {
        action: crate::spec::ReloadAction::Exec(vec!["x".repeat(limits::PATH_OCTETS_MAX); 15]),
        test_exec: vec![String::new()],
        timeout_seconds: 30,
    };
    large.targets[0].reload = Some(reload);
    let grow = |spec: &mut CertificateSpec, octets: usize| {
        if let Some(reload) = &mut spec.targets[0].reload {
            reload.test_exec = vec!["x".repeat(octets)];
        }
    };
    let left = |spec: &CertificateSpec| limits::SPEC_OCTETS_MAX - crate::spec::PackedSpec::pack(spec).octets();
    grow(&mut large, 3000);
    let room = left(&large);
    grow(&mut large, 3000 + room);
    assert_eq!(left(&large), 0);
    assert_eq!(large.validate(), Ok(()));
    grow(&mut large, 3001 + room);
    assert_eq!(large.validate().unwrap_err().reason, Reason::TooLarge);
}
