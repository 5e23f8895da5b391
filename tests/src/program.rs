//! Running programs: ours from the build folder, peers from the system; waiting for conditions with a deadline.
//!
//! It refuses to skip: a program that is not there is a failure that says how to install it.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The folder cargo put the binaries in: two levels above the running test.
pub fn build_dir() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().and_then(|deps| deps.parent()).unwrap().to_path_buf()
}

/// One of our binaries. `make test` builds them before it runs the tests.
pub fn ours(name: &str) -> PathBuf {
    let path = build_dir().join(name);
    assert!(path.exists(), "{} is not built: run `cargo build --workspace` first (make test does)", path.display());
    path
}

/// A peer from the system, from PATH or the administrators' folders.
pub fn peer(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")]);
    let found = folders.map(|folder| folder.join(name)).find(|candidate| candidate.exists());
    found.unwrap_or_else(|| panic!("{name} is not installed and this test needs the real one: run tests/setup.sh"))
}

/// Where what was built or downloaded once stays.
pub fn cache() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || PathBuf::from(std::env::var_os("HOME").expect("HOME is set"));
    cache.unwrap_or_else(|| home().join(".cache")).join("certwright")
}

/// The Python of the tools folder, with grpcio-tools in it.
pub fn python() -> PathBuf {
    let tools = std::env::var_os("CERTWRIGHT_TOOLS").map(PathBuf::from).unwrap_or_else(|| cache().join("tools"));
    let python = tools.join("python/bin/python3");
    assert!(python.exists(), "{} is missing: run tests/setup.sh", python.display());
    python
}

/// Runs a command to its end; panics with everything it printed when it fails.
pub fn must(command: &mut Command) -> String {
    let output = run(command);
    assert!(
        output.status.success(),
        "{command:?} failed with {}:\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// Repeats `attempt` until it answers, at most `limit`; panics with `what` otherwise.
pub fn eventually<T>(what: &str, limit: Duration, mut attempt: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = attempt() {
            return answer;
        }
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
