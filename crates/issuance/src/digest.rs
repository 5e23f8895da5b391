//! Digests of requests, by which a reused request id with other content is noticed.
//!
//! It refuses to be stored for longer than the deduplication window: the digest is of a request's printed form, which
//! another build may print differently.

use std::fmt::{self, Write};

use aws_lc_rs::digest::{Context, SHA256};
pub(crate) use certwright_core::x509::key::sha256;

/// First 16 octets of SHA-256 over the debug form, streamed without building it.
pub(crate) fn of(request: &impl fmt::Debug) -> [u8; 16] {
    let mut sink = Sink(Context::new(&SHA256));
    // Writing to a digest cannot fail, and no `Debug` here fails by itself.
    let _ = write!(sink, "{request:?}");
    let mut digest = [0; 16];
    digest.copy_from_slice(&sink.0.finish().as_ref()[..16]);
    digest
}

struct Sink(Context);

impl fmt::Write for Sink {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.update(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::of;

    #[test]
    fn equal_requests_have_equal_digests_and_others_have_others() {
        assert_eq!(of(&("issue", 1)), of(&("issue", 1)));
        assert_ne!(of(&("issue", 1)), of(&("issue", 2)));
    }
}
