//! Context files: there and back, and everything that can be wrong with one.
#![allow(clippy::unwrap_used)]

use super::*;
use certwright_seams::Seams;

fn file() -> serde_json::Value {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec![]).unwrap().self_signed(&key).unwrap().pem();
    serde_json::json!({
        "cluster_id": "000102030405060708090a0b0c0d0e0f", "name": "agent/edge-1", "servers": ["127.0.0.1:1"],
        "ca": certificate, "certificate": certificate, "key": key.serialize_pem(),
    })
}

#[test]
fn a_context_survives_the_file_and_is_nobody_elses() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("context");
    let disk = Seams::system().disk;
    let context = Context::parse(file().to_string().as_bytes()).unwrap();
    context.save(&*disk, &path).unwrap();
    assert_eq!(disk.stat(&path).unwrap().mode & 0o777, 0o600);
    let read = Context::load(&*disk, &path).unwrap();
    assert_eq!(read.format(), context.format());
    assert_eq!(read.actor.to_string(), "agent/edge-1");
    assert_eq!(read.key_pem, context.key_pem);
}

#[test]
fn what_is_wrong_is_said_without_the_key() {
    let with = |field: &str, value: serde_json::Value| {
        let mut file = file();
        file[field] = value;
        file
    };
    for (given, cause) in [
        (with("cluster_id", "12".into()), "cluster_id"),
        (with("name", "nobody".into()), "name"),
        (with("servers", serde_json::json!([])), "servers"),
        (with("ca", "".into()), "ca holds no"),
        (with("certificate", "".into()), "certificate holds no"),
        (with("key", "KEYKEYKEY".into()), "key holds no"),
        (with("key", 5.into()), "not a context"),
        (with("servers", "KEYKEYKEY".into()), "not a context: a value of the wrong type at line"),
        (1234567890.into(), "not a context: a value of the wrong type at line"),
        (serde_json::json!({}), "not a context: missing field `cluster_id`"),
    ] {
        let error = Context::parse(given.to_string().as_bytes()).err().unwrap();
        assert!(error.contains(cause), "{error}");
        assert!(!error.contains("KEYKEYKEY") && !error.contains("1234567890"), "{error}");
    }
}

#[test]
fn missing_unreadable_and_oversized_files_are_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Seams::system().disk;
    let path = directory.path().join("context");
    assert!(matches!(Context::load(&*disk, &path), Err(ContextError::Missing(_))));
    assert!(matches!(Context::load(&*disk, &path.join("below")), Err(ContextError::Missing(_))));
    disk.write_atomic(&path, &vec![b' '; CONTEXT_OCTETS_MAX as usize + 1], 0o600).unwrap();
    assert!(matches!(Context::load(&*disk, &path), Err(ContextError::Io { .. })));
    disk.write_atomic(&path, &vec![b' '; CONTEXT_OCTETS_MAX as usize], 0o600).unwrap();
    assert!(matches!(Context::load(&*disk, &path), Err(ContextError::Malformed { .. })));
}
