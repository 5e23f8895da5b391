//! The key that signs checkpoints of the log: kept as CA keys are, under a sealing key and a name of its own.
//!
//! It refuses to sign anything but a checkpoint, and no CA key ever signs one.

use std::sync::Arc;

use certwright_core::checkpoint::Checkpoint;
use certwright_core::event::SealedKey;
use certwright_core::spec::KeyAlgorithm;
use certwright_core::state::CheckpointKey;
use certwright_seams::Entropy;
use zeroize::Zeroizing;

use super::{Open, SealedCustody, guard};
use crate::data_key::DataKey;
use crate::key_pair::KeyPair;
use crate::{CustodyError, sealed};

impl SealedCustody {
    /// Makes the key, sealed under the data key in use.
    pub async fn generate_checkpoint_key(&self) -> Result<CheckpointKey, CustodyError> {
        let entropy = Arc::clone(&self.entropy);
        self.on_pool(move |open| {
            let pair = KeyPair::generate(KeyAlgorithm::Ed25519)?;
            let public_key = raw(&pair)?;
            Ok(CheckpointKey { public_key, sealed_key: open.seal_checkpoint_key(&public_key, &pair, &*entropy)? })
        })
        .await
    }

    /// Seals the key once more, under the data key in use.
    pub async fn reseal_checkpoint_key(&self, key: CheckpointKey) -> Result<SealedKey, CustodyError> {
        let entropy = Arc::clone(&self.entropy);
        self.on_pool(move |open| {
            let pair = open.checkpoint_key(&key)?;
            open.seal_checkpoint_key(&key.public_key, &pair, &*entropy)
        })
        .await
    }

    /// Signs a checkpoint.
    pub async fn sign_checkpoint(&self, key: CheckpointKey, checkpoint: Checkpoint) -> Result<[u8; 64], CustodyError> {
        self.on_pool(move |open| {
            let signature = open.checkpoint_key(&key)?.sign(&checkpoint.message())?;
            signature.try_into().map_err(|_| CustodyError::Failed("signing"))
        })
        .await
    }
}

impl Open {
    fn seal_checkpoint_key(
        &self,
        public_key: &[u8; 32],
        pair: &KeyPair,
        entropy: &dyn Entropy,
    ) -> Result<SealedKey, CustodyError> {
        let data_key = self.in_use();
        let context = context(data_key.id(), public_key);
        let sealed = sealed::seal(&*sealing_key(&data_key)?, &context, &pair.to_pkcs8()?, entropy)?;
        Ok(SealedKey { data_key_id: data_key.id(), sealed })
    }

    /// The key out of its seal; opened anew each time, some times a minute.
    fn checkpoint_key(&self, key: &CheckpointKey) -> Result<KeyPair, CustodyError> {
        let SealedKey { data_key_id, sealed } = &key.sealed_key;
        let Some(data_key) = guard(&self.data_keys).find(*data_key_id) else {
            return Err(CustodyError::OtherDataKey { sealed_under: *data_key_id, at_hand: self.in_use().id() });
        };
        let context = context(*data_key_id, &key.public_key);
        let pkcs8 = sealed::open(&*sealing_key(&data_key)?, &context, sealed, "the sealed key for checkpoints")?;
        let pair = KeyPair::parse(&pkcs8)?;
        if raw(&pair)? != key.public_key {
            return Err(CustodyError::KeyMismatch);
        }
        Ok(pair)
    }
}

/// The public half as it is pinned: 32 octets.
fn raw(pair: &KeyPair) -> Result<[u8; 32], CustodyError> {
    pair.public_bits().try_into().map_err(|_| CustodyError::Unsupported("a key for checkpoints that is not Ed25519"))
}

fn sealing_key(data_key: &DataKey) -> Result<Zeroizing<[u8; 32]>, CustodyError> {
    data_key.derive(b"seal checkpoint key")
}

/// What the sealed key belongs to: its public half and the data key.
fn context(data_key_id: u64, public_key: &[u8; 32]) -> Vec<u8> {
    [&b"certwright checkpoint key 1"[..], &data_key_id.to_be_bytes(), public_key].concat()
}
