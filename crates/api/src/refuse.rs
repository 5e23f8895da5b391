//! Refusals as this crate hands them out.
//!
//! It refuses a mapping of its own: `proto::status` holds the only one.

use bytes::Bytes;
use certwright_core::{Reason, Rejection};
use certwright_proto::status;
use tonic::Status;

/// A refusal as gRPC carries it.
pub(crate) fn status(rejection: Rejection) -> Status {
    status::to_status(&rejection)
}

/// A refusal inside a forwarded answer.
pub(crate) fn encode(status: &Status) -> Bytes {
    status::encode_status(status)
}

/// And back.
pub(crate) fn decode(bytes: Bytes) -> Status {
    status::decode_status(bytes)
}

/// Why a status refuses.
pub(crate) fn reason(status: &Status) -> Reason {
    status::from_status(status).reason
}
