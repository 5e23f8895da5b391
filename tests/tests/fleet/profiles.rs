//! Every kind of certificate that a server issues, read by OpenSSL at its strictest and by GnuTLS.
//!
//! It refuses composed examples: each certificate comes out of a running server the way its user gets it.

use std::path::{Path, PathBuf};
use std::process::Command;

use certwright_tests::fleet::Fleet;
use certwright_tests::peers::{openssl_x509, verify_everywhere};
use certwright_tests::program::{must, peer};
use serde_json::Value;

/// Key of the root, key of the intermediate: each algorithm that an authority may have, in both places.
const AUTHORITIES: [(&str, &str); 3] =
    [("ECDSA-P256", "RSA-2048"), ("ECDSA-P384", "ECDSA-P256"), ("RSA-2048", "ECDSA-P384")];
/// A leaf's key: how a manifest asks for it, and what makes OpenSSL generate one.
const KEYS: [(&str, &str, &[&str]); 6] = [
    ("p256", "{algorithm: ECDSA, size: 256}", &["EC", "-pkeyopt", "ec_paramgen_curve:P-256"]),
    ("p384", "{algorithm: ECDSA, size: 384}", &["EC", "-pkeyopt", "ec_paramgen_curve:P-384"]),
    ("ed25519", "{algorithm: Ed25519}", &["ED25519"]),
    ("rsa2048", "{algorithm: RSA, size: 2048}", &["RSA", "-pkeyopt", "rsa_keygen_bits:2048"]),
    ("rsa3072", "{algorithm: RSA, size: 3072}", &["RSA", "-pkeyopt", "rsa_keygen_bits:3072"]),
    ("rsa4096", "{algorithm: RSA, size: 4096}", &["RSA", "-pkeyopt", "rsa_keygen_bits:4096"]),
];

/// A root, an intermediate and an issuer for each pair of algorithms.
fn declare_issuers(fleet: &Fleet) {
    let documents = AUTHORITIES.iter().enumerate().map(|(number, (root, intermediate))| {
        let head = "apiVersion: certwright.dev/v1\nkind";
        format!(
            "{head}: Authority\nmetadata: {{name: root-{number}}}\nspec: {{commonName: Root {number}, keyAlgorithm: {root}, \
             duration: 87600h, pathLen: 1, purpose: issuing}}\n---\n{head}: Authority\nmetadata: {{name: ca-{number}}}\n\
             spec: {{commonName: CA {number}, keyAlgorithm: {intermediate}, parent: root-{number}, duration: 43800h, \
             pathLen: 0, purpose: issuing}}\n---\n{head}: Issuer\nmetadata: {{name: issuer-{number}}}\n\
             spec: {{ca: {{authority: ca-{number}}}}}\n"
        )
    });
    fleet.apply(&documents.collect::<Vec<_>>().join("---\n"));
}

/// The certificate of every key algorithm from every issuer, delivered by the agent; answers their directories.
fn declare_leaves(fleet: &Fleet) -> Vec<PathBuf> {
    let (mut manifest, mut directories) = (String::new(), Vec::new());
    for (name, key, _) in KEYS {
        for issuer in 0..AUTHORITIES.len() {
            let directory = fleet.folder().join(format!("live/{name}-{issuer}"));
            manifest += &format!(
                "---\napiVersion: certwright.dev/v1\nkind: Certificate\nmetadata: {{name: {name}-{issuer}}}\nspec:\n  \
                 commonName: {name}.example.com\n  dnsNames: [{name}.example.com, '*.{name}.example.com']\n  \
                 ipAddresses: [192.0.2.1, '2001:db8::1']\n  uris: ['spiffe://example.com/{name}']\n  \
                 emailAddresses: [ops@example.com]\n  subject: {{organizations: [Example], countries: [DE]}}\n  \
                 usages: [digital signature, server auth, client auth]\n  duration: 24h\n  \
                 issuerRef: {{name: issuer-{issuer}}}\n  privateKey: {key}\n  targets:\n  - name: files\n    \
                 agent: agent-1\n    files: {{directory: {}}}\n",
                directory.display()
            );
            directories.push(directory);
        }
    }
    let file = fleet.folder().join("leaves.yaml");
    std::fs::write(&file, manifest).unwrap();
    fleet.run(&["apply", "-f", file.to_str().unwrap(), "--wait"]);
    directories
}

/// A certificate of every key algorithm for OpenSSL's own request; answers their directories.
fn sign_requests(fleet: &Fleet) -> Vec<PathBuf> {
    let mut directories = Vec::new();
    for (name, _, algorithm) in KEYS {
        let at = |file: &str| fleet.folder().join(format!("{name}.{file}"));
        must(Command::new(peer("openssl")).args(["genpkey", "-algorithm"]).args(algorithm).arg("-out").arg(at("key")));
        let names = format!("subjectAltName=DNS:{name}.example.com,IP:192.0.2.1");
        must(
            Command::new(peer("openssl"))
                .args(["req", "-new", "-subj", "/", "-addext", &names, "-key"])
                .arg(at("key"))
                .arg("-out")
                .arg(at("csr")),
        );
        for issuer in 0..AUTHORITIES.len() {
            let (csr, out) = (at("csr"), fleet.folder().join(format!("direct/{name}-{issuer}")));
            let (csr, to, issuer) = (csr.to_str().unwrap(), out.to_str().unwrap(), format!("issuer-{issuer}"));
            fleet.run(&["issue", "--csr", csr, "--issuer", &issuer, "--out", to]);
            directories.push(out);
        }
    }
    directories
}

/// Writes the parts of a context file that are certificates; answers root and leaf.
fn of_context(fleet: &Fleet, name: &str) -> (PathBuf, PathBuf) {
    let context: Value = serde_json::from_str(&std::fs::read_to_string(fleet.folder().join(name)).unwrap()).unwrap();
    let part = |key: &str| {
        let file = fleet.folder().join(format!("{name}.{key}.pem"));
        std::fs::write(&file, context[key].as_str().unwrap()).unwrap();
        file
    };
    (part("ca"), part("certificate"))
}

/// A node's certificate as a server stores it.
fn of_node(fleet: &Fleet) -> PathBuf {
    let stored = fleet.processes()["server-1"].data.clone().unwrap().join("node.crt");
    let pem = fleet.folder().join("node.pem");
    let text = std::fs::read_to_string(stored).unwrap();
    let end = text.find("-----END CERTIFICATE-----").unwrap() + "-----END CERTIFICATE-----\n".len();
    std::fs::write(&pem, &text[..end.min(text.len())]).unwrap();
    pem
}

fn key_of(certificate: &Path) -> String {
    openssl_x509(certificate, &["-pubkey"])
}

#[test]
fn openssl_and_gnutls_accept_every_kind_of_certificate() {
    let fleet = Fleet::start(1, 1);
    declare_issuers(&fleet);
    let leaves = [declare_leaves(&fleet), sign_requests(&fleet)].concat();
    assert_eq!(leaves.len(), 2 * KEYS.len() * AUTHORITIES.len());
    for leaf in &leaves {
        let file = |name: &str| leaf.join(name);
        verify_everywhere(&file("ca.pem"), Some(&file("chain.pem")), &file("cert.pem"));
    }
    // The key certified is the key that was asked for.
    for (name, ..) in KEYS {
        let key = must(
            Command::new(peer("openssl"))
                .args(["pkey", "-pubout", "-in"])
                .arg(fleet.folder().join(format!("{name}.key"))),
        );
        assert_eq!(key_of(&fleet.folder().join(format!("direct/{name}-0/cert.pem"))), key.trim());
    }
    // Intermediates under their roots, and roots under themselves.
    for issuer in 0..AUTHORITIES.len() {
        let leaf = fleet.folder().join(format!("live/p256-{issuer}"));
        verify_everywhere(&leaf.join("ca.pem"), None, &leaf.join("chain.pem"));
        verify_everywhere(&leaf.join("ca.pem"), None, &leaf.join("ca.pem"));
    }
    let (system, administrator) = of_context(&fleet, "context");
    let (_, agent) = of_context(&fleet, "agent-1.context");
    for certificate in [&system, &administrator, &agent, &of_node(&fleet)] {
        verify_everywhere(&system, None, certificate);
    }
}
