//! A private key ready to sign, of any algorithm that certwright knows.
//!
//! It refuses to be printed or copied; its memory belongs to aws-lc, which wipes what it frees.

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use certwright_core::spec::KeyAlgorithm;
use certwright_core::x509::PublicKey;
use zeroize::Zeroizing;

use crate::CustodyError;

/// A key pair.
pub(crate) struct KeyPair {
    secret: Secret,
    public: PublicKey,
}

#[allow(clippy::large_enum_variant, reason = "few, and never moved")]
enum Secret {
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(RsaKeyPair),
}

impl Secret {
    fn public(&self) -> Result<PublicKey, CustodyError> {
        let der: Result<PublicKeyX509Der<'_>, _> = match self {
            Self::Ecdsa(pair) => pair.public_key().as_der(),
            Self::Ed25519(pair) => pair.public_key().as_der(),
            Self::Rsa(pair) => pair.public_key().as_der(),
        };
        let der = der.map_err(|_| CustodyError::Failed("encoding a public key"))?;
        PublicKey::parse(der.as_ref()).map_err(|_| CustodyError::Unsupported("the key's algorithm or size"))
    }
}

fn curve(algorithm: KeyAlgorithm) -> Option<&'static EcdsaSigningAlgorithm> {
    match algorithm {
        KeyAlgorithm::EcdsaP256 => Some(&ECDSA_P256_SHA256_ASN1_SIGNING),
        KeyAlgorithm::EcdsaP384 => Some(&ECDSA_P384_SHA384_ASN1_SIGNING),
        _ => None,
    }
}

impl KeyPair {
    fn new(secret: Secret) -> Result<Self, CustodyError> {
        Ok(Self { public: secret.public()?, secret })
    }

    /// Makes a key. RSA takes a good part of a second: call it on a worker.
    pub(crate) fn generate(algorithm: KeyAlgorithm) -> Result<Self, CustodyError> {
        let failed = |_| CustodyError::Failed("generating a key");
        let rsa = |size| RsaKeyPair::generate(size).map(Secret::Rsa).map_err(failed);
        Self::new(match algorithm {
            KeyAlgorithm::EcdsaP256 | KeyAlgorithm::EcdsaP384 => {
                let curve = curve(algorithm).ok_or(CustodyError::Unsupported("the curve"))?;
                Secret::Ecdsa(EcdsaKeyPair::generate(curve).map_err(failed)?)
            }
            KeyAlgorithm::Ed25519 => Secret::Ed25519(Ed25519KeyPair::generate().map_err(failed)?),
            KeyAlgorithm::Rsa2048 => rsa(KeySize::Rsa2048)?,
            KeyAlgorithm::Rsa3072 => rsa(KeySize::Rsa3072)?,
            KeyAlgorithm::Rsa4096 => rsa(KeySize::Rsa4096)?,
        })
    }

    /// Reads PKCS#8, PKCS#1 or SEC 1, whichever it is.
    pub(crate) fn parse(der: &[u8]) -> Result<Self, CustodyError> {
        if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
            return Self::new(Secret::Ed25519(pair));
        }
        for curve in [&ECDSA_P256_SHA256_ASN1_SIGNING, &ECDSA_P384_SHA384_ASN1_SIGNING] {
            if let Ok(pair) = EcdsaKeyPair::from_private_key_der(curve, der) {
                return Self::new(Secret::Ecdsa(pair));
            }
        }
        let rsa = RsaKeyPair::from_pkcs8(der).or_else(|_| RsaKeyPair::from_der(der));
        Self::new(Secret::Rsa(rsa.map_err(|_| CustodyError::Unsupported("not a private key that certwright knows"))?))
    }

    /// PKCS#8, in memory that is wiped.
    pub(crate) fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, CustodyError> {
        let failed = |_| CustodyError::Failed("encoding a private key");
        match &self.secret {
            Secret::Ecdsa(pair) => Ok(Zeroizing::new(pair.to_pkcs8v1().map_err(failed)?.as_ref().to_vec())),
            Secret::Ed25519(pair) => Ok(Zeroizing::new(pair.to_pkcs8v1().map_err(failed)?.as_ref().to_vec())),
            Secret::Rsa(pair) => {
                let der: Pkcs8V1Der<'_> = pair.as_der().map_err(failed)?;
                Ok(Zeroizing::new(der.as_ref().to_vec()))
            }
        }
    }

    /// The public half.
    pub(crate) fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The public half as rcgen wants it: a point, an Ed25519 key or an RSAPublicKey.
    pub(crate) fn public_bits(&self) -> &[u8] {
        match &self.secret {
            Secret::Ecdsa(pair) => pair.public_key().as_ref(),
            Secret::Ed25519(pair) => pair.public_key().as_ref(),
            Secret::Rsa(pair) => pair.public_key().as_ref(),
        }
    }

    /// Signs as X.509 wants it: ECDSA in ASN.1 with the curve's own SHA-2, RSA in PKCS #1 v1.5 with SHA-256, Ed25519.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, CustodyError> {
        let failed = |_| CustodyError::Failed("signing");
        match &self.secret {
            Secret::Ecdsa(pair) => Ok(pair.sign(&SystemRandom::new(), message).map_err(failed)?.as_ref().to_vec()),
            Secret::Ed25519(pair) => Ok(pair.try_sign(message).map_err(failed)?.as_ref().to_vec()),
            Secret::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).map_err(failed)?;
                Ok(signature)
            }
        }
    }
}
