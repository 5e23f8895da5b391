//! One fleet of one server and one agent for every test that only asks.
//!
//! It refuses to outlive the tests: a guard process stops it as soon as they are gone, however they end.

use std::os::unix::process::CommandExt;
use std::process::{ChildStdin, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use certwright_tests::fleet::Fleet;
use certwright_tests::program::ours;
use serde_json::Value;

/// The fleet, and the guard's input: closed when this process ends.
struct Shared {
    fleet: Fleet,
    _alive: ChildStdin,
}

/// The fleet, for one test at a time, so that what a test counts is its own.
pub fn fleet() -> Held {
    static SHARED: OnceLock<Mutex<Shared>> = OnceLock::new();
    let shared = SHARED.get_or_init(|| {
        let fleet = Fleet::start(1, 1);
        let guard = "read -r _; \"$0\" dev --stop --dir \"$1\"; rm -rf \"$1\"";
        let mut guard = Command::new("sh")
            .args(["-c", guard])
            .arg(ours("certwright"))
            .arg(fleet.folder())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // What ends the tests (an interrupt, a time limit) goes to their whole group, and not to the guard.
            .process_group(0)
            .spawn()
            .unwrap();
        let alive = guard.stdin.take().unwrap();
        // The kernel collects it: it outlives this process by design.
        drop(guard);
        Mutex::new(Shared { fleet, _alive: alive })
    });
    Held(shared.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The shared fleet while a test has it.
pub struct Held(MutexGuard<'static, Shared>);

impl std::ops::Deref for Held {
    type Target = Fleet;

    fn deref(&self) -> &Fleet {
        &self.0.fleet
    }
}

impl Held {
    /// Everything that happened but the demonstration's own renewals.
    pub fn happened(&self) -> Vec<Value> {
        let mut events = self.events();
        events.retain(|event| event["stream"] != "namespaces/default/certificates/web");
        events
    }

    /// Runs a command that must be refused and change nothing.
    pub fn refused(&self, arguments: &[&str], exit: i32, reason: &str) -> String {
        let before = self.happened();
        let message = refusal(&self.try_run(arguments), exit, reason);
        let after = self.happened();
        assert_eq!(before, after, "{arguments:?} was refused and yet changed something");
        message
    }
}

/// Checks the shape of a failure: exit code, exactly one `error:` line, `reason CODE` last, nothing on standard output.
/// Answers the error line.
pub fn refusal(output: &Output, exit: i32, reason: &str) -> String {
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "a refused command printed data");
    failure(output, exit, reason)
}

/// The same where data came before the failure.
pub fn failure(output: &Output, exit: i32, reason: &str) -> String {
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(exit), "exit code; it said:\n{stdout}{stderr}");
    assert_eq!(stderr.lines().last(), Some(format!("reason {reason}").as_str()), "the last line of:\n{stderr}");
    let errors: Vec<&str> = stderr.lines().filter(|line| line.starts_with("error:")).collect();
    assert_eq!(errors.len(), 1, "exactly one error line in:\n{stderr}");
    assert!(errors[0].contains("; "), "cause and fix in {:?}", errors[0]);
    errors[0].to_string()
}
