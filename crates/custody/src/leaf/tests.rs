//! Leaf keys against the real openssl: every algorithm, every encoding, requests and TLS.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests run openssl on temporary files")]

use std::process::Command;

use certwright_core::x509::{SignatureAlgorithm, csr};

use super::*;

const ALGORITHMS: [KeyAlgorithm; 4] =
    [KeyAlgorithm::EcdsaP256, KeyAlgorithm::EcdsaP384, KeyAlgorithm::Ed25519, KeyAlgorithm::Rsa2048];

fn openssl(line: &str, input: &str) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("in"), input).unwrap();
    let output = Command::new("openssl").args(line.split(' ')).current_dir(directory.path()).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn every_encoding_is_read_by_openssl_and_by_us() {
    for algorithm in ALGORITHMS {
        let key = LeafKey::generate(algorithm).unwrap();
        assert_eq!(key.algorithm(), algorithm);
        for encoding in [KeyEncoding::Pkcs8, KeyEncoding::Pkcs1] {
            let text = key.to_pem(encoding).unwrap();
            assert!(text.lines().all(|line| line.len() <= 64), "lines as RFC 7468 wants them");
            let public = openssl("pkey -in in -pubout -outform DER", &text);
            assert_eq!(public, key.public_key().spki_der(), "{algorithm:?} {encoding:?}");
            let again = LeafKey::from_pem(&format!("# ours\n{}", *text)).unwrap();
            assert_eq!(again.spki_hash(), key.spki_hash());
            assert_eq!(again.to_pkcs8().unwrap(), key.to_pkcs8().unwrap(), "{algorithm:?} {encoding:?}");
        }
    }
}

#[test]
fn traditional_encodings_carry_their_own_labels() {
    let label = |algorithm| {
        let text = LeafKey::generate(algorithm).unwrap().to_pem(KeyEncoding::Pkcs1).unwrap();
        text.lines().next().unwrap().to_owned()
    };
    assert_eq!(label(KeyAlgorithm::Rsa2048), "-----BEGIN RSA PRIVATE KEY-----");
    assert_eq!(label(KeyAlgorithm::EcdsaP384), "-----BEGIN EC PRIVATE KEY-----");
    assert_eq!(label(KeyAlgorithm::Ed25519), "-----BEGIN PRIVATE KEY-----");
}

#[test]
fn keys_that_openssl_made_are_read() {
    for line in [
        "ecparam -name prime256v1 -genkey -noout",
        "ecparam -name secp384r1 -genkey",
        "genpkey -algorithm ed25519",
        "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048",
        "genrsa -traditional 2048",
    ] {
        let text = String::from_utf8(openssl(line, "")).unwrap();
        let key = LeafKey::from_pem(&text).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert_eq!(openssl("pkey -in in -pubout -outform DER", &text), key.public_key().spki_der(), "{line}");
    }
}

#[test]
fn what_is_no_key_of_ours_is_refused() {
    let weak = String::from_utf8(openssl("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024", "")).unwrap();
    assert!(matches!(LeafKey::from_pem(&weak), Err(CustodyError::Unsupported(_))));
    let foreign = String::from_utf8(openssl("ecparam -name secp521r1 -genkey -noout", "")).unwrap();
    assert!(matches!(LeafKey::from_pem(&foreign), Err(CustodyError::Unsupported(_))));
    let malformed =
        ["", "hello", "-----BEGIN PRIVATE KEY-----\n!\n-----END PRIVATE KEY-----", "-----BEGIN PRIVATE KEY-----\n"];
    for text in malformed {
        assert!(matches!(LeafKey::from_pem(text), Err(CustodyError::Malformed(_))), "{text}");
    }
    assert!(LeafKey::from_der(&[0x30, 0]).is_err());
}

#[test]
fn requests_carry_their_names_and_verify() {
    let names = Names {
        common_name: Some("a.example.com".into()),
        dns_names: vec!["a.example.com".into(), "*.b.example.com".into()],
        ip_addresses: vec!["10.0.0.1".parse().unwrap()],
        uris: vec!["spiffe://example.com/x".into()],
        email_addresses: vec!["a@example.com".into()],
    };
    for algorithm in ALGORITHMS {
        let key = LeafKey::generate(algorithm).unwrap();
        let verified = csr::parse(&key.request(&names).unwrap()).unwrap().verify().unwrap();
        assert_eq!(verified.names(), &names, "{algorithm:?}");
        assert_eq!(verified.spki_der(), key.public_key().spki_der());
        let bare = csr::parse(&key.request(&Names::default()).unwrap()).unwrap().verify().unwrap();
        assert_eq!(bare.names(), &Names::default());
    }
    let key = LeafKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let text = certwright_core::x509::pem::request(&key.request(&names).unwrap());
    openssl("req -in in -noout -verify", &text);
}

#[test]
fn signatures_fit_the_key() {
    let cases = [
        (KeyAlgorithm::EcdsaP256, SignatureAlgorithm::EcdsaSha256),
        (KeyAlgorithm::EcdsaP384, SignatureAlgorithm::EcdsaSha384),
        (KeyAlgorithm::Ed25519, SignatureAlgorithm::Ed25519),
        (KeyAlgorithm::Rsa2048, SignatureAlgorithm::RsaSha256),
    ];
    for (algorithm, signature_algorithm) in cases {
        let key = LeafKey::generate(algorithm).unwrap();
        let signature = key.sign(b"message").unwrap();
        assert!(key.public_key().verifies(signature_algorithm, b"message", &signature), "{algorithm:?}");
        assert!(!key.public_key().verifies(signature_algorithm, b"massage", &signature), "{algorithm:?}");
    }
}

#[test]
fn rustls_takes_the_key_with_its_own_certificate_only() {
    for algorithm in ALGORITHMS {
        let (key, other) = (LeafKey::generate(algorithm).unwrap(), LeafKey::generate(algorithm).unwrap());
        let text = key.to_pem(KeyEncoding::Pkcs8).unwrap();
        let certificate = openssl("req -x509 -new -key in -subj /CN=x -outform DER", &text);
        let chain = || vec![CertificateDer::from(certificate.clone())];
        assert_eq!(key.certified(chain()).unwrap().cert.len(), 1, "{algorithm:?}");
        assert!(matches!(other.certified(chain()), Err(CustodyError::KeyMismatch)), "{algorithm:?}");
    }
}
