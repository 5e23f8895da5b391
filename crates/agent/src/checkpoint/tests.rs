//! What servers say of their log, beside what this agent has seen.
#![allow(clippy::unwrap_used)]

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use certwright_proto::agent::v1::Recalled;

use super::*;

const CLUSTER: ClusterId = ClusterId([0xc1; 16]);

/// A checkpoint whose chain says which history it is of; the entry after it holds it.
fn checkpoint(key: u8, epoch: u64, index: u64, history: u8) -> Checkpoint {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[key; 32]).unwrap();
    let at = Timestamp::from_millis(1000 * index);
    let signed = SignedCheckpoint { epoch, index, chain: [history; 32], at, signature: [0; 64] };
    Checkpoint {
        epoch,
        index,
        chain: signed.chain.to_vec().into(),
        at_millis: at.millis(),
        public_key: pair.public_key().as_ref().to_vec().into(),
        signature: pair.sign(&signed.of(CLUSTER).message()).as_ref().to_vec().into(),
    }
}

fn kept(key: u8, epoch: u64, index: u64, history: u8) -> Kept {
    Kept::verified(&checkpoint(key, epoch, index, history), CLUSTER).unwrap()
}

fn welcome(shown: Option<Checkpoint>, applied_index: u64, recalled: Option<Recalled>) -> Welcome {
    Welcome { checkpoint: shown, applied_index, recalled, ..Welcome::default() }
}

/// What a server of that history says where the kept checkpoint was.
fn held(history: u8) -> Option<Recalled> {
    Some(Recalled { is_read: true, chain: vec![history; 32].into(), index: 10 })
}

#[test]
fn the_first_one_is_kept_with_its_key() {
    let nothing = greeted(None, &welcome(None, 9, None), CLUSTER);
    assert_eq!(nothing, Ok(Greeted { kept: None, is_behind: false }));
    let first = greeted(None, &welcome(Some(checkpoint(1, 1, 10, 7)), 12, None), CLUSTER).unwrap().kept;
    assert_eq!(first, Some(kept(1, 1, 10, 7)));
    assert_eq!(first.unwrap().mark(), CheckpointMark { epoch: 1, index: 10 });
}

#[test]
fn what_was_not_signed_is_refused() {
    let sound = checkpoint(1, 1, 10, 7);
    let refused = |shown: Checkpoint| greeted(None, &welcome(Some(shown), 12, None), CLUSTER).unwrap_err();
    assert_eq!(refused(Checkpoint { index: 11, ..sound.clone() }), Contradiction::BadSignature(11));
    assert_eq!(refused(Checkpoint { epoch: 2, ..sound.clone() }), Contradiction::BadSignature(10));
    assert_eq!(refused(Checkpoint { at_millis: 1, ..sound.clone() }), Contradiction::BadSignature(10));
    assert_eq!(refused(Checkpoint { chain: vec![8; 32].into(), ..sound.clone() }), Contradiction::BadSignature(10));
    for octets in [vec![], vec![7; 31], vec![7; 65]] {
        let octets = prost::bytes::Bytes::from(octets);
        assert_eq!(refused(Checkpoint { chain: octets.clone(), ..sound.clone() }), Contradiction::Malformed);
        assert_eq!(refused(Checkpoint { public_key: octets.clone(), ..sound.clone() }), Contradiction::Malformed);
        assert_eq!(refused(Checkpoint { signature: octets, ..sound.clone() }), Contradiction::Malformed);
    }
    let elsewhere = Kept::verified(&sound, ClusterId([0xc2; 16]));
    assert_eq!(elsewhere, Err(Contradiction::BadSignature(10)), "another cluster's is none of ours");
}

#[test]
fn what_a_greeting_is_worth() {
    let have = kept(1, 2, 10, 7);
    let say = |shown: Option<Checkpoint>, applied, recalled| {
        greeted(Some(have), &welcome(shown, applied, recalled), CLUSTER).map(|greeted| greeted.kept.unwrap())
    };
    let newer = || Some(checkpoint(1, 2, 20, 9));
    // The same log, further, as far, or not yet so far.
    assert_eq!(say(newer(), 30, held(7)), Ok(kept(1, 2, 20, 9)));
    assert_eq!(say(Some(checkpoint(1, 2, 10, 7)), 30, held(7)), Ok(have));
    assert_eq!(say(Some(checkpoint(1, 2, 5, 6)), 9, None), Ok(have), "it has not come so far");
    assert_eq!(say(None, 9, None), Ok(have));
    assert_eq!(say(Some(checkpoint(1, 2, 5, 6)), 10, held(7)), Ok(have), "so far, but not to the checkpoint");
    assert_eq!(say(None, 10, held(7)), Ok(have));
    // It cannot read that far back: that proves nothing.
    assert_eq!(say(newer(), 30, Some(Recalled::default())), Ok(kept(1, 2, 20, 9)));
    assert_eq!(say(newer(), 30, None), Ok(kept(1, 2, 20, 9)));
    assert_eq!(say(Some(checkpoint(1, 2, 5, 6)), 10, None), Ok(have));
    assert_eq!(say(newer(), 30, Some(Recalled { index: 9, ..held(8).unwrap() })), Ok(kept(1, 2, 20, 9)), "another one");
    // Whoever has not come so far is asked again when he has.
    let behind = |applied, recalled| greeted(Some(have), &welcome(None, applied, recalled), CLUSTER).unwrap().is_behind;
    assert_eq!((behind(9, None), behind(10, None), behind(10, held(7))), (true, false, false));
    // A log that was set back and has grown past it since, or was exchanged.
    assert_eq!(say(Some(checkpoint(1, 2, 5, 6)), 10, held(8)), Err(Contradiction::Exchanged(10)));
    assert_eq!(say(None, 10, held(8)), Err(Contradiction::Exchanged(10)));
    assert_eq!(say(newer(), 30, held(8)), Err(Contradiction::Exchanged(10)));
    let nothing_there = Some(Recalled { chain: vec![].into(), ..held(7).unwrap() });
    assert_eq!(say(newer(), 30, nothing_there), Err(Contradiction::Exchanged(10)));
    assert_eq!(say(Some(checkpoint(1, 2, 10, 8)), 30, None), Err(Contradiction::Exchanged(10)));
    // Another key, whatever it says.
    for (epoch, index) in [(2, 20), (2, 10), (2, 5), (3, 1)] {
        assert_eq!(
            say(Some(checkpoint(2, epoch, index, 7)), 30, held(7)),
            Err(Contradiction::OtherKey),
            "{epoch} {index}"
        );
    }
    // A restore begins an epoch: forward only.
    assert_eq!(say(Some(checkpoint(1, 3, 4, 1)), 6, None), Ok(kept(1, 3, 4, 1)));
    assert_eq!(say(Some(checkpoint(1, 1, 40, 7)), 50, held(7)), Err(Contradiction::OlderEpoch { shown: 1, kept: 2 }));
}

#[test]
fn what_comes_during_a_session_only_goes_forward() {
    let have = kept(1, 2, 10, 7);
    assert_eq!(told(None, have), Ok(have));
    assert_eq!(told(Some(have), kept(1, 2, 11, 8)), Ok(kept(1, 2, 11, 8)));
    assert_eq!(told(Some(have), have), Ok(have));
    assert_eq!(told(Some(have), kept(1, 2, 10, 8)), Err(Contradiction::Exchanged(10)));
    assert_eq!(told(Some(have), kept(1, 2, 9, 7)), Err(Contradiction::SetBack { shown: 9, kept: 10 }));
    assert_eq!(told(Some(have), kept(1, 1, 11, 7)), Err(Contradiction::OlderEpoch { shown: 1, kept: 2 }));
    assert_eq!(told(Some(have), kept(2, 2, 11, 8)), Err(Contradiction::OtherKey));
}
