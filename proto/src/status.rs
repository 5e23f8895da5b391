//! Refusals on the wire: `Rejection` to gRPC status with `google.rpc` details, back again, and to exit codes.
//!
//! It refuses to invent: a status that is not ours keeps its message and gets the nearest reason.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use certwright_core::rejection::Class;
use certwright_core::{Reason, Rejection};
use prost::Message as _;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _, pb};

/// `ErrorInfo.domain` of every refusal of ours.
pub const DOMAIN: &str = "certwright.dev";

/// `ErrorInfo.metadata` key of the field concerned.
const FIELD: &str = "field";

/// `ErrorInfo.metadata` key of the object concerned.
const OBJECT: &str = "object";

/// `ErrorInfo.metadata` key of the usual way out.
const FIX: &str = "fix";

/// How soon to repeat when there is no leader or the server is not ready: elections end within a few of these.
pub const RETRY_UNAVAILABLE: Duration = Duration::from_millis(50);

/// How soon to repeat when a bound was reached.
pub const RETRY_EXHAUSTED: Duration = Duration::from_millis(500);

/// The gRPC code of a class.
pub const fn code(class: Class) -> Code {
    match class {
        Class::Invalid => Code::InvalidArgument,
        Class::NotFound => Code::NotFound,
        Class::Exists => Code::AlreadyExists,
        Class::Precondition => Code::FailedPrecondition,
        Class::Conflict => Code::Aborted,
        Class::Unauthenticated => Code::Unauthenticated,
        Class::Denied => Code::PermissionDenied,
        Class::Exhausted => Code::ResourceExhausted,
        Class::Unimplemented => Code::Unimplemented,
        Class::Unavailable => Code::Unavailable,
        Class::Unknown => Code::Unknown,
        Class::Internal => Code::Internal,
    }
}

/// How soon a refusal of this class is worth repeating; `None` when repeating changes nothing.
pub const fn retry_after(class: Class) -> Option<Duration> {
    match class {
        Class::Unavailable => Some(RETRY_UNAVAILABLE),
        Class::Exhausted => Some(RETRY_EXHAUSTED),
        Class::Invalid
        | Class::NotFound
        | Class::Exists
        | Class::Precondition
        | Class::Conflict
        | Class::Unauthenticated
        | Class::Denied
        | Class::Unimplemented
        | Class::Unknown
        | Class::Internal => None,
    }
}

/// Exit codes of the command line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Success = 0,
    /// Failed, or a negative finding.
    Failed = 1,
    /// The command line itself is wrong.
    Usage = 2,
    /// Authentication or authorisation.
    Denied = 4,
    /// Not finished; it may yet take effect.
    Pending = 8,
    /// A wait timed out.
    TimedOut = 124,
}

impl Exit {
    /// The exit code of a refusal. A join token that does not admit is a failed join, not a lack of rights; without a
    /// usable context nobody is anybody.
    pub const fn of(reason: Reason) -> Self {
        match reason {
            Reason::TokenUnknown
            | Reason::TokenUsed
            | Reason::TokenExpired
            | Reason::TokenRevoked
            | Reason::TokenOldEpoch
            | Reason::TokenForeign => Self::Failed,
            Reason::InvalidContext => Self::Denied,
            Reason::Usage => Self::Usage,
            Reason::WaitTimedOut => Self::TimedOut,
            _ => Self::of_class(reason.class()),
        }
    }

    /// The exit code of a class.
    pub const fn of_class(class: Class) -> Self {
        match class {
            Class::Unauthenticated | Class::Denied => Self::Denied,
            Class::Unknown => Self::Pending,
            Class::Invalid
            | Class::NotFound
            | Class::Exists
            | Class::Precondition
            | Class::Conflict
            | Class::Exhausted
            | Class::Unimplemented
            | Class::Unavailable
            | Class::Internal => Self::Failed,
        }
    }

    /// The number.
    pub const fn code(self) -> u8 {
        self as u8
    }
}

/// The status of a refusal, with `RetryInfo` where its class is worth repeating.
pub fn to_status(rejection: &Rejection) -> Status {
    with_retry(rejection, retry_after(rejection.reason.class()))
}

/// The same with a delay of the caller's choice.
pub fn to_status_after(rejection: &Rejection, delay: Duration) -> Status {
    with_retry(rejection, Some(delay))
}

fn with_retry(rejection: &Rejection, delay: Option<Duration>) -> Status {
    let reason = rejection.reason;
    let mut metadata = HashMap::from([(FIX.to_owned(), reason.fix().to_owned())]);
    if let Some(field) = &rejection.field {
        metadata.insert(FIELD.to_owned(), field.clone());
    }
    if let Some(object) = &rejection.object {
        metadata.insert(OBJECT.to_owned(), object.clone());
    }
    let mut details = ErrorDetails::with_error_info(reason.code(), DOMAIN, metadata);
    if let Some(field) = &rejection.field {
        details.add_bad_request_violation(field.clone(), rejection.message.clone());
    }
    if let Some(delay) = delay {
        details.set_retry_info(Some(delay));
    }
    Status::with_error_details(code(reason.class()), rejection.message.clone(), details)
}

/// A refusal as a client understands it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// The reason; the nearest one when the status is not ours or newer than this build.
    pub reason: Reason,
    /// The reason's code as sent, also one that this build does not know.
    pub code: String,
    /// The cause, for people.
    pub message: String,
    /// The field concerned.
    pub field: Option<String>,
    /// The name of the object concerned.
    pub object: Option<String>,
    /// How soon it is worth repeating.
    pub retry_after: Option<Duration>,
    /// The gRPC code.
    pub grpc: Code,
}

impl Refusal {
    /// The exit code of the command line.
    pub fn exit(&self) -> Exit {
        Exit::of(self.reason)
    }
}

impl From<Refusal> for Rejection {
    fn from(refusal: Refusal) -> Self {
        Self { reason: refusal.reason, message: refusal.message, field: refusal.field, object: refusal.object }
    }
}

/// Reads a status, ours or anybody's.
pub fn from_status(status: &Status) -> Refusal {
    let details = status.get_error_details();
    let info = details.error_info().filter(|info| info.domain == DOMAIN);
    let reason = info.and_then(|info| Reason::from_code(&info.reason)).unwrap_or_else(|| nearest(status.code()));
    let message = match status.message() {
        "" => status.code().description(),
        message => message,
    };
    Refusal {
        reason,
        code: info.map_or_else(|| reason.code().to_owned(), |info| info.reason.clone()),
        message: message.to_owned(),
        field: info.and_then(|info| info.metadata.get(FIELD).cloned()),
        object: info.and_then(|info| info.metadata.get(OBJECT).cloned()),
        retry_after: details.retry_info().and_then(|retry| retry.retry_delay),
        grpc: status.code(),
    }
}

/// The reason nearest to a code that came without one: from a proxy, from the transport, from a newer build.
const fn nearest(code: Code) -> Reason {
    match code {
        Code::InvalidArgument => Reason::InvalidSpec,
        Code::NotFound => Reason::NotFound,
        Code::AlreadyExists => Reason::AlreadyExists,
        Code::Aborted => Reason::EtagMismatch,
        Code::Unauthenticated => Reason::Unauthenticated,
        Code::PermissionDenied => Reason::PermissionDenied,
        // The transport says so of a message above its size limit.
        Code::OutOfRange => Reason::TooLarge,
        Code::ResourceExhausted => Reason::Overloaded,
        Code::Unimplemented => Reason::NotYetSupported,
        Code::Unavailable => Reason::NotReady,
        // Cut off on the way: it may have taken effect.
        Code::Cancelled | Code::DeadlineExceeded | Code::Unknown => Reason::OutcomeUnknown,
        Code::Ok | Code::FailedPrecondition | Code::Internal | Code::DataLoss => Reason::Internal,
    }
}

/// A status as one `google.rpc.Status`, for forwarding inside a message.
pub fn encode_status(status: &Status) -> Bytes {
    if !status.details().is_empty() {
        return Bytes::copy_from_slice(status.details());
    }
    let plain = pb::Status { code: status.code().into(), message: status.message().to_owned(), details: Vec::new() };
    plain.encode_to_vec().into()
}

/// The status that `encode_status` wrote; `INTERNAL` when it is damaged.
pub fn decode_status(bytes: Bytes) -> Status {
    match pb::Status::decode(bytes.clone()) {
        Ok(status) => Status::with_details(Code::from_i32(status.code), status.message, bytes),
        Err(_) => {
            to_status(&Rejection::new(Reason::Internal, "the server forwarded to sent a status that cannot be read"))
        }
    }
}

#[cfg(test)]
mod tests;
