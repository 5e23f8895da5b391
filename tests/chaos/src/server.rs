//! One real server: a process of the program that users run, its addresses and its log.
//!
//! It refuses to end anything but its own process.

use std::fs::File;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};
use certwright_agent::Context;
use certwright_seams::Seams;

/// Where every server listens, each at an address of its own.
pub const API_PORT: u16 = 7443;
const RAFT_PORT: u16 = 7444;
const HTTP_PORT: u16 = 7480;

/// A program of ours, beside this one.
pub fn program(name: &str) -> Result<PathBuf> {
    let folder = std::env::current_exe()?.parent().map(Path::to_path_buf).unwrap_or_default();
    // Tests run one folder below.
    let found = [folder.join(name), folder.join("..").join(name)].into_iter().find(|it| it.exists());
    found.with_context(|| format!("{name} is not built: run `cargo build --workspace` first"))
}

/// How a server comes to its cluster.
pub enum Entry<'a> {
    /// It founds it.
    Founds,
    /// It joins through that API address with that token.
    Joins(&'a str, &'a str),
    /// It belongs to it.
    Belongs,
}

/// How its program is run.
#[derive(Clone)]
pub struct Launch {
    /// Words before the program: what it runs under.
    pub under: Vec<String>,
    /// The program.
    pub program: PathBuf,
    /// Environment variables of its own.
    pub environment: Vec<(String, String)>,
    /// Octets of one file of its log.
    pub segment_octets: Option<u64>,
    /// Octets of log between two snapshots.
    pub snapshot_octets: Option<u64>,
    /// Where it listens, and what it tells others if that is another address.
    pub listen: IpAddr,
    /// Where others reach it.
    pub advertise: IpAddr,
}

/// A server.
pub struct Server {
    /// Its name.
    pub name: String,
    /// Its data directory.
    pub data: PathBuf,
    /// How it is run.
    pub launch: Launch,
    log: PathBuf,
    process: Option<Child>,
}

impl Server {
    /// One that does not run yet.
    pub fn new(name: &str, data: PathBuf, log: PathBuf, launch: Launch) -> Self {
        Self { name: name.to_owned(), data, launch, log, process: None }
    }

    /// Its API address, as others reach it.
    pub fn api(&self) -> String {
        format!("{}:{API_PORT}", self.launch.advertise)
    }

    /// Starts its process.
    pub fn start(&mut self, entry: Entry<'_>) -> Result<()> {
        self.kill();
        let launch = &self.launch;
        let words: Vec<_> = launch.under.iter().map(PathBuf::from).chain([launch.program.clone()]).collect();
        let (program, rest) = words.split_first().context("no program")?;
        let mut command = Command::new(program);
        command.args(rest).args(["server", "--name", &self.name, "--data"]).arg(&self.data);
        for (option, port) in [("--grpc", API_PORT), ("--raft", RAFT_PORT), ("--http", HTTP_PORT)] {
            command.arg(option).arg(format!("{}:{port}", launch.listen));
        }
        command.arg("--advertise").arg(launch.advertise.to_string());
        let sizes = [("--segment-octets", launch.segment_octets), ("--snapshot-octets", launch.snapshot_octets)];
        for (option, octets) in sizes {
            if let Some(octets) = octets {
                command.arg(option).arg(octets.to_string());
            }
        }
        match entry {
            Entry::Founds => command.arg("--bootstrap"),
            Entry::Joins(server, token) => command.args(["--join", server]).env("CERTWRIGHT_TOKEN", token),
            Entry::Belongs => &mut command,
        };
        let log = File::options().create(true).append(true).open(&self.log)?;
        let child = command
            .envs(launch.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", self.name))?;
        self.process = Some(child);
        Ok(())
    }

    /// Kills its process outright and waits until it is gone.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.process.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Its process, while it runs.
    pub fn process(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// Whether its process has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.process.as_mut().is_some_and(|child| child.try_wait().is_ok_and(|ended| ended.is_some()))
    }

    /// What it said last.
    pub fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().filter(|line| line.contains("error") || line.contains("ERROR")).collect();
        lines.last().or(text.lines().last().as_ref()).copied().unwrap_or_default().to_owned()
    }

    /// The administrator's context that it wrote when it founded the cluster, once it is there.
    pub fn administrator(&self) -> Option<Context> {
        Context::load(&*Seams::system().disk, &self.data.join("administrator.context")).ok()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
