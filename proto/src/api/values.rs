//! The small values of messages: moments, lengths of time, request ids, etags, serials, hex.
//!
//! It refuses what the domain cannot hold: negative durations, moments before the epoch, odd hex.

use std::time::Duration;

use certwright_core::command::Etag;
use certwright_core::ids::{InstanceId, Serial, Uid};
use certwright_core::log::{RequestId, Revision};
use certwright_core::time::Timestamp;
use certwright_core::{Reason, Rejection};

/// The rejection as one about `field`, unless it names a deeper one already.
pub(crate) fn about<T>(field: &str, result: Result<T, Rejection>) -> Result<T, Rejection> {
    result.map_err(|rejection| match rejection.field {
        Some(_) => rejection,
        None => Rejection { field: Some(field.to_owned()), ..rejection },
    })
}

pub(crate) fn invalid(field: impl Into<String>, message: impl Into<String>) -> Rejection {
    Rejection::field(Reason::InvalidSpec, field, message)
}

pub(crate) fn not_yet(field: impl Into<String>, what: &str) -> Rejection {
    Rejection::field(Reason::NotYetSupported, field, format!("{what} is planned and not there yet"))
}

/// The text, or nothing when it is empty: proto3 does not tell the two apart.
pub(crate) fn optional(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// A moment for a message.
pub fn moment_to_message(moment: Timestamp) -> prost_types::Timestamp {
    let seconds = moment.seconds().try_into().unwrap_or(i64::MAX);
    prost_types::Timestamp { seconds, nanos: (moment.millis() % 1000) as i32 * 1_000_000 }
}

/// The moment of a message, to the millisecond; `INVALID_SPEC` before 1970.
pub fn moment_from_message(field: &str, moment: &prost_types::Timestamp) -> Result<Timestamp, Rejection> {
    let seconds = u64::try_from(moment.seconds).ok().and_then(|seconds| seconds.checked_mul(1000));
    let millis = u64::try_from(moment.nanos).ok().map(|nanos| nanos / 1_000_000).filter(|millis| *millis < 1000);
    match (seconds, millis) {
        (Some(seconds), Some(millis)) if seconds <= u64::MAX - 1000 => Ok(Timestamp::from_millis(seconds + millis)),
        _ => Err(invalid(field, "not a moment from 1970 on")),
    }
}

/// A length of time for a message.
pub fn span_to_message(span: Duration) -> prost_types::Duration {
    let seconds = span.as_secs().try_into().unwrap_or(i64::MAX);
    prost_types::Duration { seconds, nanos: span.subsec_nanos() as i32 }
}

/// The length of time of a message; `INVALID_SPEC` when it is negative.
pub fn span_from_message(field: &str, span: &prost_types::Duration) -> Result<Duration, Rejection> {
    let nanos = u32::try_from(span.nanos).ok().filter(|nanos| *nanos < 1_000_000_000);
    match (u64::try_from(span.seconds), nanos) {
        (Ok(seconds), Some(nanos)) => Ok(Duration::new(seconds, nanos)),
        _ => Err(invalid(field, "a length of time cannot be negative")),
    }
}

/// The same for a field that may be absent.
pub fn span_from_optional(field: &str, span: Option<&prost_types::Duration>) -> Result<Option<Duration>, Rejection> {
    span.map(|span| span_from_message(field, span)).transpose()
}

/// A request id: 32 hex digits or a UUID; `None` when empty.
pub fn request_id(text: &str) -> Result<Option<RequestId>, Rejection> {
    if text.is_empty() {
        return Ok(None);
    }
    let bytes = text.as_bytes();
    let uuid = bytes.len() == 36 && [8, 13, 18, 23].iter().all(|&at| bytes[at] == b'-');
    let digits = if uuid { text.replace('-', "") } else { text.to_owned() };
    let mut octets = [0; 16];
    match hex::decode_to_slice(&digits, &mut octets) {
        Ok(()) => Ok(Some(RequestId(octets))),
        Err(_) => Err(invalid("request_id", "not 32 hex digits and not a UUID")),
    }
}

/// An object's etag: `{uid}.{revision}`.
pub fn etag(uid: Uid, revision: Revision) -> String {
    Etag::of(uid, revision).0
}

/// The etag of a write; empty means "whatever it is now".
pub fn etag_from_message(etag: &str) -> Etag {
    Etag(etag.to_owned())
}

/// A serial from 40 hex digits, upper or lower case.
pub fn serial(field: &str, text: &str) -> Result<Serial, Rejection> {
    let mut octets = [0; 20];
    let decoded = hex::decode_to_slice(text, &mut octets).ok();
    decoded
        .and_then(|()| Serial::from_octets(octets))
        .ok_or_else(|| invalid(field, format!("{text:?} is not a serial of 40 hex digits")))
}

/// An instance's id.
pub fn instance(field: &str, text: &str) -> Result<InstanceId, Rejection> {
    InstanceId::parse(text).ok_or_else(|| invalid(field, format!("{text:?} is not the id of an instance")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use certwright_core::log::Position;

    use super::*;

    #[test]
    fn moments_go_there_and_back() {
        for millis in [0, 1, 999, 1000, 1_700_000_000_123] {
            let moment = Timestamp::from_millis(millis);
            assert_eq!(moment_from_message("at", &moment_to_message(moment)), Ok(moment));
        }
        for (seconds, nanos) in [(-1, 0), (0, -1), (0, 1_000_000_000), (i64::MAX, 0)] {
            let rejection = moment_from_message("at", &prost_types::Timestamp { seconds, nanos }).unwrap_err();
            assert_eq!((rejection.reason, rejection.field.as_deref()), (Reason::InvalidSpec, Some("at")));
        }
    }

    #[test]
    fn spans_go_there_and_back() {
        for span in
            [Duration::ZERO, Duration::from_nanos(1), Duration::from_millis(10_500), Duration::from_secs(1 << 40)]
        {
            assert_eq!(span_from_message("d", &span_to_message(span)), Ok(span));
        }
        for (seconds, nanos) in [(-1, 0), (0, -1), (1, 1_000_000_000)] {
            let rejection = span_from_message("d", &prost_types::Duration { seconds, nanos }).unwrap_err();
            assert_eq!((rejection.reason, rejection.field.as_deref()), (Reason::InvalidSpec, Some("d")));
        }
    }

    #[test]
    fn request_ids() {
        let id = RequestId([0xab; 16]);
        assert_eq!(request_id(""), Ok(None));
        for text in [&"ab".repeat(16), &"AB".repeat(16), "abababab-abab-abab-abab-abababababab"] {
            assert_eq!(request_id(text), Ok(Some(id)), "{text}");
        }
        for text in ["ab", &"ab".repeat(17), &"zz".repeat(16), "ababababab-ab-abab-abab-abababababab", &"é".repeat(16)]
        {
            assert_eq!(request_id(text).unwrap_err().field.as_deref(), Some("request_id"), "{text}");
        }
    }

    #[test]
    fn etags_serials_instances() {
        let uid = Uid(Position { index: 7, ordinal: 2 });
        assert_eq!(etag(uid, 5), "7-2.5");
        let text = format!("01{}", "AB".repeat(19));
        assert_eq!(serial("serial", &text).unwrap().to_string(), text);
        for text in ["", "01", &"00".repeat(20), &"ff".repeat(20), &"01".repeat(21)] {
            assert_eq!(serial("serial", text).unwrap_err().reason, Reason::InvalidSpec, "{text}");
        }
        assert_eq!(instance("instance", "7-2-1").unwrap(), InstanceId { certificate: uid, number: 1 });
        assert_eq!(instance("instance", "7-2").unwrap_err().field.as_deref(), Some("instance"));
    }
}
