//! The files sink on a real directory: layout, modes, switching, rolling back, recovery, and what it refuses.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::sync::Mutex;

use certwright_seams::Seams;

use super::*;
use crate::sink::Version;

fn writer() -> FilesWriter {
    FilesWriter::new(Seams::system().disk, Fault::none())
}

fn sink(directory: &Path) -> FilesSink {
    FilesSink { directory: directory.display().to_string(), ..FilesSink::default() }
}

fn bundle(generation: u64) -> Bundle {
    let version = Version { generation, serial: format!("{generation:02X}") };
    Bundle::new(version, format!("leaf {generation}").as_bytes(), &[b"ca"], b"root", &format!("KEY {generation}\n"))
}

fn key(directory: &Path) -> String {
    std::fs::read_to_string(directory.join("key.pem")).unwrap()
}

fn mode(path: &Path) -> u32 {
    Seams::system().disk.stat(path).unwrap().mode & 0o777
}

#[test]
fn the_layout_is_as_documented() {
    let root = tempfile::tempdir().unwrap();
    let live = root.path().join("a/live");
    let written = writer().write(&sink(&live), &bundle(7), false).unwrap();
    assert_eq!(written, Written { version: "7-07".into(), previous: None });
    assert_eq!(std::fs::read_link(live.join(".current")).unwrap(), Path::new(".versions/7-07"));
    for kind in FileKind::ALL {
        assert_eq!(std::fs::read_link(live.join(kind.name())).unwrap(), Path::new(".current").join(kind.name()));
        assert_eq!(std::fs::read(live.join(kind.name())).unwrap(), bundle(7).file(kind));
        let expected = if kind.is_secret() { 0o600 } else { 0o644 };
        assert_eq!(mode(&live.join(".versions/7-07").join(kind.name())), expected, "{kind:?}");
    }
    assert_eq!(writer().current(&sink(&live)).unwrap().as_deref(), Some("7-07"));
}

#[test]
fn writing_again_changes_nothing_and_the_next_one_switches() {
    let root = tempfile::tempdir().unwrap();
    let sink = sink(root.path());
    let first = writer().write(&sink, &bundle(1), false).unwrap();
    assert_eq!(writer().write(&sink, &bundle(1), true).unwrap(), first);
    let second = writer().write(&sink, &bundle(2), true).unwrap();
    assert_eq!(second, Written { version: "2-02".into(), previous: Some("1-01".into()) });
    assert_eq!(key(root.path()), "KEY 2\n");
    assert!(writer().roll_back(&sink, "1-01").unwrap());
    assert_eq!(key(root.path()), "KEY 1\n");
    assert!(!writer().roll_back(&sink, "0-00").unwrap(), "a version that is gone is nothing to go back to");
    assert_eq!(key(root.path()), "KEY 1\n");
}

#[test]
fn two_versions_are_kept() {
    let root = tempfile::tempdir().unwrap();
    let sink = sink(root.path());
    for generation in 1..=4 {
        let written = writer().write(&sink, &bundle(generation), true).unwrap();
        let keep: Vec<&str> = written.previous.as_deref().into_iter().collect();
        writer().prune(&sink, &keep).unwrap();
    }
    let versions = Seams::system().disk.list(&root.path().join(".versions")).unwrap();
    assert_eq!(versions, [PathBuf::from("3-03"), PathBuf::from("4-04")]);
}

#[test]
fn owner_group_and_mode_are_those_asked_for_and_later_those_found() {
    let root = tempfile::tempdir().unwrap();
    let disk = Seams::system().disk;
    let me = disk.stat(root.path()).unwrap();
    let mut sink = sink(root.path());
    (sink.owner, sink.group, sink.mode) = (Some(me.owner.to_string()), Some(me.group.to_string()), Some(0o640));
    writer().write(&sink, &bundle(1), false).unwrap();
    let current = root.path().join(".current");
    assert_eq!((mode(&current.join("key.pem")), mode(&current.join("cert.pem"))), (0o640, 0o644));
    // Nothing asked for, and somebody opened the key to a group: kept.
    let plain = FilesSink { directory: sink.directory.clone(), ..FilesSink::default() };
    writer().write(&plain, &bundle(2), true).unwrap();
    assert_eq!(mode(&current.join("key.pem")), 0o640);
    // A changed specification does not inherit.
    writer().write(&plain, &bundle(3), false).unwrap();
    assert_eq!(mode(&current.join("key.pem")), 0o600);
}

#[test]
fn the_same_generation_for_another_mode_is_another_version() {
    let root = tempfile::tempdir().unwrap();
    let mut sink = sink(root.path());
    writer().write(&sink, &bundle(1), false).unwrap();
    sink.mode = Some(0o640);
    let written = writer().write(&sink, &bundle(1), false).unwrap();
    assert_eq!(written, Written { version: "1-01.2".into(), previous: Some("1-01".into()) });
    assert_eq!(mode(&root.path().join(".current/key.pem")), 0o640);
}

#[test]
fn files_may_have_other_names() {
    let root = tempfile::tempdir().unwrap();
    let mut sink = sink(root.path());
    sink.names =
        [("cert.pem".to_string(), "tls.crt".to_string()), ("key.pem".to_string(), "tls.key".to_string())].into();
    writer().write(&sink, &bundle(1), false).unwrap();
    assert_eq!(std::fs::read_to_string(root.path().join("tls.key")).unwrap(), "KEY 1\n");
    assert!(!root.path().join("key.pem").exists());
    assert!(root.path().join("ca.pem").exists());
}

#[test]
fn what_would_leave_the_directory_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let named = |from: &str, to: &str| FilesSink {
        names: [(from.to_string(), to.to_string())].into(),
        ..sink(&root.path().join("live"))
    };
    let relative = FilesSink { directory: "etc/tls".into(), ..FilesSink::default() };
    for (sink, cause) in [
        (relative, "absolute"),
        (named("key.pem", "../key.pem"), "plain file name"),
        (named("key.pem", "a/b"), "plain file name"),
        (named("key.pem", ".current"), "plain file name"),
        (named("key.pem", ""), "plain file name"),
        (named("key.pem", "cert.pem"), "two files"),
        (named("unknown.pem", "x"), "no file of a certificate"),
    ] {
        let failure = writer().write(&sink, &bundle(1), false).unwrap_err();
        assert_eq!(failure.reason, FailureReason::TargetFailed);
        assert!(failure.message.contains(cause), "{failure}");
    }
    assert!(!root.path().join("live").exists(), "nothing was made");
}

#[test]
fn unknown_owners_are_refused_before_anything_is_written() {
    let root = tempfile::tempdir().unwrap();
    let sink = FilesSink { owner: Some("nobody-of-that-name".into()), ..sink(root.path()) };
    let failure = writer().write(&sink, &bundle(1), false).unwrap_err();
    assert!(failure.message.contains("nobody-of-that-name"), "{failure}");
    assert!(!root.path().join(".current").exists());
}

#[test]
fn plain_files_in_the_way_are_kept_aside() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("key.pem"), "OLD").unwrap();
    writer().write(&sink(root.path()), &bundle(1), false).unwrap();
    assert_eq!(key(root.path()), "KEY 1\n");
    let kept = root.path().join(".replaced/key.pem");
    assert_eq!(std::fs::read_to_string(&kept).unwrap(), "OLD");
    assert_eq!(mode(&kept) & 0o077, 0, "a key stays its owner's");
    std::fs::create_dir(root.path().join("other")).unwrap();
    let blocked = FilesSink { names: [("key.pem".to_string(), "other".to_string())].into(), ..sink(root.path()) };
    assert!(writer().write(&blocked, &bundle(2), false).unwrap_err().message.contains("in the way"));
}

#[test]
fn every_step_is_passed_once_and_in_order() {
    let root = tempfile::tempdir().unwrap();
    let passed = Arc::new(Mutex::new(Vec::new()));
    let noted = passed.clone();
    let fault = Fault::with(Arc::new(move |step| noted.lock().unwrap().push(step)));
    let writer = FilesWriter::new(Seams::system().disk, fault);
    writer.write(&sink(root.path()), &bundle(1), false).unwrap();
    writer.prune(&sink(root.path()), &[]).unwrap();
    let outside = [
        WriteStep::KeyMade,
        WriteStep::KeyStored,
        WriteStep::AssignmentStored,
        WriteStep::Reloaded,
        WriteStep::Recorded,
    ];
    let expected: Vec<WriteStep> = WriteStep::DELIVERY.iter().copied().filter(|step| !outside.contains(step)).collect();
    assert_eq!(*passed.lock().unwrap(), expected);
}

#[test]
fn what_a_crash_left_is_discarded() {
    let root = tempfile::tempdir().unwrap();
    let sink = sink(root.path());
    writer().write(&sink, &bundle(1), false).unwrap();
    std::fs::create_dir(root.path().join(".versions/.new-2-02")).unwrap();
    std::fs::write(root.path().join(".versions/.new-2-02/key.pem"), "HALF").unwrap();
    std::os::unix::fs::symlink("nowhere", root.path().join(".next")).unwrap();
    std::os::unix::fs::symlink("nowhere", root.path().join(".new-cert.pem")).unwrap();
    writer().recover(&sink).unwrap();
    let names = |path: &Path| Seams::system().disk.list(path).unwrap().len();
    assert_eq!((names(&root.path().join(".versions")), names(root.path())), (1, 8));
    assert_eq!(key(root.path()), "KEY 1\n");
}

#[test]
fn a_dangling_link_is_no_version() {
    let root = tempfile::tempdir().unwrap();
    let sink = sink(root.path());
    assert_eq!(writer().current(&sink).unwrap(), None);
    std::os::unix::fs::symlink(".versions/gone", root.path().join(".current")).unwrap();
    assert_eq!(writer().current(&sink).unwrap(), None);
    writer().write(&sink, &bundle(1), false).unwrap();
    assert_eq!(key(root.path()), "KEY 1\n");
}
