//! The room in which a run happens: its own processes, mounts and networks, which end with it, and a folder.
//!
//! It refuses to leave anything behind but the folder of a run that failed, with what its servers said: whatever way a run
//! ends, the kernel takes down what it had, and the next one removes the folder of one that was killed.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};

const PREFIX: &str = "certwright-chaos-";
/// The lock of whoever uses a folder.
const LOCK: &str = "lock";
/// Set inside.
const INSIDE: &str = "CERTWRIGHT_CHAOS_INSIDE";

/// Why real faults cannot be made here; nothing when they can.
pub fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("not root: power cuts and broken networks need mounts and network namespaces".into());
    }
    if let Err(error) = File::options().read(true).write(true).open("/dev/fuse") {
        return Some(format!("/dev/fuse: {error}: power cuts need a file system of their own"));
    }
    if faketime().is_none() {
        return Some("no libfaketime: run tests/setup.sh".into());
    }
    let tools = ["unshare", "nsenter", "ip", "tc", "mount", "umount", "mkfs.ext4", "cp"];
    let absent: Vec<&str> = tools.into_iter().filter(|it| tool(it).is_none()).collect();
    if !absent.is_empty() {
        return Some(format!("{} not installed: run tests/setup.sh", absent.join(", ")));
    }
    let try_it =
        Command::new("unshare").args(["--mount", "--net", "--pid", "--fork", "true"]).stdin(Stdio::null()).output();
    match try_it {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(format!("no namespaces here: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Some(format!("no namespaces here: {error}")),
    }
}

/// The library that has a program see another time, where Debian and others have it.
pub fn faketime() -> Option<PathBuf> {
    let debian = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    let folders = [&debian, "/usr/lib64", "/usr/lib"].map(|it| Path::new(it).join("faketime/libfaketimeMT.so.1"));
    folders.into_iter().find(|it| it.exists())
}

/// A program of the system, from PATH or the administrators' folders.
pub fn tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|it| it.exists())
}

/// Runs a command of the system that must succeed.
pub fn system(command: &str, arguments: &[&str]) -> Result<String> {
    let program = tool(command).with_context(|| format!("{command} is not installed: run tests/setup.sh"))?;
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output()?;
    if !output.status.success() {
        bail!("{command} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Goes on inside: this process becomes `unshare`, its child the first process of its own namespaces.
pub fn enter() -> Result<()> {
    if std::env::var_os(INSIDE).is_some() {
        system("ip", &["link", "set", "lo", "up"])?;
        return Ok(());
    }
    let error = Command::new("unshare")
        .args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1")
        .exec();
    Err(error).context("cannot run unshare")
}

/// The folder of one run; removed with it, unless it is kept.
pub struct Folder {
    path: PathBuf,
    _lock: File,
    is_kept: bool,
}

impl Folder {
    /// A new one; those of runs that were killed are removed.
    pub fn new() -> Result<Self> {
        let base = std::env::temp_dir();
        for entry in std::fs::read_dir(&base)?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(PREFIX) && is_abandoned(&entry.path()) {
                eprintln!("removing what a killed run left: {}", entry.path().display());
                std::fs::remove_dir_all(entry.path())?;
            }
        }
        let path = tempfile::Builder::new().prefix(PREFIX).tempdir()?.keep();
        let lock = File::create(path.join(LOCK))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self { path, _lock: lock, is_kept: false })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Something failed: whoever looks for it finds it.
    pub fn keep(&mut self) {
        self.is_kept = true;
        // A folder without a lock is nobody's, and stays.
        let _ = std::fs::remove_file(self.path.join(LOCK));
    }
}

fn is_abandoned(folder: &Path) -> bool {
    File::open(folder.join(LOCK)).is_ok_and(|lock| flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok())
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.is_kept && std::fs::remove_dir_all(&self.path).is_err() {
            // With a lock that nobody holds the next run removes what is left.
            let _ = File::create(self.path.join(LOCK));
        }
    }
}
