//! What a reader does not understand is an error, never a guess.

use bytes::Bytes;
use certwright_core::log::{Codec, CodecError, Fold as _};
use certwright_core::{Event, Format, State};
use prost::Message;

use super::super::{DomainCodec, decode_entry, v1};
use super::{chunks, samples};

fn refuse_event(event: v1::Event) -> CodecError {
    DomainCodec.decode_event(&event.encode_to_vec()).unwrap_err()
}

fn sample(kind: &str) -> v1::Event {
    let event = samples::events().into_iter().find(|event| event.kind() == kind).unwrap();
    v1::Event::decode(&DomainCodec.encode_event(&event)[..]).unwrap()
}

#[test]
fn unknown_versions() {
    for version in [0, Format::NEWEST.0 + 1, u32::MAX] {
        let error = refuse_event(v1::Event { version, ..sample("TokenRevoked") });
        assert!(error.why.contains(&version.to_string()), "{error}");
        let entry = v1::Entry { version, ..v1::Entry::default() };
        let error = decode_entry::<State>(&DomainCodec, entry.encode_to_vec().into()).unwrap_err();
        assert_eq!(error.what, "entry");
        let chunk = v1::Chunk { version, records: Vec::new() }.encode_to_vec();
        assert!(DomainCodec.decode_cut(&mut [chunk].into_iter()).is_err());
    }
}

#[test]
fn formats_that_do_not_fit() {
    let error = refuse_event(v1::Event { version: 2, ..sample("TokenRevoked") });
    assert!(error.why.contains("does not belong to format 2"), "{error}");
    // A build that knows the event, and not what it takes into use.
    let newer = Event::FormatRaised { format: Format(Format::NEWEST.0 + 1) };
    let error = DomainCodec.decode_event(&DomainCodec.encode_event(&newer)).unwrap_err();
    assert!(error.why.contains("install a newer one"), "{error}");
    // One that does not know the event either.
    let mut unknown = v1::Event { version: Format::NEWEST.0 + 1, kind: None }.encode_to_vec();
    unknown.extend(UNKNOWN_FIELD);
    let error = DomainCodec.decode_event(&unknown).unwrap_err();
    assert!(error.why.contains("install a newer one"), "{error}");
    let mut cut = samples::cut();
    cut.cluster.format = Format(2);
    let chunk = chunks(&cut).remove(0);
    assert_eq!(DomainCodec.decode_cut(&mut [chunk.clone()].into_iter()).unwrap().cut(), cut);
    let other = v1::Chunk { version: 1, records: Vec::new() }.encode_to_vec();
    assert!(DomainCodec.decode_cut(&mut [chunk, other].into_iter()).is_err());
}

#[test]
fn unknown_kinds() {
    assert_eq!(refuse_event(v1::Event { version: 1, kind: None }).what, "event's kind");
    let chunk = v1::Chunk { version: 1, records: vec![v1::Record { kind: None }] }.encode_to_vec();
    assert!(DomainCodec.decode_cut(&mut [chunk].into_iter()).is_err());
}

/// Field 15000, which no build knows, with an empty message.
const UNKNOWN_FIELD: [u8; 4] = [0xc2, 0xa9, 0x07, 0x00];

#[test]
fn unknown_fields() {
    let with = |octets: &[u8]| [octets, &UNKNOWN_FIELD].concat();
    let refused = |error: CodecError| assert!(error.why.contains("does not know"), "{error}");
    refused(DomainCodec.decode_event(&with(&v1::Event { version: 1, kind: None }.encode_to_vec())).unwrap_err());
    for event in samples::events() {
        refused(DomainCodec.decode_event(&with(&DomainCodec.encode_event(&event))).unwrap_err());
    }
    refused(decode_entry::<State>(&DomainCodec, with(&super::golden_entry()).into()).unwrap_err());
    let chunk = with(&chunks(&samples::cut())[0]);
    refused(DomainCodec.decode_cut(&mut [chunk].into_iter()).err().unwrap());

    // Also deep inside: the record of a node that joined, one field longer.
    let mut inner = UNKNOWN_FIELD.to_vec();
    inner.splice(0..0, [0x08, 0x01, 0x5a, 4]);
    refused(DomainCodec.decode_event(&inner).unwrap_err());
}

#[test]
fn fields_of_the_wrong_shape() {
    type Change = fn(&mut v1::event::Kind);
    use v1::event::Kind;
    let table: &[(&str, Change, &str)] = &[
        (
            "ClusterBootstrapped",
            |kind| {
                if let Kind::ClusterBootstrapped(it) = kind {
                    it.cluster_id = vec![1; 15].into()
                }
            },
            "cluster id",
        ),
        (
            "TokenConsumed",
            |kind| {
                if let Kind::TokenConsumed(it) = kind {
                    it.spki_hash = Bytes::new()
                }
            },
            "key hash",
        ),
        (
            "CertificateIssued",
            |kind| {
                if let Kind::CertificateIssued(it) = kind {
                    it.serial = vec![0xff; 20].into()
                }
            },
            "serial",
        ),
        (
            "CertificateIssued",
            |kind| {
                if let Kind::CertificateIssued(it) = kind {
                    it.issuer = "No!".into()
                }
            },
            "issuer",
        ),
        (
            "IssuanceOpened",
            |kind| {
                if let Kind::IssuanceOpened(it) = kind {
                    it.trigger = 77
                }
            },
            "trigger",
        ),
        (
            "IssuanceOpened",
            |kind| {
                if let Kind::IssuanceOpened(it) = kind {
                    it.instance = None
                }
            },
            "instance",
        ),
        (
            "CertificateDelivered",
            |kind| {
                if let Kind::CertificateDelivered(it) = kind {
                    it.stage = 0
                }
            },
            "stage",
        ),
        (
            "CertificateDeclared",
            |kind| {
                if let Kind::CertificateDeclared(it) = kind {
                    it.spec = None
                }
            },
            "specification",
        ),
        (
            "CertificateDeclared",
            |kind| {
                if let Kind::CertificateDeclared(it) = kind {
                    it.spec.as_mut().unwrap().usages = vec!["x".into()]
                }
            },
            "usage",
        ),
        (
            "CertificateDeclared",
            |kind| {
                if let Kind::CertificateDeclared(it) = kind {
                    it.spec.as_mut().unwrap().dialect = 0
                }
            },
            "dialect",
        ),
        (
            "CertificateDeclared",
            |kind| {
                if let Kind::CertificateDeclared(it) = kind {
                    it.spec.as_mut().unwrap().labels.reverse()
                }
            },
            "labels",
        ),
        (
            "CertificateDeclared",
            |kind| {
                if let Kind::CertificateDeclared(it) = kind {
                    it.spec.as_mut().unwrap().ip_addresses = vec![vec![1; 5].into()]
                }
            },
            "IP address",
        ),
        (
            "CertificateDeclared",
            |kind| {
                if let Kind::CertificateDeclared(it) = kind {
                    it.spec.as_mut().unwrap().targets[0].sink = None
                }
            },
            "target's sink",
        ),
        (
            "CertificateDeclared",
            |kind| {
                if let Kind::CertificateDeclared(it) = kind {
                    it.spec.as_mut().unwrap().renew_before_percentage = Some(256)
                }
            },
            "renew before percentage",
        ),
        (
            "CertificateDeclared",
            |kind| {
                if let Kind::CertificateDeclared(it) = kind {
                    it.spec.as_mut().unwrap().duration.as_mut().unwrap().nanos = u32::MAX
                }
            },
            "span",
        ),
    ];
    for (sampled, change, what) in table {
        let mut event = sample(sampled);
        change(event.kind.as_mut().unwrap());
        assert_eq!(refuse_event(event).what, *what);
    }
}

#[test]
fn octets_that_are_no_message() {
    assert!(DomainCodec.decode_event(&[0xff]).is_err());
    assert!(decode_entry::<State>(&DomainCodec, Bytes::from_static(&[0xff])).is_err());
    assert!(DomainCodec.decode_cut(&mut [vec![0xff]].into_iter()).is_err());
    let whole = super::golden_entry();
    for at in 1..whole.len() {
        // Some prefixes are entries of their own; none may panic or hold part of a transaction.
        if let Ok(entry) = decode_entry::<State>(&DomainCodec, whole.slice(..at)) {
            assert_eq!(entry.transactions.len(), 0);
        }
    }
}

#[test]
fn appends_without_events() {
    let append = v1::Append { stream: "cluster".into(), expected: None, events: Vec::new() };
    let transaction = v1::Transaction {
        request_id: vec![0; 16].into(),
        request_digest: vec![0; 16].into(),
        appends: vec![append],
        ..v1::Transaction::default()
    };
    let entry = v1::Entry { version: 1, transactions: vec![transaction], ..v1::Entry::default() };
    let error = decode_entry::<State>(&DomainCodec, entry.encode_to_vec().into()).unwrap_err();
    assert_eq!(error.what, "append");
}

#[test]
fn snapshots_out_of_shape() {
    let whole = v1::Chunk::decode(&chunks(&samples::cut())[0][..]).unwrap();
    let refuse = |change: &dyn Fn(&mut Vec<v1::Record>)| {
        let mut chunk = whole.clone();
        change(&mut chunk.records);
        DomainCodec
            .decode_cut(&mut [chunk.encode_to_vec()].into_iter())
            .err()
            .map(|error| error.why)
            .unwrap_or_default()
    };
    assert!(refuse(&|records| drop(records.remove(0))).contains("cluster is absent"));
    assert!(refuse(&|records| records.push(records[0].clone())).contains("twice"));
    assert!(refuse(&|records| drop(records.pop())).contains("1 instances"));
    assert!(refuse(&|records| drop(records.remove(records.len() - 3))).contains("without its certificate"));
    assert!(DomainCodec.decode_cut(&mut std::iter::empty()).is_err());
}
