//! Names, ids and actors: what parses, and that it prints as it was.
#![allow(clippy::unwrap_used)]

use super::*;

#[test]
fn names_are_lower_case_subdomains() {
    let longest = format!("{}.{}", "a".repeat(126), "b".repeat(126));
    assert_eq!(longest.len(), NAME_OCTETS_MAX);
    for right in ["a", "0", "a-b", "a.b", "web-1.prod.example", &longest] {
        assert_eq!(AgentName::parse(right).unwrap().as_str(), right);
    }
    let too_long = format!("{longest}c");
    for wrong in ["", "A", "-a", "a-", "a..b", ".a", "a.", "a_b", "a b", "a/b", "ä", "a\n", &too_long] {
        assert_eq!(AgentName::parse(wrong).unwrap_err().reason, Reason::InvalidName, "{wrong:?}");
    }
}

#[test]
fn streams_have_the_names_of_resources() {
    let name = CertificateName::parse("ns", "web").unwrap();
    let serial = Serial::from_random([0xff; 20]);
    let rows = [
        (name.stream(), "namespaces/ns/certificates/web"),
        (IssuerName::parse("i").unwrap().stream(), "issuers/i"),
        (AuthorityName::parse("a").unwrap().stream(), "authorities/a"),
        (AgentName::parse("b").unwrap().stream(), "agents/b"),
        (TokenId::parse("t").unwrap().stream(), "tokens/t"),
        (cluster_stream(), "cluster"),
        (direct_stream(&serial), "direct/7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF"),
    ];
    for (stream, expected) in rows {
        assert_eq!(stream.as_str(), expected);
    }
    assert_eq!(name.to_string(), "ns/web");
}

#[test]
fn serials_are_positive_and_twenty_octets() {
    let zero = Serial::from_random([0; 20]);
    assert_eq!(zero.octets()[0], 0x40, "the first octet is never zero");
    assert_eq!(Serial::from_random([0x80; 20]).octets()[0], 0x40, "nor after the top bit is gone");
    assert_eq!(Serial::from_random([0xff; 20]).octets()[0], 0x7f, "the top bit is clear");
    assert_eq!(Serial::from_octets([0x7f; 20]).map(|serial| *serial.octets()), Some([0x7f; 20]));
    assert_eq!(Serial::from_octets([0x80; 20]), None);
    assert_eq!(Serial::from_octets([0; 20]), None);
}

#[test]
fn instance_ids_print_and_parse() {
    let id = InstanceId { certificate: Uid(Position { index: 12, ordinal: 3 }), number: 4 };
    assert_eq!(id.to_string(), "12-3-4");
    assert_eq!(InstanceId::parse("12-3-4"), Some(id));
    for wrong in ["", "12-3", "12-3-4-5", "a-b-c", "12--4", "-1-2-3"] {
        assert_eq!(InstanceId::parse(wrong), None, "{wrong:?}");
    }
}

#[test]
fn an_instance_declared_with_its_certificate_gets_its_uid_from_the_position() {
    let position = Position { index: 12, ordinal: 3 };
    let unknown = InstanceId { certificate: Uid(Position::START), number: 4 };
    let known = InstanceId { certificate: Uid(Position { index: 7, ordinal: 0 }), number: 4 };
    assert_eq!(unknown.resolved(position).to_string(), "12-3-4");
    assert_eq!(known.resolved(position), known);
}

#[test]
fn actors_print_and_parse() {
    for text in ["administrator/ada", "agent/a1", "node/3", "system", "anonymous"] {
        assert_eq!(Actor::parse(text).unwrap().to_string(), text);
    }
    for wrong in ["", "administrator", "administrator/", "agent/A", "node/x", "system/1", "root"] {
        assert_eq!(Actor::parse(wrong), None, "{wrong:?}");
    }
}
