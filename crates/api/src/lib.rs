//! certwright-api.
