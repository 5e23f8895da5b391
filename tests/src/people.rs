//! People who use the command line all the time: issue a certificate, list what there is, again and again.
//!
//! It refuses a command that fails: the client finds the leader and repeats under one request id.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use crate::fleet::Fleet;
use crate::program::{eventually, ours, run};

/// What they share.
#[derive(Default)]
struct Shared {
    over: AtomicBool,
    done: AtomicUsize,
    serials: Mutex<BTreeSet<String>>,
}

/// Some of them, at work.
pub struct People {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl People {
    /// That many begin.
    pub fn start(fleet: &Fleet, count: usize) -> Self {
        let shared = Arc::<Shared>::default();
        let threads = (0..count).map(|number| {
            let (context, out) = (fleet.context(), fleet.folder().join(format!("people-{number}")));
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || use_it(&context, &out, &shared))
        });
        Self { threads: threads.collect(), shared }
    }

    /// Waits until they have run that many more commands.
    pub fn go_on(&self, more: usize) {
        let target = self.shared.done.load(Ordering::Relaxed) + more;
        eventually("commands are answered", Duration::from_secs(60), || {
            assert!(self.threads.iter().all(|thread| !thread.is_finished()), "a command failed");
            (self.shared.done.load(Ordering::Relaxed) >= target).then_some(())
        });
    }

    /// They stop; answers the serials of all certificates that they got.
    pub fn stop(self) -> BTreeSet<String> {
        self.shared.over.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
        std::mem::take(&mut *self.shared.serials.lock().unwrap())
    }
}

fn use_it(context: &Path, out: &Path, shared: &Shared) {
    let command = |words: &[&str]| {
        let output = run(Command::new(ours("certwright")).arg("--context").arg(context).args(words));
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        shared.done.fetch_add(1, Ordering::Relaxed);
        output.stdout
    };
    while !shared.over.load(Ordering::Relaxed) {
        let out = out.to_str().unwrap();
        let issued =
            command(&["issue", "--dns", "people.demo.internal", "--issuer", "demo", "--out", out, "-o", "json"]);
        let issued: Value = serde_json::from_slice(&issued).unwrap();
        shared.serials.lock().unwrap().insert(issued["serial"].as_str().unwrap().to_string());
        command(&["get", "issuers"]);
    }
}
