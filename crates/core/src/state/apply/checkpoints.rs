//! Folding the log's checkpoints: the key, and the newest one.
//!
//! It refuses history: older checkpoints are in the log.

use crate::event::Event;
use crate::log::Applied;
use crate::state::{CheckpointKey, Checkpoints};

impl Checkpoints {
    pub(super) fn apply(&mut self, applied: &Applied<'_>, event: &Event) {
        if let Some(revision) = applied.revision {
            self.revision = revision;
        }
        match event {
            Event::CheckpointKeyMade { public_key, sealed_key } => {
                self.key = Some(CheckpointKey { public_key: *public_key, sealed_key: sealed_key.clone() });
            }
            Event::CheckpointKeyResealed { sealed_key } => {
                if let Some(key) = &mut self.key {
                    key.sealed_key = sealed_key.clone();
                }
            }
            Event::CheckpointSigned(signed) => self.last = Some((**signed, applied.position)),
            _ => {}
        }
    }
}
