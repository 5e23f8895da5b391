//! Checkpoints of the log: what the leader signs, so that whoever keeps one notices a log that was exchanged behind it.
//!
//! It refuses keys that sign anything else: what is signed begins with words that nothing else begins with.

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};

use crate::ids::ClusterId;
use crate::time::Timestamp;

/// Octets of the public key (Ed25519, RFC 8032).
pub const PUBLIC_KEY_OCTETS: usize = 32;
/// Octets of a signature.
pub const SIGNATURE_OCTETS: usize = 64;
/// What every signed message begins with.
const DOMAIN: &[u8] = b"certwright log checkpoint v1\n";

/// How the log of a cluster stood: one value that fixes every entry up to an index.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Checkpoint {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// Grows when a backup is restored.
    pub epoch: u64,
    /// The last entry that it covers.
    pub index: u64,
    /// The log's hash chain after that entry.
    pub chain: [u8; 32],
    /// Log time after that entry.
    pub at: Timestamp,
}

impl Checkpoint {
    /// The octets that are signed: the domain, then cluster id, epoch, index, chain and milliseconds since the Unix epoch,
    /// numbers big-endian.
    pub fn message(&self) -> Vec<u8> {
        let Self { cluster_id, epoch, index, chain, at } = self;
        let numbers = [epoch, index].map(|number| number.to_be_bytes());
        [DOMAIN, &cluster_id.0, &numbers.concat(), chain, &at.millis().to_be_bytes()].concat()
    }

    /// Whether the key signed this.
    pub fn is_signed(&self, public_key: &[u8; PUBLIC_KEY_OCTETS], signature: &[u8; SIGNATURE_OCTETS]) -> bool {
        UnparsedPublicKey::new(&ED25519, public_key).verify(&self.message(), signature).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};

    use super::*;

    fn checkpoint() -> Checkpoint {
        let cluster_id = ClusterId([0xc1; 16]);
        Checkpoint { cluster_id, epoch: 2, index: 0x0102, chain: [0xaa; 32], at: Timestamp::from_millis(0x0304) }
    }

    #[test]
    fn the_signed_octets_do_not_change() {
        let expected = [
            &hex(b"certwright log checkpoint v1\n")[..],
            &"c1".repeat(16),
            "0000000000000002",
            "0000000000000102",
            &"aa".repeat(32),
            "0000000000000304",
        ];
        assert_eq!(hex(&checkpoint().message()), expected.concat());
    }

    fn hex(octets: &[u8]) -> String {
        octets.iter().map(|octet| format!("{octet:02x}")).collect()
    }

    #[test]
    fn every_part_is_signed() {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("any seed makes a key");
        let public: [u8; 32] = pair.public_key().as_ref().try_into().expect("Ed25519 keys have 32 octets");
        let signed = checkpoint();
        let signature = pair.sign(&signed.message()).as_ref().try_into().expect("Ed25519 signatures have 64 octets");
        assert!(signed.is_signed(&public, &signature));
        for other in [
            Checkpoint { cluster_id: ClusterId([0xc2; 16]), ..signed },
            Checkpoint { epoch: 3, ..signed },
            Checkpoint { index: 0x0103, ..signed },
            Checkpoint { chain: [0xab; 32], ..signed },
            Checkpoint { at: Timestamp::from_millis(0x0305), ..signed },
        ] {
            assert!(!other.is_signed(&public, &signature), "{other:?}");
        }
        for octet in 0..64 {
            let mut altered = signature;
            altered[octet] ^= 1;
            assert!(!signed.is_signed(&public, &altered), "octet {octet}");
        }
        assert!(!signed.is_signed(&[9; 32], &signature));
    }
}
