//! The newest checkpoint of the servers' log that this agent was shown, and what another server's words about its own log
//! are worth beside it.
//!
//! It refuses a log that was set back or exchanged, and every key but the first one that it saw.

use certwright_core::checkpoint::{PUBLIC_KEY_OCTETS, SIGNATURE_OCTETS};
use certwright_core::event::SignedCheckpoint;
use certwright_core::ids::ClusterId;
use certwright_core::time::Timestamp;
use certwright_proto::agent::v1::{Checkpoint, CheckpointMark, Welcome};

/// Octets of a checkpoint, as it is kept.
pub const CHECKPOINT_OCTETS_MAX: u64 = 4096;

/// Why nothing is taken from a server.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Contradiction {
    /// What it showed is no checkpoint.
    #[error("its checkpoint is malformed")]
    Malformed,
    /// Another key than the pinned one.
    #[error("its checkpoint is signed by another key than this agent has pinned")]
    OtherKey,
    /// The signature is not the key's.
    #[error("the signature of its checkpoint at {0} does not verify")]
    BadSignature(u64),
    /// A history before the last restore.
    #[error("its log is of epoch {shown}, this agent has seen epoch {kept}")]
    OlderEpoch {
        /// The server's.
        shown: u64,
        /// This agent's.
        kept: u64,
    },
    /// It shows an older one than it, or another one, showed before.
    #[error("its newest checkpoint is at {shown}, although this agent has seen one at {kept}")]
    SetBack {
        /// What it shows.
        shown: u64,
        /// This agent's.
        kept: u64,
    },
    /// Its log is another one.
    #[error("its log is another one: at {0} its hash chain differs from what this agent has seen")]
    Exchanged(u64),
}

/// A verified checkpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kept {
    /// Who signs.
    public_key: [u8; PUBLIC_KEY_OCTETS],
    signed: SignedCheckpoint,
}

impl Kept {
    /// The checkpoint in a message, if the cluster's key of that message signed it.
    pub fn verified(shown: &Checkpoint, cluster_id: ClusterId) -> Result<Self, Contradiction> {
        let fixed = || {
            let signature: [u8; SIGNATURE_OCTETS] = shown.signature[..].try_into().ok()?;
            Some((shown.chain[..].try_into().ok()?, shown.public_key[..].try_into().ok()?, signature))
        };
        let (chain, public_key, signature) = fixed().ok_or(Contradiction::Malformed)?;
        let Checkpoint { epoch, index, at_millis, .. } = *shown;
        let signed = SignedCheckpoint { epoch, index, chain, at: Timestamp::from_millis(at_millis), signature };
        if !signed.of(cluster_id).is_signed(&public_key, &signature) {
            return Err(Contradiction::BadSignature(index));
        }
        Ok(Self { public_key, signed })
    }

    /// What names it in a greeting.
    pub fn mark(&self) -> CheckpointMark {
        CheckpointMark { epoch: self.signed.epoch, index: self.signed.index }
    }

    /// The last entry that it covers.
    pub fn index(&self) -> u64 {
        self.signed.index
    }

    /// Grows when a backup is restored.
    pub fn epoch(&self) -> u64 {
        self.signed.epoch
    }
}

/// What a greeting is worth.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Greeted {
    /// What is to be kept now; what was kept when the server said nothing new.
    pub kept: Option<Kept>,
    /// The server's log has not come to what is kept: it is to be asked again when it has.
    pub is_behind: bool,
}

/// Judges what a server said of its log. One that cannot read so far back proves nothing, and contradicts nothing.
pub fn greeted(kept: Option<Kept>, welcome: &Welcome, cluster_id: ClusterId) -> Result<Greeted, Contradiction> {
    let shown = welcome.checkpoint.as_ref().map(|shown| Kept::verified(shown, cluster_id)).transpose()?;
    let Some(kept) = kept else { return Ok(Greeted { kept: shown, is_behind: false }) };
    let is_older = |shown: &Kept| shown.epoch() == kept.epoch() && shown.index() < kept.index();
    let next = match shown {
        Some(shown) if !is_older(&shown) => told(Some(kept), shown)?,
        older => {
            older.map_or(Ok(()), |older| compare_keys(&kept, &older))?;
            kept
        }
    };
    if next.epoch() != kept.epoch() {
        return Ok(Greeted { kept: Some(next), is_behind: false });
    }
    // An answer to what an earlier greeting named says nothing here.
    let recalled = welcome.recalled.as_ref().filter(|recalled| recalled.is_read && recalled.index == kept.index());
    match recalled {
        Some(recalled) if recalled.chain != kept.signed.chain[..] => Err(Contradiction::Exchanged(kept.index())),
        recalled => {
            let is_behind = recalled.is_none() && welcome.applied_index < kept.index();
            Ok(Greeted { kept: Some(next), is_behind })
        }
    }
}

/// What is to be kept after a server showed this one during a session.
pub fn told(kept: Option<Kept>, shown: Kept) -> Result<Kept, Contradiction> {
    let Some(kept) = kept else { return Ok(shown) };
    compare_keys(&kept, &shown)?;
    if shown.epoch() != kept.epoch() {
        let older = Contradiction::OlderEpoch { shown: shown.epoch(), kept: kept.epoch() };
        return if shown.epoch() > kept.epoch() { Ok(shown) } else { Err(older) };
    }
    match shown.index().cmp(&kept.index()) {
        std::cmp::Ordering::Greater => Ok(shown),
        std::cmp::Ordering::Equal if shown.signed.chain == kept.signed.chain => Ok(kept),
        std::cmp::Ordering::Equal => Err(Contradiction::Exchanged(kept.index())),
        std::cmp::Ordering::Less => Err(Contradiction::SetBack { shown: shown.index(), kept: kept.index() }),
    }
}

fn compare_keys(kept: &Kept, shown: &Kept) -> Result<(), Contradiction> {
    if kept.public_key == shown.public_key { Ok(()) } else { Err(Contradiction::OtherKey) }
}

#[cfg(test)]
mod tests;
