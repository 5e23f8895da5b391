//! Sealing: AES-256-GCM with a random nonce, in one layout for everything that rests on disk or in the log.
//!
//! It refuses bytes without context: what a ciphertext belongs to is authenticated with it.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use certwright_seams::Entropy;
use zeroize::Zeroizing;

use crate::CustodyError;

/// First octet of every sealed thing: the layout's version.
const VERSION: u8 = 1;
/// Octets that sealing adds: version, nonce, tag.
pub(crate) const OVERHEAD: usize = 1 + NONCE_LEN + 16;

/// Seals `plain`: `version 1 | nonce 12 | ciphertext | tag 16`, bound to `context`.
pub(crate) fn seal(
    key: &[u8; 32],
    context: &[u8],
    plain: &[u8],
    entropy: &dyn Entropy,
) -> Result<Vec<u8>, CustodyError> {
    let mut nonce = [0; NONCE_LEN];
    entropy.fill(&mut nonce);
    let mut out = Vec::with_capacity(plain.len() + OVERHEAD);
    out.push(VERSION);
    out.extend_from_slice(&nonce);
    out.extend_from_slice(plain);
    let tag = cipher(key)?
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(context), &mut out[1 + NONCE_LEN..])
        .map_err(|_| CustodyError::Failed("sealing"))?;
    out.extend_from_slice(tag.as_ref());
    Ok(out)
}

/// Opens what [`seal`] made under the same key and context; `what` names it in the error.
pub(crate) fn open(
    key: &[u8; 32],
    context: &[u8],
    sealed: &[u8],
    what: &'static str,
) -> Result<Zeroizing<Vec<u8>>, CustodyError> {
    let Some(([VERSION], rest)) = sealed.split_first_chunk::<1>() else {
        return Err(CustodyError::Malformed(what));
    };
    let (nonce, ciphertext) = rest.split_first_chunk::<NONCE_LEN>().ok_or(CustodyError::Malformed(what))?;
    let mut buffer = Zeroizing::new(ciphertext.to_vec());
    let opened = cipher(key)?
        .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(context), &mut buffer)
        .map_err(|_| CustodyError::Unopenable(what))?
        .len();
    buffer.truncate(opened);
    Ok(buffer)
}

fn cipher(key: &[u8; 32]) -> Result<LessSafeKey, CustodyError> {
    let unbound = UnboundKey::new(&AES_256_GCM, key).map_err(|_| CustodyError::Failed("setting up AES-256-GCM"))?;
    Ok(LessSafeKey::new(unbound))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::data_key::tests::Counting;

    #[test]
    fn the_layout_is_version_nonce_ciphertext_tag() {
        let sealed = seal(&[7; 32], b"context", b"plain", &Counting).unwrap();
        assert_eq!(sealed.len(), 5 + OVERHEAD);
        assert_eq!(sealed[0], 1);
        assert_eq!(sealed[1..13], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
        assert_eq!(hex::encode(&sealed), GOLDEN);
        assert_eq!(**open(&[7; 32], b"context", &sealed, "it").unwrap(), *b"plain");
    }

    /// Stored formats do not change: this is what version 1 looks like for ever.
    const GOLDEN: &str = "01000102030405060708090a0b68ed881973392b000e525c8cb513fb72908030f47e";

    #[test]
    fn anything_altered_does_not_open() {
        let sealed = seal(&[7; 32], b"context", b"plain", &Counting).unwrap();
        for at in 1..sealed.len() {
            let mut altered = sealed.clone();
            altered[at] ^= 1;
            let error = open(&[7; 32], b"context", &altered, "it").unwrap_err();
            assert!(matches!(error, CustodyError::Unopenable("it")), "octet {at}: {error}");
        }
        assert!(matches!(open(&[7; 32], b"contexu", &sealed, "it"), Err(CustodyError::Unopenable(_))));
        assert!(matches!(open(&[8; 32], b"context", &sealed, "it"), Err(CustodyError::Unopenable(_))));
        for length in 0..13 {
            assert!(matches!(open(&[7; 32], b"context", &sealed[..length], "it"), Err(CustodyError::Malformed(_))));
        }
        let mut future = sealed;
        future[0] = 2;
        assert!(matches!(open(&[7; 32], b"context", &future, "it"), Err(CustodyError::Malformed(_))));
    }
}
