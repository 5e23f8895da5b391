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
        log_created: false,
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
fn a_server_that_has_had_a_log_does_not_go_on_without_it() {
    let folder = tempfile::tempdir().unwrap();
    let data = DataDir::open(folder.path(), disk()).unwrap();
    let mut record = record();
    data.check_log(&record).unwrap();
    data.remember_log(&mut record).unwrap();
    let record = data.record().unwrap().unwrap();
    assert!(record.log_created);
    assert_eq!(data.check_log(&record).unwrap_err().reason, Reason::ForeignData);
    let log = folder.path().join("log");
    std::fs::create_dir(&log).unwrap();
    std::fs::write(log.join("lock"), "").unwrap();
    assert_eq!(data.check_log(&record).unwrap_err().reason, Reason::ForeignData);
    std::fs::write(log.join("00000000000000000000.seg"), "").unwrap();
    data.check_log(&record).unwrap();
}

#[test]
fn a_record_from_before_logs_were_remembered_is_read() {
    let mut value = serde_json::to_value(record()).unwrap();
    value.as_object_mut().unwrap().remove("log_created");
    assert_eq!(serde_json::from_value::<Record>(value).unwrap(), record());
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
