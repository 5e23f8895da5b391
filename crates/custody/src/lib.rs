//! certwright-custody.
