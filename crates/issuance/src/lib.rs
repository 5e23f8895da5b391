//! certwright-issuance.
