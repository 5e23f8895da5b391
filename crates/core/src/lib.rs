//! The pure domain of certwright.
