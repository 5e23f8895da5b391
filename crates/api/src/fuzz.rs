//! What tests/fuzz calls of what is private here: the small languages that callers write.
//!
//! It refuses to exist in builds for users: only the feature `fuzz` opens it.

use certwright_core::Rejection;
use certwright_core::log::Trace;
use certwright_core::state::Certificate;
use certwright_core::time::Timestamp;

use crate::filter::Filter;
use crate::{paging, trace};

/// Parses a filter; answers whether a certificate passes it.
pub fn filter(text: &str, certificate: &Certificate, now: Timestamp) -> Result<bool, Rejection> {
    Filter::parse(text).map(|filter| filter.matches(certificate, now))
}

/// The size of a page that was asked for.
pub fn page_size(asked: i32) -> Result<usize, Rejection> {
    paging::size(asked)
}

/// What a page token names.
pub fn page_start(token: &str) -> Result<Option<String>, Rejection> {
    paging::start(token)
}

/// The page token that names it.
pub fn page_token(last: &str) -> String {
    paging::token_after(last)
}

/// Parses a `traceparent` header.
pub fn trace(header: &str) -> Trace {
    trace::parse(header)
}

/// Prints it.
pub fn trace_header(trace: &Trace) -> String {
    trace::format(trace)
}
