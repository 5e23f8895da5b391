//! The small shapes that every stored message is made of: fixed octets, moments, spans, pairs, names.
//!
//! It refuses octets of another length than the domain's.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Buf, Bytes};
use certwright_core::ids::{InstanceId, Serial, Uid};
use certwright_core::log::{CodecError, Position};
use certwright_core::time::Timestamp;
use certwright_core::{Format, Rejection};
use prost::Message;

use super::v1;

/// The only version of entries so far. Events and chunks are versioned by the format of the log.
pub(super) const VERSION: u32 = 1;

/// A `CodecError` about `what`.
pub(super) fn broken(what: &'static str, why: impl Into<String>) -> CodecError {
    CodecError { what, why: why.into() }
}

/// Reads a whole message. Fields that this build does not know are dropped by the decoder; here that shows, because the
/// message would be written shorter than it was.
pub(super) fn read<M: Message + Default>(what: &'static str, octets: impl Buf) -> Result<M, CodecError> {
    let len = octets.remaining();
    let message = M::decode(octets).map_err(|error| broken(what, error.to_string()))?;
    is_whole(what, &message, len)?;
    Ok(message)
}

fn is_whole(what: &'static str, message: &impl Message, len: usize) -> Result<(), CodecError> {
    match message.encoded_len() == len {
        true => Ok(()),
        false => Err(broken(what, "it has fields that this build does not know")),
    }
}

/// The same of a message that tells its format, which is looked at first: of a newer one no field need be known.
pub(super) fn read_as<M: Message + Default>(
    what: &'static str,
    octets: impl Buf,
    version: impl Fn(&M) -> u32,
) -> Result<(M, Format), CodecError> {
    let len = octets.remaining();
    let message = M::decode(octets).map_err(|error| broken(what, error.to_string()))?;
    let format = known_format(what, version(&message))?;
    is_whole(what, &message, len)?;
    Ok((message, format))
}

/// Refuses every version but the one this build writes.
pub(super) fn check_version(what: &'static str, version: u32) -> Result<(), CodecError> {
    if version == VERSION {
        return Ok(());
    }
    Err(broken(what, format!("version {version} is unknown; this build reads version {VERSION}")))
}

/// The format that is told by an event or a chunk; one that this build does not know is refused.
fn known_format(what: &'static str, version: u32) -> Result<Format, CodecError> {
    if (Format::FIRST..=Format::NEWEST).contains(&Format(version)) {
        return Ok(Format(version));
    }
    let newest = Format::NEWEST;
    Err(broken(
        what,
        format!("format {version} is unknown; this build reads up to format {newest}: install a newer one"),
    ))
}

/// The value, or an error that names what is absent.
pub(super) fn need<T>(what: &'static str, value: Option<T>) -> Result<T, CodecError> {
    value.ok_or_else(|| broken(what, "absent, or of a kind that this build does not know"))
}

/// Exactly `N` octets.
pub(super) fn fixed<const N: usize>(what: &'static str, octets: &[u8]) -> Result<[u8; N], CodecError> {
    octets.try_into().map_err(|_| broken(what, format!("{} octets where {N} belong", octets.len())))
}

/// Exactly `N` octets, or none at all for all zero.
pub(super) fn fixed_or_zero<const N: usize>(what: &'static str, octets: &[u8]) -> Result<[u8; N], CodecError> {
    if octets.is_empty() { Ok([0; N]) } else { fixed(what, octets) }
}

/// A name that parsed when it was decided.
pub(super) fn name<T>(what: &'static str, parsed: Result<T, Rejection>) -> Result<T, CodecError> {
    parsed.map_err(|rejection| broken(what, rejection.to_string()))
}

pub(super) fn serial(what: &'static str, octets: &[u8]) -> Result<Serial, CodecError> {
    Serial::from_octets(fixed(what, octets)?).ok_or_else(|| broken(what, "not of the shape of a serial"))
}

pub(super) fn octets(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

pub(super) fn moment(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

pub(super) fn pairs(map: &BTreeMap<String, String>) -> Vec<v1::Pair> {
    map.iter().map(|(key, value)| v1::Pair { key: key.clone(), value: value.clone() }).collect()
}

/// The map that `pairs` wrote; pairs out of order were not written by us.
pub(super) fn map(what: &'static str, pairs: Vec<v1::Pair>) -> Result<BTreeMap<String, String>, CodecError> {
    if !pairs.is_sorted_by(|a, b| a.key < b.key) {
        return Err(broken(what, "keys out of order or repeated"));
    }
    Ok(pairs.into_iter().map(|pair| (pair.key, pair.value)).collect())
}

/// Below 256, as the domain holds it.
pub(super) fn small(what: &'static str, number: u32) -> Result<u8, CodecError> {
    number.try_into().map_err(|_| broken(what, format!("{number} is above 255")))
}

impl From<Duration> for v1::Span {
    fn from(span: Duration) -> Self {
        Self { seconds: span.as_secs(), nanos: span.subsec_nanos() }
    }
}

impl TryFrom<v1::Span> for Duration {
    type Error = CodecError;

    fn try_from(span: v1::Span) -> Result<Self, CodecError> {
        if span.nanos >= 1_000_000_000 {
            return Err(broken("span", "a second or more of nanoseconds"));
        }
        Ok(Self::new(span.seconds, span.nanos))
    }
}

impl From<Position> for v1::Uid {
    fn from(position: Position) -> Self {
        Self { index: position.index, ordinal: position.ordinal }
    }
}

impl From<v1::Uid> for Position {
    fn from(uid: v1::Uid) -> Self {
        Self { index: uid.index, ordinal: uid.ordinal }
    }
}

impl From<InstanceId> for v1::InstanceId {
    fn from(id: InstanceId) -> Self {
        let Uid(Position { index, ordinal }) = id.certificate;
        Self { index, ordinal, number: id.number }
    }
}

impl From<v1::InstanceId> for InstanceId {
    fn from(id: v1::InstanceId) -> Self {
        Self { certificate: Uid(Position { index: id.index, ordinal: id.ordinal }), number: id.number }
    }
}

/// An instance id that must be there.
pub(super) fn instance(id: Option<v1::InstanceId>) -> Result<InstanceId, CodecError> {
    need("instance", id).map(InstanceId::from)
}
