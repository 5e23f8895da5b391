//! Telling a consumer that its files changed: a pre-test, then a command or a signal.
//!
//! It refuses shells, unbounded time, unbounded output, and output that could hold a key.

mod output;
mod process;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use certwright_core::spec::{Reload, ReloadAction};
use certwright_seams::{BoxFuture, Disk};

pub use output::presentable;
pub use process::ProcessHooks;

use crate::failure::{Failure, FailureReason};

/// Octets of a pid file that are looked at.
const PID_OCTETS_MAX: u64 = 64;
/// Octets of a command's output that are kept: its end, where the complaint is.
pub const OUTPUT_OCTETS_MAX: usize = 4096;

/// How a command ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ended {
    /// By itself, with this exit code (`None`: by a signal) and the end of its output.
    Exit(Option<i32>, String),
    /// It was killed at its timeout.
    Timeout,
    /// It could not be started.
    NotStarted(String),
}

/// Runs commands and sends signals; processes in production, a recorder in simulation.
pub trait Hooks: Send + Sync + 'static {
    /// Runs `argv` without a shell, with these variables added to the environment.
    fn run<'a>(
        &'a self,
        argv: &'a [String],
        variables: &'a [(String, String)],
        timeout: Duration,
    ) -> BoxFuture<'a, Ended>;

    /// Sends a signal (`HUP`, `USR1`, `USR2`, `TERM`, `INT`) to a process; an error says why not.
    fn signal(&self, process_id: i32, signal: &str) -> Result<(), String>;
}

/// What a hook may know of the delivery it belongs to.
#[derive(Clone, Debug)]
pub struct HookContext {
    /// `namespaces/{ns}/certificates/{name}`.
    pub certificate: String,
    /// Upper-case hex.
    pub serial: String,
    /// The target's directory.
    pub directory: String,
    /// DNS names of the certificate.
    pub dns_names: Vec<String>,
}

impl HookContext {
    /// Environment variables; `RENEWED_*` are those of certbot, so that its deploy hooks work as they are.
    pub fn variables(&self) -> Vec<(String, String)> {
        [
            ("CERTWRIGHT_CERTIFICATE", self.certificate.clone()),
            ("CERTWRIGHT_SERIAL", self.serial.clone()),
            ("CERTWRIGHT_DIRECTORY", self.directory.clone()),
            ("RENEWED_LINEAGE", self.directory.clone()),
            ("RENEWED_DOMAINS", self.dns_names.join(" ")),
        ]
        .map(|(name, value)| (name.to_string(), value))
        .to_vec()
    }
}

/// Runs a target's reload: the pre-test on the new files, then the action.
#[derive(Clone)]
pub struct Reloader {
    hooks: Arc<dyn Hooks>,
    disk: Arc<dyn Disk>,
}

impl Reloader {
    /// A reloader that acts through `hooks` and reads pid files from `disk`.
    pub fn new(hooks: Arc<dyn Hooks>, disk: Arc<dyn Disk>) -> Self {
        Self { hooks, disk }
    }

    /// Pre-test, then action; each within the reload's timeout.
    pub async fn reload(&self, reload: &Reload, context: &HookContext) -> Result<(), Failure> {
        let variables = context.variables();
        let timeout = Duration::from_secs(u64::from(reload.timeout_seconds.max(1)));
        if !reload.test_exec.is_empty() {
            self.run("testExec", &reload.test_exec, &variables, timeout).await?;
        }
        match &reload.action {
            ReloadAction::Exec(argv) if argv.is_empty() => Ok(()),
            ReloadAction::Exec(argv) => self.run("exec", argv, &variables, timeout).await,
            ReloadAction::Signal { signal, pid_file } => self.signal(signal, Path::new(pid_file)),
        }
    }

    async fn run(
        &self,
        field: &str,
        argv: &[String],
        variables: &[(String, String)],
        timeout: Duration,
    ) -> Result<(), Failure> {
        let program = argv.first().map_or("", String::as_str);
        match self.hooks.run(argv, variables, timeout).await {
            Ended::Exit(Some(0), _) => Ok(()),
            Ended::Exit(code, output) => {
                let code = code.map_or("by a signal".to_string(), |code| format!("with code {code}"));
                let output = presentable(&output);
                Err(Failure::new(FailureReason::HookFailed, format_args!("{field} {program:?} ended {code}: {output}")))
            }
            Ended::Timeout => Err(Failure::new(
                FailureReason::HookTimeout,
                format_args!("{field} {program:?} took longer than {} s and was killed", timeout.as_secs()),
            )),
            Ended::NotStarted(cause) => {
                Err(Failure::new(FailureReason::HookFailed, format_args!("{field} {program:?}: {cause}")))
            }
        }
    }

    fn signal(&self, signal: &str, pid_file: &Path) -> Result<(), Failure> {
        let failed = |cause: String| {
            Failure::new(FailureReason::HookFailed, format_args!("signal {signal}: {}: {cause}", pid_file.display()))
        };
        let held = self.disk.read(pid_file, PID_OCTETS_MAX).map_err(|error| failed(error.to_string()))?;
        let text = String::from_utf8_lossy(&held);
        let process_id = text.trim().parse::<i32>().ok().filter(|&id| id > 0);
        let process_id = process_id.ok_or_else(|| failed("holds no process id".to_string()))?;
        self.hooks.signal(process_id, signal).map_err(failed)
    }
}

#[cfg(test)]
mod tests;
