//! CA keys: made, sealed, opened while this server leads, used for signatures, wiped.
//!
//! It refuses to look at what it signs; callers sign only what was linted.

mod checkpoint_key;
mod key_ref;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use certwright_core::event::SealedKey;
use certwright_core::ids::{ClusterId, NodeId};
use certwright_core::spec::KeyAlgorithm;
use certwright_seams::{BoxFuture, Entropy, Exec};
use tokio::sync::oneshot;

use crate::data_key::{self, DataKey};
use crate::key_pair::KeyPair;
use crate::{CustodyError, sealed};

pub use key_ref::KeyRef;

/// The pool on which keys are made and used.
const POOL: &str = "sign";

/// A CA key that was just made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewKey {
    /// SubjectPublicKeyInfo, DER.
    pub public_key: Vec<u8>,
    /// The private half.
    pub sealed: SealedKey,
}

/// Who keeps CA keys: a sealed file of ours, a device, another process. Asynchronous, because most of them are far.
pub trait Custody: Send + Sync + 'static {
    /// Makes a CA key: P-256, P-384 or RSA.
    fn generate(&self, algorithm: KeyAlgorithm) -> BoxFuture<'_, Result<NewKey, CustodyError>>;

    /// Seals a CA key once more, under the data key in use.
    fn reseal(&self, key: KeyRef) -> BoxFuture<'_, Result<SealedKey, CustodyError>>;

    /// Signs with a CA key, in the form that X.509 wants: ecdsa-with-SHA256 for P-256, ecdsa-with-SHA384 for P-384,
    /// sha256WithRSAEncryption for RSA.
    fn sign(&self, key: KeyRef, message: Vec<u8>) -> BoxFuture<'_, Result<Vec<u8>, CustodyError>>;

    /// The same at once, for callers that are on a worker already and save the way to another one; `None` when the key
    /// is not here and has to be asked of with [`Custody::sign`].
    fn sign_here(&self, _key: &KeyRef, _message: &[u8]) -> Option<Result<Vec<u8>, CustodyError>> {
        None
    }

    /// Drops and wipes everything that is open. Signatures under way come out as `Locked`.
    fn lock(&self);
}

/// CA keys sealed under the cluster's data key. Locked from the start; [`SealedCustody::unlock`] is for the leader.
pub struct SealedCustody {
    entropy: Arc<dyn Entropy>,
    exec: Arc<dyn Exec>,
    open: Mutex<Option<Arc<Open>>>,
}

/// What is there while this server leads.
struct Open {
    data_keys: Mutex<DataKeys>,
    /// Opened keys by the hash of their SubjectPublicKeyInfo. Shared with signatures under way, never copied.
    keys: Mutex<BTreeMap<[u8; 32], Arc<KeyPair>>>,
}

/// The data key in use, and those that it replaces while some CA keys are still sealed under them.
struct DataKeys {
    in_use: Arc<DataKey>,
    replaced: Vec<Arc<DataKey>>,
}

impl DataKeys {
    fn find(&self, id: u64) -> Option<Arc<DataKey>> {
        std::iter::once(&self.in_use).chain(&self.replaced).find(|data_key| data_key.id() == id).cloned()
    }
}

fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A worker that panicked between two steps left either the old or the new value: both are fine.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SealedCustody {
    /// Locked custody.
    pub fn new(entropy: Arc<dyn Entropy>, exec: Arc<dyn Exec>) -> Self {
        Self { entropy, exec, open: Mutex::new(None) }
    }

    /// Opens custody with the data key; keys are opened when first used.
    pub fn unlock(&self, data_key: DataKey) {
        self.unlock_rotating(data_key, Vec::new());
    }

    /// The same, with the data keys besides that CA keys may still be sealed under.
    pub fn unlock_rotating(&self, in_use: DataKey, replaced: Vec<DataKey>) {
        let replaced = replaced.into_iter().map(Arc::new).collect();
        let data_keys = Mutex::new(DataKeys { in_use: Arc::new(in_use), replaced });
        *guard(&self.open) = Some(Arc::new(Open { data_keys, keys: Mutex::default() }));
    }

    /// Seals under this data key from now on; what is sealed under the one before it still opens.
    pub fn rotate(&self, data_key: DataKey) -> Result<(), CustodyError> {
        let open = self.opened()?;
        let mut data_keys = guard(&open.data_keys);
        if data_keys.in_use.id() != data_key.id() {
            let before = std::mem::replace(&mut data_keys.in_use, Arc::new(data_key));
            data_keys.replaced.push(before);
        }
        Ok(())
    }

    /// Wipes every data key but the one in use.
    pub fn retire_replaced(&self) -> Result<(), CustodyError> {
        guard(&self.opened()?.data_keys).replaced.clear();
        Ok(())
    }

    /// The id of the data key in use while unlocked.
    pub fn unlocked_with(&self) -> Option<u64> {
        guard(&self.open).as_ref().map(|open| open.in_use().id())
    }

    /// Wraps the data key to a node.
    pub fn wrap_for(
        &self,
        cluster_id: ClusterId,
        node_id: NodeId,
        hpke_public: &[u8],
    ) -> Result<Vec<u8>, CustodyError> {
        data_key::wrap(&self.opened()?.in_use(), cluster_id, node_id, hpke_public)
    }

    /// Whether a node's answer to a challenge proves that it opened the data key.
    pub fn proved(&self, challenge: &[u8], proof: &[u8]) -> Result<bool, CustodyError> {
        data_key::proves(&self.opened()?.in_use(), challenge, proof)
    }

    fn opened(&self) -> Result<Arc<Open>, CustodyError> {
        guard(&self.open).clone().ok_or(CustodyError::Locked)
    }

    /// Runs CPU-bound work on the pool and fetches its result, unless custody was locked meanwhile.
    async fn on_pool<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Open) -> Result<T, CustodyError> + Send + 'static,
    ) -> Result<T, CustodyError> {
        let open = self.opened()?;
        let (sender, receiver) = oneshot::channel();
        let shared = Arc::clone(&open);
        // Nobody waits when the caller was dropped.
        let job = Box::new(move || drop(sender.send(work(&shared))));
        self.exec.run(POOL, job).await;
        let result = receiver.await.map_err(|_| CustodyError::Failed("the signing worker"))?;
        let still_open = guard(&self.open).as_ref().is_some_and(|now| Arc::ptr_eq(now, &open));
        if still_open { result } else { Err(CustodyError::Locked) }
    }
}

impl Custody for SealedCustody {
    fn generate(&self, algorithm: KeyAlgorithm) -> BoxFuture<'_, Result<NewKey, CustodyError>> {
        let entropy = Arc::clone(&self.entropy);
        Box::pin(async move {
            if algorithm == KeyAlgorithm::Ed25519 {
                return Err(CustodyError::Unsupported("an authority's key is ECDSA P-256 or P-384, or RSA"));
            }
            self.on_pool(move |open| open.generate(algorithm, &*entropy)).await
        })
    }

    fn reseal(&self, key: KeyRef) -> BoxFuture<'_, Result<SealedKey, CustodyError>> {
        let entropy = Arc::clone(&self.entropy);
        Box::pin(self.on_pool(move |open| {
            let pair = open.key(&key)?;
            open.seal(key.public_key(), &pair, &*entropy)
        }))
    }

    fn sign(&self, key: KeyRef, message: Vec<u8>) -> BoxFuture<'_, Result<Vec<u8>, CustodyError>> {
        Box::pin(self.on_pool(move |open| open.key(&key)?.sign(&message)))
    }

    fn sign_here(&self, key: &KeyRef, message: &[u8]) -> Option<Result<Vec<u8>, CustodyError>> {
        let sign = || {
            let open = self.opened()?;
            let signature = open.key(key)?.sign(message)?;
            let still_open = guard(&self.open).as_ref().is_some_and(|now| Arc::ptr_eq(now, &open));
            if still_open { Ok(signature) } else { Err(CustodyError::Locked) }
        };
        Some(sign())
    }

    fn lock(&self) {
        *guard(&self.open) = None;
    }
}

impl Open {
    fn generate(&self, algorithm: KeyAlgorithm, entropy: &dyn Entropy) -> Result<NewKey, CustodyError> {
        let pair = KeyPair::generate(algorithm)?;
        let public_key = pair.public().spki_der().to_vec();
        let sealed = self.seal(&public_key, &pair, entropy)?;
        guard(&self.keys).insert(pair.public().hash(), Arc::new(pair));
        Ok(NewKey { public_key, sealed })
    }

    fn in_use(&self) -> Arc<DataKey> {
        Arc::clone(&guard(&self.data_keys).in_use)
    }

    /// Seals a key under the data key in use.
    fn seal(&self, public_key: &[u8], pair: &KeyPair, entropy: &dyn Entropy) -> Result<SealedKey, CustodyError> {
        let data_key = self.in_use();
        let context = context(data_key.id(), public_key);
        let sealed = sealed::seal(&*sealing_key(&data_key)?, &context, &pair.to_pkcs8()?, entropy)?;
        Ok(SealedKey { data_key_id: data_key.id(), sealed })
    }

    /// The opened key, from the cache or out of its seal.
    fn key(&self, key: &KeyRef) -> Result<Arc<KeyPair>, CustodyError> {
        let hash = key.hash();
        if let Some(pair) = guard(&self.keys).get(&hash) {
            return Ok(Arc::clone(pair));
        }
        let sealed_under = key.sealed().data_key_id;
        let Some(data_key) = guard(&self.data_keys).find(sealed_under) else {
            return Err(CustodyError::OtherDataKey { sealed_under, at_hand: self.in_use().id() });
        };
        let context = context(sealed_under, key.public_key());
        let pkcs8 = sealed::open(&*sealing_key(&data_key)?, &context, &key.sealed().sealed, "the sealed CA key")?;
        let pair = Arc::new(KeyPair::parse(&pkcs8)?);
        if pair.public().spki_der() != key.public_key() {
            return Err(CustodyError::KeyMismatch);
        }
        guard(&self.keys).insert(hash, Arc::clone(&pair));
        Ok(pair)
    }
}

fn sealing_key(data_key: &DataKey) -> Result<zeroize::Zeroizing<[u8; 32]>, CustodyError> {
    data_key.derive(b"seal authority keys")
}

/// What a sealed CA key belongs to: its public half and the data key.
fn context(data_key_id: u64, public_key: &[u8]) -> Vec<u8> {
    [&b"certwright authority key 1"[..], &data_key_id.to_be_bytes(), public_key].concat()
}

#[cfg(test)]
mod tests;
