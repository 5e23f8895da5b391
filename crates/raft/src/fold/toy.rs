//! A fold for tests: streams of words, every word remembered in order.
//!
//! It refuses nothing; it only records.

use std::collections::BTreeMap;
use std::sync::Arc;

use certwright_core::log::{
    Append, Applied, Codec, CodecError, Fold, Guard, Position, RequestId, Revision, StreamId, Trace, Transaction,
};
use certwright_core::time::Timestamp;

/// Streams of words.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct Toy {
    pub(crate) streams: BTreeMap<String, Vec<String>>,
    /// Words that were appended without an expected revision.
    pub(crate) loose: Vec<String>,
}

impl Fold for Toy {
    type Event = String;
    type Cut = Toy;

    fn revision(&self, stream: &StreamId) -> Revision {
        self.streams.get(stream.as_str()).map_or(0, |words| words.len() as u64)
    }

    fn apply(&mut self, applied: &Applied<'_>, event: &String) {
        match applied.revision {
            Some(revision) => {
                let words = self.streams.entry(applied.stream.to_string()).or_default();
                words.push(event.clone());
                assert_eq!(words.len() as u64, revision, "the log says which revision an event makes");
            }
            None => self.loose.push(event.clone()),
        }
    }

    /// `back to N` sets log time back to N milliseconds.
    fn rebases(event: &String) -> Option<Timestamp> {
        event.strip_prefix("back to ").and_then(|millis| millis.parse().ok()).map(Timestamp::from_millis)
    }

    fn cut(&self) -> Toy {
        self.clone()
    }
}

/// Words as UTF-8; `!` is a word that no build can read.
pub(crate) struct ToyCodec;

fn unreadable() -> CodecError {
    CodecError { what: "word", why: "unknown kind".into() }
}

impl Codec<Toy> for ToyCodec {
    fn encode_event(&self, event: &String) -> Vec<u8> {
        event.clone().into_bytes()
    }

    fn decode_event(&self, bytes: &[u8]) -> Result<String, CodecError> {
        match String::from_utf8(bytes.to_vec()) {
            Ok(word) if word != "!" => Ok(word),
            _ => Err(unreadable()),
        }
    }

    fn encode_cut(&self, cut: &Toy, emit: &mut dyn FnMut(&[u8])) {
        for (stream, words) in cut.streams.iter().map(|(stream, words)| (stream.as_str(), words)) {
            portions(words, &mut |words| emit(format!("{stream}\n{words}").as_bytes()));
        }
        portions(&cut.loose, &mut |words| emit(format!("\n{words}").as_bytes()));
    }

    fn encode_pieces(&self, cut: &Toy, emit: &mut dyn FnMut(&[u8])) {
        for (stream, words) in &cut.streams {
            words.iter().for_each(|word| emit(format!("{}\n{word}", stream.as_str()).as_bytes()));
        }
        cut.loose.iter().for_each(|word| emit(format!("\n{word}").as_bytes()));
    }

    fn decode_cut(&self, chunks: &mut dyn Iterator<Item = Vec<u8>>) -> Result<Toy, CodecError> {
        let mut toy = Toy::default();
        for chunk in chunks {
            let text = String::from_utf8(chunk).map_err(|_| unreadable())?;
            let (stream, words) = text.split_once('\n').ok_or_else(unreadable)?;
            let words = words.split('\n').filter(|word| !word.is_empty()).map(str::to_owned);
            if stream.is_empty() {
                toy.loose.extend(words);
            } else {
                toy.streams.entry(stream.into()).or_default().extend(words);
            }
        }
        Ok(toy)
    }
}

/// The words joined, in portions that fit a chunk each; at least one.
fn portions(words: &[String], emit: &mut dyn FnMut(&str)) {
    const PORTION_OCTETS: usize = 64 * 1024;
    let mut portion = String::new();
    for word in words {
        if portion.len() > PORTION_OCTETS {
            emit(&std::mem::take(&mut portion));
        }
        if !portion.is_empty() {
            portion.push('\n');
        }
        portion.push_str(word);
    }
    emit(&portion);
}

/// A request id of that number.
pub(crate) fn request(number: u64) -> RequestId {
    let mut id = [0; 16];
    id[8..].copy_from_slice(&number.to_be_bytes());
    RequestId(id)
}

/// Appends a word to the end of a stream of known revision.
pub(crate) fn say(number: u64, stream: &str, expected: Option<u64>, word: &str) -> Transaction<String> {
    Transaction {
        request_id: request(number),
        request_digest: digest_of(word),
        actor: "system".into(),
        trace: Trace::default(),
        guards: Vec::new(),
        appends: vec![Append { stream: StreamId::new(stream), expected, events: vec![word.to_owned()] }],
    }
}

/// The same with a guard on another stream.
pub(crate) fn guarded(number: u64, guard: (&str, u64), word: &str) -> Transaction<String> {
    let mut transaction = say(number, "loose", None, word);
    transaction.guards = vec![Guard { stream: StreamId::new(guard.0), revision: guard.1 }];
    transaction
}

fn digest_of(word: &str) -> [u8; 16] {
    let mut digest = [0; 16];
    for (place, octet) in word.bytes().enumerate() {
        digest[place % 16] ^= octet;
    }
    digest
}

/// Projects every word to where it was said.
pub(crate) struct ToyProjector;

impl crate::Projector<String> for ToyProjector {
    fn project(&self, position: Position, transaction: &Transaction<String>, put: &mut dyn FnMut(Vec<u8>, Vec<u8>)) {
        for append in &transaction.appends {
            for word in &append.events {
                put(format!("w/{word}").into_bytes(), position.to_string().into_bytes());
            }
        }
    }
}

/// The codec as an object.
pub(crate) fn codec() -> Arc<dyn Codec<Toy>> {
    Arc::new(ToyCodec)
}
