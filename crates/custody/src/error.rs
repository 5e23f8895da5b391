//! What can go wrong with keys.
//!
//! It refuses details that would help to guess a secret: an opening that fails says that it failed.

use std::io;

use certwright_core::{Reason, Rejection};

/// A failure of custody.
#[derive(Debug, thiserror::Error)]
pub enum CustodyError {
    /// CA keys are opened on the leader only, and this server is not (or no longer) it.
    #[error("custody is locked on this server")]
    Locked,
    /// The key was sealed under another data key than the one at hand.
    #[error("the key is sealed under data key {sealed_under}, at hand is {at_hand}")]
    OtherDataKey {
        /// Named by the sealed key.
        sealed_under: u64,
        /// Unlocked with.
        at_hand: u64,
    },
    /// Authenticated decryption failed: another key, or somebody altered the bytes or what they belong to.
    #[error("{0} cannot be opened: it was altered, or it belongs to another key, node or cluster")]
    Unopenable(&'static str),
    /// The opened key is not the one that its record names.
    #[error("the sealed key is not the private half of the public key it is stored with")]
    KeyMismatch,
    /// No such keys here.
    #[error("keys of this kind are not supported here: {0}")]
    Unsupported(&'static str),
    /// Bytes of another format.
    #[error("{0} is malformed")]
    Malformed(&'static str),
    /// A cryptographic operation failed that should not.
    #[error("{0} failed")]
    Failed(&'static str),
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Disk {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
}

impl From<CustodyError> for Rejection {
    /// A locked custody is a server that does not lead; a full disk is the disk's; everything else is ours.
    fn from(error: CustodyError) -> Self {
        let reason = match &error {
            CustodyError::Locked => Reason::NotLeader,
            CustodyError::Disk { .. } => Reason::StorageFailed,
            CustodyError::Unsupported(_) => Reason::KeyNotAllowed,
            _ => Reason::Internal,
        };
        Self::new(reason, error.to_string())
    }
}
