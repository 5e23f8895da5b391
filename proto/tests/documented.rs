//! The .proto files are the API reference: every service, call, message and enum says what it is.
//!
//! It refuses an undocumented one, by file and line; and a stored message with a map, whose order is not defined.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "it reads the source tree")]

use std::path::{Path, PathBuf};

fn proto_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            proto_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            found.push(path);
        }
    }
}

fn all() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    proto_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("certwright"), &mut found);
    assert!(found.len() >= 10, "{found:?}");
    found.into_iter().map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect()
}

#[test]
fn everything_says_what_it_is() {
    let mut undocumented = Vec::new();
    for (path, text) in all() {
        let mut before = "";
        for (line, number) in text.lines().zip(1..) {
            let trimmed = line.trim_start();
            let declares = ["service ", "rpc ", "message ", "enum "].iter().any(|word| trimmed.starts_with(word));
            // Enums inside messages are explained by their message.
            let nested_enum = trimmed.starts_with("enum ") && trimmed.len() < line.len();
            if declares && !nested_enum && !before.starts_with("//") {
                undocumented.push(format!("{}:{number}: {trimmed}", path.display()));
            }
            before = trimmed;
        }
        assert!(text.starts_with("// "), "{} does not open with what it is", path.display());
    }
    assert!(undocumented.is_empty(), "undocumented:\n{}", undocumented.join("\n"));
}

#[test]
fn stored_messages_have_no_maps() {
    for (path, text) in all() {
        if path.components().any(|part| part.as_os_str() == "storage") {
            assert!(!text.lines().any(|line| line.trim_start().starts_with("map<")), "{}", path.display());
        }
    }
}

#[test]
fn reflection_knows_every_package() {
    use prost::Message;
    let set = prost_types::FileDescriptorSet::decode(certwright_proto::FILE_DESCRIPTOR_SET).unwrap();
    let names: Vec<_> = set.file.iter().map(|file| file.name().to_owned()).collect();
    for (path, _) in all() {
        let file = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap().to_str().unwrap().to_owned();
        assert!(names.contains(&file), "{file} is not compiled");
    }
    for package in ["certwright.v1", "certwright.agent.v1", "certwright.internal.v1", "certwright.storage.v1"] {
        assert!(set.file.iter().any(|file| file.package() == package), "{package}");
    }
    assert!(names.iter().any(|name| name == "google/protobuf/timestamp.proto"), "imports are there too");
}
