//! What the tests share: openssl in a temporary directory, authorities with keys in clear, forged requests.

use std::process::Command;

use rcgen::{PublicKeyData as _, SigningKey as _};
use tempfile::TempDir;

use crate::ids::Serial;
use crate::rejection::Rejection;
use crate::spec::{AuthorityPurpose, AuthoritySpec, IssuerKind, IssuerSpec, KeyAlgorithm, Subject, Usage};
use crate::time::Timestamp;
use crate::x509::*;

/// 2027-01-01T00:00:00Z.
pub(super) const NOW: Timestamp = Timestamp::from_seconds(1_798_761_600);
pub(super) const DAY: std::time::Duration = std::time::Duration::from_secs(86_400);

/// openssl in a directory of its own.
pub(super) struct OpenSsl(TempDir);

impl OpenSsl {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Runs it; standard output and error together, and whether it succeeded.
    pub(super) fn try_run(&self, arguments: &[&str]) -> (bool, String) {
        let output = Command::new("openssl").args(arguments).current_dir(self.0.path()).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }

    pub(super) fn run(&self, arguments: &[&str]) -> String {
        let (success, text) = self.try_run(arguments);
        assert!(success, "openssl {arguments:?}: {text}");
        text
    }

    pub(super) fn write(&self, name: &str, content: &str) {
        std::fs::write(self.0.path().join(name), content).unwrap();
    }

    pub(super) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.0.path().join(name)).unwrap()
    }

    /// Makes `key.pem`: `ec:CURVE`, `rsa:BITS` or `ed25519`.
    pub(super) fn key(&self, kind: &str) {
        let (name, parameter) = kind.split_once(':').unwrap_or((kind, ""));
        match name {
            "ec" => self.run(&["ecparam", "-name", parameter, "-genkey", "-noout", "-out", "key.pem"]),
            "rsa" => {
                let bits = format!("rsa_keygen_bits:{parameter}");
                self.run(&["genpkey", "-algorithm", "RSA", "-pkeyopt", &bits, "-out", "key.pem"])
            }
            _ => self.run(&["genpkey", "-algorithm", name, "-out", "key.pem"]),
        };
    }

    /// A request in PEM by `key.pem`.
    pub(super) fn request(&self, subject: &str, extra: &[&str]) -> Vec<u8> {
        let fixed = ["req", "-new", "-key", "key.pem", "-out", "request.pem", "-subj", subject];
        self.run(&[&fixed, extra].concat());
        self.read("request.pem")
    }
}

/// A request by a fresh P-256 key of openssl with these alternative names.
pub(super) fn request_for(alternatives: &str) -> Vec<u8> {
    let openssl = OpenSsl::new();
    openssl.key("ec:prime256v1");
    openssl.request("/", &["-addext", &format!("subjectAltName={alternatives}")])
}

/// A CA with its key at hand.
pub(super) struct TestAuthority {
    pub(super) pair: rcgen::KeyPair,
    pub(super) certificate: IssuerCertificate,
}

pub(super) fn authority_spec(common_name: &str, key_algorithm: KeyAlgorithm, path_len: Option<u8>) -> AuthoritySpec {
    AuthoritySpec {
        common_name: common_name.to_owned(),
        key_algorithm,
        parent: None,
        duration: DAY * 3650,
        path_len,
        purpose: AuthorityPurpose::Issuing,
    }
}

pub(super) fn pair(algorithm: KeyAlgorithm) -> rcgen::KeyPair {
    rcgen::KeyPair::generate_for(match algorithm {
        KeyAlgorithm::EcdsaP256 => &rcgen::PKCS_ECDSA_P256_SHA256,
        KeyAlgorithm::EcdsaP384 => &rcgen::PKCS_ECDSA_P384_SHA384,
        KeyAlgorithm::Ed25519 => &rcgen::PKCS_ED25519,
        _ => &rcgen::PKCS_RSA_SHA256,
    })
    .unwrap()
}

pub(super) fn serial(seed: u8) -> Serial {
    Serial::from_random([seed; 20])
}

impl TestAuthority {
    pub(super) fn root(algorithm: KeyAlgorithm) -> Self {
        Self::make("root", algorithm, None, None).unwrap()
    }

    pub(super) fn below(&self, name: &str, algorithm: KeyAlgorithm, path_len: Option<u8>) -> Result<Self, Rejection> {
        Self::make(name, algorithm, path_len, Some(self))
    }

    fn make(
        name: &str,
        algorithm: KeyAlgorithm,
        path_len: Option<u8>,
        parent: Option<&Self>,
    ) -> Result<Self, Rejection> {
        let pair = pair(algorithm);
        let spec = authority_spec(name, algorithm, path_len);
        let composed = compose::authority(&AuthorityPlan {
            serial: serial(name.len() as u8),
            not_before: NOW.minus(DAY),
            not_after: NOW.plus(DAY * 3649),
            spec: &spec,
            spki_der: &pair.subject_public_key_info(),
            issuer: parent.map(|parent| &parent.certificate),
        })?;
        let linted = lint::lint(composed, &Profile::Authority { spec: &spec })?;
        let signature = parent.map_or(&pair, |parent| &parent.pair).sign(linted.tbs()).unwrap();
        let certificate = IssuerCertificate::parse(linted.assemble(&signature)?.der())?;
        Ok(Self { pair, certificate })
    }

    /// The whole way from a request to a certificate, for a day.
    pub(super) fn issue(&self, request: &[u8], usages: &[Usage]) -> Result<SignedCertificate, Rejection> {
        let csr = csr::parse(request)?.verify()?;
        let composed = compose::leaf(&self.plan(&csr, &Subject::default(), usages))?;
        self.finish(lint::lint(composed, &Profile::Leaf { issuer: &issuer_spec() })?)
    }

    pub(super) fn plan<'a>(&'a self, csr: &'a VerifiedCsr, subject: &'a Subject, usages: &'a [Usage]) -> LeafPlan<'a> {
        LeafPlan {
            serial: serial(0x5a),
            not_before: NOW,
            not_after: NOW.plus(DAY),
            names: csr.names(),
            subject,
            usages,
            is_ca: false,
            spki_der: csr.spki_der(),
            issuer: &self.certificate,
        }
    }

    pub(super) fn finish(&self, linted: Linted) -> Result<SignedCertificate, Rejection> {
        let signature = self.pair.sign(linted.tbs()).unwrap();
        linted.assemble(&signature)
    }
}

/// An issuer that allows everything an issuer can.
pub(super) fn issuer_spec() -> IssuerSpec {
    IssuerSpec { kind: IssuerKind::Reserved("test".to_owned()), max_duration: None, allowed_dns_suffixes: Vec::new() }
}

/// A request put together by hand: any subject and attributes, properly signed by a fresh P-256 key.
pub(super) fn forged(subject: &[u8], attributes: &[u8]) -> Vec<u8> {
    let pair = pair(KeyAlgorithm::EcdsaP256);
    forged_with(&pair.subject_public_key_info(), subject, attributes, |info| pair.sign(info).unwrap())
}

pub(super) fn forged_with(
    spki: &[u8],
    subject: &[u8],
    attributes: &[u8],
    sign: impl FnOnce(&[u8]) -> Vec<u8>,
) -> Vec<u8> {
    let version: &[u8] = &[2, 1, 0];
    let subject = der::encode(der::SEQUENCE, &[subject]);
    let attributes = der::encode(0xa0, &[attributes]);
    let info = der::encode(der::SEQUENCE, &[version, &subject, spki, &attributes]);
    let signature = der::encode(der::BIT_STRING, &[&[0], &sign(&info)]);
    der::encode(der::SEQUENCE, &[&info, SignatureAlgorithm::EcdsaSha256.identifier(), &signature])
}

/// An extensionRequest attribute with one extension.
pub(super) fn extension_attribute(attribute: &[u8], extension: &[u8], value: &[u8]) -> Vec<u8> {
    let value = der::encode(der::OCTET_STRING, &[value]);
    let extension = der::encode(der::SEQUENCE, &[&der::encode(der::OID, &[extension]), &value]);
    let values = der::encode(der::SET, &[&der::encode(der::SEQUENCE, &[&extension])]);
    der::encode(der::SEQUENCE, &[&der::encode(der::OID, &[attribute]), &values])
}

pub(super) const EXTENSION_REQUEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x0e];
pub(super) const MICROSOFT: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x02, 0x01, 0x0e];
pub(super) const ALTERNATIVES: &[u8] = &[0x55, 0x1d, 0x11];
pub(super) const BASIC: &[u8] = &[0x55, 0x1d, 0x13];
/// `SEQUENCE { BOOLEAN TRUE }`.
pub(super) const CA_TRUE: &[u8] = &[0x30, 3, 1, 1, 0xff];

/// A request for one alternative name of any kind and content.
pub(super) fn forged_name(tag: u8, content: &[u8]) -> Vec<u8> {
    let names = der::encode(der::SEQUENCE, &[&der::encode(tag, &[content])]);
    forged(&[], &extension_attribute(EXTENSION_REQUEST, ALTERNATIVES, &names))
}
