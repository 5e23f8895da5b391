//! Chains by openssl, judged at different times and with pieces missing; certificates read for people.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests run openssl on temporary files")]

use std::process::Command;

use super::*;
use crate::x509::{der, pem};

/// Root, intermediate with path length 0, leaf; all by openssl, valid from `start` for 10, 5 and 1 days.
struct Estate {
    directory: tempfile::TempDir,
}

const START: u64 = 1_798_761_600;

fn at(days: u64) -> Timestamp {
    Timestamp::from_seconds(START + days * 86_400)
}

impl Estate {
    fn new() -> Self {
        let estate = Self { directory: tempfile::tempdir().unwrap() };
        estate.issue("root", "root", 10, "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign");
        estate.issue(
            "between",
            "root",
            5,
            "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign",
        );
        estate.issue("leaf", "between", 1, "subjectAltName=DNS:a.example.com");
        estate
    }

    fn run(&self, line: &str) {
        let output = Command::new("openssl").args(line.split(' ')).current_dir(self.directory.path()).output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn issue(&self, name: &str, by: &str, days: u64, extensions: &str) -> Vec<u8> {
        let path = |suffix: &str| self.directory.path().join(format!("{name}{suffix}"));
        std::fs::write(path(".ext"), format!("[v3]\n{extensions}\nsubjectKeyIdentifier=hash\n")).unwrap();
        std::fs::write(path(".db"), "").unwrap();
        let config = format!(
            "[ca]\ndefault_ca=d\n[d]\nnew_certs_dir=.\ndatabase={name}.db\nrand_serial=yes\ndefault_md=sha256\n\
             policy=p\nunique_subject=no\n[p]\ncommonName=supplied\n"
        );
        std::fs::write(path(".cnf"), config).unwrap();
        self.run(&format!("ecparam -name prime256v1 -genkey -noout -out {name}.key"));
        self.run(&format!("req -new -key {name}.key -out {name}.csr -subj /CN={name}"));
        let date =
            |seconds: u64| at(0).plus(std::time::Duration::from_secs(seconds)).to_string().replace(['-', ':', 'T'], "");
        let signer = if by == name { "-selfsign".to_owned() } else { format!("-cert {by}.pem") };
        self.run(&format!(
            "ca -batch -notext -config {name}.cnf -in {name}.csr -out {name}.pem -keyfile {by}.key {signer} \
             -startdate {} -enddate {} -extfile {name}.ext -extensions v3",
            date(0),
            date(days * 86_400)
        ));
        self.der(name)
    }

    fn der(&self, name: &str) -> Vec<u8> {
        let path = self.directory.path().join(format!("{name}.pem"));
        pem::certificates(&std::fs::read(path).unwrap()).unwrap().remove(0)
    }
}

#[test]
fn a_chain_in_any_order_with_strangers_between() {
    let (estate, other) = (Estate::new(), Estate::new());
    let intermediates = [other.der("between"), estate.der("between"), other.der("root")];
    let roots = [other.der("root"), estate.der("root")];
    let leaf = estate.der("leaf");
    let chain = verify_chain(&leaf, &intermediates, &roots, at(0)).unwrap();
    assert_eq!(chain, [estate.der("between"), estate.der("root")]);
    assert_eq!(verify_chain(&estate.der("root"), &[], &roots, at(0)).unwrap(), Vec::<&[u8]>::new());
}

#[test]
fn times_at_both_ends_and_pieces_missing() {
    let (estate, other) = (Estate::new(), Estate::new());
    let (leaf, between, root) = (estate.der("leaf"), vec![estate.der("between")], vec![estate.der("root")]);
    let judge = |at: Timestamp| verify_chain(&leaf, &between, &root, at).map(|chain| chain.len());
    let millis = std::time::Duration::from_millis(1);
    assert_eq!(judge(at(0)), Ok(2));
    assert_eq!(judge(at(1)), Ok(2), "the last second counts");
    assert!(matches!(judge(at(0).minus(millis)), Err(ChainError::NotYetValid { .. })));
    assert!(
        matches!(judge(at(1).plus(millis * 1000)), Err(ChainError::Expired { subject, .. }) if subject == "CN=leaf")
    );
    assert!(matches!(verify_chain(&leaf, &[], &root, at(0)), Err(ChainError::IssuerMissing(_))));
    assert!(
        matches!(verify_chain(&leaf, &between, &[], at(0)), Err(ChainError::IssuerMissing(subject)) if subject == "CN=between")
    );
    let foreign = verify_chain(&leaf, &between, &[other.der("root")], at(0)).map(|chain| chain.len());
    assert_eq!(foreign, Err(ChainError::SignatureInvalid("CN=between".to_owned())));
}

/// What is not signed over is read as strictly: whoever serves the certificate has readers that do.
#[test]
fn a_signature_is_a_bit_string() {
    let estate = Estate::new();
    let (between, root) = ([estate.der("between")], [estate.der("root")]);
    let mut leaf = estate.der("leaf");
    let tag = {
        let parts = der::elements(der::only(der::SEQUENCE, &leaf).unwrap(), 3).unwrap();
        leaf.len() - parts[2].raw.len()
    };
    assert_eq!(leaf[tag], der::BIT_STRING);
    leaf[tag] = 0x83;
    let outcome = verify_chain(&leaf, &between, &root, at(0)).map(|chain| chain.len());
    assert!(outcome.is_err(), "{outcome:?}");
}

#[test]
fn who_has_no_subject_is_called_by_a_name_or_the_serial() {
    let estate = Estate::new();
    let alone = |more: &str| {
        estate.run(&format!("req -x509 -new -key leaf.key -subj / -days 1 -out alone.pem{more}"));
        let der = estate.der("alone");
        (verify_chain(&der, &[], &[], at(20_000)).unwrap_err().to_string(), inspect(&der).unwrap().serial)
    };
    let (named, _) = alone(" -addext subjectAltName=DNS:a.example.com,DNS:b.example.com");
    assert!(named.starts_with("a.example.com ended at "), "{named}");
    let (nameless, serial) = alone("");
    assert!(nameless.starts_with(&format!("serial {serial} ended at ")), "{nameless}");
}

#[test]
fn authorities_must_be_authorities() {
    let estate = Estate::new();
    let (between, root) = (vec![estate.der("between")], vec![estate.der("root")]);
    let judge = |leaf: &[u8], more: &[Vec<u8>]| {
        verify_chain(leaf, &[&between[..], more].concat(), &root, at(0)).map(|chain| chain.len())
    };
    let by_leaf = estate.issue("under-leaf", "leaf", 1, "subjectAltName=DNS:b.example.com");
    let outcome = judge(&by_leaf, &[estate.der("leaf")]);
    assert_eq!(outcome, Err(ChainError::NotAnAuthority("CN=leaf".to_owned())));

    let deep = estate.issue("deep", "between", 1, "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign");
    let under_deep = estate.issue("under-deep", "deep", 1, "subjectAltName=DNS:c.example.com");
    assert_eq!(judge(&under_deep, &[deep]), Err(ChainError::PathTooLong("CN=between".to_owned())));

    let no_usage = estate.issue("no-usage", "root", 1, "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,cRLSign");
    let under = estate.issue("under-no-usage", "no-usage", 1, "subjectAltName=DNS:d.example.com");
    assert_eq!(judge(&under, &[no_usage]), Err(ChainError::NotAnAuthority("CN=no-usage".to_owned())));

    let narrow = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\nnameConstraints=critical,permitted;DNS:x.org";
    let narrow = estate.issue("narrow", "root", 1, narrow);
    let outside = estate.issue("outside", "narrow", 1, "subjectAltName=DNS:e.example.com");
    assert!(
        matches!(judge(&outside, &[narrow]), Err(ChainError::NameNotAllowed { name, .. }) if name == "e.example.com")
    );

    let unknown = estate.issue("unknown", "between", 1, "1.2.3.4=critical,ASN1:UTF8String:x");
    assert_eq!(judge(&unknown, &[]), Err(ChainError::UnknownCriticalExtension("CN=unknown".to_owned())));
}

#[test]
fn a_crafted_crowd_of_intermediates_is_cut_off() {
    let estate = Estate::new();
    let mut crowd = Vec::new();
    for _ in 0..70 {
        // Same name, same key identifier, another certificate: each costs a signature check.
        let mut der = estate.der("between");
        let at = der.len() - 1 - crowd.len() % 8;
        der[at] ^= (1 + crowd.len() / 8) as u8;
        crowd.push(der);
    }
    let outcome = verify_chain(&estate.der("leaf"), &crowd, &[estate.der("root")], at(0)).map(|chain| chain.len());
    assert_eq!(outcome, Err(ChainError::TooComplex));
}

#[test]
fn what_people_see() {
    let estate = Estate::new();
    let seen = inspect(&estate.der("between")).unwrap();
    assert_eq!((seen.subject.as_str(), seen.issuer.as_str()), ("CN=between", "CN=root"));
    assert_eq!((seen.is_ca, seen.path_len, seen.self_issued), (true, Some(0), false));
    assert_eq!(seen.usages, ["cert sign"]);
    assert_eq!((seen.not_before, seen.not_after), (at(0), at(5)));
    assert_eq!(seen.signature_algorithm, "ecdsa-with-SHA256");
    assert_eq!(seen.key_algorithm, Some(KeyAlgorithm::EcdsaP256));
    let output = Command::new("openssl")
        .args(["x509", "-noout", "-serial", "-fingerprint", "-sha256", "-in", "between.pem"])
        .current_dir(estate.directory.path())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains(&format!("serial={}", seen.serial)), "{text} {}", seen.serial);
    assert!(text.replace(':', "").contains(&hex(&seen.fingerprint)), "{text}");
    assert!(inspect(b"nothing").is_err());
}
