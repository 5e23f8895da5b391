//! Certificates that others send: read, judged as issuers, verified as chains, delivered to an agent.
//!
//! It refuses a chain to a root that nobody signed under.

use certwright_agent::trust::Trust;
use certwright_agent::verify::{check_newer, verify};
use certwright_core::spec::CertificateSpec;
use certwright_core::x509::inspect::{inspect, verify_chain};
use certwright_core::x509::{IssuerCertificate, PublicKey, spki_hash};
use certwright_proto::agent::v1::{Issued, TrustBundle, TrustedRoot};

use crate::csr::{authority, leaf};
use crate::estate::NOW;
use crate::octets::{Octets, sliced};
use crate::verdict::{accepted, took};

pub(crate) fn run(input: &[u8]) {
    let mut input = Octets(input);
    match input.u8() % 3 {
        0 => certificate(input.0),
        1 => chain(input),
        _ => {
            if let Some(key) = accepted(PublicKey::parse(input.0)) {
                took();
                assert_eq!(key.spki_der(), input.0);
                assert_eq!(key.hash(), spki_hash(input.0));
            }
        }
    }
}

fn certificate(der: &[u8]) {
    let read = accepted(inspect(der));
    if read.is_some() {
        took();
    }
    if let Some(issuer) = accepted(IssuerCertificate::parse(der)) {
        assert_eq!(issuer.der(), der);
        let read = read.expect("what may sign can be read");
        assert!(read.is_ca);
        assert_eq!((read.not_before, read.not_after), (issuer.not_before(), issuer.not_after()));
        assert_eq!(read.spki_hash, issuer.key().hash());
        let _ = issuer.constraints().violated_by(&read.names);
    }
}

/// A leaf and intermediates, against a root whose key signed none of them but itself.
fn chain(mut input: Octets<'_>) {
    let leaf = input.slice().to_vec();
    let mut others = Vec::new();
    while !input.is_empty() && others.len() < 16 {
        others.push(input.slice().to_vec());
    }
    let root = authority().certificate.clone();
    let verified = verify_chain(&leaf, &others, std::slice::from_ref(&root), NOW);
    match verified {
        Ok(_) => {
            assert_eq!(leaf, root, "a chain of strangers");
            took();
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    // With every certificate of the input for a root, some chains hold; each of them ends at a root.
    let given = verify_chain(&leaf, &others, &others, NOW).unwrap_or_default();
    assert!(given.last().is_none_or(|last| others.iter().any(|root| root == last)));
    assert!(given.len() <= 8);
}

/// What an agent trusts: one root.
pub(crate) fn trusted() -> TrustBundle {
    let root = TrustedRoot { authority: "root".into(), certificate: authority().certificate.clone().into() };
    TrustBundle { epoch: 1, index: 5, roots: vec![root] }
}

/// What an agent is sent, judged under that root, which has signed one certificate and itself.
pub(crate) fn delivered(issued: &Issued, spec: &CertificateSpec) {
    let trust = Trust::announced(Some(trusted()));
    let Ok(read) = inspect(&issued.certificate) else { return };
    match verify(issued, spec, read.spki_hash, &trust, NOW) {
        Ok(pair) => {
            assert_eq!(issued.root, authority().certificate, "under a root that nobody trusts");
            assert!([leaf(), &authority().certificate[..]].contains(&&issued.certificate[..]), "nobody signed it");
            assert_eq!(pair.inspected(), &read);
            assert!(read.not_before <= NOW && NOW < read.not_after);
            assert_eq!(read.serial, issued.serial);
            took();
        }
        Err(failure) => assert!(!failure.to_string().is_empty()),
    }
    let same = check_newer((issued.generation, &read), (issued.generation, &issued.root), NOW);
    assert!(same.is_ok(), "no generation is newer than itself");
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let root = &authority().certificate;
    let strangers = [stranger(rcgen::IsCa::NoCa), stranger(rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(1)))];
    let mut seeds = vec![[&[0][..], root].concat(), [&[1][..], &sliced(root), &sliced(root)].concat()];
    seeds.extend(strangers.iter().map(|der| [&[0][..], der].concat()));
    seeds.extend(strangers.iter().map(|der| [&[1][..], &sliced(der), &sliced(der), &sliced(root)].concat()));
    let algorithms = [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519];
    for algorithm in algorithms {
        use rcgen::PublicKeyData as _;
        let pair = rcgen::KeyPair::generate_for(algorithm).expect("keys can be made");
        seeds.push([&[2][..], &pair.subject_public_key_info()].concat());
    }
    seeds
}

/// A certificate with much in it, signed by its own key.
fn stranger(is_ca: rcgen::IsCa) -> Vec<u8> {
    let names = ["a.example.test".to_owned(), "192.0.2.1".to_owned()];
    let mut plan = rcgen::CertificateParams::new(names).expect("names");
    plan.is_ca = is_ca;
    plan.not_before = rcgen::date_time_ymd(2026, 1, 1);
    plan.not_after = rcgen::date_time_ymd(2030, 1, 1);
    plan.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature, rcgen::KeyUsagePurpose::KeyCertSign];
    plan.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    plan.name_constraints = Some(rcgen::NameConstraints {
        permitted_subtrees: vec![rcgen::GeneralSubtree::DnsName("example.test".into())],
        excluded_subtrees: vec![],
    });
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("keys can be made");
    plan.self_signed(&pair).expect("a certificate").der().to_vec()
}
