//! Public keys: one encoding each.

use super::support::*;
use crate::rejection::Reason;
use crate::spec::KeyAlgorithm;
use crate::x509::{PublicKey, SignatureAlgorithm, der};

#[test]
fn encodings_are_those_of_openssl_and_signatures_fit_their_keys() {
    for (kind, algorithm) in [
        ("ec:prime256v1", KeyAlgorithm::EcdsaP256),
        ("ec:secp384r1", KeyAlgorithm::EcdsaP384),
        ("ed25519", KeyAlgorithm::Ed25519),
        ("rsa:2048", KeyAlgorithm::Rsa2048),
    ] {
        let openssl = OpenSsl::new();
        openssl.key(kind);
        openssl.run(&["pkey", "-in", "key.pem", "-pubout", "-outform", "DER", "-out", "public.der"]);
        let spki = openssl.read("public.der");
        let key = PublicKey::parse(&spki).unwrap();
        assert_eq!((key.algorithm(), key.spki_der()), (algorithm, &spki[..]));
        for length in 0..spki.len() {
            assert!(PublicKey::parse(&spki[..length]).is_err(), "{kind} cut to {length}");
        }
        assert!(PublicKey::parse(&[&spki[..], &[0]].concat()).is_err(), "{kind} and an octet more");
        let unfit = match algorithm {
            KeyAlgorithm::Ed25519 => SignatureAlgorithm::EcdsaSha256,
            _ => SignatureAlgorithm::Ed25519,
        };
        assert!(!key.verifies(unfit, b"message", &[0; 64]));
    }
}

#[test]
fn rsa_keys_in_sloppy_der_are_refused() {
    let spki = |modulus: &[u8], exponent: &[u8]| {
        let numbers = [der::encode(der::INTEGER, &[modulus]), der::encode(der::INTEGER, &[exponent])].concat();
        let key = der::encode(der::SEQUENCE, &[&numbers]);
        let algorithm: &[u8] = &[0x30, 0x0d, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];
        der::encode(der::SEQUENCE, &[algorithm, &der::encode(der::BIT_STRING, &[&[0], &key])])
    };
    let odd = [&[0][..], &[0xc5; 256]].concat();
    let even = [&[0][..], &[0xc5; 255], &[0xc4]].concat();
    let padded = [&[0, 0][..], &[0xc5; 256]].concat();
    let negative = vec![0xc5; 256];
    assert_eq!(PublicKey::parse(&spki(&odd, &[1, 0, 1])).unwrap().algorithm(), KeyAlgorithm::Rsa2048);
    for (what, bad) in [
        ("an even modulus", spki(&even, &[1, 0, 1])),
        ("a padded modulus", spki(&padded, &[1, 0, 1])),
        ("a negative modulus", spki(&negative, &[1, 0, 1])),
        ("a padded exponent", spki(&odd, &[0, 1, 0, 1])),
        ("exponent 3", spki(&odd, &[3])),
        ("exponent 1", spki(&odd, &[1])),
        ("no modulus", spki(&[], &[1, 0, 1])),
    ] {
        assert_eq!(PublicKey::parse(&bad).unwrap_err().reason, Reason::KeyNotAllowed, "{what}");
    }
}
