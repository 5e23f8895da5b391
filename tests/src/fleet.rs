//! A whole fleet as separate processes, started as a user would: `certwright dev --servers N --agents M --detach`.
//!
//! It refuses to leave anything running: dropping a fleet stops it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;

use crate::program::{eventually, must, ours, run};

/// How often a fleet is started whose ports others take.
const STARTS_MAX: u32 = 3;

/// One line of `processes.json`.
#[derive(Clone, Debug, Deserialize)]
pub struct Process {
    pub pid: u32,
    pub role: String,
    #[serde(default)]
    pub grpc: Option<String>,
    #[serde(default)]
    pub http: Option<String>,
    #[serde(default)]
    pub raft: Option<String>,
    #[serde(default)]
    pub data: Option<PathBuf>,
}

/// Servers and agents of one cluster, in a folder of their own.
pub struct Fleet {
    folder: TempDir,
    environment: Vec<(String, String)>,
    restarted: BTreeMap<String, Child>,
}

impl Fleet {
    /// Starts servers and agents and waits until the demo certificate is delivered.
    pub fn start(servers: usize, agents: usize) -> Self {
        Self::start_with(servers, agents, &[])
    }

    /// The same with environment variables for every process.
    pub fn start_with(servers: usize, agents: usize, environment: &[(&str, &str)]) -> Self {
        Self::start_as(&ours("certwright"), servers, agents, environment)
    }

    /// The same with another build of `certwright`.
    pub fn start_as(program: &Path, servers: usize, agents: usize, environment: &[(&str, &str)]) -> Self {
        let environment: Vec<_> = environment.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        let mut attempts = 0;
        loop {
            attempts += 1;
            let folder = TempDir::with_prefix("certwright-fleet-").unwrap();
            let fleet = Self { folder, environment: environment.clone(), restarted: BTreeMap::new() };
            let mut dev = Command::new(program);
            dev.args(["dev", "--detach", "--servers", &servers.to_string(), "--agents", &agents.to_string(), "--dir"]);
            let output = run(dev.arg(fleet.folder()).envs(environment.clone()));
            if output.status.success() {
                return fleet;
            }
            // Another test may take a port between its choice and its use.
            let log = |number| std::fs::read_to_string(fleet.folder().join(format!("server-{number}.log")));
            let logs: String = (1..=servers).filter_map(|number| log(number).ok()).collect();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(attempts < STARTS_MAX && logs.contains("PORT_IN_USE"), "{dev:?} failed: {said}\n{logs}");
        }
    }

    /// The folder it lives in.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The administrator's context file.
    pub fn context(&self) -> PathBuf {
        self.folder().join("context")
    }

    /// Every process by name, as it is now.
    pub fn processes(&self) -> BTreeMap<String, Process> {
        let text = std::fs::read_to_string(self.folder().join("processes.json")).unwrap();
        let mut processes: BTreeMap<String, Process> = serde_json::from_str(&text).unwrap();
        for (name, child) in &self.restarted {
            if let Some(process) = processes.get_mut(name) {
                process.pid = child.id();
            }
        }
        processes
    }

    /// Names of the servers.
    pub fn servers(&self) -> Vec<String> {
        self.processes().into_iter().filter(|(_, process)| process.role == "server").map(|(name, _)| name).collect()
    }

    /// A `certwright` command of the administrator.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(ours("certwright"));
        command.arg("--context").arg(self.context()).args(arguments).env("NO_COLOR", "1");
        command
    }

    /// Runs one to its end, whatever it says.
    pub fn try_run(&self, arguments: &[&str]) -> Output {
        run(&mut self.command(arguments))
    }

    /// Runs one that must succeed; answers its standard output.
    pub fn run(&self, arguments: &[&str]) -> String {
        must(&mut self.command(arguments))
    }

    /// Runs one with `-o json` that must succeed; answers the last line, parsed.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let text = self.run(&[arguments, &["-o", "json"]].concat());
        serde_json::from_str(&text).or_else(|_| serde_json::from_str(text.lines().last().unwrap_or_default())).unwrap()
    }

    /// Every event, oldest first.
    pub fn events(&self) -> Vec<Value> {
        self.run(&["events", "--from", "1", "-o", "json"])
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// The leader's name, once there is one.
    pub fn leader(&self) -> String {
        eventually("a leader", Duration::from_secs(30), || {
            let output = self.try_run(&["operator", "raft", "peers", "-o", "json"]);
            let peers: Value = serde_json::from_slice(&output.stdout).ok()?;
            let leader = peers.as_array()?.iter().find(|peer| peer["role"] == "leader")?;
            Some(leader["name"].as_str()?.to_string())
        })
    }

    /// Sends a signal to one process.
    pub fn signal(&self, name: &str, signal: &str) {
        let pid = self.processes()[name].pid.to_string();
        must(Command::new("kill").args(["-s", signal, &pid]));
    }

    /// Stops everything in good order; the folder stays.
    pub fn stop(&self) {
        must(Command::new(ours("certwright")).args(["dev", "--stop", "--dir"]).arg(self.folder()));
    }

    /// Kills one process outright and waits until it is gone.
    pub fn kill(&mut self, name: &str) {
        let pid = self.processes()[name].pid;
        let _ = run(Command::new("kill").args(["-s", "KILL", &pid.to_string()]));
        if let Some(mut child) = self.restarted.remove(name) {
            let _ = child.wait();
        }
        eventually("the killed process is gone", Duration::from_secs(10), || gone(pid).then_some(()));
    }

    /// Starts a server again on its own data.
    pub fn restart(&mut self, name: &str) {
        self.restart_with(name, &[]);
    }

    /// Whether a process has ended.
    pub fn is_gone(&self, name: &str) -> bool {
        gone(self.processes()[name].pid)
    }

    /// The same with environment variables of its own.
    pub fn restart_with(&mut self, name: &str, environment: &[(&str, &str)]) {
        self.restart_as(&ours("certwright"), name, environment);
    }

    /// The same with another build of `certwright`.
    pub fn restart_as(&mut self, program: &Path, name: &str, environment: &[(&str, &str)]) {
        if let Some(mut child) = self.restarted.remove(name) {
            let _ = child.wait();
        }
        let process = self.processes()[name].clone();
        let log =
            std::fs::File::options().create(true).append(true).open(self.folder().join(format!("{name}.log"))).unwrap();
        let child = Command::new(program)
            .args(["server", "--data"])
            .arg(process.data.unwrap())
            .envs(self.environment.clone())
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.restarted.insert(name.to_string(), child);
    }

    /// Applies a manifest given as text.
    pub fn apply(&self, manifest: &str) {
        let file = self.folder().join("manifest.yaml");
        std::fs::write(&file, manifest).unwrap();
        self.run(&["apply", "-f", file.to_str().unwrap()]);
    }

    /// Waits until every server reports the same digest; answers it.
    pub fn agreed_digest(&self) -> String {
        eventually("equal digests on every server", Duration::from_secs(30), || {
            let output = self.try_run(&["operator", "digest", "-o", "json"]);
            let answer: Value = serde_json::from_slice(&output.stdout).ok()?;
            let digests: Vec<&str> = answer["digests"].as_object()?.values().filter_map(Value::as_str).collect();
            let complete = digests.len() == self.servers().len();
            assert!(digests.windows(2).all(|pair| pair[0] == pair[1]), "replicas differ: {answer}");
            complete.then(|| digests[0].to_string())
        })
    }
}

/// Whether a process has ended with all its threads; a zombie that is only waited for has, and its files are closed.
fn gone(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).map(|tasks| tasks.count()).unwrap_or(0);
    let zombie = std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .map(|stat| stat.rsplit(')').next().unwrap_or_default().trim().starts_with('Z'))
        .unwrap_or(true);
    zombie && threads <= 1
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let _ = run(Command::new(ours("certwright")).args(["dev", "--stop", "--dir"]).arg(self.folder()));
        for (_, mut child) in std::mem::take(&mut self.restarted) {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let kept = std::env::temp_dir().join(format!("certwright-failed-{}", std::process::id()));
            let _ = std::fs::rename(self.folder(), &kept);
            eprintln!("the fleet's folder was kept: {}", kept.display());
        }
    }
}
