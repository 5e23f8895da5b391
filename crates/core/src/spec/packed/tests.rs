//! Every field comes back, and a usual specification is small.
#![allow(clippy::unwrap_used)]

use std::net::IpAddr;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::tests::fixtures::{on, spec};

fn text() -> impl Strategy<Value = String> {
    "[a-z0-9ä€./]{0,12}"
}

fn name() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9]{0,20}"
}

fn texts() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(text(), 0..4)
}

fn map() -> impl Strategy<Value = std::collections::BTreeMap<String, String>> {
    prop::collection::btree_map(text(), text(), 0..4)
}

fn target() -> impl Strategy<Value = Target> {
    let holder = prop_oneof![
        name().prop_map(|name| Holder::Agent(AgentName::parse(&name).unwrap())),
        map().prop_map(Holder::Selector),
    ];
    let files = (text(), map(), prop::option::of(text()), prop::option::of(text()), any::<Option<u32>>());
    let sink = prop_oneof![
        files.prop_map(|(directory, names, owner, group, mode)| {
            Sink::Files(FilesSink { directory, names, owner, group, mode })
        }),
        (text(), text()).prop_map(|(namespace, name)| Sink::Secret { namespace, name }),
    ];
    let action = prop_oneof![
        texts().prop_map(ReloadAction::Exec),
        (text(), text()).prop_map(|(signal, pid_file)| ReloadAction::Signal { signal, pid_file }),
    ];
    let reload = (action, texts(), any::<u32>()).prop_map(|(action, test_exec, timeout_seconds)| Reload {
        action,
        test_exec,
        timeout_seconds,
    });
    let check = (text(), text()).prop_map(|(address, server_name)| ServedCheck { address, server_name });
    (name(), holder, sink, prop::option::of(reload), prop::option::of(check)).prop_map(
        |(name, holder, sink, reload, served_check)| Target {
            name: TargetName::parse(&name).unwrap(),
            holder,
            sink,
            reload,
            served_check,
        },
    )
}

fn duration() -> impl Strategy<Value = Option<Duration>> {
    prop::option::of((any::<u64>(), 0u32..1_000_000_000).prop_map(|(s, n)| Duration::new(s, n)))
}

fn names_of_all_kinds() -> impl Strategy<Value = CertificateSpec> {
    let addresses = prop::collection::vec(any::<IpAddr>(), 0..4);
    (prop::option::of(text()), texts(), addresses, texts(), texts(), texts(), prop::option::of(text())).prop_map(
        |(common_name, dns_names, ip_addresses, uris, email_addresses, organizations, serial_number)| CertificateSpec {
            common_name,
            dns_names,
            ip_addresses,
            uris,
            email_addresses,
            subject: Subject { organizations, serial_number, ..Subject::default() },
            ..spec(on("a1"))
        },
    )
}

fn any_spec() -> impl Strategy<Value = CertificateSpec> {
    let times = (duration(), duration(), any::<Option<u8>>(), any::<Option<u32>>());
    let usages = prop::collection::vec(prop::sample::select(Usage::ALL), 0..5);
    let key = (prop::sample::select(KeyAlgorithm::ALL), any::<bool>(), any::<bool>());
    let flags = (any::<bool>(), any::<bool>());
    let rest = (name(), prop::collection::vec(target(), 0..3), map(), prop::option::of(text()));
    (names_of_all_kinds(), times, usages, key, flags, rest).prop_map(|(names, times, usages, key, flags, rest)| {
        CertificateSpec {
            dialect: if flags.0 { Dialect::CertManager } else { Dialect::Certwright },
            is_ca: flags.1,
            duration: times.0,
            renew_before: times.1,
            renew_before_percentage: times.2,
            revision_history_limit: times.3,
            usages,
            private_key: PrivateKeySpec {
                algorithm: key.0,
                encoding: if key.1 { KeyEncoding::Pkcs1 } else { KeyEncoding::Pkcs8 },
                rotation_policy: if key.2 { RotationPolicy::Never } else { RotationPolicy::Always },
            },
            issuer: IssuerName::parse(&rest.0).unwrap(),
            targets: rest.1,
            labels: rest.2,
            secret_name: rest.3,
            ..names
        }
    })
}

proptest! {
    #[test]
    fn every_field_comes_back(spec in any_spec()) {
        let packed = PackedSpec::pack(&spec);
        prop_assert_eq!(packed.unpack(), spec.clone());
        prop_assert_eq!(PackedSpec::pack(&packed.unpack()), packed);
    }

    #[test]
    fn unlike_specifications_pack_unlike(one in any_spec(), other in any_spec()) {
        prop_assert_eq!(PackedSpec::pack(&one) == PackedSpec::pack(&other), one == other);
    }
}

#[test]
fn every_subject_attribute_has_its_place() {
    let mut wanted = spec(on("a1"));
    let list = |n: u32| vec![format!("value {n}")];
    wanted.subject = Subject {
        organizations: list(1),
        organizational_units: list(2),
        countries: list(3),
        localities: list(4),
        provinces: list(5),
        street_addresses: list(6),
        postal_codes: list(7),
        serial_number: Some("8".to_owned()),
    };
    assert_eq!(PackedSpec::pack(&wanted).unpack(), wanted);
}

#[test]
fn discriminants_are_places_in_the_lists() {
    assert!(Usage::ALL.iter().enumerate().all(|(place, usage)| *usage as usize == place));
    assert!(KeyAlgorithm::ALL.iter().enumerate().all(|(place, algorithm)| *algorithm as usize == place));
}

#[test]
fn a_usual_specification_is_small() {
    assert!(PackedSpec::pack(&spec(on("a1"))).octets() < 100);
}
