//! Certificates of every kind, verified by `openssl verify -x509_strict`.

use super::support::*;
use crate::spec::{KeyAlgorithm, Subject, Usage};
use crate::x509::inspect::{inspect, verify_chain};
use crate::x509::*;

const AT: &str = "1798765200"; // an hour after NOW

fn verify(openssl: &OpenSsl, root: &[u8], between: Option<&[u8]>, leaf: &[u8], extra: &[&str]) {
    openssl.write("root.pem", &pem::certificate(root));
    openssl.write("leaf.pem", &pem::certificate(leaf));
    openssl.write("between.pem", &between.map(pem::certificate).unwrap_or_default());
    let mut arguments = vec!["verify", "-x509_strict", "-check_ss_sig", "-attime", AT, "-CAfile", "root.pem"];
    if between.is_some() {
        arguments.extend(["-untrusted", "between.pem"]);
    }
    arguments.extend(extra);
    arguments.push("leaf.pem");
    assert!(openssl.run(&arguments).contains("leaf.pem: OK"));
}

#[test]
fn chains_of_every_issuer_key_with_leaves_of_every_kind() {
    use KeyAlgorithm::{EcdsaP256, EcdsaP384, Rsa2048};
    for (above, below) in [(EcdsaP256, EcdsaP256), (EcdsaP384, Rsa2048), (Rsa2048, EcdsaP384)] {
        let root = TestAuthority::root(above);
        let between = root.below("intermediate", below, Some(0)).unwrap();
        for kind in ["ec:prime256v1", "ec:secp384r1", "rsa:2048", "ed25519"] {
            let openssl = OpenSsl::new();
            openssl.key(kind);
            let request = openssl.request("/CN=a.example.com", &["-addext", "subjectAltName=DNS:a.example.com,IP:::1"]);
            let issued = between.issue(&request, &[Usage::ServerAuth, Usage::ClientAuth]).unwrap();
            let extra = ["-purpose", "sslserver", "-verify_hostname", "a.example.com"];
            verify(&openssl, root.certificate.der(), Some(between.certificate.der()), issued.der(), &extra);
            let intermediates = [between.certificate.der().to_vec()];
            let roots = [root.certificate.der().to_vec()];
            assert_eq!(verify_chain(issued.der(), &intermediates, &roots, NOW).unwrap().len(), 2, "{above:?} {kind}");
        }
    }
}

#[test]
fn the_full_subject_in_order_with_repeated_attributes() {
    let authority = TestAuthority::root(KeyAlgorithm::EcdsaP256);
    let csr = csr::parse(&request_for("DNS:a.example.com")).unwrap().verify().unwrap();
    let list = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
    let subject = Subject {
        organizations: list(&["One", "Zwei & Söhne"]),
        organizational_units: list(&["Unit"]),
        countries: list(&["DE"]),
        localities: list(&["Berlin"]),
        provinces: list(&["BE"]),
        street_addresses: list(&["Street 1"]),
        postal_codes: list(&["10115"]),
        serial_number: Some("42".to_owned()),
    };
    let plan = authority.plan(&csr, &subject, &[]);
    let issued =
        authority.finish(lint::lint(compose::leaf(&plan).unwrap(), &Profile::Leaf { issuer: &issuer_spec() }).unwrap());
    let openssl = OpenSsl::new();
    let issued = issued.unwrap();
    verify(&openssl, authority.certificate.der(), None, issued.der(), &[]);
    let printed = openssl.run(&["x509", "-in", "leaf.pem", "-noout", "-subject", "-nameopt", "utf8,sep_comma_plus"]);
    let expected =
        "subject=C=DE,ST=BE,L=Berlin,street=Street 1,postalCode=10115,O=One,O=Zwei & Söhne,OU=Unit,serialNumber=42";
    assert_eq!(printed.trim(), expected);
    assert_eq!(inspect(issued.der()).unwrap().names.dns_names, ["a.example.com"]);
}

#[test]
fn alternative_names_are_critical_exactly_when_the_subject_is_empty() {
    let authority = TestAuthority::root(KeyAlgorithm::EcdsaP256);
    let openssl = OpenSsl::new();
    openssl.key("ec:prime256v1");
    for (subject, critical) in [("/", true), ("/CN=a.example.com", false)] {
        let request = openssl.request(subject, &["-addext", "subjectAltName=DNS:a.example.com"]);
        verify(&openssl, authority.certificate.der(), None, authority.issue(&request, &[]).unwrap().der(), &[]);
        let text = openssl.run(&["x509", "-in", "leaf.pem", "-noout", "-ext", "subjectAltName"]);
        assert_eq!(text.contains("critical"), critical, "{text}");
    }
}

#[test]
fn identities_carry_one_uri_and_verify_for_tls() {
    let system = TestAuthority::root(KeyAlgorithm::EcdsaP256);
    let pair = pair(KeyAlgorithm::EcdsaP256);
    let hosts = ["node-1.internal".to_owned(), "127.0.0.1".to_owned()];
    for (uri, serves, common_name) in
        [("certwright://00ff/node/1", true, None), ("certwright://00ff/administrator/admin", false, Some("admin"))]
    {
        let composed = compose::identity(&IdentityPlan {
            serial: serial(9),
            not_before: NOW,
            not_after: NOW.plus(DAY * 365),
            uri,
            hosts: if serves { &hosts } else { &[] },
            common_name,
            serves,
            spki_der: &rcgen::PublicKeyData::subject_public_key_info(&pair),
            issuer: &system.certificate,
        })
        .unwrap();
        let issued = system.finish(lint::lint(composed, &Profile::Identity).unwrap()).unwrap();
        let openssl = OpenSsl::new();
        verify(&openssl, system.certificate.der(), None, issued.der(), &["-purpose", "sslclient"]);
        let inspected = inspect(issued.der()).unwrap();
        assert_eq!(inspected.names.uris, [uri]);
        let expected: &[&str] = if serves { &["node-1.internal"] } else { &[] };
        assert_eq!(inspected.names.dns_names, expected);
        assert_eq!(inspected.names.ip_addresses.len(), usize::from(serves));
        assert_eq!(inspected.usages.contains(&"server auth".to_owned()), serves);
        assert_eq!(inspected.names.common_name.as_deref(), common_name);
    }
}

#[test]
fn an_authority_of_openssl_can_be_the_issuer() {
    // Its name holds a relative name with two attributes, which must be repeated byte for byte, and its key identifier
    // is made in another way than ours.
    let openssl = OpenSsl::new();
    openssl.key("ec:prime256v1");
    let extra = ["-x509", "-days", "36500", "-multivalue-rdn", "-addext", "keyUsage=critical,keyCertSign,cRLSign"];
    openssl.run(
        &[&["req", "-new", "-key", "key.pem", "-out", "ca.pem", "-subj", "/O=Old+CN=Old CA"], &extra[..]].concat(),
    );
    let der = pem::certificates(&openssl.read("ca.pem")).unwrap().remove(0);
    let issuer = IssuerCertificate::parse(&der).unwrap();
    openssl.run(&["pkcs8", "-topk8", "-nocrypt", "-in", "key.pem", "-out", "ca.key"]);
    let pair = rcgen::KeyPair::from_pem(&String::from_utf8(openssl.read("ca.key")).unwrap()).unwrap();
    let authority = TestAuthority { pair, certificate: issuer };
    let csr = csr::parse(&request_for("DNS:a.example.com")).unwrap().verify().unwrap();
    let subject = Subject::default();
    let start = authority.certificate.not_before();
    let plan = LeafPlan { not_before: start, not_after: start.plus(DAY), ..authority.plan(&csr, &subject, &[]) };
    let composed = compose::leaf(&plan).unwrap();
    let issued = authority.finish(lint::lint(composed, &Profile::Leaf { issuer: &issuer_spec() }).unwrap()).unwrap();
    openssl.write("leaf.pem", &pem::certificate(issued.der()));
    let at = (start.seconds() + 60).to_string();
    let text = openssl.run(&["verify", "-x509_strict", "-attime", &at, "-CAfile", "ca.pem", "leaf.pem"]);
    assert!(text.contains("leaf.pem: OK"), "{text}");
}
