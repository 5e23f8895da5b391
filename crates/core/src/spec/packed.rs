//! Specifications as they rest in state: packed, because a million of them must fit.
//!
//! It refuses to be stored or sent; what is on disk and on the wire is defined in `proto`.

use std::sync::Arc;

use super::CertificateSpec;

/// A certificate's specification, packed. Equal specifications pack equally.
#[derive(Clone, PartialEq, Eq)]
pub struct PackedSpec(Arc<CertificateSpec>);

impl PackedSpec {
    /// Packs a specification.
    pub fn pack(spec: &CertificateSpec) -> Self {
        Self(Arc::new(spec.clone()))
    }

    /// The specification.
    pub fn unpack(&self) -> CertificateSpec {
        (*self.0).clone()
    }
}

impl std::fmt::Debug for PackedSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.unpack().fmt(f)
    }
}
