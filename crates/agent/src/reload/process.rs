//! Commands as processes: no shell, a group of their own, killed as a group at the timeout.
//!
//! It refuses to hand on the agent's own settings: variables that start with `CERTWRIGHT_` are removed first.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use certwright_seams::BoxFuture;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

use super::{Ended, Hooks, OUTPUT_OCTETS_MAX};

/// How long output is waited for after a command ended: a daemon that it started may hold its pipes for ever.
const OUTPUT_WAIT: Duration = Duration::from_millis(200);

/// Hooks as processes of this host.
#[derive(Clone, Copy, Default, Debug)]
pub struct ProcessHooks;

impl Hooks for ProcessHooks {
    fn run<'a>(
        &'a self,
        argv: &'a [String],
        variables: &'a [(String, String)],
        timeout: Duration,
    ) -> BoxFuture<'a, Ended> {
        Box::pin(async move {
            match spawn(argv, variables) {
                Ok(child) => wait(child, timeout).await,
                Err(error) => Ended::NotStarted(error.to_string()),
            }
        })
    }

    fn signal(&self, process_id: i32, signal: &str) -> Result<(), String> {
        let number = match signal {
            "HUP" => Signal::HUP,
            "USR1" => Signal::USR1,
            "USR2" => Signal::USR2,
            "TERM" => Signal::TERM,
            "INT" => Signal::INT,
            other => return Err(format!("signal {other:?} is not one of HUP, USR1, USR2, TERM, INT")),
        };
        let process = Pid::from_raw(process_id).ok_or("process id 0")?;
        kill_process(process, number).map_err(|error| format!("process {process_id}: {error}"))
    }
}

fn spawn(argv: &[String], variables: &[(String, String)]) -> std::io::Result<Child> {
    let (program, arguments) = argv.split_first().ok_or_else(|| std::io::Error::other("no command"))?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CERTWRIGHT_") {
            command.env_remove(name);
        }
    }
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    command.process_group(0).kill_on_drop(true).spawn()
}

async fn wait(mut child: Child, timeout: Duration) -> Ended {
    let process = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    let (mut told, mut complaints) = (Tail::default(), Tail::default());
    match tokio::time::timeout(timeout, attend(&mut child, &mut told, &mut complaints)).await {
        Ok(Ok(status)) => Ended::Exit(status.code(), format!("{}{}", told.text(), complaints.text())),
        Ok(Err(error)) => Ended::NotStarted(error.to_string()),
        Err(_) => {
            if let Some(process) = process {
                // The whole group, so that nothing of the hook goes on behind the roll-back.
                let _ = kill_process_group(process, Signal::KILL);
            }
            let _ = child.wait().await;
            Ended::Timeout
        }
    }
}

/// Reads output until the command ended, and a moment longer.
async fn attend(child: &mut Child, told: &mut Tail, complaints: &mut Tail) -> std::io::Result<ExitStatus> {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let reading = async { tokio::join!(told.fill(stdout), complaints.fill(stderr)) };
    tokio::pin!(reading);
    tokio::select! {
        biased;
        _ = &mut reading => child.wait().await,
        status = child.wait() => {
            let _ = tokio::time::timeout(OUTPUT_WAIT, &mut reading).await;
            status
        }
    }
}

/// The last octets of a stream.
#[derive(Default)]
struct Tail(Vec<u8>);

impl Tail {
    async fn fill<R: AsyncRead + Unpin>(&mut self, stream: Option<R>) {
        let Some(mut stream) = stream else { return };
        let mut buffer = [0; 1024];
        while let Ok(read @ 1..) = stream.read(&mut buffer).await {
            self.0.extend_from_slice(&buffer[..read]);
            let excess = self.0.len().saturating_sub(OUTPUT_OCTETS_MAX);
            self.0.drain(..excess);
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0).to_string()
    }
}
