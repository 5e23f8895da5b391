//! Targets that cannot be written: full, read only. A small tmpfs of its own makes the real errors.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use crate::rig::{INSTANCE, Rig};
use crate::target::{Reader, spec};

/// A small file system; unmounted when dropped.
struct Small(PathBuf);

impl Small {
    /// Mounts it. Without the right to mount these tests fail rather than pass unproved, except on a developer's
    /// machine, where they say so.
    fn mount(path: &Path, size: &str) -> Option<Self> {
        std::fs::create_dir_all(path).unwrap();
        let status =
            Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(path).status();
        if status.is_ok_and(|status| status.success()) {
            return Some(Self(path.to_path_buf()));
        }
        assert!(std::env::var_os("CI").is_none(), "this test mounts a tmpfs: run it as root");
        eprintln!("NOT PROVED: no right to mount a tmpfs");
        None
    }

    /// Fills it to the last page; returns the file that does.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("filler");
        let mut file = std::fs::File::create(&path).unwrap();
        for octets in [1 << 16, 1 << 12, 1 << 8, 1] {
            while std::io::Write::write_all(&mut file, &vec![0; octets]).is_ok() {}
        }
        path
    }

    fn remount(&self, option: &str) {
        let status = Command::new("mount").args(["-o", &format!("remount,{option}")]).arg(&self.0).status().unwrap();
        assert!(status.success(), "remount,{option}");
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_leaves_the_old_pair_and_recovers() {
    let rig = Rig::new().await;
    let Some(small) = Small::mount(&rig.live(), "1m") else { return };
    rig.estate.declare(INSTANCE, spec(&rig.live()));
    let agent = rig.agent().await;
    rig.written(1).await;
    let before = rig.issued_serial();
    let reader = Reader::start(rig.live());
    // Somebody else fills the disk to the last page.
    let filler = small.fill();
    rig.estate.renew(INSTANCE);
    let report = rig.reported(2, "files", "verified", "TARGET_FULL").await;
    assert!(report.failure_message.contains("space"), "{}", report.failure_message);
    assert_eq!(rig.live_serial(), Some(before));
    std::fs::remove_file(&filler).unwrap();
    rig.written(2).await;
    assert_eq!(rig.live_serial(), Some(rig.issued_serial()));
    let seen = reader.end();
    assert!(seen.bad.is_empty() && seen.vanished == 0, "{seen:?}");
    agent.stop().await;
    drop(small);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_target_leaves_the_old_pair_and_recovers() {
    let rig = Rig::new().await;
    let Some(small) = Small::mount(&rig.live(), "1m") else { return };
    rig.estate.declare(INSTANCE, spec(&rig.live()));
    let agent = rig.agent().await;
    rig.written(1).await;
    let before = rig.issued_serial();
    small.remount("ro");
    rig.estate.renew(INSTANCE);
    rig.reported(2, "files", "verified", "TARGET_READ_ONLY").await;
    assert_eq!(rig.live_serial(), Some(before));
    small.remount("rw");
    rig.written(2).await;
    assert_eq!(rig.live_serial(), Some(rig.issued_serial()));
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_state_directory_sends_no_request_and_recovers() {
    let rig = Rig::new().await;
    let state = rig.root.path().join("state");
    let Some(small) = Small::mount(&state, "1m") else { return };
    rig.estate.declare(INSTANCE, spec(&rig.live()));
    let agent = rig.agent().await;
    rig.written(1).await;
    // What it writes when it is told that its report has come would make room for a key.
    let facts = state.join("instances/5-0-1/facts.json");
    rig.until("the report's end on disk", |_| {
        std::fs::read_to_string(&facts).unwrap_or_default().contains("\"acknowledged\":true")
    })
    .await;
    let filler = small.fill();
    rig.estate.renew(INSTANCE);
    rig.reported(2, "", "received", "STATE_FAILED").await;
    let asked = rig.estate.state().csrs.iter().any(|(_, generation, _)| *generation == 2);
    assert!(!asked, "a key that is not durable is never certified");
    std::fs::remove_file(filler).unwrap();
    rig.written(2).await;
    assert_eq!(rig.live_serial(), Some(rig.issued_serial()));
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_directory_that_is_full_when_the_certificate_comes_is_told_of_it_again() {
    let rig = Rig::new().await;
    let state = rig.root.path().join("state");
    let Some(small) = Small::mount(&state, "1m").map(Arc::new) else { return };
    rig.estate.declare(INSTANCE, spec(&rig.live()));
    let agent = rig.agent().await;
    rig.written(1).await;
    let token = || std::fs::read_to_string(state.join("resume.json")).unwrap_or_default();
    let before = token();
    // There is room for the key and none for the certificate.
    let filled = small.clone();
    rig.estate.state().forge = Some(Box::new(move |_, _, _| drop(filled.fill())));
    rig.estate.renew(INSTANCE);
    rig.reported(2, "", "received", "STATE_FAILED").await;
    rig.estate.state().forge = None;
    assert_ne!(rig.live_serial(), Some(rig.issued_serial()));
    // While the disk stays full, it is asked for again, in sessions that are not one after the other without a pause.
    let start = std::time::Instant::now();
    rig.until("two more sessions", |estate| estate.state().hellos.len() >= 3).await;
    assert!(start.elapsed() > Duration::from_secs(1), "{:?}", start.elapsed());
    assert!(rig.estate.state().hellos[1..].iter().all(|hello| hello.resume.is_none()), "all of it is told again");
    std::fs::remove_file(state.join("filler")).unwrap();
    rig.written(2).await;
    assert_eq!(rig.live_serial(), Some(rig.issued_serial()));
    // From here on a bookmark counts again.
    rig.until("a newer token", |_| token() != before).await;
    agent.stop().await;
}
