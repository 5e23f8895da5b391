//! certwright-raft.
