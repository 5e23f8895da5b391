//! Backups: one encrypted file that holds the log and the state, the CA keys sealed in it, and the data keys for its
//! recipient.
//!
//! It refuses anything in clear: what a server writes leaves it encrypted, and what is read was verified.

pub(crate) mod write;

pub mod read;
pub mod schedule;
pub mod survey;

use certwright_core::{Reason, Rejection};
use certwright_custody::CustodyError;

/// What a frame holds: messages of `backup.proto`, or octets of the snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Kind {
    Header = 1,
    DataKey = 2,
    Entry = 3,
    Snapshot = 4,
    End = 5,
    Base = 6,
}

impl Kind {
    fn from_octet(octet: u8) -> Option<Self> {
        [Self::Header, Self::DataKey, Self::Entry, Self::Snapshot, Self::End, Self::Base]
            .into_iter()
            .find(|kind| *kind as u8 == octet)
    }
}

/// Octets before a frame's content.
const FRAME_HEAD_OCTETS: usize = 5;
/// Octets of a frame's content: more than the largest entry has.
const FRAME_OCTETS_MAX: usize = 4 * 1024 * 1024;
/// Version of the header of a backup whose history begins with the first entry of all.
const VERSION_WHOLE: u32 = 1;
/// The same of one whose history begins with a snapshot: builds of before do not know what to make of that.
const VERSION_TRIMMED: u32 = 2;

/// A backup that is not as it was written.
pub(crate) fn damaged(what: impl std::fmt::Display) -> Rejection {
    Rejection::new(Reason::BackupDamaged, format!("the backup is not whole or was altered: {what}"))
}

/// Why something could not be sealed.
fn unsealed(error: CustodyError) -> Rejection {
    Rejection::new(Reason::Internal, error.to_string())
}
