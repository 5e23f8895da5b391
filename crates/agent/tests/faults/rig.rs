//! An estate with one server, a directory, and agents against them: in this process, or as the real binary.
//!
//! It refuses fixed waits: everything is awaited with a deadline.

use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use certwright_agent::{Agent, AgentOptions};
use certwright_core::spec::Labels;
use certwright_proto::agent::v1 as wire;
use certwright_seams::{Clock, Seams};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::estate::{Estate, Keys, Server};

pub const INSTANCE: &str = "5-0-1";
/// The promise: whatever was in the way, the agent is back within this time of its end.
pub const RECOVERS_WITHIN: Duration = Duration::from_secs(60);

pub struct Rig {
    pub estate: Arc<Estate>,
    pub server: Server,
    pub root: TempDir,
}

impl Rig {
    pub async fn new() -> Self {
        let estate = Estate::new();
        let server = estate.serve(1, "127.0.0.1:0".parse().unwrap()).await;
        let root = tempfile::tempdir().unwrap();
        let context = estate.context("edge", &[server.address], Duration::from_secs(24 * 3600));
        std::fs::write(root.path().join("context"), context).unwrap();
        Self { estate, server, root }
    }

    /// The directory of the target.
    pub fn live(&self) -> PathBuf {
        self.root.path().join("live")
    }

    pub fn options(&self) -> AgentOptions {
        AgentOptions::new(self.root.path().join("context"), self.root.path().join("state"), Labels::new())
    }

    /// An agent in this process.
    pub async fn agent(&self) -> Running {
        self.agent_with(self.options(), Seams::system()).await
    }

    pub async fn agent_with(&self, options: AgentOptions, seams: Seams) -> Running {
        let shutdown = CancellationToken::new();
        // A process that another test forks holds the lock of the one before until it executes its program.
        let mut patience = 0..1000;
        let agent = loop {
            match Agent::new(options.clone(), seams.clone()).await {
                Err(error) if error.to_string().contains("in use") && patience.next().is_some() => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                agent => break agent.unwrap(),
            }
        };
        let task = tokio::spawn(agent.run(shutdown.clone()));
        Running { shutdown, task }
    }

    /// The real binary, killed when dropped.
    pub fn process(&self, stop_at: Option<&str>) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_certwright-agent"));
        command.arg("--context").arg(self.root.path().join("context"));
        command.arg("--state").arg(self.root.path().join("state"));
        command.env_remove("CERTWRIGHT_STOP_AT").env("CERTWRIGHT_LOG", "info");
        if let Some(step) = stop_at {
            command.args(["--stop-at", step]);
        }
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.root.path().join("log")).unwrap();
        Process(command.stdout(Stdio::null()).stderr(log).spawn().unwrap())
    }

    /// Waits until something holds; says what was waited for, and the agents' log, when it does not come.
    pub async fn until(&self, what: &str, mut holds: impl FnMut(&Estate) -> bool) {
        let start = Instant::now();
        while !holds(&self.estate) {
            if start.elapsed() > RECOVERS_WITHIN {
                let reports: Vec<String> = self.estate.state().reports.iter().map(told).collect();
                let log = std::fs::read_to_string(self.root.path().join("log")).unwrap_or_default();
                panic!("no {what} in {RECOVERS_WITHIN:?}; reports {reports:#?}\nlog:\n{log}");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits for a report of this generation, target, stage and failure reason (empty for success).
    pub async fn reported(&self, generation: u64, target: &str, stage: &str, reason: &str) -> wire::Report {
        let mut found = None;
        self.until(&format!("report {generation} {target:?} {stage} {reason:?}"), |estate| {
            let state = estate.state();
            found = state
                .reports
                .iter()
                .rfind(|report| {
                    (report.generation, report.target.as_str(), report.stage.as_str(), report.failure_reason.as_str())
                        == (generation, target, stage, reason)
                })
                .cloned();
            found.is_some()
        })
        .await;
        found.unwrap()
    }

    pub async fn written(&self, generation: u64) {
        self.reported(generation, "files", "written", "").await;
    }

    /// Lets only the agent of this context in, by its key, which is returned.
    pub fn registered(&self, context: &str) -> [u8; 32] {
        let context = certwright_agent::Context::parse(context.as_bytes()).unwrap();
        let present = certwright_core::x509::inspect::inspect(&context.chain().unwrap()[0]).unwrap().spki_hash;
        self.estate.state().keys = Some(Keys { present, previous: None });
        present
    }

    /// Serial of the newest certificate issued.
    pub fn issued_serial(&self) -> String {
        self.estate.state().instances[INSTANCE].issued.as_ref().unwrap().serial.clone()
    }

    pub fn live_serial(&self) -> Option<String> {
        crate::target::serial(&self.live().join("cert.pem"))
    }
}

pub fn told(report: &wire::Report) -> String {
    format!(
        "{} {} {:?} {} {} {}",
        report.instance, report.generation, report.target, report.stage, report.failure_reason, report.failure_message
    )
}

pub struct Running {
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), certwright_agent::AgentError>>,
}

impl Running {
    pub async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(Duration::from_secs(20), self.task).await.expect("a stop ends").unwrap().unwrap();
    }
}

pub struct Process(pub Child);

impl Process {
    /// Waits for its end.
    pub async fn ended(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < RECOVERS_WITHIN, "the agent goes on");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// What the system says of it.
    pub fn status(&self) -> String {
        std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap()
    }

    /// Resident memory, octets.
    pub fn resident(&self) -> u64 {
        let status = self.status();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The machine's clock, moved by some seconds.
#[derive(Debug, Clone)]
pub struct MovedClock {
    machine: certwright_seams::clock::SystemClock,
    pub moved_seconds: Arc<AtomicI64>,
}

impl MovedClock {
    pub fn by(seconds: i64) -> Self {
        let machine = certwright_seams::clock::SystemClock::new();
        Self { machine, moved_seconds: Arc::new(AtomicI64::new(seconds)) }
    }

    pub fn seams(&self) -> Seams {
        Seams { clock: Arc::new(self.clone()), ..Seams::system() }
    }
}

impl Clock for MovedClock {
    fn wall_millis(&self) -> u64 {
        self.machine.wall_millis().saturating_add_signed(self.moved_seconds.load(Ordering::Relaxed) * 1000)
    }

    fn monotonic(&self) -> Duration {
        self.machine.monotonic()
    }
}
