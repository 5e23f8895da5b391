//! Generates Rust from the .proto files with protox, so that no protoc is needed; refuses to keep generated code in the tree.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// Every file of the protocol; what is not named here does not exist for the crate.
const FILES: &[&str] = &[
    "certwright/v1/types.proto",
    "certwright/v1/certificates.proto",
    "certwright/v1/estate.proto",
    "certwright/v1/cluster.proto",
    "certwright/agent/v1/agent.proto",
    "certwright/internal/v1/internal.proto",
    "certwright/storage/v1/spec.proto",
    "certwright/storage/v1/event.proto",
    "certwright/storage/v1/entry.proto",
    "certwright/storage/v1/snapshot.proto",
    "certwright/storage/v1/backup.proto",
];

/// Messages that carry a secret: their `Debug` is written by hand and prints none.
const SECRET: &[&str] = &[
    ".certwright.v1.JoinAgentRequest",
    ".certwright.v1.JoinNodeRequest",
    ".certwright.v1.CreateTokenResponse",
    ".certwright.internal.v1.ForwardRequest",
    ".certwright.internal.v1.ForwardResponse",
    ".certwright.internal.v1.ProveDataKeyResponse",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=certwright");
    println!("cargo:rerun-if-changed=build.rs");
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(env::var("OUT_DIR")?);

    let mut compiler = protox::Compiler::new([&root])?;
    compiler.include_imports(true).include_source_info(true).open_files(FILES)?;
    write_descriptors(&root, &out.join("descriptors.bin"))?;

    tonic_prost_build::configure()
        .btree_map(".")
        .bytes(".")
        .skip_debug(SECRET)
        .emit_rerun_if_changed(false)
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}

/// The same files without comments, for the reflection service.
#[allow(clippy::disallowed_methods, reason = "a build script has no seams")]
fn write_descriptors(root: &Path, path: &Path) -> Result<(), Box<dyn Error>> {
    let mut compiler = protox::Compiler::new([root])?;
    compiler.include_imports(true).include_source_info(false).open_files(FILES)?;
    fs::write(path, compiler.encode_file_descriptor_set())?;
    Ok(())
}
