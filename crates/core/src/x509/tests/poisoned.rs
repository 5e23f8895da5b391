//! Requests that somebody meant badly, each refused with its own reason.

use super::support::*;
use crate::limits::{CSR_OCTETS_MAX, NAMES_MAX};
use crate::rejection::Reason;
use crate::x509::{SignatureAlgorithm, csr, der};

fn reason(request: &[u8]) -> Reason {
    csr::parse(request).and_then(csr::Csr::verify).expect_err("refused").reason
}

#[test]
fn keys_that_are_weak_or_foreign() {
    for kind in ["rsa:1024", "rsa:2560", "ec:prime192v1", "ec:secp224r1", "ec:secp256k1", "ec:secp521r1", "ed448"] {
        let openssl = OpenSsl::new();
        openssl.key(kind);
        assert_eq!(reason(&openssl.request("/CN=a.example.com", &[])), Reason::KeyNotAllowed, "{kind}");
    }
}

#[test]
fn keys_in_unusual_encodings() {
    let openssl = OpenSsl::new();
    for extra in [["-param_enc", "explicit"], ["-conv_form", "compressed"]] {
        let fixed = ["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "key.pem"];
        openssl.run(&fixed);
        openssl.run(&[&["ec", "-in", "key.pem", "-out", "key.pem"], &extra[..]].concat());
        assert_eq!(reason(&openssl.request("/CN=a.example.com", &[])), Reason::KeyNotAllowed, "{extra:?}");
    }
}

#[test]
fn rsa_exponents_other_than_65537() {
    let openssl = OpenSsl::new();
    let exponent = ["-pkeyopt", "rsa_keygen_bits:2048", "-pkeyopt", "rsa_keygen_pubexp:3"];
    openssl.run(&[&["genpkey", "-algorithm", "RSA", "-out", "key.pem"], &exponent[..]].concat());
    assert_eq!(reason(&openssl.request("/CN=a.example.com", &[])), Reason::KeyNotAllowed);

    // openssl makes no key with exponent 1, whose signatures anybody can forge.
    let modulus = der::encode(der::INTEGER, &[&[0], &[0xc5; 255], &[0x01]]);
    let key = der::encode(der::SEQUENCE, &[&modulus, &[der::INTEGER, 1, 1]]);
    let algorithm: &[u8] = &[0x30, 0x0d, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];
    let spki = der::encode(der::SEQUENCE, &[algorithm, &der::encode(der::BIT_STRING, &[&[0], &key])]);
    assert_eq!(reason(&forged_with(&spki, &[], &[], |_| vec![1; 256])), Reason::KeyNotAllowed);
}

#[test]
fn signatures_that_prove_nothing() {
    let good = forged_name(0x82, b"a.example.com");
    csr::parse(&good).unwrap().verify().unwrap();
    let mut bad = good;
    *bad.last_mut().unwrap() ^= 1;
    assert_eq!(reason(&bad), Reason::CsrSignatureInvalid);

    let (mine, theirs) = (pair(crate::spec::KeyAlgorithm::EcdsaP256), pair(crate::spec::KeyAlgorithm::EcdsaP256));
    let stolen = forged_with(&rcgen::PublicKeyData::subject_public_key_info(&theirs), &[], &[], |info| {
        rcgen::SigningKey::sign(&mine, info).unwrap()
    });
    assert_eq!(reason(&stolen), Reason::CsrSignatureInvalid, "signed by another key");

    let openssl = OpenSsl::new();
    openssl.key("rsa:2048");
    assert_eq!(reason(&openssl.request("/CN=a.example.com", &["-sha1"])), Reason::CsrSignatureInvalid, "SHA-1");
}

#[test]
fn authority_in_plain_sight_and_hidden() {
    let openssl = OpenSsl::new();
    openssl.key("ec:prime256v1");
    for value in ["basicConstraints=CA:TRUE", "basicConstraints=critical,CA:TRUE,pathlen:0"] {
        assert_eq!(reason(&openssl.request("/CN=a.example.com", &["-addext", value])), Reason::CsrNotAllowed);
    }
    let names = der::encode(der::SEQUENCE, &[&der::encode(0x82, &[b"a.example.com"])]);
    let honest = extension_attribute(EXTENSION_REQUEST, ALTERNATIVES, &names);
    for attribute in [EXTENSION_REQUEST, MICROSOFT] {
        let hidden = extension_attribute(attribute, BASIC, CA_TRUE);
        assert_eq!(reason(&forged(&[], &[&honest[..], &hidden].concat())), Reason::CsrNotAllowed, "a second attribute");
    }
    let not_quite_true = extension_attribute(EXTENSION_REQUEST, BASIC, &[0x30, 3, 1, 1, 0x01]);
    assert_eq!(reason(&forged(&[], &not_quite_true)), Reason::CsrNotAllowed, "TRUE as BER has it");
    let unreadable = extension_attribute(EXTENSION_REQUEST, BASIC, &[0x30, 3, 4, 1, 0xff]);
    assert_eq!(reason(&forged(&[], &unreadable)), Reason::InvalidCsr);
}

#[test]
fn names_that_are_none() {
    let cases: [(u8, &[u8]); 20] = [
        (0x82, b"good.example.com\0.evil.org"),
        (0x82, b"10.0.0.1"),
        (0x82, b"::1"),
        (0x82, b"10.0.0"),
        (0x82, b"example.com."),
        (0x82, b"a..example.com"),
        (0x82, b".example.com"),
        (0x82, b""),
        (0x82, b"*"),
        (0x82, b"*.com"),
        (0x82, b"*.*.example.com"),
        (0x82, b"a.*.example.com"),
        (0x82, b"w*.example.com"),
        (0x82, b"b\xc3\xbccher.example.com"),
        (0x82, b"under_score.example.com"),
        (0x82, b"-a.example.com"),
        (0x86, b"no-scheme"),
        (0x86, b"https://exa mple.com/"),
        (0x81, b"@example.com"),
        (0x87, &[10, 0, 0]),
    ];
    for (tag, content) in cases {
        let request = forged_name(tag, content);
        assert_eq!(reason(&request), Reason::InvalidCsr, "{tag:x} {:?}", String::from_utf8_lossy(content));
    }
    assert_eq!(reason(&forged_name(0x82, &[b'a'; 254])), Reason::InvalidCsr, "longer than DNS allows");
    assert_eq!(reason(&request_for("DNS:*.com")), Reason::InvalidCsr, "by openssl");
}

#[test]
fn names_of_kinds_that_nobody_issues() {
    let openssl = OpenSsl::new();
    openssl.key("ec:prime256v1");
    for name in ["otherName:1.3.6.1.4.1.311.20.2.3;UTF8:root@example.com", "RID:1.2.3.4"] {
        let request = openssl.request("/", &["-addext", &format!("subjectAltName={name}")]);
        assert_eq!(reason(&request), Reason::CsrNotAllowed, "{name}");
    }
}

#[test]
fn common_names_that_only_look_like_names() {
    let subject = |values: &[&[u8]]| {
        let relative = values.iter().flat_map(|value| {
            let pair = der::encode(der::SEQUENCE, &[&[6, 3, 0x55, 4, 3], &der::encode(der::UTF8_STRING, &[value])]);
            der::encode(der::SET, &[&pair])
        });
        forged(&relative.collect::<Vec<u8>>(), &[])
    };
    for bad in [&b"example.com."[..], b"*.com", b"a.example.com\0", b"a_b.example.com", &[b'a'; 65]] {
        let expected = if bad.len() == 65 { None } else { Some(Reason::InvalidCsr) };
        let outcome = csr::parse(&subject(&[bad])).and_then(csr::Csr::verify);
        assert_eq!(outcome.err().map(|error| error.reason), expected, "{:?}", String::from_utf8_lossy(bad));
    }
    assert_eq!(reason(&subject(&[b"a.example.com", b"b.example.com"])), Reason::InvalidCsr, "two of them");
}

#[test]
fn one_more_than_the_bounds() {
    let list = |count: usize| (0..count).map(|n| format!("DNS:h{n}.example.com")).collect::<Vec<_>>().join(",");
    csr::parse(&request_for(&list(NAMES_MAX))).unwrap().verify().unwrap();
    assert_eq!(reason(&request_for(&list(NAMES_MAX + 1))), Reason::TooLarge);
    // The same name 101 times is 101 names: what is counted is what was sent.
    assert_eq!(reason(&request_for(&["DNS:a.example.com"; NAMES_MAX + 1].join(","))), Reason::TooLarge);

    let mut text = request_for("DNS:a.example.com");
    text.resize(CSR_OCTETS_MAX, b'\n');
    csr::parse(&text).unwrap();
    text.push(b'\n');
    assert_eq!(reason(&text), Reason::TooLarge);
}

#[test]
fn structures_that_are_no_request() {
    let good = forged_name(0x82, b"a.example.com");
    let pem = crate::x509::pem::request(&good);
    let cases: [Vec<u8>; 9] = [
        Vec::new(),
        b"hello".to_vec(),
        good[..good.len() - 1].to_vec(),
        [&good[..], &[0]].concat(),
        der::encode(der::SEQUENCE, &[]),
        der::encode(der::SEQUENCE, &[&[5, 0], SignatureAlgorithm::EcdsaSha256.identifier(), &[3, 1, 0]]),
        (pem.clone() + &pem).into_bytes(),
        crate::x509::pem::certificate(&good).into_bytes(),
        b"-----BEGIN CERTIFICATE REQUEST-----\n%%%\n-----END CERTIFICATE REQUEST-----\n".to_vec(),
    ];
    for (at, case) in cases.iter().enumerate() {
        assert_eq!(reason(case), Reason::InvalidCsr, "case {at}");
    }
}
