//! State as a whole: due order, feeds, cuts and rebuilds, and random histories.
#![allow(clippy::unwrap_used)]

mod due;
mod random;
mod rebase;
mod rebuild;
mod scope;
mod summary;

use super::*;
use crate::state::apply::Stream;
use crate::tests::fixtures::*;

#[test]
fn streams_are_parsed_as_they_are_written() {
    let serial = serial(7);
    let rows = [
        (crate::ids::cluster_stream(), Stream::Cluster),
        (crate::ids::checkpoints_stream(), Stream::Checkpoints),
        (token("t1").stream(), Stream::Token(token("t1"))),
        (agent("a1").stream(), Stream::Agent(agent("a1"))),
        (authority("root").stream(), Stream::Authority(authority("root"))),
        (issuer("demo").stream(), Stream::Issuer(issuer("demo"))),
        (name("web").stream(), Stream::Certificate(name("web"))),
        (crate::ids::direct_stream(&serial), Stream::Direct(serial)),
    ];
    for (stream, expected) in rows {
        assert_eq!(Stream::parse(&stream), Some(expected), "{stream}");
    }
    for odd in ["", "cluste", "agents", "agents/", "agents/A", "namespaces/a/b", "direct/1", "direct/+1", "x/y"] {
        assert_eq!(Stream::parse(&crate::log::StreamId::new(odd)), None, "{odd:?}");
    }
}

#[test]
fn serials_come_back() {
    let serial = serial(0xabcdef);
    assert_eq!(Serial::parse(&serial.to_string()), Some(serial));
    for odd in ["", "00", &"+1".repeat(20), &"FF".repeat(20), &"0".repeat(40)] {
        assert_eq!(Serial::parse(odd), None, "{odd:?}");
    }
}
