//! The hash chain over the log: one value that fixes every entry up to an index.
//!
//! It refuses to keep anything: who folds entries keeps the value.

use aws_lc_rs::digest::{Context, SHA256};

/// The chain's value after some entry.
pub type Chain = [u8; 32];

/// Names this construction; hashed into the first value, so that another construction never matches by chance.
const DOMAIN: &[u8] = b"certwright log chain v1";

/// The value before the first entry of a cluster's log.
pub fn genesis(cluster_id: &[u8; 16]) -> Chain {
    let mut context = Context::new(&SHA256);
    context.update(DOMAIN);
    context.update(cluster_id);
    finish(context)
}

/// The log id of an entry as the chain binds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Link {
    /// Place in the log.
    pub index: u64,
    /// Term of the leader that proposed it.
    pub term: u64,
    /// The node part of that leader's id; 0 when ids have none.
    pub node: u64,
    /// What the payload is (blank, membership, transactions).
    pub kind: u8,
}

/// The value after an entry: `SHA-256(previous || index || term || node || kind || payload)`, numbers big-endian.
/// Only the payload varies in length and it comes last, so no two entries hash the same octets.
pub fn next(previous: &Chain, link: Link, payload: &[u8]) -> Chain {
    let mut context = Context::new(&SHA256);
    context.update(previous);
    context.update(&link.index.to_be_bytes());
    context.update(&link.term.to_be_bytes());
    context.update(&link.node.to_be_bytes());
    context.update(&[link.kind]);
    context.update(payload);
    finish(context)
}

fn finish(context: Context) -> Chain {
    let mut value = [0; 32];
    value.copy_from_slice(context.finish().as_ref());
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: Link = Link { index: 7, term: 3, node: 2, kind: 1 };

    #[test]
    fn golden_values() {
        // Both computed independently: Python's hashlib over the same octets.
        let start = genesis(&[0xab; 16]);
        assert_eq!(hex::encode(start), GENESIS);
        assert_eq!(hex::encode(next(&start, LINK, b"payload")), NEXT);
    }

    const GENESIS: &str = "a0dc6d6b451f0ba806e7e6398d6658c82549ce6cd1752df2f48c2b7e9d35c8ea";
    const NEXT: &str = "c8587c959e8c3aa2e5b408fee22ef1d8121aa723a52f3eaf768457e1cc8db3db";

    #[test]
    fn every_part_counts() {
        let start = genesis(&[0; 16]);
        let value = next(&start, LINK, b"ab");
        for other in [
            next(&genesis(&[1; 16]), LINK, b"ab"),
            next(&start, Link { index: 8, ..LINK }, b"ab"),
            next(&start, Link { term: 4, ..LINK }, b"ab"),
            next(&start, Link { node: 3, ..LINK }, b"ab"),
            next(&start, Link { kind: 2, ..LINK }, b"ab"),
            next(&start, LINK, b"abc"),
            next(&value, LINK, b"ab"),
        ] {
            assert_ne!(value, other);
        }
    }
}
