//! Stored formats: golden octets, round trips, and what is refused.
