//! Servers and agents as separate processes of this binary.
//!
//! It refuses to leave processes behind: what it started it stops, by process id.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use certwright_agent::Context;
use certwright_proto::v1;
use certwright_proto::v1::tokens_client::TokensClient;
use certwright_seams::Seams;
use certwright_seams::net::pick_port;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::demo::Demo;
use super::processes::{self, Process, Processes, STOP_WITHIN};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::note;

/// How long a server may take to serve.
const START_WITHIN: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);
/// Drawn ports that may be taken before there is none.
const PORT_ATTEMPTS_MAX: usize = 100;

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
        let mut fleet = Self::empty(directory, seams);
        let outcome = match servers {
            1 => fleet.start_server(1, "data").await,
            _ => fleet.grow(1..=servers).await,
        };
        if outcome.is_err() {
            let _ = fleet.stop().await;
        }
        outcome.map(|()| fleet)
    }

    /// Nothing runs yet.
    pub fn empty(directory: &Path, seams: Seams) -> Self {
        Self { directory: directory.to_path_buf(), seams, processes: Processes::new(), children: Vec::new() }
    }

    /// Starts these servers of several, one after the other, each in a directory of its name.
    pub async fn grow(&mut self, numbers: RangeInclusive<u8>) -> Result<(), Failure> {
        for number in numbers {
            self.start_server(number, &format!("server-{number}")).await?;
        }
        Ok(())
    }

    async fn start_server(&mut self, number: u8, data: &str) -> Result<(), Failure> {
        let name = format!("server-{number}");
        let data = self.directory.join(data);
        let mut arguments = ["server", "--data", &data.display().to_string()].map(str::to_string).to_vec();
        let ports = match processes::record(&data, &*self.seams.disk)? {
            // It listens where it did and needs no flags for it.
            Some(record) => [record.api_listen, record.raft_listen, record.http_listen],
            None => {
                let ports = free_ports(&self.seams).await?.map(|port| port.to_string());
                arguments.extend(self.first_arguments(number, &name, &ports).await?);
                ports
            }
        };
        self.spawn(&name, "server", data.clone(), &arguments, ports.map(Some))?;
        if number == 1 {
            self.first_context(&data).await?;
        }
        self.until_member(&name, number).await?;
        note(&format!("{name} serves"));
        Ok(())
    }

    /// What a server is told once: its name, where it listens, and to found the cluster or to join it.
    async fn first_arguments(&self, number: u8, name: &str, ports: &[String; 3]) -> Result<Vec<String>, Failure> {
        let [grpc, raft, http] = ports;
        let mut arguments = vec!["--name", name, "--grpc", grpc, "--raft", raft, "--http", http];
        if number == 1 {
            arguments.push("--bootstrap");
            return Ok(arguments.into_iter().map(str::to_string).collect());
        }
        let (context, token) = (self.directory.join("context"), self.directory.join(format!("{name}.token")));
        self.token(&context, &token).await?;
        let first = Context::load(&*self.seams.disk, &context)?.servers[0].clone();
        let token = format!("@{}", token.display());
        arguments.extend(["--join", &first, "--token", &token]);
        Ok(arguments.into_iter().map(str::to_string).collect())
    }

    /// Waits for the context that bootstrap writes and puts it where users look, unless it is there from before.
    async fn first_context(&mut self, data: &Path) -> Result<(), Failure> {
        let context = self.directory.join("context");
        if self.seams.disk.exists(&context).unwrap_or(false) {
            return Ok(());
        }
        let written = data.join("administrator.context");
        self.wait("the first server's bootstrap", async |fleet: &Self| {
            fleet.seams.disk.exists(&written).unwrap_or(false)
        })
        .await?;
        Ok(Context::load(&*self.seams.disk, &written)?.save(&*self.seams.disk, &context)?)
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
            self.spawn(&name, "agent", state.clone(), &words.map(str::to_string), [None, None, None])?;
        }
        Ok(())
    }

    /// Starts one process in a session of its own, its output in `NAME.log`.
    fn spawn(
        &mut self,
        name: &str,
        role: &str,
        data: PathBuf,
        arguments: &[String],
        [grpc, raft, http]: [Option<String>; 3],
    ) -> Result<(), Failure> {
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
        let process = Process::running(child.id().unwrap_or_default(), role, data, &*self.seams.disk);
        self.children.push((name.to_string(), child));
        self.processes.insert(name.to_string(), Process { grpc, raft, http, ..process });
        processes::write(&self.directory, &self.processes, &*self.seams.disk)
    }

    /// Kills a process outright and waits until it is gone.
    pub async fn kill(&mut self, name: &str) -> Result<(), Failure> {
        let Some(place) = self.children.iter().position(|(known, _)| known == name) else {
            return Err(Failure::internal(format!("{name} does not run here")));
        };
        let (_, mut child) = self.children.remove(place);
        child.kill().await.map_err(|error| Failure::internal(format!("{name} cannot be killed: {error}")))
    }

    /// Starts a server again on its own data.
    pub fn restart(&mut self, name: &str) -> Result<(), Failure> {
        let known = self.processes.get(name).cloned();
        let Some(Process { data: Some(data), grpc, raft, http, .. }) = known else {
            return Err(Failure::internal(format!("{name} was never started here")));
        };
        let arguments = ["server", "--data", &data.display().to_string()].map(str::to_string);
        self.spawn(name, "server", data, &arguments, [grpc, raft, http])
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

/// Three loopback ports that nobody listens on just now.
pub async fn free_ports(seams: &Seams) -> Result<[SocketAddr; 3], Failure> {
    let mut listeners = Vec::new();
    let mut attempts = 0;
    while listeners.len() < 3 {
        let drawn = SocketAddr::from(([127, 0, 0, 1], pick_port(&*seams.entropy)));
        match seams.net.listen(drawn).await {
            Ok(listener) => listeners.push((drawn, listener)),
            Err(error) if attempts == PORT_ATTEMPTS_MAX => return Err(Failure::file("127.0.0.1", error)),
            Err(_) => attempts += 1,
        }
    }
    Ok([listeners[0].0, listeners[1].0, listeners[2].0])
}
