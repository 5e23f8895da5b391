//! Key usages: cert-manager's names, the bits and object identifiers of RFC 5280, and which keys can have which.
//!
//! It refuses to decide who may have a usage; that is policy.

use std::collections::BTreeSet;
use std::fmt;

use rcgen::{ExtendedKeyUsagePurpose, KeyUsagePurpose};

use crate::rejection::{Reason, Rejection};
use crate::spec::{KeyAlgorithm, Usage};

/// The keyUsage bits of a certificate (RFC 5280 section 4.2.1.3); bit n of the standard is `1 << n` here.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct KeyUsages(pub u16);

impl KeyUsages {
    /// digitalSignature
    pub const DIGITAL_SIGNATURE: Self = Self(1);
    /// contentCommitment, also called nonRepudiation
    pub const CONTENT_COMMITMENT: Self = Self(1 << 1);
    /// keyEncipherment
    pub const KEY_ENCIPHERMENT: Self = Self(1 << 2);
    /// dataEncipherment
    pub const DATA_ENCIPHERMENT: Self = Self(1 << 3);
    /// keyAgreement
    pub const KEY_AGREEMENT: Self = Self(1 << 4);
    /// keyCertSign
    pub const CERT_SIGN: Self = Self(1 << 5);
    /// cRLSign
    pub const CRL_SIGN: Self = Self(1 << 6);
    /// encipherOnly
    pub const ENCIPHER_ONLY: Self = Self(1 << 7);
    /// decipherOnly
    pub const DECIPHER_ONLY: Self = Self(1 << 8);

    /// Both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those that are in both.
    #[must_use]
    pub const fn within(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether all of `other` are here.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether there are none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The usages of a CA's key.
    pub const fn of_authority() -> Self {
        Self::CERT_SIGN.and(Self::CRL_SIGN)
    }

    /// What a key of that algorithm can do besides signing certificates: RFC 4055 section 1.2 for RSA, RFC 8813
    /// section 3 for elliptic curves (no encipherment bits), RFC 8410 section 5 for Ed25519 (signatures only).
    pub const fn possible(algorithm: KeyAlgorithm) -> Self {
        let signatures = Self::DIGITAL_SIGNATURE.and(Self::CONTENT_COMMITMENT);
        match algorithm {
            KeyAlgorithm::Rsa2048 | KeyAlgorithm::Rsa3072 | KeyAlgorithm::Rsa4096 => {
                signatures.and(Self::KEY_ENCIPHERMENT).and(Self::DATA_ENCIPHERMENT)
            }
            KeyAlgorithm::EcdsaP256 | KeyAlgorithm::EcdsaP384 => {
                signatures.and(Self::KEY_AGREEMENT).and(Self::ENCIPHER_ONLY).and(Self::DECIPHER_ONLY)
            }
            KeyAlgorithm::Ed25519 => signatures,
        }
    }

    /// As rcgen writes them.
    pub(crate) fn purposes(self) -> Vec<KeyUsagePurpose> {
        BITS.iter().filter(|(bit, ..)| self.contains(*bit)).map(|(.., purpose)| *purpose).collect()
    }

    /// Their names, cert-manager's where it has them.
    pub fn names(self) -> Vec<&'static str> {
        BITS.iter().filter(|(bit, ..)| self.contains(*bit)).map(|(_, usage, _)| usage.name()).collect()
    }
}

impl fmt::Debug for KeyUsages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

const BITS: [(KeyUsages, Usage, KeyUsagePurpose); 9] = [
    (KeyUsages::DIGITAL_SIGNATURE, Usage::DigitalSignature, KeyUsagePurpose::DigitalSignature),
    (KeyUsages::CONTENT_COMMITMENT, Usage::ContentCommitment, KeyUsagePurpose::ContentCommitment),
    (KeyUsages::KEY_ENCIPHERMENT, Usage::KeyEncipherment, KeyUsagePurpose::KeyEncipherment),
    (KeyUsages::DATA_ENCIPHERMENT, Usage::DataEncipherment, KeyUsagePurpose::DataEncipherment),
    (KeyUsages::KEY_AGREEMENT, Usage::KeyAgreement, KeyUsagePurpose::KeyAgreement),
    (KeyUsages::CERT_SIGN, Usage::CertSign, KeyUsagePurpose::KeyCertSign),
    (KeyUsages::CRL_SIGN, Usage::CrlSign, KeyUsagePurpose::CrlSign),
    (KeyUsages::ENCIPHER_ONLY, Usage::EncipherOnly, KeyUsagePurpose::EncipherOnly),
    (KeyUsages::DECIPHER_ONLY, Usage::DecipherOnly, KeyUsagePurpose::DecipherOnly),
];

/// Extended key usages by object identifier (RFC 5280 section 4.2.1.12 and the vendors').
const EXTENDED: [(Usage, &[u64]); 12] = [
    (Usage::Any, &[2, 5, 29, 37, 0]),
    (Usage::ServerAuth, &[1, 3, 6, 1, 5, 5, 7, 3, 1]),
    (Usage::ClientAuth, &[1, 3, 6, 1, 5, 5, 7, 3, 2]),
    (Usage::CodeSigning, &[1, 3, 6, 1, 5, 5, 7, 3, 3]),
    (Usage::EmailProtection, &[1, 3, 6, 1, 5, 5, 7, 3, 4]),
    (Usage::IpsecEndSystem, &[1, 3, 6, 1, 5, 5, 7, 3, 5]),
    (Usage::IpsecTunnel, &[1, 3, 6, 1, 5, 5, 7, 3, 6]),
    (Usage::IpsecUser, &[1, 3, 6, 1, 5, 5, 7, 3, 7]),
    (Usage::Timestamping, &[1, 3, 6, 1, 5, 5, 7, 3, 8]),
    (Usage::OcspSigning, &[1, 3, 6, 1, 5, 5, 7, 3, 9]),
    (Usage::MicrosoftSgc, &[1, 3, 6, 1, 4, 1, 311, 10, 3, 3]),
    (Usage::NetscapeSgc, &[2, 16, 840, 1, 113730, 4, 1]),
];

/// The extended usage with that object identifier.
pub(crate) fn extended_by_oid(oid: &[u64]) -> Option<Usage> {
    EXTENDED.iter().find(|(_, known)| *known == oid).map(|(usage, _)| *usage)
}

/// As rcgen writes them, in a fixed order.
pub(crate) fn extended_purposes(extended: &BTreeSet<Usage>) -> Vec<ExtendedKeyUsagePurpose> {
    let known = EXTENDED.iter().filter(|(usage, _)| extended.contains(usage));
    known.map(|(_, oid)| ExtendedKeyUsagePurpose::Other(oid.to_vec())).collect()
}

/// What usages become for a key: cert-manager's mapping (`signing` is digital signature, `s/mime` is e-mail
/// protection; no usage at all means digital signature and key encipherment), narrowed to what the key can do.
///
/// The narrowing is silent for a part and a refusal for all: `key encipherment` stands in nearly every manifest and is
/// forbidden on elliptic curve keys (RFC 8813), so it is left out there; but a request of which nothing is left is an
/// error. Extended usages alone get the default bits beside them, so that every certificate says what its key is for.
/// A CA gets certificate and CRL signing on top.
pub fn map(usages: &[Usage], key: KeyAlgorithm, is_ca: bool) -> Result<(KeyUsages, BTreeSet<Usage>), Rejection> {
    let default = KeyUsages::DIGITAL_SIGNATURE.and(KeyUsages::KEY_ENCIPHERMENT);
    let (mut bits, mut extended) = (KeyUsages::default(), BTreeSet::new());
    for &usage in usages {
        let wanted = match usage {
            Usage::Signing => Usage::DigitalSignature,
            Usage::SMime => Usage::EmailProtection,
            other => other,
        };
        match BITS.iter().find(|(_, named, _)| *named == wanted) {
            Some((bit, ..)) => bits = bits.and(*bit),
            None => {
                extended.insert(wanted);
            }
        }
    }
    if bits.is_empty() && !is_ca {
        bits = default;
    }
    let signing = bits.within(KeyUsages::of_authority());
    let possible = bits.within(KeyUsages::possible(key)).and(signing);
    if possible.is_empty() && !is_ca {
        let message = format!("a key of that kind can do none of the usages asked for: {:?}", bits.names());
        return Err(Rejection::field(Reason::InvalidSpec, "spec.usages", message));
    }
    Ok((if is_ca { possible.and(KeyUsages::of_authority()) } else { possible }, extended))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn cert_managers_mapping_narrowed_to_the_key() {
        use KeyAlgorithm::{EcdsaP256, Ed25519, Rsa2048};
        let ds = KeyUsages::DIGITAL_SIGNATURE;
        let cases: [(&[Usage], KeyAlgorithm, bool, KeyUsages); 8] = [
            (&[], Rsa2048, false, ds.and(KeyUsages::KEY_ENCIPHERMENT)),
            (&[], EcdsaP256, false, ds),
            (&[], Ed25519, false, ds),
            (&[Usage::Signing], Rsa2048, false, ds),
            (&[Usage::ServerAuth], Rsa2048, false, ds.and(KeyUsages::KEY_ENCIPHERMENT)),
            (&[Usage::DigitalSignature, Usage::KeyAgreement], EcdsaP256, false, ds.and(KeyUsages::KEY_AGREEMENT)),
            (&[Usage::DigitalSignature, Usage::KeyAgreement], Ed25519, false, ds),
            (&[], EcdsaP256, true, KeyUsages::of_authority()),
        ];
        for (usages, key, is_ca, expected) in cases {
            assert_eq!(map(usages, key, is_ca).unwrap().0, expected, "{usages:?} {key:?} {is_ca}");
        }
    }

    #[test]
    fn nothing_left_is_refused_and_signing_bits_are_kept_for_policy_to_refuse() {
        let refused = map(&[Usage::KeyEncipherment], KeyAlgorithm::EcdsaP256, false).unwrap_err();
        assert_eq!(refused.reason, Reason::InvalidSpec);
        let (bits, _) = map(&[Usage::CertSign], KeyAlgorithm::EcdsaP256, false).unwrap();
        assert!(bits.contains(KeyUsages::CERT_SIGN));
    }

    #[test]
    fn every_usage_is_a_bit_or_an_identifier() {
        for &usage in Usage::ALL {
            let (bits, extended) = map(&[usage], KeyAlgorithm::Rsa2048, true).unwrap();
            let narrowed = matches!(usage, Usage::KeyAgreement | Usage::EncipherOnly | Usage::DecipherOnly);
            assert!(!bits.is_empty() || narrowed);
            assert_eq!(extended_purposes(&extended).len(), extended.len(), "{usage:?}");
        }
    }
}
