//! Targets on disk for the tests: specifications, a reader that looks every millisecond, and what it saw.
//!
//! It refuses to call half a pair a pair.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use certwright_core::x509::inspect::inspect;
use certwright_core::x509::pem;
use certwright_custody::LeafKey;
use certwright_proto::v1;

/// A certificate with one files target.
pub fn spec(directory: &Path) -> v1::CertificateSpec {
    v1::CertificateSpec {
        dns_names: vec!["web.example.org".into(), "www.example.org".into()],
        issuer: "demo".into(),
        targets: vec![v1::Target {
            name: "files".into(),
            agent: "edge".into(),
            files: Some(v1::FilesSink { directory: directory.display().to_string(), ..Default::default() }),
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// Serial of the certificate in a file; `None` when there is none.
pub fn serial(path: &Path) -> Option<String> {
    let text = std::fs::read(path).ok()?;
    Some(inspect(pem::certificates(&text).ok()?.first()?).ok()?.serial)
}

/// Whether certificate and key belong together, remembered by contents: parsing every millisecond would be too slow.
#[derive(Default)]
struct Judge(BTreeMap<(Vec<u8>, Vec<u8>), Result<String, String>>);

impl Judge {
    fn judge(&mut self, certificate: Vec<u8>, key: Vec<u8>) -> Result<String, String> {
        let judged = self.0.entry((certificate, key)).or_insert_with_key(|(certificate, key)| {
            let ders = pem::certificates(certificate).map_err(|error| error.to_string())?;
            let certificate = inspect(ders.first().ok_or("no certificate")?).map_err(|error| error.to_string())?;
            let text = std::str::from_utf8(key).map_err(|error| error.to_string())?;
            let key = LeafKey::from_pem(text).map_err(|error| error.to_string())?;
            if key.spki_hash() != certificate.spki_hash {
                return Err(format!("{} beside another key", certificate.serial));
            }
            Ok(certificate.serial)
        });
        judged.clone()
    }
}

/// What a reader saw.
#[derive(Default, Debug)]
pub struct Seen {
    pub looks: u64,
    pub serials: BTreeSet<String>,
    pub bad: Vec<String>,
    /// There had been a pair, and then there was none.
    pub vanished: u64,
}

/// Reads the directory every millisecond.
pub struct Reader {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    pub fn start(directory: PathBuf) -> Self {
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Seen::default())));
        let (stopped, told) = (stop.clone(), seen.clone());
        let thread = std::thread::spawn(move || {
            let mut judge = Judge::default();
            while !stopped.load(Ordering::Relaxed) {
                look(&directory, &mut judge, &mut told.lock().unwrap());
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        Self { stop, seen, thread: Some(thread) }
    }

    pub fn has_seen(&self, serial: &str) -> bool {
        self.seen.lock().unwrap().serials.contains(serial)
    }

    pub fn end(mut self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

/// One look, three ways: the pair behind the link resolved once, the one combined file, and the two visible names with
/// the certificate read again after the key (a pair that changed in between is no pair, and looked at again).
fn look(directory: &Path, judge: &mut Judge, seen: &mut Seen) {
    seen.looks += 1;
    let mut note = |what: &str, judged: Result<String, String>| match judged {
        Ok(serial) => drop(seen.serials.insert(serial)),
        Err(cause) => seen.bad.push(format!("{what}: {cause}")),
    };
    let had = !judge.0.is_empty();
    let mut there = false;
    if let Ok(version) = std::fs::canonicalize(directory.join(".current")) {
        there = true;
        match (std::fs::read(version.join("cert.pem")), std::fs::read(version.join("key.pem"))) {
            (Ok(certificate), Ok(key)) => note("version", judge.judge(certificate, key)),
            (certificate, key) => note("version", Err(format!("{certificate:?} {key:?}").chars().take(200).collect())),
        }
        if let Ok(combined) = std::fs::read(version.join("combined.pem")) {
            note("combined", judge.judge(combined.clone(), combined));
        }
    }
    let read = |name: &str| std::fs::read(directory.join(name)).ok();
    if let (Some(first), Some(key), Some(again)) = (read("cert.pem"), read("key.pem"), read("cert.pem"))
        && first == again
    {
        there = true;
        note("names", judge.judge(first, key));
    }
    if had && !there {
        seen.vanished += 1;
    }
}
