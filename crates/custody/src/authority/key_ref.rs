//! Names one CA key to its custodian.
//!
//! It refuses clear text: what it carries is public or sealed.

use std::sync::Arc;

use certwright_core::event::SealedKey;
use certwright_core::ids::AuthorityName;
use certwright_core::state::Authority;
use certwright_core::x509::spki_hash;

/// A CA key by its authority, its public half and its sealed private half. Cheap to clone.
#[derive(Clone, Debug)]
pub struct KeyRef(Arc<Named>);

#[derive(Debug)]
struct Named {
    authority: AuthorityName,
    public_key: Vec<u8>,
    hash: [u8; 32],
    sealed: SealedKey,
}

impl KeyRef {
    /// Names a key.
    pub fn new(authority: AuthorityName, public_key: Vec<u8>, sealed: SealedKey) -> Self {
        let hash = spki_hash(&public_key);
        Self(Arc::new(Named { authority, public_key, hash, sealed }))
    }

    /// The key of an authority.
    pub fn of(authority: &Authority) -> Self {
        Self::new(authority.name.clone(), authority.public_key.clone(), authority.sealed_key.clone())
    }

    /// Whose key it is.
    pub fn authority(&self) -> &AuthorityName {
        &self.0.authority
    }

    /// SubjectPublicKeyInfo, DER.
    pub fn public_key(&self) -> &[u8] {
        &self.0.public_key
    }

    /// SHA-256 of the SubjectPublicKeyInfo.
    pub fn hash(&self) -> [u8; 32] {
        self.0.hash
    }

    /// The private half.
    pub fn sealed(&self) -> &SealedKey {
        &self.0.sealed
    }
}
