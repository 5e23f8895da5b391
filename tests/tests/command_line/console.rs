//! Transcripts in documents, run again: every `$ ` line of a ```console block, its output compared where it must not change.
//!
//! It refuses made-up output: `CERTWRIGHT_BLESS=1` replaces what stands there by what was printed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use certwright_tests::program::{build_dir, must, ours};
use tempfile::TempDir;

use crate::documents::{blessing, read, write};
use crate::mask::mask;

/// The folder that documents name.
const TOLD: &str = "/tmp/cw";

/// A shell with our binaries on its path, and a folder in place of the one that documents name.
struct Shell {
    folder: TempDir,
    environment: Vec<(String, String)>,
}

impl Shell {
    fn new() -> Self {
        Self { folder: TempDir::with_prefix("certwright-tour-").unwrap(), environment: Vec::new() }
    }

    fn folder(&self) -> PathBuf {
        self.folder.path().join("cw")
    }

    /// Runs one command line; answers what it printed, both streams in order, with the folder as documents name it.
    fn run(&mut self, line: &str) -> String {
        self.try_run(line).0
    }

    /// The same, and whether it succeeded.
    fn try_run(&mut self, line: &str) -> (String, bool) {
        let folder = self.folder().display().to_string();
        let line = line.replace(TOLD, &folder);
        if let Some((name, value)) = line.strip_prefix("export ").and_then(|rest| rest.split_once('=')) {
            self.environment.push((name.to_string(), value.to_string()));
            return (String::new(), true);
        }
        let path = std::env::var("PATH").unwrap_or_default();
        let output = Command::new("sh")
            .args(["-c", &format!("{{ {line}\n}} 2>&1")])
            .current_dir(self.folder.path())
            .env("PATH", format!("{}:{path}", build_dir().display()))
            .env("NO_COLOR", "1")
            .env("CERTWRIGHT_TIMEOUT", "20s")
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        (String::from_utf8(output.stdout).unwrap().replace(&folder, TOLD), output.status.success())
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = Command::new(ours("certwright")).args(["dev", "--stop", "--dir"]).arg(self.folder()).output();
    }
}

#[test]
fn the_tour_is_what_happens() {
    let document = read("docs/tour.md");
    let mut shell = Shell::new();
    let (mut told, mut differs, mut commands) = (String::new(), Vec::new(), 0);
    let mut lines = document.lines().peekable();
    while let Some(line) = lines.next() {
        told.push_str(line);
        told.push('\n');
        if line != "```console" {
            continue;
        }
        let block: Vec<&str> = std::iter::from_fn(|| lines.next_if(|line| *line != "```")).collect();
        for (command, stood) in steps(&block) {
            commands += 1;
            let printed = shell.run(&plain(&command));
            // What comes after the first difference only follows from it.
            if mask(&printed) != mask(&stood) && differs.is_empty() {
                differs.push(format!("$ {}\n--- stands there\n{stood}\n--- is printed\n{printed}", command.join("\n")));
            }
            told.push_str(&format!("$ {}\n{printed}", command.join("\n")));
        }
    }
    assert!(commands >= 10, "a tour of {commands} commands");
    if blessing() {
        return write("docs/tour.md", &told);
    }
    assert!(
        differs.is_empty(),
        "docs/tour.md tells something else (CERTWRIGHT_BLESS=1 rewrites it):\n{}",
        differs.join("\n")
    );
}

/// The commands of a block, each as its lines (the first without `$ `, the rest with `> `), and the output below it.
fn steps(block: &[&str]) -> Vec<(Vec<String>, String)> {
    let mut steps: Vec<(Vec<String>, String)> = Vec::new();
    for line in block {
        match (line.strip_prefix("$ "), steps.last_mut()) {
            (Some(command), _) => steps.push((vec![command.to_string()], String::new())),
            (None, Some((command, stood))) if line.starts_with("> ") && stood.is_empty() => {
                command.push(line.to_string())
            }
            (None, Some((_, stood))) => {
                stood.push_str(line);
                stood.push('\n');
            }
            (None, None) => panic!("a block starts with {line:?} instead of a command"),
        }
    }
    steps
}

/// A command as the shell reads it.
fn plain(command: &[String]) -> String {
    command.iter().map(|line| line.strip_prefix("> ").unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

/// What `make dev` runs once everything is built.
const README_COMMAND: &str = "$ make dev ARGS=--once";
const README_MARK: &str = "<!-- transcript: make dev ARGS=--once -->\n```console\n";

#[test]
fn the_readme_shows_what_make_dev_prints() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let recipe =
        must(Command::new("make").args(["-n", "-C"]).arg(root).args(["dev", "ARGS=--once", "DEV_DIR=/tmp/cw"]));
    assert!(recipe.contains("certwright dev --dir /tmp/cw --once"), "make dev does something else:\n{recipe}");

    let mut shell = Shell::new();
    let printed = shell.run("certwright dev --dir /tmp/cw --once");
    let document = read("README.md");
    let start = document.find(README_MARK).expect("the README has the transcript's mark") + README_MARK.len();
    let end = start + document[start..].find("```").expect("the block ends");
    let now = format!("{README_COMMAND}\n{printed}");
    if blessing() {
        return write("README.md", &format!("{}{now}{}", &document[..start], &document[end..]));
    }
    assert_eq!(mask(&document[start..end]), mask(&now), "CERTWRIGHT_BLESS=1 rewrites it");
}

const KILL_MARK: &str = "<!-- run: three servers -->\n```console\n";

#[test]
fn the_readmes_three_servers_outlive_their_leader() {
    let document = read("README.md");
    let start = document.find(KILL_MARK).expect("the README has the commands' mark") + KILL_MARK.len();
    let block: Vec<&str> = document[start..].lines().take_while(|line| *line != "```").collect();
    let commands: Vec<String> = steps(&block).iter().map(|(command, _)| plain(command)).collect();
    // Our shell has the programs on its path already.
    let (path, commands): (Vec<_>, Vec<_>) = commands.iter().partition(|line| line.starts_with("export PATH="));
    assert_eq!(path.len(), 1);
    assert!(commands.iter().any(|line| line.starts_with("kill -9 ")), "nobody is killed: {commands:?}");
    let mut shell = Shell::new();
    for command in commands {
        let (printed, succeeded) = shell.try_run(command);
        assert!(succeeded, "$ {command}\n{printed}");
    }
}
