//! The domain's `Codec`: what `raft` calls to store events and cuts whose meaning it does not know.
//!
//! It refuses state of its own: encoding is a function of what is encoded.

use certwright_core::Event;
use certwright_core::log::{Codec, CodecError};
use certwright_core::state::{Cut, State};

use super::{event, snapshot};

/// Encodes and decodes the domain's events and cuts.
#[derive(Clone, Copy, Default, Debug)]
pub struct DomainCodec;

impl Codec<State> for DomainCodec {
    fn encode_event(&self, event: &Event) -> Vec<u8> {
        event::encode(event)
    }

    fn decode_event(&self, bytes: &[u8]) -> Result<Event, CodecError> {
        event::decode(bytes)
    }

    fn encode_cut(&self, cut: &Cut, emit: &mut dyn FnMut(&[u8])) {
        snapshot::encode(cut, emit);
    }

    fn encode_pieces(&self, cut: &Cut, emit: &mut dyn FnMut(&[u8])) {
        snapshot::encode_pieces(cut, emit);
    }

    fn decode_cut(&self, chunks: &mut dyn Iterator<Item = Vec<u8>>) -> Result<State, CodecError> {
        snapshot::decode(chunks).map(State::from_parts)
    }
}
