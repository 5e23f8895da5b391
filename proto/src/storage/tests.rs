//! Stored formats: golden octets, round trips, and what is refused.

#![allow(clippy::unwrap_used)]

mod golden;
mod properties;
mod refusals;
pub(crate) mod samples;

use bytes::Bytes;
use certwright_core::State;
use certwright_core::log::{Codec, Fold as _};

use super::*;

#[test]
fn every_event_goes_there_and_back() {
    for event in samples::events() {
        let bytes = DomainCodec.encode_event(&event);
        assert_eq!(DomainCodec.decode_event(&bytes).unwrap(), event);
    }
}

#[test]
fn every_kind_of_event_has_a_sample() {
    let kinds: std::collections::BTreeSet<_> = samples::events().iter().map(certwright_core::Event::kind).collect();
    assert_eq!(kinds.len(), 44, "{kinds:?}");
}

#[test]
fn an_entry_goes_there_and_back() {
    let encoded = encode_transaction::<State>(&DomainCodec, &samples::transaction());
    let mut untraced = samples::transaction();
    untraced.trace = Default::default();
    let mut builder = EntryBuilder::new();
    builder.push(&encoded);
    builder.push(&encode_transaction::<State>(&DomainCodec, &untraced));
    builder.request_digest();
    let payload = builder.finish(samples::at(1));
    let entry = decode_entry::<State>(&DomainCodec, payload).unwrap();
    assert_eq!((entry.at, entry.digest), (samples::at(1), true));
    assert_eq!(entry.transactions, [samples::transaction(), untraced]);
}

#[test]
fn packing_is_what_encoding_would_be() {
    use prost::Message as _;
    let encoded = encode_transaction::<State>(&DomainCodec, &samples::transaction());
    let mut builder = EntryBuilder::new();
    for count in 0..3 {
        let with = builder.octets_with(&encoded);
        assert_eq!(builder.count(), count);
        builder.push(&encoded);
        assert_eq!(builder.octets(), with);
    }
    let bound = builder.octets();
    let payload = builder.finish(samples::at(u64::MAX / 2));
    assert!(payload.len() <= bound && payload.len() + ENTRY_OCTETS_OVERHEAD >= bound, "{} {bound}", payload.len());
    let whole = v1::Entry::decode(payload.clone()).unwrap();
    assert_eq!(whole.encode_to_vec(), payload);
}

#[test]
fn an_entry_without_transactions_is_an_entry() {
    let payload = EntryBuilder::new().finish(samples::at(0));
    let entry = decode_entry::<State>(&DomainCodec, payload).unwrap();
    assert_eq!((entry.at, entry.digest, entry.transactions.len()), (samples::at(0), false, 0));
}

pub(super) fn chunks(cut: &<State as certwright_core::log::Fold>::Cut) -> Vec<Vec<u8>> {
    let mut chunks = Vec::new();
    DomainCodec.encode_cut(cut, &mut |chunk| chunks.push(chunk.to_vec()));
    chunks
}

#[test]
fn a_cut_goes_there_and_back() {
    let cut = certwright_core::state::Cut { cluster: samples::newer_cluster(), ..samples::cut() };
    let encoded = chunks(&cut);
    let state = DomainCodec.decode_cut(&mut encoded.clone().into_iter()).unwrap();
    assert_eq!(state.cut(), cut);
    assert_eq!(chunks(&state.cut()), encoded);
}

#[test]
fn an_empty_state_goes_there_and_back() {
    let encoded = chunks(&State::default().cut());
    assert_eq!(encoded.len(), 1);
    assert_eq!(DomainCodec.decode_cut(&mut encoded.into_iter()).unwrap().cut(), State::default().cut());
}

#[test]
fn chunks_are_bounded_and_filled() {
    let mut cut = samples::cut();
    for number in 0..4000 {
        let mut certificate = samples::certificate();
        certificate.name = certwright_core::ids::CertificateName::parse("many", &format!("c-{number}")).unwrap();
        cut.certificates.insert(certificate);
    }
    let encoded = chunks(&cut);
    assert!(encoded.len() > 3, "{}", encoded.len());
    let (last, full) = encoded.split_last().unwrap();
    assert!(full.iter().all(|chunk| (CHUNK_OCTETS_MAX - 4096..=CHUNK_OCTETS_MAX).contains(&chunk.len())));
    assert!(last.len() <= CHUNK_OCTETS_MAX);
    assert_eq!(DomainCodec.decode_cut(&mut encoded.into_iter()).unwrap().cut(), cut);
}

#[test]
fn history_does_not_show_in_a_cut() {
    let mut detour = samples::cut();
    let mut other = samples::agent();
    other.name = certwright_core::ids::AgentName::parse("a-guest").unwrap();
    detour.agents.insert(other.clone());
    detour.agents.remove(&other.name);
    assert_eq!(chunks(&detour), chunks(&samples::cut()));
}

fn golden_entry() -> Bytes {
    let mut builder = EntryBuilder::new();
    builder.push(&encode_transaction::<State>(&DomainCodec, &samples::transaction()));
    builder.request_digest();
    builder.finish(samples::at(1))
}
