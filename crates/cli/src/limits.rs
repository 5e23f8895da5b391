//! Every bound of the command line, named once with its reason.
//!
//! It refuses numbers without a reason; bounds of the domain are in `core`, of tokens in `proto`, of the doors in `api`.

/// A PEM file of certificates or a key: all public roots together are a quarter of it, what is delivered far less.
pub const PEM_FILE_OCTETS_MAX: u64 = 1024 * 1024;
/// A manifest file: a thousand certificates of ordinary size; more belongs into several files.
pub const MANIFEST_OCTETS_MAX: u64 = 1024 * 1024;
/// The list of what `dev` started: 73 processes, even with the longest of paths.
pub const PROCESSES_OCTETS_MAX: u64 = 1024 * 1024;
