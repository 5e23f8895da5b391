//! `dev` in a directory where `dev` was before: running, stopped, of another shape, with a stale list of processes.
//!
//! It refuses to wait for renewals: what it asks is answered within seconds.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use certwright_tests::fleet::{Fleet, Process};
use certwright_tests::program::{eventually, must, ours, run};
use serde_json::{Value, json};

use crate::shared::{self, failure, refusal};

fn dev(directory: &Path, words: &[&str]) -> Output {
    run(Command::new(ours("certwright")).arg("dev").args(words).arg("--dir").arg(directory))
}

fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).to_string();
    assert!(output.status.success(), "{text}");
    text
}

#[test]
fn a_directory_in_which_dev_runs_is_refused() {
    let fleet = shared::fleet();
    let list = fleet.folder().join("processes.json");
    let before = std::fs::read(&list).unwrap();
    let pid = fleet.processes()["agent-1"].pid;
    for words in [&["--detach"][..], &["--once"], &["--detach", "--servers", "3"]] {
        let message = refusal(&dev(fleet.folder(), words), 1, "DATA_IN_USE");
        assert!(message.contains(&format!("(pid {pid})")), "{message}");
    }
    assert_eq!(std::fs::read(&list).unwrap(), before);
}

#[test]
fn a_directory_of_another_shape_is_refused() {
    for (holds, words) in [("server-1", &["--detach"][..]), ("data", &["--detach", "--servers", "3"])] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(holds)).unwrap();
        std::fs::write(folder.path().join(holds).join("node.json"), "{}").unwrap();
        refusal(&dev(folder.path(), words), 1, "FOREIGN_DATA");
        assert!(!folder.path().join("processes.json").exists());
    }
}

#[test]
fn stop_spares_a_process_that_was_given_the_id_of_ours() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("processes.json");
    let mut stranger = Command::new("sleep").arg("600").spawn().unwrap();
    let stale = json!({"server-1": {"pid": stranger.id(), "started": 1, "role": "server"}});
    std::fs::write(&list, stale.to_string()).unwrap();
    let told = said(&dev(folder.path(), &["--stop"]));
    let spared = stranger.try_wait().unwrap().is_none();
    let _ = stranger.kill();
    let _ = stranger.wait();
    assert!(spared, "{told}");
    assert!(told.starts_with("nothing runs in "), "{told}");
    assert!(!list.exists());
}

#[test]
fn what_dev_left_is_taken_up_again_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = Command::new(ours("certwright"));
    first.args(["dev", "--dir"]).arg(folder.path()).stderr(Stdio::piped()).stdout(Stdio::null());
    let mut first = first.spawn().unwrap();
    let mut lines = BufReader::new(first.stderr.take().unwrap()).lines().map_while(Result::ok);
    let delivered = lines.any(|line| line.starts_with("delivered: "));
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(delivered);
    let serial = serial_of(folder.path());

    let told = said(&dev(folder.path(), &["--detach"]));
    // A machine that was slow meanwhile sees the renewal instead.
    let news = told.lines().find(|line| line.contains(": serial ")).unwrap_or_default();
    assert_eq!(news.starts_with("there already: "), news.contains(&serial), "{serial}; {told}");
    let processes: BTreeMap<String, Process> =
        serde_json::from_slice(&std::fs::read(folder.path().join("processes.json")).unwrap()).unwrap();
    let server = &processes["server-1"];
    let unheard: Vec<_> = [&server.grpc, &server.raft, &server.http]
        .into_iter()
        .flatten()
        .filter(|address| TcpStream::connect(address.as_str()).is_err())
        .collect();
    assert_eq!(said(&dev(folder.path(), &["--stop"])), "stopped: agent-1, server-1\n");
    assert!(unheard.is_empty(), "nobody listens on {unheard:?}");
    assert!(said(&dev(folder.path(), &["--stop"])).starts_with("nothing runs in "));
}

#[test]
fn three_servers_go_on_as_the_same_cluster() {
    let mut fleet = Fleet::start(3, 1);
    let well = |fleet: &Fleet| {
        eventually("a healthy cluster", Duration::from_secs(30), || {
            let output = fleet.try_run(&["status", "-o", "json"]);
            let status: Value = serde_json::from_slice(&output.stdout).ok()?;
            (output.status.code() == Some(0) && status["health"] == "healthy").then_some(status)
        })
    };
    let before = well(&fleet);
    assert_eq!((before["nodes"].as_array().unwrap().len(), &before["findings"]), (3, &json!([])));

    // One of three is away: a quorum, and no reserve.
    let leader = fleet.leader();
    let lost = fleet.servers().into_iter().find(|name| *name != leader).unwrap();
    fleet.kill(&lost);
    let message = eventually("the loss is noticed", Duration::from_secs(30), || {
        let output = fleet.try_run(&["status"]);
        let told = String::from_utf8_lossy(&output.stderr).to_string();
        told.contains("CLUSTER_DEGRADED").then(|| failure(&output, 1, "CLUSTER_DEGRADED"))
    });
    let expected = format!("error: degraded: {lost} does not answer; 2 of 3 servers answer; start the servers");
    assert!(message.starts_with(&expected), "{message}");
    let history = fleet.json(&["history", "web"]);
    fleet.stop();
    assert_eq!(running_in(fleet.folder()), Vec::<String>::new());

    said(&dev(fleet.folder(), &["--detach", "--servers", "3"]));
    let after = well(&fleet);
    assert_eq!((&after["clusterId"], &after["epoch"]), (&before["clusterId"], &before["epoch"]));
    let names = |status: &Value| -> Vec<Value> {
        status["nodes"].as_array().unwrap().iter().map(|node| json!([node["name"], node["node_id"]])).collect()
    };
    assert_eq!(names(&after), names(&before));
    let (history, now) = (history.as_array().unwrap().clone(), fleet.json(&["history", "web"]));
    assert!(history.len() > 3 && now.as_array().unwrap().starts_with(&history), "{history:#?}\n{now:#}");
    fleet.stop();
    assert_eq!(running_in(fleet.folder()), Vec::<String>::new());
}

/// Command lines of processes that were told of a directory.
fn running_in(folder: &Path) -> Vec<String> {
    let folder = folder.to_str().unwrap();
    let processes = std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path().join("cmdline"));
    let commands = processes.filter_map(|file| Some(String::from_utf8_lossy(&std::fs::read(file).ok()?).to_string()));
    commands.filter(|command| command.contains(folder)).collect()
}

fn serial_of(folder: &Path) -> String {
    let text =
        must(Command::new(ours("certwright")).args(["inspect", "-o", "json"]).arg(folder.join("live/web/cert.pem")));
    let seen: Value = serde_json::from_str(&text).unwrap();
    seen[0]["serial"].as_str().unwrap().to_string()
}
