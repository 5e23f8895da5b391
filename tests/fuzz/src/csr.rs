//! Signing requests, DER and PEM: from a stranger's octets to a signed certificate.
//!
//! It refuses to take the lint's word: what is certified is read again, verified as a chain, and held against what the
//! issuer allows.

use std::sync::LazyLock;
use std::time::Duration;

use certwright_core::ids::Serial;
use certwright_core::spec::{IssuerKind, IssuerSpec, Subject, Usage};
use certwright_core::time::Timestamp;
use certwright_core::x509::inspect::{inspect, verify_chain};
use certwright_core::x509::{
    IssuerCertificate, LeafPlan, Profile, VerifiedCsr, compose, csr, der, lint, pem, spki_hash,
};
use rcgen::{KeyPair, PublicKeyData as _, SigningKey as _};

use crate::estate::{NOW, serial};
use crate::octets::Octets;
use crate::verdict::{accepted, took};

const DAY: Duration = Duration::from_secs(86_400);
/// Where the issuer's names end.
const SUFFIX: &str = "example.test";
const EXTENSION_REQUEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x0e];
/// `SEQUENCE { ecdsa-with-SHA256 }`.
const ECDSA_SHA256: &[u8] = &[0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
const ALTERNATIVES: &[u8] = &[0x55, 0x1d, 0x11];

/// Keys of nobody (PKCS #8), a root, and what it signs for [`request`]. They are always the same: an input that was kept
/// means the same in every process.
const CONSTANTS: &str = include_str!("csr.hex");

fn constant(name: &str) -> Vec<u8> {
    let mut lines = CONSTANTS.lines().filter_map(|line| line.split_once(' '));
    let found = lines.find(|(found, _)| *found == name).expect("a constant of that name");
    hex::decode(found.1).expect("hex")
}

/// A root and its key; another one for requests.
pub(crate) struct Authority {
    pair: KeyPair,
    pub(crate) certificate: Vec<u8>,
    parsed: IssuerCertificate,
    requester: KeyPair,
}

static AUTHORITY: LazyLock<Authority> = LazyLock::new(found);

pub(crate) fn authority() -> &'static Authority {
    &AUTHORITY
}

fn found() -> Authority {
    let pair = |name: &str| KeyPair::try_from(constant(name)).expect("a key");
    let certificate = constant("root");
    let parsed = IssuerCertificate::parse(&certificate).expect("a root");
    assert_eq!(parsed.key().hash(), spki_hash(&pair("root-key").subject_public_key_info()));
    Authority { pair: pair("root-key"), certificate, parsed, requester: pair("requester-key") }
}

pub(crate) fn run(input: &[u8]) {
    let mut octets = Octets(input);
    match octets.u8() % 4 {
        0 => raw(octets.0),
        1 => raw(pem::request(octets.0).as_bytes()),
        // What no fuzzer can find: a request around these octets with a good signature.
        2 => signed(&forged(octets.slice(), octets.0)),
        _ => signed(&forged(&[], &alternatives(octets.0))),
    }
}

/// Octets that claim to be a request; hardly one is signed.
fn raw(octets: &[u8]) {
    let Some(request) = accepted(csr::parse(octets)) else { return };
    let claimed = request.claimed_key().hash();
    if let Some(verified) = accepted(request.verify()) {
        assert_eq!(verified.spki_hash(), claimed);
        took_certified(&verified);
    }
}

/// A request that is signed by its own key.
fn signed(request: &[u8]) {
    let Some(request) = accepted(csr::parse(request)) else { return };
    let verified = request.verify().expect("it was signed by its own key");
    assert_eq!(verified.spki_der(), authority().requester.subject_public_key_info());
    took_certified(&verified);
}

fn took_certified(request: &VerifiedCsr) {
    if certified(request).is_some() {
        took();
    }
}

/// The whole way to a certificate, and what must be so of one.
fn certified(request: &VerifiedCsr) -> Option<Vec<u8>> {
    let authority = authority();
    let issuer = IssuerSpec {
        kind: IssuerKind::Reserved("test".to_owned()),
        max_duration: Some(DAY),
        allowed_dns_suffixes: vec![SUFFIX.to_owned()],
    };
    let plan = LeafPlan {
        serial: leaf_serial(),
        not_before: NOW,
        not_after: NOW.plus(DAY / 2),
        names: request.names(),
        subject: &Subject::default(),
        usages: &[Usage::ServerAuth],
        is_ca: false,
        spki_der: request.spki_der(),
        issuer: &authority.parsed,
    };
    let composed = accepted(compose::leaf(&plan))?;
    let linted = accepted(lint::lint(composed, &Profile::Leaf { issuer: &issuer }))?;
    let signature = authority.pair.sign(linted.tbs()).expect("a signature");
    let certificate = linted.assemble(&signature).expect("what was linted is a certificate");
    let read = inspect(certificate.der()).expect("what was issued is read");
    assert_eq!(read.names, request.names().clone().normalized());
    assert!(read.names.alternatives() <= certwright_core::limits::NAMES_MAX);
    assert!(
        !read.is_ca
            && read.spki_hash == request.spki_hash()
            && read.not_after <= Timestamp::from_seconds(NOW.seconds()).plus(DAY)
    );
    let inside = |name: &str| name == SUFFIX || name.strip_suffix(SUFFIX).is_some_and(|rest| rest.ends_with('.'));
    assert!(read.names.dns_names.iter().all(|name| inside(name)), "{:?}", read.names);
    let roots = [authority.certificate.clone()];
    let chain = verify_chain(certificate.der(), &[], &roots, NOW).expect("what was issued chains to its root");
    assert_eq!(chain, [&authority.certificate[..]]);
    Some(certificate.der().to_vec())
}

/// A request with that subject and those attributes, signed.
fn forged(subject: &[u8], attributes: &[u8]) -> Vec<u8> {
    let pair = &authority().requester;
    let version: &[u8] = &[2, 1, 0];
    let subject = der::encode(der::SEQUENCE, &[subject]);
    let attributes = der::encode(0xa0, &[attributes]);
    let info = der::encode(der::SEQUENCE, &[version, &subject, &pair.subject_public_key_info(), &attributes]);
    let signature = der::encode(der::BIT_STRING, &[&[0], &pair.sign(&info).expect("a signature")]);
    der::encode(der::SEQUENCE, &[&info, ECDSA_SHA256, &signature])
}

/// An attribute that asks for these alternative names: a tag, a length and as many octets each.
fn alternatives(octets: &[u8]) -> Vec<u8> {
    let mut octets = Octets(octets);
    let mut names = Vec::new();
    while !octets.is_empty() {
        let (kind, len) = (octets.u8(), octets.u8());
        let tag = 0x80 | [2, 7, 6, 1, 0, 4, 8, 3][usize::from(kind % 8)];
        names.extend(der::encode(tag, &[octets.take(len.into())]));
    }
    let value = der::encode(der::OCTET_STRING, &[&der::encode(der::SEQUENCE, &[&names])]);
    let extension = der::encode(der::SEQUENCE, &[&der::encode(der::OID, &[ALTERNATIVES]), &value]);
    let values = der::encode(der::SET, &[&der::encode(der::SEQUENCE, &[&extension])]);
    der::encode(der::SEQUENCE, &[&der::encode(der::OID, &[EXTENSION_REQUEST]), &values])
}

/// A request for one name.
pub(crate) fn request() -> Vec<u8> {
    forged(&[], &alternatives(b"\0\x10web.example.test"))
}

static LEAF: LazyLock<Vec<u8>> = LazyLock::new(|| constant("leaf"));

/// The serial of everything that is signed here.
pub(crate) fn leaf_serial() -> Serial {
    serial(0x5a)
}

/// What the root signs for that request.
pub(crate) fn leaf() -> &'static [u8] {
    &LEAF
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let common_name = der::encode(
        der::SET,
        &[&der::encode(der::SEQUENCE, &[&[6, 3, 0x55, 4, 3], &der::encode(0x0c, &[b"web.example.test"])])],
    );
    let attribute = alternatives(b"\0\x10web.example.test");
    let many: Vec<u8> =
        (0..99_u8).flat_map(|n| [&[0, 15][..], format!("{n:02}.example.test").as_bytes()].concat()).collect();
    vec![
        [&[0][..], &request()].concat(),
        [&[0][..], pem::request(&request()).as_bytes()].concat(),
        [&[1][..], &request()].concat(),
        [&[2][..], &crate::octets::sliced(&common_name), &attribute].concat(),
        [&[2][..], &crate::octets::sliced(&[]), &attribute].concat(),
        b"\x03\0\x0e*.example.test".to_vec(),
        b"\x03\0\x10web.example.test\x01\x04\xc0\0\x02\x01\x02\x1bspiffe://example.test/workload\x03\x0fme@example.test".to_vec(),
        b"\x03\x01\x10\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01".to_vec(),
        [&[3][..], &many].concat(),
    ]
}
