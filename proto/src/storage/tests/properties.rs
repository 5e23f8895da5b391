//! Round trips of arbitrary values; arbitrary octets never panic.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use certwright_core::ids::{AgentName, CertificateName, TargetName};
use certwright_core::log::{Codec, Fold as _, Trace};
use certwright_core::spec::{
    CertificateSpec, Dialect, FilesSink, Holder, KeyAlgorithm, KeyEncoding, Labels, PackedSpec, PrivateKeySpec, Reload,
    ReloadAction, RotationPolicy, ServedCheck, Sink, Subject, Target, Usage,
};
use certwright_core::{Event, State};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::super::{DomainCodec, EntryBuilder, decode_entry, encode_transaction};
use super::{chunks, samples};

fn text() -> impl Strategy<Value = String> {
    "\\PC{0,12}"
}

fn name() -> impl Strategy<Value = String> {
    "[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?"
}

fn labels() -> impl Strategy<Value = Labels> {
    btree_map(text(), text(), 0..4)
}

fn span() -> impl Strategy<Value = Duration> {
    (any::<u64>(), 0..1_000_000_000_u32).prop_map(|(seconds, nanos)| Duration::new(seconds, nanos))
}

fn sink() -> impl Strategy<Value = Sink> {
    let files = (text(), labels(), option::of(text()), option::of(text()), option::of(any::<u32>()));
    prop_oneof![
        files.prop_map(|(directory, names, owner, group, mode)| {
            Sink::Files(FilesSink { directory, names, owner, group, mode })
        }),
        (text(), text()).prop_map(|(namespace, name)| Sink::Secret { namespace, name }),
    ]
}

fn reload() -> impl Strategy<Value = Reload> {
    let action = prop_oneof![
        vec(text(), 0..3).prop_map(ReloadAction::Exec),
        (text(), text()).prop_map(|(signal, pid_file)| ReloadAction::Signal { signal, pid_file }),
    ];
    (action, vec(text(), 0..3), any::<u32>()).prop_map(|(action, test_exec, timeout_seconds)| Reload {
        action,
        test_exec,
        timeout_seconds,
    })
}

fn target() -> impl Strategy<Value = Target> {
    let holder = prop_oneof![
        name().prop_map(|agent| Holder::Agent(AgentName::parse(&agent).unwrap())),
        labels().prop_map(Holder::Selector),
    ];
    let check = (text(), text()).prop_map(|(address, server_name)| ServedCheck { address, server_name });
    (name(), holder, sink(), option::of(reload()), option::of(check)).prop_map(|(name, holder, sink, reload, check)| {
        Target { name: TargetName::parse(&name).unwrap(), holder, sink, reload, served_check: check }
    })
}

fn private_key() -> impl Strategy<Value = PrivateKeySpec> {
    let encodings = select(&[KeyEncoding::Pkcs1, KeyEncoding::Pkcs8][..]);
    let policies = select(&[RotationPolicy::Always, RotationPolicy::Never][..]);
    (select(KeyAlgorithm::ALL), encodings, policies).prop_map(|(algorithm, encoding, rotation_policy)| PrivateKeySpec {
        algorithm,
        encoding,
        rotation_policy,
    })
}

fn subject() -> impl Strategy<Value = Subject> {
    (vec(text(), 0..2), vec(text(), 0..2), option::of(text())).prop_map(|(organizations, countries, serial_number)| {
        Subject { organizations, countries, serial_number, ..Subject::default() }
    })
}

pub(super) fn spec() -> impl Strategy<Value = CertificateSpec> {
    let names = (option::of(text()), vec(text(), 0..4), vec(any::<std::net::IpAddr>(), 0..3), vec(text(), 0..2));
    let times = (option::of(span()), option::of(span()), option::of(any::<u8>()), option::of(any::<u32>()));
    let rest = (vec(target(), 0..3), labels(), option::of(text()), vec(select(Usage::ALL), 0..4));
    let flags = (select(&[Dialect::Certwright, Dialect::CertManager][..]), any::<bool>());
    (flags, names, subject(), times, private_key(), rest).prop_map(
        |(flags, names, subject, times, private_key, rest)| CertificateSpec {
            dialect: flags.0,
            is_ca: flags.1,
            common_name: names.0,
            dns_names: names.1,
            ip_addresses: names.2,
            uris: names.3,
            subject,
            duration: times.0,
            renew_before: times.1,
            renew_before_percentage: times.2,
            revision_history_limit: times.3,
            private_key,
            targets: rest.0,
            labels: rest.1,
            secret_name: rest.2,
            usages: rest.3,
            ..samples::small_spec()
        },
    )
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        select(samples::events()),
        spec().prop_map(|spec| Event::CertificateUpdated { spec: Arc::new(spec) }),
        labels().prop_map(|labels| Event::AgentLabelsChanged { labels }),
        (text(), span(), option::of((text(), text()))).prop_map(|(_, elapsed, failure)| {
            let delivered = samples::delivered();
            Event::CertificateDelivered(certwright_core::event::Delivered { elapsed, failure, ..delivered })
        }),
        (any::<u64>(), vec(any::<u8>(), 0..40), any::<[u8; 32]>()).prop_map(|(generation, der, spki_hash)| {
            let issued = samples::issued();
            let issued = certwright_core::event::Issued { generation, certificate: der.into(), spki_hash, ..issued };
            Event::CertificateIssued(Box::new(issued))
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn events(event in event()) {
        let bytes = DomainCodec.encode_event(&event);
        prop_assert_eq!(DomainCodec.decode_event(&bytes).unwrap(), event);
    }

    #[test]
    fn transactions(
        events in vec(event(), 1..4),
        expected in option::of(any::<u64>()),
        trace_id in any::<[u8; 16]>(),
        span_id in any::<[u8; 8]>(),
        at in any::<u64>(),
    ) {
        let mut transaction = samples::transaction();
        transaction.appends[0].expected = expected;
        transaction.appends[0].events = events;
        transaction.trace = Trace { trace_id, span_id };
        let mut builder = EntryBuilder::new();
        builder.push(&encode_transaction::<State>(&DomainCodec, &transaction));
        let at = certwright_core::time::Timestamp::from_millis(at);
        let entry = decode_entry::<State>(&DomainCodec, builder.finish(at)).unwrap();
        prop_assert_eq!(entry.at, at);
        prop_assert_eq!(entry.transactions, vec![transaction]);
    }

    #[test]
    fn cuts(specs in vec((name(), spec(), any::<u64>(), 0..3_usize), 0..12)) {
        let mut cut = samples::cut();
        for (name, spec, revision, instances) in specs {
            let mut certificate = samples::certificate();
            certificate.name = CertificateName::parse("ns", &name).unwrap();
            certificate.spec = PackedSpec::pack(&spec);
            certificate.revision = revision;
            certificate.instances.truncate(instances);
            cut.certificates.insert(certificate);
        }
        let encoded = chunks(&cut);
        let state = DomainCodec.decode_cut(&mut encoded.clone().into_iter()).unwrap();
        prop_assert_eq!(&state.cut(), &cut);
        prop_assert_eq!(chunks(&state.cut()), encoded);
    }

    #[test]
    fn octets_never_panic(octets in vec(any::<u8>(), 0..200)) {
        let _ = DomainCodec.decode_event(&octets);
        let _ = decode_entry::<State>(&DomainCodec, Bytes::from(octets.clone()));
        let _ = DomainCodec.decode_cut(&mut [octets].into_iter());
    }

    #[test]
    fn damaged_events_never_panic(event in event(), at in any::<prop::sample::Index>(), octet in any::<u8>()) {
        let mut bytes = DomainCodec.encode_event(&event);
        let at = at.index(bytes.len());
        bytes[at] = octet;
        let _ = DomainCodec.decode_event(&bytes);
    }
}
