//! A small PKI for the tests: a system authority for identities, an issuing root with an intermediate for leaves.
//!
//! It refuses to be careful: it signs whatever a test asks for, also what an agent must refuse.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};

pub const CLUSTER: &str = "000102030405060708090a0b0c0d0e0f";

/// A CA key pair.
pub type Authority = CertifiedIssuer<'static, KeyPair>;

pub struct Pki {
    pub system: Authority,
    pub root: Authority,
    pub intermediate: Authority,
}

/// A signed leaf.
#[derive(Clone)]
pub struct Leaf {
    pub der: Vec<u8>,
    pub serial: String,
    pub not_before: SystemTime,
    pub not_after: SystemTime,
}

impl Pki {
    pub fn new() -> Self {
        let root = authority("demo root", None);
        let intermediate = authority("demo intermediate", Some(&root));
        Self { system: authority("system", None), root, intermediate }
    }

    /// An identity: certificate DER and key PEM.
    pub fn identity(&self, path: &str, life: Duration) -> (Vec<u8>, String) {
        let key = KeyPair::generate().unwrap();
        let der = self.identity_for(path, life, &key);
        (der, key.serialize_pem())
    }

    pub fn identity_for(&self, path: &str, life: Duration, key: &impl rcgen::PublicKeyData) -> Vec<u8> {
        let mut params = params(path, SystemTime::now() - Duration::from_secs(5), life + Duration::from_secs(5));
        let uri = format!("certwright://{CLUSTER}/{path}");
        params.subject_alt_names.push(SanType::URI(uri.as_str().try_into().unwrap()));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.signed_by(key, &*self.system).unwrap().der().to_vec()
    }

    /// A leaf for a CSR, with the CSR's names, by `signer`.
    pub fn leaf(&self, csr: &[u8], signer: &Authority, not_before: SystemTime, life: Duration) -> Leaf {
        let request = CertificateSigningRequestParams::from_der(&csr.into()).unwrap();
        let mut wanted = params("leaf", not_before, life);
        wanted.distinguished_name = request.params.distinguished_name.clone();
        wanted.subject_alt_names = request.params.subject_alt_names.clone();
        wanted.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        wanted.use_authority_key_identifier_extension = true;
        let der = wanted.signed_by(&request.public_key, &**signer).unwrap().der().to_vec();
        let serial = wanted.serial_number.as_ref().map(|serial| hex::encode_upper(serial.as_ref())).unwrap();
        let second = |time: SystemTime| {
            let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
            SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
        };
        Leaf { der, serial, not_before: second(not_before), not_after: second(not_before + life) }
    }
}

fn params(name: &str, not_before: SystemTime, life: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = not_before.into();
    params.not_after = (not_before + life).into();
    let mut serial = [0; 20];
    certwright_seams::Entropy::fill(&certwright_seams::entropy::SystemEntropy, &mut serial);
    serial[0] = 0x40 | (serial[0] & 0x3f);
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params
}

pub fn authority(name: &str, parent: Option<&Authority>) -> Authority {
    let start = SystemTime::now() - Duration::from_secs(3 * 24 * 3600);
    let mut params = params(name, start, Duration::from_secs(3650 * 24 * 3600));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().unwrap();
    match parent {
        Some(parent) => CertifiedIssuer::signed_by(params, key, &**parent).unwrap(),
        None => CertifiedIssuer::self_signed(params, key).unwrap(),
    }
}
