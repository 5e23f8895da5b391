//! Servers and agents as separate processes of this binary, and the list of them in `processes.json`.
//!
//! It refuses to leave processes behind: what it started it stops, by process id.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use certwright_agent::Context;
use certwright_proto::v1;
use certwright_proto::v1::tokens_client::TokensClient;
use certwright_seams::net::draw_port;
use certwright_seams::{Disk, Seams};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

use super::demo::Demo;
use crate::client::Client;
use crate::failure::Failure;
use crate::output::note;

/// How long a server may take to serve.
const START_WITHIN: Duration = Duration::from_secs(60);
/// How long a process may take to stop before it is killed.
const STOP_WITHIN: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);
/// Drawn ports that may be taken before there is none.
const PORT_ATTEMPTS_MAX: usize = 100;

/// One process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Process {
    /// Its process id.
    pub pid: u32,
    /// `server` or `agent`.
    pub role: String,
    /// Where clients connect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc: Option<String>,
    /// Where probes connect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    /// Where servers connect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raft: Option<String>,
    /// Its data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<PathBuf>,
}

/// Processes by name.
pub type Processes = BTreeMap<String, Process>;

impl Process {
    /// This very process in a role.
    pub fn of_this_process(role: &str) -> Self {
        Self { pid: std::process::id(), role: role.to_string(), grpc: None, http: None, raft: None, data: None }
    }
}

/// Running processes that this one started.
pub struct Fleet {
    directory: PathBuf,
    seams: Seams,
    processes: Processes,
    children: Vec<(String, Child)>,
}

impl Fleet {
    /// Starts servers: the first bootstraps, the others join with tokens. Answers when all are voters that serve.
    pub async fn start(directory: &Path, servers: u8, seams: Seams) -> Result<Self, Failure> {
        let processes = Processes::new();
        let mut fleet = Self { directory: directory.to_path_buf(), seams, processes, children: Vec::new() };
        let outcome = fleet.start_servers(servers).await;
        if outcome.is_err() {
            let _ = fleet.stop().await;
        }
        outcome.map(|()| fleet)
    }

    async fn start_servers(&mut self, servers: u8) -> Result<(), Failure> {
        let context = self.directory.join("context");
        for number in 1..=servers {
            let name = format!("server-{number}");
            let data = self.directory.join(if servers == 1 { "data".to_string() } else { name.clone() });
            let ports = free_ports(&self.seams).await?;
            let mut arguments = vec!["server".to_string(), "--name".to_string(), name.clone()];
            for (flag, port) in ["--grpc", "--raft", "--http"].iter().zip(&ports) {
                arguments.extend([flag.to_string(), port.to_string()]);
            }
            arguments.extend(["--data".to_string(), data.display().to_string()]);
            if self.seams.disk.exists(&data.join("node.json")).unwrap_or(false) {
                arguments.truncate(3);
                arguments.extend(["--data".to_string(), data.display().to_string()]);
            } else if number == 1 {
                arguments.push("--bootstrap".to_string());
            } else {
                let token = self.directory.join(format!("{name}.token"));
                self.token(&context, &token).await?;
                let first = Context::load(&*self.seams.disk, &context)?.servers[0].clone();
                arguments.extend(["--join".to_string(), first, "--token".to_string(), format!("@{}", token.display())]);
            }
            let [grpc, raft, http] = ports.map(|port| Some(port.to_string()));
            self.spawn(
                &name,
                &arguments,
                Process { pid: 0, role: "server".to_string(), grpc, http, raft, data: Some(data.clone()) },
            )?;
            if number == 1 {
                self.first_context(&data, &context).await?;
            }
            self.until_member(&name, number).await?;
            note(&format!("{name} serves"));
        }
        Ok(())
    }

    /// Waits for the context that bootstrap writes and puts it where users look.
    async fn first_context(&mut self, data: &Path, context: &Path) -> Result<(), Failure> {
        let written = data.join("administrator.context");
        self.wait("the first server's bootstrap", async |fleet: &Self| {
            fleet.seams.disk.exists(&written).unwrap_or(false)
        })
        .await?;
        if !self.seams.disk.exists(context).unwrap_or(false) {
            Context::load(&*self.seams.disk, &written)?.save(&*self.seams.disk, context)?;
        }
        Ok(())
    }

    /// Waits until the newest server votes, then tells the administrator's context about it.
    async fn until_member(&mut self, name: &str, voters: u8) -> Result<(), Failure> {
        let path = self.directory.join("context");
        let context = Context::load(&*self.seams.disk, &path)?;
        let client = Client::with_context(&context, self.seams.clone(), START_WITHIN)?;
        self.wait(&format!("{name} to become a voter"), async |_: &Self| {
            let Ok(cluster) = crate::status::cluster(&client).await else { return false };
            let votes = |node: &&v1::Node| node.role == "leader" || node.role == "follower";
            cluster.nodes.iter().filter(votes).count() >= usize::from(voters)
        })
        .await?;
        let cluster = crate::status::cluster(&client).await?;
        let mut context = context;
        context.servers =
            cluster.nodes.iter().filter(|node| node.role != "removed").map(|node| node.api_address.clone()).collect();
        Ok(context.save(&*self.seams.disk, &path)?)
    }

    async fn wait(&mut self, what: &str, done: impl AsyncFn(&Self) -> bool) -> Result<(), Failure> {
        let end = tokio::time::Instant::now() + START_WITHIN;
        while !done(self).await {
            for (name, child) in &mut self.children {
                if let Ok(Some(status)) = child.try_wait() {
                    let log = self.directory.join(format!("{name}.log"));
                    return Err(Failure::finding(
                        format!("{name} ended with {status}"),
                        format!("see {}", log.display()),
                    ));
                }
            }
            if tokio::time::Instant::now() > end {
                return Err(Failure::timed_out(format!("waited {} s for {what}", START_WITHIN.as_secs())));
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Writes a token that admits one server.
    async fn token(&self, context: &Path, file: &Path) -> Result<(), Failure> {
        let client =
            Client::with_context(&Context::load(&*self.seams.disk, context)?, self.seams.clone(), START_WITHIN)?;
        let request =
            v1::CreateTokenRequest { role: "node".to_string(), request_id: client.request_id(), ..Default::default() };
        let call = |channel, request| async move { TokensClient::new(channel).create_token(request).await };
        let secret = client.call(request, call).await?.secret;
        self.seams
            .disk
            .write_atomic(file, secret.as_bytes(), 0o600)
            .map_err(|error| Failure::file(file.display(), error))
    }

    /// Joins and starts agents; each answers for itself.
    pub async fn start_agents(&mut self, demo: &Demo, agents: u8) -> Result<(), Failure> {
        for number in 1..=agents {
            let name = format!("agent-{number}");
            let context = demo.join(&name).await?;
            let state = self.directory.join(&name);
            let words = ["agent", "--context", &context.display().to_string(), "--state", &state.display().to_string()];
            let process = Process { data: Some(state), ..Process::of_this_process("agent") };
            self.spawn(&name, &words.map(str::to_string), process)?;
        }
        Ok(())
    }

    /// Starts one process in a session of its own, its output in `NAME.log`.
    fn spawn(&mut self, name: &str, arguments: &[String], mut process: Process) -> Result<(), Failure> {
        let log = self.directory.join(format!("{name}.log"));
        let flags = rustix::fs::OFlags::CREATE
            | rustix::fs::OFlags::WRONLY
            | rustix::fs::OFlags::APPEND
            | rustix::fs::OFlags::CLOEXEC;
        let open = || rustix::fs::open(&log, flags, rustix::fs::Mode::from_bits_truncate(0o600));
        let output =
            open().and_then(|first| Ok((first, open()?))).map_err(|error| Failure::file(log.display(), error))?;
        let program =
            std::env::current_exe().map_err(|error| Failure::internal(format!("no path to this program: {error}")))?;
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::from(output.0))
            .stderr(Stdio::from(output.1))
            .process_group(0)
            .spawn()
            .map_err(|error| Failure::internal(format!("{name} cannot be started: {error}")))?;
        process.pid = child.id().unwrap_or_default();
        self.children.push((name.to_string(), child));
        self.processes.insert(name.to_string(), process);
        write(&self.directory, &self.processes, &*self.seams.disk)
    }

    /// Stops everything, agents first.
    pub async fn stop(&mut self) -> Result<(), Failure> {
        for (_, child) in self.children.iter_mut().rev() {
            terminate(child.id());
        }
        for (name, child) in self.children.iter_mut().rev() {
            if tokio::time::timeout(STOP_WITHIN, child.wait()).await.is_err() {
                note(&format!("{name} did not stop in {} s and is killed", STOP_WITHIN.as_secs()));
                let _ = child.kill().await;
            }
        }
        self.children.clear();
        Ok(())
    }
}

fn terminate(pid: Option<u32>) {
    if let Some(pid) = pid.and_then(|pid| Pid::from_raw(pid.cast_signed())) {
        // A process that is gone already is what was wanted.
        let _ = kill_process(pid, Signal::TERM);
    }
}

/// Stops what an earlier `--detach` left running; answers the names.
pub async fn stop(directory: &Path, disk: &dyn Disk) -> Result<Vec<String>, Failure> {
    let path = directory.join("processes.json");
    let text = disk.read(&path, 1024 * 1024).map_err(|error| Failure::file(path.display(), error))?;
    let processes: Processes = serde_json::from_slice(&text).map_err(|error| Failure::file(path.display(), error))?;
    let alive = |process: &Process| {
        Pid::from_raw(process.pid.cast_signed())
            .filter(|pid| test_kill_process(*pid).is_ok() && !is_zombie(process.pid, disk))
    };
    let end = tokio::time::Instant::now() + STOP_WITHIN;
    for process in processes.values() {
        terminate(alive(process).map(|_| process.pid));
    }
    while processes.values().any(|process| alive(process).is_some()) {
        if tokio::time::Instant::now() > end {
            for pid in processes.values().filter_map(alive) {
                let _ = kill_process(pid, Signal::KILL);
            }
            break;
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(processes.into_keys().collect())
}

/// Whether a process has ended and only waits to be collected by its parent.
fn is_zombie(pid: u32, disk: &dyn Disk) -> bool {
    // The files of /proc say that they are empty, so their size cannot be trusted.
    let mut buffer = [0; 512];
    let file = disk.open(Path::new(&format!("/proc/{pid}/stat")), certwright_seams::disk::Open::Read);
    let read = file.and_then(|file| file.read_at(0, &mut buffer)).unwrap_or(0);
    let text = String::from_utf8_lossy(&buffer[..read]);
    text.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'))
}

/// Writes `processes.json`.
pub fn write(directory: &Path, processes: &Processes, disk: &dyn Disk) -> Result<(), Failure> {
    let path = directory.join("processes.json");
    let text = serde_json::to_vec_pretty(processes).map_err(|error| Failure::internal(error.to_string()))?;
    disk.write_atomic(&path, &text, 0o644).map_err(|error| Failure::file(path.display(), error))
}

/// Three loopback ports that nobody listens on just now.
pub async fn free_ports(seams: &Seams) -> Result<[SocketAddr; 3], Failure> {
    let mut listeners = Vec::new();
    let mut attempts = 0;
    while listeners.len() < 3 {
        let drawn = SocketAddr::from(([127, 0, 0, 1], draw_port(&*seams.entropy)));
        match seams.net.listen(drawn).await {
            Ok(listener) => listeners.push((drawn, listener)),
            Err(error) if attempts == PORT_ATTEMPTS_MAX => return Err(Failure::file("127.0.0.1", error)),
            Err(_) => attempts += 1,
        }
    }
    Ok([listeners[0].0, listeners[1].0, listeners[2].0])
}

/// Resolves at SIGTERM or SIGINT.
pub async fn until_signal() {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return;
    };
    tokio::select! {
        biased;
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
