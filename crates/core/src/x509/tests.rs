//! X.509 against the real `openssl`: its requests in, our certificates verified by it.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests run openssl on temporary files")]

mod issued;
mod keys;
mod linted;
mod poisoned;
mod requests;
mod support;
mod traps;
