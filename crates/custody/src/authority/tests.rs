//! CA keys: sealed, opened, used, locked away.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicUsize, Ordering};

use certwright_core::checkpoint::Checkpoint;
use certwright_core::ids::AuthorityName;
use certwright_core::state::CheckpointKey;
use certwright_core::x509::{PublicKey, SignatureAlgorithm};
use certwright_seams::entropy::SystemEntropy;
use certwright_seams::exec::WorkerBody;

use super::*;

/// Runs work inline and counts it.
#[derive(Default)]
struct Inline {
    runs: AtomicUsize,
}

impl Exec for Inline {
    fn run(&self, pool: &'static str, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        assert_eq!(pool, POOL);
        self.runs.fetch_add(1, Ordering::Relaxed);
        work();
        Box::pin(std::future::ready(()))
    }

    fn worker(&self, _name: &'static str, _body: WorkerBody) {}
}

fn custody() -> (SealedCustody, Arc<Inline>) {
    let exec = Arc::new(Inline::default());
    (SealedCustody::new(Arc::new(SystemEntropy), exec.clone()), exec)
}

fn unlocked() -> (SealedCustody, DataKey) {
    let (custody, _) = custody();
    let data_key = DataKey::generate(&SystemEntropy);
    custody.unlock(same(&data_key));
    (custody, data_key)
}

/// The same data key once more, the way a server gets it: wrapped and opened.
fn same(data_key: &DataKey) -> DataKey {
    let data = tempfile::tempdir().unwrap();
    let seal = crate::NodeSeal::create_or_open(&certwright_seams::disk::OsDisk, data.path(), &SystemEntropy).unwrap();
    let cluster = ClusterId([1; 16]);
    let wrapped = crate::wrap(data_key, cluster, 1, seal.public()).unwrap();
    seal.unwrap(cluster, 1, data_key.id(), &wrapped).unwrap()
}

fn key_ref(key: &NewKey) -> KeyRef {
    KeyRef::new(AuthorityName::parse("demo").unwrap(), key.public_key.clone(), key.sealed.clone())
}

#[tokio::test]
async fn signatures_of_all_three_algorithms_verify_before_and_after_a_change_of_leader() {
    let cases = [
        (KeyAlgorithm::EcdsaP256, SignatureAlgorithm::EcdsaSha256),
        (KeyAlgorithm::EcdsaP384, SignatureAlgorithm::EcdsaSha384),
        (KeyAlgorithm::Rsa2048, SignatureAlgorithm::RsaSha256),
    ];
    let (custody, data_key) = unlocked();
    for (algorithm, signature_algorithm) in cases {
        let key = custody.generate(algorithm).await.unwrap();
        let public = PublicKey::parse(&key.public_key).unwrap();
        assert_eq!(public.algorithm(), algorithm);
        let fresh = custody.sign(key_ref(&key), b"message".to_vec()).await.unwrap();
        assert!(public.verifies(signature_algorithm, b"message", &fresh), "{algorithm:?}");

        let (successor, exec) = self::custody();
        successor.unlock(same(&data_key));
        let opened = successor.sign(key_ref(&key), b"message".to_vec()).await.unwrap();
        assert!(public.verifies(signature_algorithm, b"message", &opened), "{algorithm:?} opened elsewhere");
        assert_eq!(exec.runs.load(Ordering::Relaxed), 1, "on the pool");
    }
}

#[tokio::test]
async fn locked_it_does_nothing() {
    let (custody, data_key) = unlocked();
    let key = custody.generate(KeyAlgorithm::EcdsaP256).await.unwrap();
    assert_eq!(custody.unlocked_with(), Some(data_key.id()));
    let open = Arc::downgrade(&custody.opened().unwrap());
    custody.lock();
    assert_eq!(open.strong_count(), 0, "nothing that was open is left");
    assert_eq!(custody.unlocked_with(), None);
    assert!(matches!(custody.sign(key_ref(&key), vec![1]).await, Err(CustodyError::Locked)));
    assert!(matches!(custody.generate(KeyAlgorithm::EcdsaP256).await, Err(CustodyError::Locked)));
    assert!(matches!(custody.wrap_for(ClusterId([1; 16]), 1, &[9; 32]), Err(CustodyError::Locked)));
    assert!(matches!(custody.proved(b"x", b"y"), Err(CustodyError::Locked)));
    custody.unlock(data_key);
    custody.sign(key_ref(&key), vec![1]).await.unwrap();
}

/// A deposed leader releases nothing: what was under way when custody was locked is not handed out, even when custody
/// was opened again meanwhile.
#[tokio::test]
async fn signatures_under_way_are_not_released_after_a_lock() {
    struct Slow;
    impl Exec for Slow {
        fn run(&self, _pool: &'static str, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
            work();
            Box::pin(tokio::task::yield_now())
        }
        fn worker(&self, _name: &'static str, _body: WorkerBody) {}
    }
    let custody = Arc::new(SealedCustody::new(Arc::new(SystemEntropy), Arc::new(Slow)));
    let data_key = DataKey::generate(&SystemEntropy);
    custody.unlock(same(&data_key));
    let key = key_ref(&custody.generate(KeyAlgorithm::EcdsaP256).await.unwrap());
    for reopen in [false, true] {
        custody.unlock(same(&data_key));
        let signing = custody.sign(key.clone(), b"message".to_vec());
        let locking = async {
            custody.lock();
            if reopen {
                custody.unlock(same(&data_key));
            }
        };
        let (outcome, ()) = tokio::join!(biased; signing, locking);
        assert!(matches!(outcome, Err(CustodyError::Locked)), "reopened: {reopen}");
    }
}

#[tokio::test]
async fn altered_moved_or_foreign_keys_do_not_open() {
    let (custody, data_key) = unlocked();
    let one = custody.generate(KeyAlgorithm::EcdsaP256).await.unwrap();
    let two = custody.generate(KeyAlgorithm::EcdsaP256).await.unwrap();
    // Cold, so that every key comes out of its seal.
    custody.lock();
    custody.unlock(same(&data_key));
    let sign = |key: KeyRef| custody.sign(key, b"message".to_vec());

    for at in 1..one.sealed.sealed.len() {
        let mut altered = one.clone();
        altered.sealed.sealed[at] ^= 1;
        assert!(matches!(sign(key_ref(&altered)).await, Err(CustodyError::Unopenable(_))), "octet {at}");
    }
    let swapped = NewKey { public_key: one.public_key.clone(), sealed: two.sealed.clone() };
    assert!(matches!(sign(key_ref(&swapped)).await, Err(CustodyError::Unopenable(_))), "another key's seal");

    let mut renumbered = one.clone();
    renumbered.sealed.data_key_id += 1;
    assert!(matches!(sign(key_ref(&renumbered)).await, Err(CustodyError::OtherDataKey { .. })));

    let (stranger, _) = self::custody();
    stranger.unlock(DataKey::generate(&SystemEntropy));
    assert!(matches!(stranger.sign(key_ref(&one), vec![1]).await, Err(CustodyError::OtherDataKey { .. })));
    sign(key_ref(&one)).await.unwrap();
}

/// While a data key is replaced both open; what is sealed again opens with the new one alone.
#[tokio::test]
async fn keys_are_sealed_again_under_a_new_data_key() {
    let (custody, first) = unlocked();
    let key = custody.generate(KeyAlgorithm::EcdsaP256).await.unwrap();
    let second = DataKey::generate(&SystemEntropy);
    custody.rotate(same(&second)).unwrap();
    custody.rotate(same(&second)).unwrap();
    assert_eq!(custody.unlocked_with(), Some(second.id()));
    let resealed = NewKey { sealed: custody.reseal(key_ref(&key)).await.unwrap(), ..key.clone() };
    assert_eq!(resealed.sealed.data_key_id, second.id());
    assert_eq!(custody.generate(KeyAlgorithm::EcdsaP256).await.unwrap().sealed.data_key_id, second.id());

    // A leader that takes over in the middle opens either form; a later one only what was sealed again.
    let (between, _) = self::custody();
    between.unlock_rotating(same(&second), vec![same(&first)]);
    between.sign(key_ref(&key), vec![1]).await.unwrap();
    let (after, _) = self::custody();
    after.unlock(same(&second));
    assert!(matches!(after.sign(key_ref(&key), vec![1]).await, Err(CustodyError::OtherDataKey { .. })));
    after.sign(key_ref(&resealed), vec![1]).await.unwrap();
    let (left, _) = self::custody();
    left.unlock(first);
    assert!(matches!(left.sign(key_ref(&resealed), vec![1]).await, Err(CustodyError::OtherDataKey { .. })));

    let (cold, _) = self::custody();
    cold.unlock_rotating(same(&second), vec![DataKey::generate(&SystemEntropy)]);
    cold.retire_replaced().unwrap();
    assert!(cold.opened().unwrap().data_keys.lock().unwrap().replaced.is_empty());
}

#[tokio::test]
async fn the_sealed_form_shows_nothing_of_the_key() {
    let (custody, _) = unlocked();
    for algorithm in [KeyAlgorithm::EcdsaP256, KeyAlgorithm::Rsa2048] {
        let key = custody.generate(algorithm).await.unwrap();
        let pair = custody.opened().unwrap().key(&key_ref(&key)).unwrap();
        let clear = pair.to_pkcs8().unwrap();
        assert_eq!(key.sealed.sealed.len(), clear.len() + sealed::OVERHEAD);
        assert_eq!(key.sealed.sealed[0], 1, "version");
        // Any eight octets of the secret would be too many.
        for canary in clear.windows(8).filter(|canary| !key.public_key.windows(8).any(|public| public == *canary)) {
            assert!(!key.sealed.sealed.windows(8).any(|window| window == canary));
        }
        assert_eq!(format!("{:?}", key.sealed), format!("SealedKey(data key {})", key.sealed.data_key_id));
    }
}

#[tokio::test]
async fn authorities_have_no_ed25519() {
    let (custody, _) = unlocked();
    assert!(matches!(custody.generate(KeyAlgorithm::Ed25519).await, Err(CustodyError::Unsupported(_))));
}

#[tokio::test]
async fn data_keys_are_wrapped_and_proved_through_custody() {
    let (custody, data_key) = unlocked();
    let proof = crate::prove(&data_key, b"challenge").unwrap();
    assert!(custody.proved(b"challenge", &proof).unwrap());
    assert!(!custody.proved(b"challenge", &[0; 32]).unwrap());
    let data = tempfile::tempdir().unwrap();
    let seal = crate::NodeSeal::create_or_open(&certwright_seams::disk::OsDisk, data.path(), &SystemEntropy).unwrap();
    let wrapped = custody.wrap_for(ClusterId([3; 16]), 4, seal.public()).unwrap();
    assert!(seal.unwrap(ClusterId([3; 16]), 4, data_key.id(), &wrapped).is_ok());
}

/// Stored formats do not change: a key sealed by this version opens for ever.
#[tokio::test]
async fn a_sealed_key_of_version_1_opens() {
    let (custody, _) = self::custody();
    custody.unlock(DataKey::fixed(7, [7; 32]));
    let public_key = hex::decode(GOLDEN_PUBLIC).unwrap();
    let sealed = SealedKey { data_key_id: 7, sealed: hex::decode(GOLDEN_SEALED).unwrap() };
    let key = NewKey { public_key, sealed };
    let signature = custody.sign(key_ref(&key), b"message".to_vec()).await.unwrap();
    let public = PublicKey::parse(&key.public_key).unwrap();
    assert!(public.verifies(SignatureAlgorithm::EcdsaSha256, b"message", &signature));
}

const GOLDEN_PUBLIC: &str = concat!(
    "3059301306072a8648ce3d020106082a8648ce3d03010703420004d519494e96b1dc074d353c93fe1155ed366c59c9c06c15",
    "202037d18dc3e69d6bcc4eb4f0cc368216549778e5ca171c3e762751ef315adb27e119269bb865168e",
);
const GOLDEN_SEALED: &str = concat!(
    "017d0d3a05df5905564813b531e55c45d3e5379d5423c485e9d17540cdeff0c8999c27854677a9924a7a06f7c63c62177002",
    "1f2f6cd41389852b5ad97fb2fd96cc651e366cae97f00d6e0f9b5f3214aeeb750190cb0715350ee7e40dbb72edd3b045ee95",
    "044b3d0c542327c698eaaeb7da3f83088bcd5dd084b737223184d0af13738404526baa44dcf4e41cd7917271617155636541",
    "b8413a97ec147f957f7f172fe7d9bf6de0",
);

#[test]
fn a_context_of_version_1() {
    assert_eq!(context(0x0102, &[9, 9]), b"certwright authority key 1\0\0\0\0\0\0\x01\x02\x09\x09");
}

#[test]
fn refusals_become_stable_reasons() {
    use certwright_core::{Reason, Rejection};
    let cases = [
        (CustodyError::Locked, Reason::NotLeader),
        (CustodyError::KeyMismatch, Reason::Internal),
        (CustodyError::Unopenable("x"), Reason::Internal),
        (CustodyError::Unsupported("x"), Reason::KeyNotAllowed),
        (CustodyError::Disk { path: "/x".into(), source: std::io::Error::other("full") }, Reason::StorageFailed),
    ];
    for (error, reason) in cases {
        assert_eq!(Rejection::from(error).reason, reason);
    }
}

#[tokio::test]
async fn the_key_for_checkpoints_signs_them_and_follows_the_data_key() {
    let (custody, before) = unlocked();
    let key = custody.generate_checkpoint_key().await.unwrap();
    let checkpoint = Checkpoint {
        cluster_id: ClusterId([1; 16]),
        epoch: 1,
        index: 7,
        chain: [8; 32],
        at: certwright_core::time::Timestamp::from_millis(9),
    };
    let signature = custody.sign_checkpoint(key.clone(), checkpoint).await.unwrap();
    assert!(checkpoint.is_signed(&key.public_key, &signature));
    // The next leader, after the data key was replaced.
    let after = DataKey::generate(&SystemEntropy);
    let (next, _) = self::custody();
    next.unlock_rotating(same(&after), vec![same(&before)]);
    let sealed_key = next.reseal_checkpoint_key(key.clone()).await.unwrap();
    assert_eq!(sealed_key.data_key_id, after.id());
    next.retire_replaced().unwrap();
    let resealed = CheckpointKey { sealed_key, ..key.clone() };
    assert_eq!(next.sign_checkpoint(resealed.clone(), checkpoint).await.unwrap(), signature);
    let error = next.sign_checkpoint(key.clone(), checkpoint).await.unwrap_err();
    assert!(matches!(error, CustodyError::OtherDataKey { .. }), "{error}");
    // Under another public half it does not open, and no CA key is one.
    let swapped = CheckpointKey { public_key: [7; 32], ..resealed };
    assert!(matches!(next.sign_checkpoint(swapped, checkpoint).await, Err(CustodyError::Unopenable(_))));
    let authority = custody.generate(KeyAlgorithm::EcdsaP256).await.unwrap();
    let stolen = CheckpointKey { sealed_key: authority.sealed, ..key };
    assert!(matches!(custody.sign_checkpoint(stolen, checkpoint).await, Err(CustodyError::Unopenable(_))));
    custody.lock();
    assert!(matches!(custody.generate_checkpoint_key().await, Err(CustodyError::Locked)));
}
