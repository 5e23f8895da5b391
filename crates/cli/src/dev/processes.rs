//! What `dev` started in a directory: who runs, where, and since when, kept in `processes.json`.
//!
//! It refuses to take a stranger for one of ours: a process id counts only together with the start that was noted.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use certwright_api::data_dir::Record;
use certwright_api::limits::DATA_FILE_OCTETS_MAX;
use certwright_core::Reason;
use certwright_seams::Disk;
use certwright_seams::disk::Open;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::limits::PROCESSES_OCTETS_MAX;

/// How long a process may take to stop before it is killed.
pub(super) const STOP_WITHIN: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);

/// One process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Process {
    /// Its process id.
    pub pid: u32,
    /// When it started, in clock ticks since the machine did: process ids come back, above all after a restart.
    #[serde(default)]
    pub started: u64,
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
    /// A process that runs, in a role and with its data.
    pub fn running(pid: u32, role: &str, data: PathBuf, disk: &dyn Disk) -> Self {
        let started = since(pid, disk).unwrap_or_default();
        Self { pid, started, role: role.to_string(), grpc: None, http: None, raft: None, data: Some(data) }
    }

    /// Whether it still runs, and is not another that was given its id since.
    fn is_alive(&self, disk: &dyn Disk) -> bool {
        since(self.pid, disk) == Some(self.started)
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = Pid::from_raw(self.pid.cast_signed()) {
            // A process that is gone already is what was wanted.
            let _ = kill_process(pid, signal);
        }
    }
}

/// What the kernel says of a process.
fn told(pid: u32, what: &str, disk: &dyn Disk) -> Option<String> {
    // The files of /proc say that they are empty, so their size cannot be trusted.
    let mut buffer = [0; 4096];
    let file = disk.open(Path::new(&format!("/proc/{pid}/{what}")), Open::Read).ok()?;
    let read = file.read_at(0, &mut buffer).ok()?;
    Some(String::from_utf8_lossy(&buffer[..read]).into_owned())
}

/// Octets of memory that all servers together have in use (proc_pid_status(5), VmRSS).
pub fn resident_octets(directory: &Path, disk: &dyn Disk) -> Result<u64, Failure> {
    let processes = read(directory, disk)?;
    let servers = processes.values().filter(|process| process.role == "server");
    let resident = servers.map(|process| {
        let text = told(process.pid, "status", disk).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibioctets = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        let ended = || Failure::finding(format!("server {} has ended", process.pid), "look at its log");
        kibioctets.map(|kibioctets| kibioctets * 1024).ok_or_else(ended)
    });
    resident.sum()
}

/// When a process started (proc_pid_stat(5), field 22); `None` when it has ended, even if nobody collected it yet.
fn since(pid: u32, disk: &dyn Disk) -> Option<u64> {
    let text = told(pid, "stat", disk)?;
    // The name before may hold anything, parentheses and spaces included; the first field after it is the third.
    let (_, rest) = text.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    (fields.next() != Some("Z")).then_some(())?;
    fields.nth(18)?.parse().ok()
}

/// Reads `processes.json`; nothing when there is none.
fn read(directory: &Path, disk: &dyn Disk) -> Result<Processes, Failure> {
    let path = directory.join("processes.json");
    match disk.read(&path, PROCESSES_OCTETS_MAX) {
        Ok(text) => serde_json::from_slice(&text).map_err(|error| Failure::file(path.display(), error)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Processes::new()),
        Err(error) => Err(Failure::read(path.display(), &error)),
    }
}

/// Writes `processes.json`.
pub fn write(directory: &Path, processes: &Processes, disk: &dyn Disk) -> Result<(), Failure> {
    let path = directory.join("processes.json");
    let text = serde_json::to_vec_pretty(processes).map_err(|error| Failure::internal(error.to_string()))?;
    disk.write_atomic(&path, &text, 0o644).map_err(|error| Failure::file(path.display(), error))
}

/// Refuses a directory in which another `dev` runs: `DATA_IN_USE`.
pub fn refuse_running(directory: &Path, disk: &dyn Disk) -> Result<(), Failure> {
    let processes = read(directory, disk)?;
    let Some((name, process)) = processes.iter().find(|(_, process)| process.is_alive(disk)) else {
        return Ok(());
    };
    let (place, pid) = (directory.display(), process.pid);
    let message = format!("{name} (pid {pid}) runs in {place}");
    Err(Failure::new(Reason::DataInUse, message, format!("stop it with certwright dev --stop --dir {place}")))
}

/// Refuses a directory that holds a cluster of another shape, beside which a second one would be founded: `FOREIGN_DATA`.
pub fn refuse_other_shape(directory: &Path, servers: u8, disk: &dyn Disk) -> Result<(), Failure> {
    let (other, holds, instead) = match servers {
        1 => ("server-1", "several servers", "with --servers as before"),
        _ => ("data", "a single server", "without --servers"),
    };
    if !disk.exists(&directory.join(other).join("node.json")).unwrap_or(false) {
        return Ok(());
    }
    let place = directory.display();
    let fix = format!("start it {instead}, name another --dir, or remove it: rm -r {place}");
    Err(Failure::new(Reason::ForeignData, format!("{place} holds a cluster of {holds}"), fix))
}

/// The record of the server whose data this is; `None` before it was made.
pub fn record(data: &Path, disk: &dyn Disk) -> Result<Option<Record>, Failure> {
    let path = data.join("node.json");
    match disk.read(&path, DATA_FILE_OCTETS_MAX) {
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|error| Failure::file(path.display(), error)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::read(path.display(), &error)),
    }
}

/// Stops what runs in the directory and forgets the list; answers the names of what ran.
pub async fn stop(directory: &Path, disk: &dyn Disk) -> Result<Vec<String>, Failure> {
    let mut running = read(directory, disk)?;
    running.retain(|_, process| process.is_alive(disk));
    for process in running.values() {
        process.signal(Signal::TERM);
    }
    let end = tokio::time::Instant::now() + STOP_WITHIN;
    while running.values().any(|process| process.is_alive(disk)) {
        if tokio::time::Instant::now() > end {
            for process in running.values().filter(|process| process.is_alive(disk)) {
                process.signal(Signal::KILL);
            }
            break;
        }
        tokio::time::sleep(POLL).await;
    }
    let path = directory.join("processes.json");
    match disk.remove(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Failure::file(path.display(), error)),
        _ => Ok(running.into_keys().collect()),
    }
}
