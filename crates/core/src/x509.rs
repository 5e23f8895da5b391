//! X.509: from a signing request to a finished certificate, in steps that only the step before can feed:
//! `csr::parse` -> `Csr::verify` -> `compose::*` -> `lint::lint` (which asks `policy::evaluate`) -> `Linted::assemble`.
//!
//! It refuses private keys: whoever signs gets the bytes to be signed from a [`Linted`] and gives a signature back.

pub mod compose;
pub mod constraints;
pub mod csr;
pub mod der;
pub mod facts;
pub mod inspect;
pub mod issuer;
pub mod key;
pub mod lint;
pub mod names;
pub mod pem;
pub mod subject;
pub mod usage;

#[cfg(test)]
mod tests;

pub use compose::{AuthorityPlan, Composed, IdentityPlan, LeafPlan};
pub use csr::{Csr, VerifiedCsr};
pub use facts::FinalCertificate;
pub use issuer::IssuerCertificate;
pub use key::{PublicKey, SignatureAlgorithm, spki_hash};
pub use lint::{Linted, Profile, SignedCertificate};
pub use names::{NameError, Names};
