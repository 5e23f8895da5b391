//! What every refusal owes, whoever refuses.
//!
//! It refuses refusals without a reason, without a text, or with as much text as their caller likes.

use std::cell::Cell;

use certwright_core::Rejection;
use certwright_proto::status::{encode_status, from_status, to_status};

/// Octets of a refusal on the wire: it travels in the headers of an answer, of which clients commonly take 8 KiB.
const STATUS_OCTETS_MAX: usize = 6 * 1024;

thread_local! {
    static TAKEN: Cell<bool> = const { Cell::new(false) };
}

/// What the input is meant for was taken: it has come as far as any can.
pub(crate) fn took() {
    TAKEN.set(true);
}

/// Whether something was taken since this was asked before.
pub(crate) fn has_taken() -> bool {
    TAKEN.replace(false)
}

/// Holds a refusal against what it owes.
///
/// # Panics
/// When it owes something still.
pub(crate) fn refused(rejection: &Rejection) {
    assert!(!rejection.message.is_empty(), "{rejection:?}");
    assert!(!rejection.to_string().chars().any(char::is_control), "{rejection:?}");
    let status = to_status(rejection);
    let octets = encode_status(&status);
    assert!(octets.len() <= STATUS_OCTETS_MAX, "a refusal of {} octets: {}", octets.len(), rejection.reason.code());
    let told = from_status(&status);
    assert_eq!(told.reason, rejection.reason);
    assert_eq!(told.field.is_some(), rejection.field.is_some());
}

/// The accepted value; a refusal is held against what it owes.
pub(crate) fn accepted<T>(result: Result<T, Rejection>) -> Option<T> {
    result.inspect_err(refused).ok()
}
