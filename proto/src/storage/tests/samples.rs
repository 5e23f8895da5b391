//! One full value of every stored shape, for golden octets and round trips; here what all of them are made of.
//!
//! It refuses defaults: every field has a value that another field does not have, every option is there.

#![allow(clippy::unwrap_used)]

mod aggregates;
mod events;
mod specs;

use certwright_core::ids::{AgentName, CertificateName, InstanceId, Serial, Uid};
use certwright_core::log::Position;
use certwright_core::spec::Labels;
use certwright_core::time::Timestamp;

pub(crate) use aggregates::*;
pub(crate) use events::*;
pub(crate) use specs::*;

pub(crate) fn serial(first: u8) -> Serial {
    let mut octets = [0xa5; 20];
    octets[0] = first;
    Serial::from_octets(octets).unwrap()
}

pub(crate) fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(1_800_000_000_000 + millis)
}

pub(crate) fn position(index: u64, ordinal: u32) -> Position {
    Position { index, ordinal }
}

pub(crate) fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

pub(crate) fn agent_name() -> AgentName {
    AgentName::parse("edge-1").unwrap()
}

pub(crate) fn certificate_name() -> CertificateName {
    CertificateName::parse("web", "front").unwrap()
}

pub(crate) fn instance_id() -> InstanceId {
    InstanceId { certificate: Uid(position(7, 2)), number: 3 }
}
