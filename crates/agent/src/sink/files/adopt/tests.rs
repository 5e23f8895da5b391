//! Taking over somebody's files, looked at after every single change of the disk.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::sync::{Arc, Mutex};

use certwright_seams::Seams;
use certwright_seams::disk::{Disk, File, Stat};

use super::*;
use crate::fault::Fault;
use crate::sink::{Bundle, Version};

/// A disk that calls somebody after every change.
struct Watched {
    disk: Arc<dyn Disk>,
    after: Box<dyn Fn() + Send + Sync>,
}

impl Watched {
    fn told<T>(&self, outcome: io::Result<T>) -> io::Result<T> {
        (self.after)();
        outcome
    }
}

impl Disk for Watched {
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn File>> {
        self.told(self.disk.open(path, how))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.told(self.disk.rename(from, to))
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.told(self.disk.remove(path))
    }
    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.told(self.disk.remove_dir_all(path))
    }
    fn create_dir_all(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.told(self.disk.create_dir_all(path, mode))
    }
    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        self.disk.list(path)
    }
    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.disk.exists(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.sync_dir(path)
    }
    fn symlink(&self, target: &Path, link: &Path) -> io::Result<()> {
        self.told(self.disk.symlink(target, link))
    }
    fn read_link(&self, link: &Path) -> io::Result<PathBuf> {
        self.disk.read_link(link)
    }
    fn chown(&self, path: &Path, owner: Option<u32>, group: Option<u32>) -> io::Result<()> {
        self.told(self.disk.chown(path, owner, group))
    }
    fn chmod(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.told(self.disk.chmod(path, mode))
    }
    fn stat(&self, path: &Path) -> io::Result<Stat> {
        self.disk.stat(path)
    }
    fn available(&self, path: &Path) -> io::Result<u64> {
        self.disk.available(path)
    }
}

fn sink(directory: &Path) -> FilesSink {
    FilesSink { directory: directory.display().to_string(), ..FilesSink::default() }
}

fn bundle(generation: u64) -> Bundle {
    let version = Version { generation, serial: format!("{generation:02X}") };
    Bundle::new(version, format!("leaf {generation}").as_bytes(), &[b"ca"], b"root", &format!("KEY {generation}\n"))
}

/// Writes generation 7 over what is in `live`; says every pair that the visible names read as on the way.
fn pairs_seen(live: &Path) -> Vec<(String, String)> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (told, directory) = (seen.clone(), live.to_path_buf());
    let after = move || {
        let read = |name: &str| std::fs::read_to_string(directory.join(name)).unwrap_or_else(|error| error.to_string());
        let pair = (read("cert.pem"), read("key.pem"));
        let mut told = told.lock().unwrap();
        if told.last() != Some(&pair) {
            told.push(pair);
        }
    };
    let disk = Arc::new(Watched { disk: Seams::system().disk, after: Box::new(after) });
    FilesWriter::new(disk, Fault::none()).write(&sink(live), &bundle(7), false).unwrap();
    std::mem::take(&mut seen.lock().unwrap())
}

fn pair(certificate: &str, key: &str) -> (String, String) {
    (certificate.to_string(), key.to_string())
}

fn seventh() -> (String, String) {
    let text = |kind| String::from_utf8(bundle(7).file(kind).to_vec()).unwrap();
    (text(FileKind::Certificate), text(FileKind::Key))
}

#[test]
fn plain_files_switch_as_one_pair_and_keep_their_mode_until_then() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("cert.pem"), "OLD CERT").unwrap();
    std::fs::write(root.path().join("key.pem"), "OLD KEY").unwrap();
    let disk = Seams::system().disk;
    disk.chmod(&root.path().join("key.pem"), 0o640).unwrap();
    assert_eq!(pairs_seen(root.path()), [pair("OLD CERT", "OLD KEY"), seventh()]);
    assert_eq!(disk.stat(&root.path().join(".versions/0-found/key.pem")).unwrap().mode, 0o640);
    assert_eq!(std::fs::read_to_string(root.path().join(".replaced/cert.pem")).unwrap(), "OLD CERT");
    assert!(root.path().join("fullchain.pem").exists(), "names that were not there are");
}

#[test]
fn links_of_another_tool_switch_as_one_pair() {
    let root = tempfile::tempdir().unwrap();
    let (live, archive) = (root.path().join("live"), root.path().join("archive"));
    std::fs::create_dir(&live).unwrap();
    std::fs::create_dir(&archive).unwrap();
    for (name, text) in [("cert", "OLD CERT"), ("key", "OLD KEY")] {
        std::fs::write(archive.join(format!("{name}1.pem")), text).unwrap();
        std::os::unix::fs::symlink(format!("../archive/{name}1.pem"), live.join(format!("{name}.pem"))).unwrap();
    }
    assert_eq!(pairs_seen(&live), [pair("OLD CERT", "OLD KEY"), seventh()]);
    assert_eq!(std::fs::read_to_string(archive.join("key1.pem")).unwrap(), "OLD KEY", "what was linked to stays");
}

#[test]
fn a_pair_moved_over_ours_switches_as_one_and_a_single_file_is_put_right_first() {
    let root = tempfile::tempdir().unwrap();
    let writer = FilesWriter::new(Seams::system().disk, Fault::none());
    writer.write(&sink(root.path()), &bundle(6), false).unwrap();
    let over = |name: &str, text: &str| {
        std::fs::write(root.path().join("x"), text).unwrap();
        std::fs::rename(root.path().join("x"), root.path().join(name)).unwrap();
    };
    over("cert.pem", "MOVED CERT");
    over("key.pem", "MOVED KEY");
    assert_eq!(pairs_seen(root.path()), [pair("MOVED CERT", "MOVED KEY"), seventh()]);
    over("key.pem", "STRAY KEY");
    assert_eq!(pairs_seen(root.path()), [pair(&seventh().0, "STRAY KEY"), seventh()]);
}

#[test]
fn an_interrupted_take_over_is_completed() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("cert.pem"), "OLD CERT").unwrap();
    std::fs::write(root.path().join("key.pem"), "OLD KEY").unwrap();
    let writer = FilesWriter::new(Seams::system().disk, Fault::none());
    std::fs::create_dir(root.path().join(".versions")).unwrap();
    assert_eq!(writer.adopt(root.path(), &sink(root.path()), None).unwrap().as_deref(), Some(FOUND));
    // Stopped when the link had moved and one of the names was not ours yet.
    std::fs::remove_file(root.path().join("key.pem")).unwrap();
    std::fs::write(root.path().join("key.pem"), "OLD KEY").unwrap();
    assert_eq!(pairs_seen(root.path()), [pair("OLD CERT", "OLD KEY"), seventh()]);
}

#[test]
fn a_roll_back_leads_to_what_was_found() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("key.pem"), "OLD KEY").unwrap();
    let writer = FilesWriter::new(Seams::system().disk, Fault::none());
    let written = writer.write(&sink(root.path()), &bundle(1), false).unwrap();
    assert_eq!(written.previous.as_deref(), Some(FOUND));
    assert!(writer.roll_back(&sink(root.path()), FOUND).unwrap());
    assert_eq!(std::fs::read_to_string(root.path().join("key.pem")).unwrap(), "OLD KEY");
}
