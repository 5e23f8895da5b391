//! Requests that are fine, by every key and hash that is allowed.

use super::support::*;
use crate::spec::KeyAlgorithm;
use crate::x509::{csr, der};

#[test]
fn every_allowed_key_with_every_sha2() {
    let cases = [
        ("ec:prime256v1", KeyAlgorithm::EcdsaP256, &["-sha256", "-sha384", "-sha512"][..]),
        ("ec:secp384r1", KeyAlgorithm::EcdsaP384, &["-sha256", "-sha384", "-sha512"]),
        ("rsa:2048", KeyAlgorithm::Rsa2048, &["-sha256", "-sha384", "-sha512"]),
        ("rsa:3072", KeyAlgorithm::Rsa3072, &["-sha256"]),
        ("rsa:4096", KeyAlgorithm::Rsa4096, &["-sha256"]),
        ("ed25519", KeyAlgorithm::Ed25519, &["-sha256"]),
    ];
    for (kind, algorithm, hashes) in cases {
        let openssl = OpenSsl::new();
        openssl.key(kind);
        for hash in hashes {
            let request = openssl.request("/CN=a.example.com", &[hash]);
            let csr = csr::parse(&request).unwrap().verify().unwrap_or_else(|error| panic!("{kind} {hash}: {error}"));
            assert_eq!(csr.key_algorithm(), algorithm, "{kind} {hash}");
        }
    }
}

#[test]
fn pem_der_and_the_old_label_are_the_same_request() {
    let openssl = OpenSsl::new();
    openssl.key("ec:prime256v1");
    let pem = openssl.request("/CN=a.example.com", &[]);
    openssl.run(&["req", "-in", "request.pem", "-outform", "DER", "-out", "request.der"]);
    let der = openssl.read("request.der");
    let text = String::from_utf8(pem.clone()).unwrap();
    let old = text.replace("CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST");
    let expected = csr::parse(&der).unwrap().verify().unwrap();
    for form in [pem, old.into_bytes(), format!("0 comment\n{text}\nafter").into_bytes()] {
        assert_eq!(csr::parse(&form).unwrap().verify().unwrap(), expected);
    }
    assert_eq!(csr::parse(crate::x509::pem::request(&der).as_bytes()).unwrap().verify().unwrap(), expected);
}

#[test]
fn names_of_all_kinds_are_read_once_each_and_in_lower_case() {
    let request = request_for(
        "DNS:B.example.com,DNS:b.example.com,DNS:*.a.example.com,IP:10.0.0.1,IP:10.0.0.1,IP:2001:db8::1,\
         URI:spiffe://example.com/x,email:ops@example.com",
    );
    let csr = csr::parse(&request).unwrap().verify().unwrap();
    let names = csr.names();
    assert_eq!(names.common_name, None);
    assert_eq!(names.dns_names, ["b.example.com", "*.a.example.com"]);
    assert_eq!(names.ip_addresses, ["10.0.0.1".parse::<std::net::IpAddr>().unwrap(), "2001:db8::1".parse().unwrap()]);
    assert_eq!(names.uris, ["spiffe://example.com/x"]);
    assert_eq!(names.email_addresses, ["ops@example.com"]);
}

#[test]
fn a_common_name_counts_when_it_is_a_dns_name() {
    let openssl = OpenSsl::new();
    openssl.key("ec:prime256v1");
    let names = |subject: &str, extra: &[&str]| {
        csr::parse(&openssl.request(subject, extra)).unwrap().verify().unwrap().names().clone()
    };
    let alone = names("/CN=WWW.example.com", &[]);
    assert_eq!(alone.common_name.as_deref(), Some("www.example.com"));
    assert_eq!(alone.dns_names, ["www.example.com"], "a request without alternative names asks for its common name");

    let beside = names("/CN=www.example.com", &["-addext", "subjectAltName=DNS:other.example.com"]);
    assert_eq!(beside.common_name.as_deref(), Some("www.example.com"));
    assert_eq!(beside.dns_names, ["other.example.com"], "never added silently beside others");

    for left_out in ["/CN=10.0.0.1", "/CN=Dr. Jane Doe", "/CN=jane@example.com", "/O=Example", "/"] {
        assert_eq!(names(left_out, &["-addext", "subjectAltName=DNS:x.example.com"]).common_name, None, "{left_out}");
    }
}

#[test]
fn other_extensions_are_not_even_read() {
    let openssl = OpenSsl::new();
    openssl.key("ec:prime256v1");
    let extra = [
        ["-addext", "subjectAltName=DNS:a.example.com"],
        ["-addext", "keyUsage=critical,keyCertSign,cRLSign"],
        ["-addext", "extendedKeyUsage=anyExtendedKeyUsage"],
        ["-addext", "basicConstraints=CA:FALSE"],
        ["-addext", "tlsfeature=status_request"],
        ["-addext", "1.2.3.4.5=ASN1:UTF8String:x"],
    ]
    .concat();
    let csr = csr::parse(&openssl.request("/", &extra)).unwrap().verify().unwrap();
    assert_eq!(csr.names().dns_names, ["a.example.com"]);
    let issued = TestAuthority::root(KeyAlgorithm::EcdsaP256).issue(&openssl.read("request.pem"), &[]).unwrap();
    assert_eq!(issued.facts().key_usages.names(), ["digital signature"]);
    assert!(issued.facts().extended_usages.is_empty());
}

#[test]
fn microsofts_attribute_is_read_too() {
    let names = der::encode(der::SEQUENCE, &[&der::encode(0x82, &[b"win.example.com"])]);
    let request = forged(&[], &extension_attribute(MICROSOFT, ALTERNATIVES, &names));
    assert_eq!(csr::parse(&request).unwrap().verify().unwrap().names().dns_names, ["win.example.com"]);
}

proptest::proptest! {
    /// No octets make the parser panic, and a request that was altered does not verify.
    #[test]
    fn altered_requests_never_verify(at in 0usize..200, flip in 1u8..=255) {
        use std::sync::LazyLock;
        static REQUEST: LazyLock<Vec<u8>> = LazyLock::new(|| forged_name(0x82, b"a.example.com"));
        let mut altered = REQUEST.clone();
        let at = at % altered.len();
        altered[at] ^= flip;
        if let Ok(csr) = csr::parse(&altered) {
            proptest::prop_assert!(csr.verify().is_err());
        }
    }

    #[test]
    fn noise_is_refused(noise in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
        proptest::prop_assert!(csr::parse(&noise).is_err());
    }
}
