//! Golden octets of everything stored. A change here is a change of the format: logs and snapshots that exist would be
//! read differently. If that is meant, raise the version, keep the old reader, and bless the new octets with
//! `CERTWRIGHT_BLESS=1 cargo test -p certwright-proto golden`.

#![allow(clippy::disallowed_methods, reason = "blessing writes a file of the source tree")]

use certwright_core::log::Codec;
use prost::Message;

use super::super::{DomainCodec, aggregates, v1};
use super::samples;

fn line(name: &str, octets: &[u8]) -> String {
    format!("{name} {}\n", hex::encode(octets))
}

fn check(file: &str, expected: &str, actual: &str) {
    if std::env::var_os("CERTWRIGHT_BLESS").is_some() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(file);
        std::fs::write(path, actual).unwrap();
        return;
    }
    for (expected, actual) in expected.lines().zip(actual.lines()) {
        assert_eq!(expected, actual, "{file} changed; see the head of golden.rs");
    }
    assert_eq!(expected.lines().count(), actual.lines().count(), "{file} changed; see the head of golden.rs");
}

#[test]
fn golden_events() {
    let actual: String =
        samples::events().iter().map(|event| line(event.kind(), &DomainCodec.encode_event(event))).collect();
    check("events.hex", include_str!("../../../golden/events.hex"), &actual);
}

#[test]
fn golden_events_are_still_read() {
    let golden = include_str!("../../../golden/events.hex");
    assert_eq!(golden.lines().count(), samples::events().len());
    for (line, event) in golden.lines().zip(samples::events()) {
        let (kind, octets) = line.split_once(' ').unwrap();
        let decoded = DomainCodec.decode_event(&hex::decode(octets).unwrap()).unwrap();
        assert_eq!((decoded.kind(), &decoded), (kind, &event));
    }
}

#[test]
fn golden_aggregates() {
    use v1::record::Kind;
    let cut = samples::cut();
    let node = cut.cluster.nodes.values().next_back().unwrap();
    let (name, identity) = cut.cluster.administrators.first_key_value().unwrap();
    let administrator = v1::AdministratorRecord { name: name.to_string(), identity: Some(identity.into()) };
    let records = [
        ("cluster", Kind::Cluster(aggregates::encode_cluster(&cut.cluster, cut.applied))),
        ("node", Kind::Node(node.into())),
        ("administrator", Kind::Administrator(administrator)),
        ("token", Kind::Token((&samples::token()).into())),
        ("agent", Kind::Agent((&samples::agent()).into())),
        ("issuer", Kind::Issuer((&samples::issuer()).into())),
        ("authority", Kind::Authority((&samples::authority()).into())),
        ("certificate", Kind::Certificate((&samples::certificate()).into())),
        ("instance", Kind::Instance((&samples::instance()).into())),
        ("bare-instance", Kind::Instance((&samples::bare_instance()).into())),
        ("newer-cluster", Kind::Cluster(aggregates::encode_cluster(&samples::newer_cluster(), cut.applied))),
    ];
    let encode = |(name, kind): (&str, Kind)| line(name, &v1::Record { kind: Some(kind) }.encode_to_vec());
    let actual: String = records.into_iter().map(encode).collect();
    check("aggregates.hex", include_str!("../../../golden/aggregates.hex"), &actual);
}

#[test]
fn golden_envelopes() {
    let chunks = super::chunks(&samples::cut());
    assert_eq!(chunks.len(), 1);
    let actual = line("entry", &super::golden_entry()) + &line("chunk", &chunks[0]);
    check("envelopes.hex", include_str!("../../../golden/envelopes.hex"), &actual);
}

/// What is hashed of a state, for good: its format and the records of its chunks, whose octets are pinned above.
#[test]
fn the_pieces_of_a_cut_are_its_records() {
    let cut = samples::cut();
    let chunk = v1::Chunk::decode(&super::chunks(&cut)[0][..]).unwrap();
    let mut expected = vec![cut.cluster.format.0.to_be_bytes().to_vec()];
    expected.extend(chunk.records.iter().map(Message::encode_to_vec));
    let mut pieces = Vec::new();
    DomainCodec.encode_pieces(&cut, &mut |piece| pieces.push(piece.to_vec()));
    assert_eq!(pieces, expected);
}
