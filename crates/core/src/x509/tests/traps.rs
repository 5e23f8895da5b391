//! The four traps of rcgen, each with a request by the real openssl and the certificate read by it.

use super::support::*;
use crate::rejection::Reason;
use crate::spec::{KeyAlgorithm, Subject};
use crate::x509::{Profile, compose, csr, lint, pem};

/// A request whose hash is not its curve's own: rcgen takes the key's type from the signature's algorithm
/// (upstream issue 448) and writes a certificate whose key nobody can load.
#[test]
fn the_key_is_certified_as_it_is_whatever_signed_the_request() {
    for (kind, hash) in [("ec:secp384r1", "-sha256"), ("ec:prime256v1", "-sha384"), ("rsa:2048", "-sha512")] {
        let openssl = OpenSsl::new();
        openssl.key(kind);
        let request = openssl.request("/CN=a.example.com", &[hash]);
        let issued = TestAuthority::root(KeyAlgorithm::EcdsaP256).issue(&request, &[]).unwrap();
        openssl.write("leaf.pem", &pem::certificate(issued.der()));
        let certified = openssl.run(&["x509", "-in", "leaf.pem", "-noout", "-pubkey"]);
        let requested = openssl.run(&["req", "-in", "request.pem", "-noout", "-pubkey"]);
        assert_eq!(certified, requested, "{kind} {hash}");
        assert!(!openssl.run(&["x509", "-in", "leaf.pem", "-noout", "-text"]).contains("Unable to load"));
    }
}

/// rcgen copies CA:TRUE, key usages and every alternative name from the request.
#[test]
fn a_request_never_makes_an_authority() {
    let openssl = OpenSsl::new();
    openssl.key("ec:prime256v1");
    let authority = TestAuthority::root(KeyAlgorithm::EcdsaP256);
    let asks = openssl.request("/CN=a.example.com", &["-addext", "basicConstraints=critical,CA:TRUE"]);
    assert_eq!(authority.issue(&asks, &[]).unwrap_err().reason, Reason::CsrNotAllowed);

    let hints = openssl.request("/CN=a.example.com", &["-addext", "keyUsage=keyCertSign,cRLSign"]);
    openssl.write("leaf.pem", &pem::certificate(authority.issue(&hints, &[]).unwrap().der()));
    let text = openssl.run(&["x509", "-in", "leaf.pem", "-noout", "-text"]);
    assert!(text.contains("CA:FALSE") || !text.contains("CA:TRUE"), "{text}");
    assert!(!text.contains("Certificate Sign") && !text.contains("CRL Sign"), "{text}");
}

/// rcgen derives a missing serial from the public key: renewing with the same key would repeat it.
#[test]
fn one_key_certified_twice_has_two_serials() {
    let request = request_for("DNS:a.example.com");
    let authority = TestAuthority::root(KeyAlgorithm::EcdsaP256);
    let csr = csr::parse(&request).unwrap().verify().unwrap();
    let subject = Subject::default();
    let issue = |seed: u8| {
        let plan = compose::LeafPlan { serial: serial(seed), ..authority.plan(&csr, &subject, &[]) };
        let linted = lint::lint(compose::leaf(&plan).unwrap(), &Profile::Leaf { issuer: &issuer_spec() }).unwrap();
        authority.finish(linted).unwrap()
    };
    let openssl = OpenSsl::new();
    for seed in [0x21, 0x00, 0xff] {
        let issued = issue(seed);
        openssl.write("leaf.pem", &pem::certificate(issued.der()));
        let printed = openssl.run(&["x509", "-in", "leaf.pem", "-noout", "-serial"]);
        assert_eq!(printed.trim(), format!("serial={}", serial(seed)));
        assert_eq!(issued.serial(), serial(seed));
    }
}

/// rcgen's defaults are valid from 1975 to 4096 and are called "rcgen self signed cert".
#[test]
fn dates_and_subject_are_those_decided() {
    let issued = TestAuthority::root(KeyAlgorithm::EcdsaP256).issue(&request_for("DNS:a.example.com"), &[]).unwrap();
    let openssl = OpenSsl::new();
    openssl.write("leaf.pem", &pem::certificate(issued.der()));
    let text = openssl.run(&["x509", "-in", "leaf.pem", "-noout", "-startdate", "-enddate", "-subject", "-issuer"]);
    assert!(text.contains("notBefore=Jan  1 00:00:00 2027 GMT"), "{text}");
    assert!(text.contains("notAfter=Jan  2 00:00:00 2027 GMT"), "{text}");
    assert!(!text.contains("rcgen") && text.contains("issuer=CN = root"), "{text}");
}
