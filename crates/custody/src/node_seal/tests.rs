//! The node's key pair on a real disk: made once, opened again, refused when altered or incomplete.
#![allow(clippy::unwrap_used)]

use certwright_seams::disk::OsDisk;
use certwright_seams::entropy::SystemEntropy;

use super::*;
use crate::data_key::wrap;

const CLUSTER: ClusterId = ClusterId([1; 16]);

fn open(data: &Path) -> Result<NodeSeal, CustodyError> {
    NodeSeal::create_or_open(&OsDisk, data, &SystemEntropy)
}

#[test]
fn made_once_and_opened_again() {
    let data = tempfile::tempdir().unwrap();
    let first = open(data.path()).unwrap();
    let data_key = DataKey::generate(&SystemEntropy);
    let wrapped = wrap(&data_key, CLUSTER, 1, first.public()).unwrap();
    let second = open(data.path()).unwrap();
    assert_eq!(first.public(), second.public());
    assert_eq!(second.unwrap(CLUSTER, 1, data_key.id(), &wrapped).unwrap().id(), data_key.id());

    let elsewhere = tempfile::tempdir().unwrap();
    let other = open(elsewhere.path()).unwrap();
    assert!(matches!(other.unwrap(CLUSTER, 1, data_key.id(), &wrapped), Err(CustodyError::Unopenable(_))));
}

#[test]
fn files_are_their_owners_and_hold_nothing_in_clear() {
    let data = tempfile::tempdir().unwrap();
    let seal = open(data.path()).unwrap();
    for name in [SEAL_FILE, UNSEAL_FILE] {
        assert_eq!(OsDisk.stat(&data.path().join(name)).unwrap().mode, 0o600, "{name}");
    }
    let stored = OsDisk.read(&data.path().join(SEAL_FILE), 4096).unwrap();
    assert_eq!(stored.len(), 1 + 32 + 32 + sealed::OVERHEAD, "version, public key, sealed private key");
    assert_eq!((stored[0], &stored[1..33]), (1, seal.public()));
    let canary = seal.private.secret_bytes();
    assert!(!stored.windows(canary.len()).any(|window| window == canary));
}

#[test]
fn altered_or_incomplete_files_are_refused() {
    let data = tempfile::tempdir().unwrap();
    open(data.path()).unwrap();
    let (seal, unseal) = (data.path().join(SEAL_FILE), data.path().join(UNSEAL_FILE));
    let stored = OsDisk.read(&seal, 4096).unwrap();
    for at in [1, 33 + 1, stored.len() - 1] {
        let mut altered = stored.clone();
        altered[at] ^= 1;
        OsDisk.write_atomic(&seal, &altered, 0o600).unwrap();
        assert!(matches!(open(data.path()), Err(CustodyError::Unopenable(_))), "octet {at}");
    }
    for at in [0, 33] {
        let mut altered = stored.clone();
        altered[at] ^= 1;
        OsDisk.write_atomic(&seal, &altered, 0o600).unwrap();
        assert!(matches!(open(data.path()), Err(CustodyError::Malformed(_))), "version at {at}");
    }
    OsDisk.write_atomic(&seal, &stored, 0o600).unwrap();
    open(data.path()).unwrap();
    OsDisk.write_atomic(&unseal, &[0; 31], 0o600).unwrap();
    assert!(matches!(open(data.path()), Err(CustodyError::Malformed(_))));
    OsDisk.remove(&unseal).unwrap();
    assert!(matches!(open(data.path()), Err(CustodyError::Disk { .. })), "never made anew beside an old seal");
    OsDisk.write_atomic(&unseal, &[0; 5000], 0o600).unwrap();
    assert!(matches!(open(data.path()), Err(CustodyError::Disk { .. })), "larger than any key");
}

#[test]
fn killed_between_its_two_files_it_goes_on() {
    let data = tempfile::tempdir().unwrap();
    open(data.path()).unwrap();
    OsDisk.remove(&data.path().join(SEAL_FILE)).unwrap();
    open(data.path()).unwrap();
}
