//! What deploy/ holds, against the programs that it starts: systemd's own verdict on the units, the container file's steps.
//!
//! It refuses to build an image: what the steps name must be there, what they run must be understood.

use std::path::{Path, PathBuf};
use std::process::Command;

use certwright::args::Cli;
use certwright_agent::AgentArgs;
use certwright_tests::program::{must, ours, peer, run};
use clap::Parser;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap()
}

/// A command line that the program itself understands.
fn understood(words: &[&str]) {
    let refused = match Path::new(words[0]).file_name().unwrap().to_str().unwrap() {
        "certwright" => Cli::try_parse_from(words).err(),
        "certwright-agent" => AgentArgs::try_parse_from(words).err(),
        other => panic!("{other} is none of our programs"),
    };
    assert!(refused.is_none(), "{words:?}: {}", refused.unwrap());
}

/// The unit with the built program in place of the installed one, in `folder`.
fn with_built_program(unit: &str, folder: &Path) -> PathBuf {
    let text = read(&format!("deploy/systemd/{unit}"));
    let command = text.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    let words: Vec<&str> = command.split_whitespace().collect();
    understood(&words);
    let program = words[0].strip_prefix("/usr/bin/").unwrap();
    let copy = folder.join(unit);
    std::fs::write(&copy, text.replace(words[0], ours(program).to_str().unwrap())).unwrap();
    copy
}

#[test]
fn systemd_accepts_the_units() {
    let folder = tempfile::TempDir::new().unwrap();
    for unit in ["certwright-server.service", "certwright-agent.service"] {
        let copy = with_built_program(unit, folder.path());
        let output = run(Command::new(peer("systemd-analyze")).args(["verify", "--man=no"]).arg(&copy));
        // A warning is one of these units, or of another on this machine.
        let said = String::from_utf8(output.stderr).unwrap();
        let ours: Vec<&str> = said.lines().filter(|line| line.contains("certwright")).collect();
        assert!(output.status.success() && ours.is_empty(), "systemd-analyze verify {unit}:\n{said}");
    }
}

/// A command of root with the capabilities that the unit leaves, and no others.
fn as_the_unit_does(unit: &str) -> Command {
    let text = read(unit);
    let line = text.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).unwrap();
    let left: String = line.split(' ').map(|name| name.replace("CAP_", ",+").to_lowercase()).collect();
    let is_root = must(Command::new("id").arg("-u")).trim() == "0";
    let mut command = Command::new(if is_root { "setpriv" } else { "unshare" });
    if !is_root {
        command.args(["--user", "--map-root-user", "--net", "setpriv"]);
    }
    command.args(["--bounding-set", &format!("-all{left}")]);
    command
}

#[test]
fn the_agents_unit_lets_its_documented_hook_run() {
    let folder = tempfile::TempDir::new().unwrap();
    let here = folder.path().display();
    let configuration = folder.path().join("nginx.conf");
    let paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|name| format!("{name}_temp_path {here};"));
    let server = format!("access_log off; {} server {{ listen 443; }}", paths.concat());
    std::fs::write(&configuration, format!("pid {here}/pid;\nevents {{}}\nhttp {{ {server} }}\n")).unwrap();
    let mut test = as_the_unit_does("deploy/systemd/certwright-agent.service");
    must(test.arg(peer("nginx")).args(["-e", "stderr", "-t", "-c"]).arg(&configuration));
}

/// Arguments of every instruction of that name, continued lines joined.
fn instructions(text: &str, name: &str) -> Vec<String> {
    let joined = text.replace("\\\n", " ");
    joined
        .lines()
        .filter_map(|line| line.strip_prefix(&format!("{name} ")).map(|rest| rest.trim().to_string()))
        .collect()
}

#[test]
fn the_container_file_names_what_is_there() {
    let text = read("deploy/Containerfile");
    let manifest = read("Cargo.toml");
    let rust = manifest.lines().find_map(|line| line.strip_prefix("rust-version = ")).unwrap().trim_matches('"');
    assert!(
        instructions(&text, "FROM")[0].starts_with(&format!("rust:{rust}-")),
        "the compiler is not that of Cargo.toml"
    );

    // The build makes what is copied, where it is copied from.
    let build = instructions(&text, "RUN").remove(0);
    let target = build.split_once("--target-dir ").unwrap().1;
    let dry = build.replace("cargo build", "cargo tree --depth 0 --prefix none").replace("--release ", "");
    let dry = dry.split(" --target-dir").next().unwrap();
    let packages = must(Command::new("sh").args(["-c", dry]).current_dir(root()));
    let copied = instructions(&text, "COPY").pop().unwrap();
    for program in ["certwright", "certwright-agent"] {
        assert!(copied.contains(&format!("{target}/release/{program} ")), "{program} is not copied: {copied}");
        assert!(packages.contains(&format!("{program} v")), "{program} is not built: {packages}");
        ours(program);
    }
    assert!(copied.ends_with(" /usr/bin/"));

    // What is run is understood, on the ports that are exposed, on data that belongs to the user.
    let list = |name| -> Vec<String> { serde_json::from_str(&instructions(&text, name)[0]).unwrap() };
    let words = [list("ENTRYPOINT"), list("CMD")].concat();
    understood(&words.iter().map(String::as_str).collect::<Vec<_>>());
    let volume = instructions(&text, "VOLUME").remove(0);
    assert!(words.contains(&volume), "the data is not in the volume");
    assert!(text.contains(&format!("-m 0700 {volume}")), "the volume does not belong to the user");
    let ports = instructions(&text, "EXPOSE").remove(0);
    let listens = instructions(&text, "ENV").remove(0);
    assert!(ports.split(' ').all(|port| listens.contains(&format!("=0.0.0.0:{port}"))), "{ports} of {listens}");
    for line in text.lines().filter_map(|line| line.strip_prefix("#     server ")) {
        understood(&[&["certwright", "server"], &line.split(' ').collect::<Vec<_>>()[..]].concat());
    }
}
