//! What a data directory accepts and refuses; refuses nothing else.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests look at real files")]

use super::*;

fn disk() -> Arc<dyn Disk> {
    Arc::new(certwright_seams::disk::OsDisk)
}

fn record() -> Record {
    Record {
        version: 1,
        cluster_id: "00112233445566778899aabbccddeeff".into(),
        node_id: 1,
        epoch: 1,
        name: "server-1".into(),
        phase: Phase::Member,
        api_listen: "127.0.0.1:7443".into(),
        raft_listen: "127.0.0.1:7444".into(),
        http_listen: "127.0.0.1:7480".into(),
    }
}

#[test]
fn a_fresh_directory_is_nobodys_and_remembers_who_came() {
    let folder = tempfile::tempdir().unwrap();
    let data = DataDir::open(&folder.path().join("data"), disk()).unwrap();
    assert_eq!(data.record().unwrap(), None);
    data.write_record(&record()).unwrap();
    assert_eq!(data.record().unwrap(), Some(record()));
}

#[test]
fn the_key_is_made_once() {
    let folder = tempfile::tempdir().unwrap();
    let data = DataDir::open(folder.path(), disk()).unwrap();
    let first = data.node_key().unwrap().spki_hash();
    assert_eq!(data.node_key().unwrap().spki_hash(), first);
}

#[test]
fn a_directory_of_something_else_is_refused_untouched() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("letters.txt"), "dear").unwrap();
    let refused = DataDir::open(folder.path(), disk()).err().unwrap();
    assert_eq!(refused.reason, Reason::ForeignData);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_directory_in_use_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let _open = DataDir::open(folder.path(), disk()).unwrap();
    assert_eq!(DataDir::open(folder.path(), disk()).err().unwrap().reason, Reason::DataInUse);
}

#[test]
fn a_record_of_a_later_build_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = DataDir::open(folder.path(), disk()).unwrap();
    data.write_record(&Record { version: 2, ..record() }).unwrap();
    assert_eq!(data.record().unwrap_err().reason, Reason::ForeignData);
}
