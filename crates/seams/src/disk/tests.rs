//! What every disk must do alike, run against the machine's and the simulated one.
#![allow(clippy::unwrap_used)]

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::{Disk, Open, OsDisk};
use crate::sim::SimDisk;

/// Runs a test on both disks, each with a directory of its own.
fn on_each(test: impl Fn(&dyn Disk, &Path)) {
    let directory = tempfile::tempdir().unwrap();
    test(&OsDisk, directory.path());
    let simulated = SimDisk::new(1);
    simulated.create_dir_all(Path::new("/data"), 0o700).unwrap();
    test(&simulated, Path::new("/data"));
}

#[test]
fn files_hold_what_is_written() {
    on_each(|disk, root| {
        let path = root.join("file");
        assert_eq!(disk.open(&path, Open::Read).err().unwrap().kind(), ErrorKind::NotFound);
        let file = disk.open(&path, Open::CreateNew(0o600)).unwrap();
        assert_eq!(disk.open(&path, Open::CreateNew(0o600)).err().unwrap().kind(), ErrorKind::AlreadyExists);
        file.write_at(4, b"data").unwrap();
        let mut buffer = [9; 6];
        assert_eq!(file.read_at(3, &mut buffer).unwrap(), 5);
        assert_eq!(&buffer[..5], b"\0data");
        assert_eq!(file.read_at(100, &mut buffer).unwrap(), 0);
        file.preallocate(64).unwrap();
        assert_eq!(file.len().unwrap(), 64);
        file.preallocate(10).unwrap();
        assert_eq!(file.len().unwrap(), 64, "preallocation never cuts");
        file.set_len(6).unwrap();
        file.sync_data().unwrap();
        assert_eq!(disk.read(&path, 6).unwrap(), b"\0\0\0\0da");
        assert_eq!(disk.read(&path, 5).err().unwrap().kind(), ErrorKind::InvalidData);
        let reader = disk.open(&path, Open::Read).unwrap();
        assert!(reader.write_at(0, b"x").is_err(), "opened for reading only");
        assert_eq!(disk.stat(&path).unwrap().mode, 0o600);
    });
}

#[test]
fn names_change_as_told() {
    on_each(|disk, root| {
        let inner = root.join("a/b");
        disk.create_dir_all(&inner, 0o700).unwrap();
        disk.create_dir_all(&inner, 0o700).unwrap();
        disk.write_atomic(&inner.join("one"), b"1", 0o640).unwrap();
        disk.write_atomic(&inner.join("one"), b"2", 0o640).unwrap();
        disk.rename(&inner.join("one"), &inner.join("two")).unwrap();
        assert_eq!(disk.list(&inner).unwrap(), [PathBuf::from("two")]);
        assert_eq!(disk.read(&inner.join("two"), 9).unwrap(), b"2");
        assert!(disk.remove(&inner).is_err(), "a directory is no file");
        disk.sync_dir(&inner).unwrap();
        disk.remove_dir_all(&root.join("a")).unwrap();
        assert!(!disk.exists(&inner).unwrap());
        assert!(disk.available(root).unwrap() > 0);
    });
}

#[test]
fn links_lead_where_they_say() {
    on_each(|disk, root| {
        disk.create_dir_all(&root.join("v1"), 0o700).unwrap();
        disk.write_atomic(&root.join("v1/file"), b"first", 0o600).unwrap();
        disk.symlink(Path::new("v1"), &root.join("new")).unwrap();
        assert!(disk.symlink(Path::new("v1"), &root.join("new")).is_err());
        disk.rename(&root.join("new"), &root.join("current")).unwrap();
        assert_eq!(disk.read_link(&root.join("current")).unwrap(), Path::new("v1"));
        assert_eq!(disk.read(&root.join("current/file"), 9).unwrap(), b"first");
        assert_eq!(disk.read(&root.join("current/../v1/file"), 9).unwrap(), b"first");
        assert!(disk.stat(&root.join("current")).unwrap().is_symlink);
        disk.remove(&root.join("v1/file")).unwrap();
        disk.symlink(Path::new("gone"), &root.join("dangling")).unwrap();
        assert!(!disk.exists(&root.join("dangling")).unwrap());
        disk.remove(&root.join("dangling")).unwrap();
        disk.remove(&root.join("current")).unwrap();
        assert!(disk.stat(&root.join("v1")).unwrap().is_dir);
    });
}

#[test]
fn a_lock_is_exclusive_and_ends_with_its_handle() {
    on_each(|disk, root| {
        let path = root.join("lock");
        let first = disk.open(&path, Open::Create(0o600)).unwrap();
        first.lock().unwrap();
        first.lock().unwrap();
        let second = disk.open(&path, Open::Create(0o600)).unwrap();
        assert_eq!(second.lock().unwrap_err().kind(), ErrorKind::WouldBlock);
        drop(first);
        // A process that another test forks holds every descriptor until it executes its program.
        let freed = (0..1_000_000).any(|_| {
            std::thread::yield_now();
            second.lock().is_ok()
        });
        assert!(freed, "the lock outlives its handle");
    });
}

#[test]
fn descriptors_are_not_inherited() {
    let directory = tempfile::tempdir().unwrap();
    let _file = OsDisk.open(&directory.path().join("secret"), Open::CreateNew(0o600)).unwrap();
    let output = std::process::Command::new("ls").args(["-l", "/proc/self/fd"]).output().unwrap();
    assert!(output.status.success());
    assert!(!String::from_utf8_lossy(&output.stdout).contains("secret"));
}
