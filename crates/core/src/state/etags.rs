//! Versions of objects as callers hold them.
//!
//! It refuses to compare revisions of different aggregates: the uid is part of every etag.

use super::{Agent, Authority, Certificate, Issuer, Token};
use crate::command::Etag;
use crate::ids::Uid;
use crate::log::Revision;
use crate::mutant::{self, Mutant};
use crate::rejection::{Reason, Rejection};

impl Etag {
    /// The etag of an aggregate at a revision: `{uid}.{revision}`.
    pub fn of(uid: Uid, revision: Revision) -> Self {
        Self(format!("{uid}.{revision}"))
    }

    /// Accepts an empty etag or the current one; rejects with ETAG_MISMATCH.
    pub fn check(&self, current: &Self) -> Result<(), Rejection> {
        if self.0.is_empty() || self == current || mutant::is(Mutant::EtagIgnored) {
            return Ok(());
        }
        Err(Rejection::new(
            Reason::EtagMismatch,
            format!("the object is at etag {}, the request was made for {}", current.0, self.0),
        ))
    }
}

macro_rules! etags {
    ($($type:ty),*) => {
        $(
            impl $type {
                /// Its current version.
                pub fn etag(&self) -> Etag {
                    Etag::of(self.uid, self.revision)
                }
            }
        )*
    };
}

etags!(Certificate, Issuer, Authority, Agent, Token);
