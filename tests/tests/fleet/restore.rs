//! A cluster is lost and restored: from a backup, and from what one server had. Agents keep what is newer.
//!
//! It refuses a restored cluster that another server cannot join.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use certwright_tests::fleet::{Fleet, Process};
use certwright_tests::peers::free_port;
use certwright_tests::program::{eventually, must, ours, run};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);

/// A server beside the fleet's own, ended with the test.
struct Server {
    child: Child,
    context: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start(fleet: &Fleet, data: &Path, arguments: &[&str]) -> Self {
        let log = fleet.folder().join(format!("{}.log", data.file_name().unwrap().to_str().unwrap()));
        let log = std::fs::File::create(log).unwrap();
        let child = Command::new(ours("certwright"))
            .args(["server", "--data"])
            .arg(data)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { child, context: data.join("administrator.context") }
    }

    fn try_run(&self, arguments: &[&str]) -> Output {
        run(Command::new(ours("certwright")).arg("--context").arg(&self.context).args(arguments).env("NO_COLOR", "1"))
    }

    fn run(&self, arguments: &[&str]) -> String {
        must(Command::new(ours("certwright")).arg("--context").arg(&self.context).args(arguments).env("NO_COLOR", "1"))
    }

    fn events(&self) -> Vec<Value> {
        let text = self.run(&["events", "--from", "1", "-o", "json"]);
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// Addresses of a server that is gone, for the one that takes its place.
fn addresses(process: &Process) -> Vec<String> {
    let of = |flag: &str, address: &Option<String>| [flag.to_owned(), address.clone().unwrap()];
    [of("--grpc", &process.grpc), of("--raft", &process.raft), of("--http", &process.http)].concat()
}

fn certwright(arguments: &[&str], more: &[String]) -> Output {
    run(Command::new(ours("certwright")).args(arguments).args(more).env("CERTWRIGHT_LOG", "off"))
}

/// It fails, and says why.
fn refused(output: &Output, reason: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains(reason), "{reason} was expected: {output:?}");
}

/// The serial of what a directory holds: its version is named by generation and serial.
fn serial(directory: &Path) -> Option<String> {
    let version = std::fs::read_link(directory.join(".current")).ok()?;
    Some(version.to_str()?.rsplit_once('-')?.1.to_owned())
}

/// A certificate that outlives the test, on the fleet's agent.
fn declare(fleet: &Fleet) -> PathBuf {
    let directory = fleet.folder().join("lasting");
    fleet.apply(&format!(
        "apiVersion: certwright.dev/v1\nkind: Certificate\nmetadata: {{name: lasting, namespace: default}}\nspec:\n  \
         dnsNames: [lasting.demo.internal]\n  duration: 2h\n  issuerRef: {{name: demo}}\n  targets:\n  - name: files\n    \
         agent: agent-1\n    files: {{directory: {}}}\n",
        Value::String(directory.display().to_string())
    ));
    eventually("the lasting certificate is delivered", PATIENCE, || serial(&directory));
    directory
}

fn renew(fleet: &Fleet, directory: &Path) -> String {
    let before = serial(directory);
    fleet.run(&["renew", "lasting", "--wait"]);
    eventually("the next generation is delivered", PATIENCE, || {
        serial(directory).filter(|it| Some(it) != before.as_ref())
    })
}

/// What was issued for the lasting certificate: epoch, generation, serial.
fn issued(events: &[Value]) -> Vec<(u64, u64, String)> {
    let lasting = events.iter().filter(|event| {
        event["type"] == "CertificateIssued" && event["stream"] == "namespaces/default/certificates/lasting"
    });
    let line = |event: &Value| {
        let serial = event["data"]["serial"].as_str().unwrap().to_owned();
        (event["epoch"].as_u64().unwrap(), event["data"]["generation"].as_u64().unwrap(), serial)
    };
    lasting.map(line).collect()
}

/// A backup of the fleet and its key.
fn back_up(fleet: &Fleet) -> (String, String) {
    let path = |name: &str| fleet.folder().join(name).display().to_string();
    let (key, file) = (path("backup.key"), path("estate.backup"));
    let recipient = must(Command::new(ours("certwright")).args(["operator", "backup", "keygen", &key]));
    fleet.run(&["operator", "backup", "create", &file, "--to", recipient.trim()]);
    (file, key)
}

fn lose_everything(fleet: &mut Fleet) -> Vec<Process> {
    let servers = fleet.servers();
    servers.iter().for_each(|name| fleet.kill(name));
    let processes = fleet.processes();
    let lost: Vec<Process> = servers.iter().map(|name| processes[name].clone()).collect();
    lost.iter().for_each(|server| std::fs::remove_dir_all(server.data.as_ref().unwrap()).unwrap());
    lost
}

/// A directory that a restore left is none, or says that it is not finished.
fn is_no_server(data: &str) {
    if Path::new(data).exists() {
        refused(&certwright(&["server", "--data", data], &[]), "RESTORE_UNFINISHED");
    }
}

/// Killed at any moment a restore leaves nothing that serves, and it can be begun again elsewhere.
fn a_restore_that_is_killed_is_no_server(fleet: &Fleet, file: &str, key: &str) {
    let (mut unfinished, mut finished) = (0, 0);
    for step in 0.. {
        let data = fleet.folder().join(format!("killed-{step}")).display().to_string();
        let mut child = Command::new(ours("certwright"))
            .args(["operator", "restore", file, "--key", key, "--data", &data])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(8 * step));
        child.kill().unwrap();
        let is_finished = child.wait().unwrap().success();
        let record = std::fs::read_to_string(format!("{data}/node.json")).unwrap_or_default();
        if record.contains("\"member\"") {
            finished += 1;
        } else if !record.is_empty() {
            unfinished += 1;
            is_no_server(&data);
            let again = ["operator", "restore", file, "--key", key, "--data", &data];
            refused(&certwright(&again, &[]), "RESTORE_UNFINISHED");
        }
        if is_finished {
            assert!(finished > 0 && unfinished > 0, "{finished} finished, {unfinished} did not, in {step} kills");
            return;
        }
    }
}

/// Files that are no backup any more, and keys and places that will not do: nothing is restored, nothing is left.
fn nothing_but_the_backup_is_restored(fleet: &Fleet, file: &str, key: &str) {
    let path = |name: &str| fleet.folder().join(name).display().to_string();
    let restore = |file: &str, key: &str, data: &str| {
        certwright(&["operator", "restore", file, "--key", key, "--data", data], &[])
    };
    must(Command::new(ours("certwright")).args(["operator", "backup", "keygen", &path("other.key")]));
    refused(&restore(file, &path("other.key"), &path("wrong-key")), "BACKUP_KEY_WRONG");
    assert!(!Path::new(&path("wrong-key")).exists());
    let whole = std::fs::read(file).unwrap();
    let altered = path("altered.backup");
    for place in [whole.len() / 3, whole.len() - 1] {
        let mut octets = whole.clone();
        octets[place] ^= 1;
        std::fs::write(&altered, octets).unwrap();
        let data = path(&format!("altered-{place}"));
        refused(&restore(&altered, key, &data), "BACKUP_DAMAGED");
        is_no_server(&data);
        refused(&certwright(&["operator", "restore-drill", &altered, "--key", key], &[]), "BACKUP_DAMAGED");
    }
    std::fs::write(&altered, &whole[..whole.len() - 100]).unwrap();
    refused(&certwright(&["operator", "backup", "inspect", &altered, "--key", key], &[]), "BACKUP_DAMAGED");
    std::fs::create_dir(path("occupied")).unwrap();
    std::fs::write(path("occupied/something"), "else").unwrap();
    refused(&restore(file, key, &path("occupied")), "FOREIGN_DATA");
    let later = |epoch: &str, data: &str| {
        certwright(&["operator", "restore", file, "--key", key, "--epoch", epoch, "--data", data, "-o", "json"], &[])
    };
    refused(&later("1", &path("same-epoch")), "INVALID_SPEC");
    let restored: Value = serde_json::from_slice(&later("7", &path("later")).stdout).unwrap();
    assert_eq!(restored["epoch"], 7, "{restored}");
    let scratch = path("scratch");
    std::fs::create_dir(&scratch).unwrap();
    let drill =
        certwright(&["operator", "restore-drill", file, "--key", key, "--scratch", &scratch, "-o", "json"], &[]);
    let report: Value = serde_json::from_slice(&drill.stdout).unwrap_or_else(|_| panic!("{drill:?}"));
    assert_eq!(report["ok"], true, "{report}");
    assert!(report["events"].as_u64() > Some(0) && report["snapshotsCompared"].as_u64() > Some(0), "{report}");
    assert_eq!(std::fs::read_dir(&scratch).unwrap().count(), 0, "nothing is left behind");
}

#[test]
fn a_lost_cluster_is_restored_and_what_agents_hold_is_taken_back() {
    let mut fleet = Fleet::start(3, 1);
    let directory = declare(&fleet);
    let old_token = fleet.run(&["token", "create", "--role", "node"]);
    let (file, key) = back_up(&fleet);
    let newest = renew(&fleet, &directory);
    let before: Vec<Value> = cloud_events(&fleet.run(&["events", "--from", "1", "--cloudevents"]));
    let lost = lose_everything(&mut fleet);
    nothing_but_the_backup_is_restored(&fleet, &file, &key);
    a_restore_that_is_killed_is_no_server(&fleet, &file, &key);

    let data = fleet.folder().join("restored");
    let words = ["operator", "restore", &file, "--key", &key, "-o", "json", "--data", data.to_str().unwrap()];
    let restored = certwright(&words, &addresses(&lost[0]));
    let restored: Value = serde_json::from_slice(&restored.stdout).unwrap_or_else(|_| panic!("{restored:?}"));
    assert_eq!(restored["epoch"], 2);
    let server = Server::start(&fleet, &data, &[]);
    eventually("the restored server serves", PATIENCE, || server.try_run(&["status"]).status.success().then_some(()));

    // The agent's certificate is newer than the backup: it stays where it is and comes into the log again.
    eventually("the newer certificate is taken back", PATIENCE, || {
        assert_eq!(serial(&directory).as_ref(), Some(&newest), "never an older one");
        issued(&server.events()).iter().any(|(epoch, _, serial)| *epoch == 2 && *serial == newest).then_some(())
    });
    let generations = |events: &[Value]| issued(events).iter().map(|(_, generation, _)| *generation).max().unwrap();
    let taken = generations(&server.events());
    server.run(&["renew", "lasting", "--wait"]);
    assert!(generations(&server.events()) > taken);
    assert_ne!(eventually("the renewed certificate", PATIENCE, || serial(&directory)), newest);
    let serials: Vec<String> = issued(&server.events()).into_iter().map(|(_, _, serial)| serial).collect();
    assert!(serials.iter().enumerate().all(|(at, one)| !serials[..at].contains(one)), "{serials:?}");

    // Administrators of before are administrators still; tokens of before admit nobody; nothing has the id of another.
    fleet.run(&["status"]);
    let address = lost[0].grpc.clone().unwrap();
    refused(&join(&fleet, &address, old_token.trim(), "late"), "TOKEN_OLD_EPOCH");
    let after = cloud_events(&server.run(&["events", "--from", "1", "--cloudevents"]));
    let name = |event: &Value| (event["source"].as_str().unwrap().to_owned(), event["id"].as_str().unwrap().to_owned());
    for event in &after {
        let same: Vec<&Value> = before.iter().filter(|other| name(other) == name(event)).collect();
        assert!(same.iter().all(|other| *other == event), "{event} is another one than {same:?}");
    }
    grow(&fleet, &server, &address);
    drop(server);
    let verified = certwright(&["log", "verify", data.to_str().unwrap()], &[]);
    assert!(verified.status.success(), "{verified:?}");
}

fn cloud_events(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn ports() -> Vec<String> {
    ["--grpc", "--raft", "--http"]
        .iter()
        .flat_map(|flag| [flag.to_string(), format!("127.0.0.1:{}", free_port())])
        .collect()
}

fn join(fleet: &Fleet, address: &str, token: &str, name: &str) -> Output {
    let data = fleet.folder().join(name).display().to_string();
    certwright(&["server", "--name", name, "--join", address, "--token", token, "--data", &data], &ports())
}

/// Another server joins the restored one, gets what it has, and the data key that the lost ones knew is replaced.
fn grow(fleet: &Fleet, server: &Server, address: &str) {
    let token = server.run(&["token", "create", "--role", "node"]);
    let data = fleet.folder().join("second");
    let arguments = [
        &[
            "--name".into(),
            "second".into(),
            "--join".into(),
            address.to_owned(),
            "--token".into(),
            token.trim().to_owned(),
        ][..],
        &ports(),
    ]
    .concat();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let _second = Server::start(fleet, &data, &arguments);
    eventually("the second server follows", PATIENCE, || {
        let peers: Value =
            serde_json::from_slice(&server.try_run(&["operator", "raft", "peers", "-o", "json"]).stdout).ok()?;
        let follows = |peer: &&Value| peer["name"] == "second" && peer["role"] == "follower";
        peers.as_array()?.iter().find(follows).map(drop)
    });
    eventually("both have the same state", PATIENCE, || {
        let answer: Value =
            serde_json::from_slice(&server.try_run(&["operator", "digest", "-o", "json"]).stdout).ok()?;
        let digests: Vec<&Value> = answer["digests"].as_object()?.values().collect();
        assert!(digests.windows(2).all(|pair| pair[0] == pair[1]), "{answer}");
        (digests.len() == 2).then_some(())
    });
    assert!(server.events().iter().any(|event| event["type"] == "DataKeyRotated"), "who is gone knew the data key");
    // It was one of two: it hands over and goes.
    server.run(&["operator", "raft", "remove", "second", "--wait"]);
}

#[test]
fn one_server_that_is_left_goes_on_alone_when_told_so() {
    let mut fleet = Fleet::start(3, 1);
    let directory = declare(&fleet);
    let newest = renew(&fleet, &directory);
    let servers = fleet.servers();
    servers.iter().for_each(|name| fleet.kill(name));
    let processes = fleet.processes();
    // Whoever has the longest log is the one to go on from: the last leader has everything.
    let length = |process: &Process| {
        let verified = certwright(&["log", "verify", process.data.as_ref().unwrap().to_str().unwrap()], &[]);
        let last: Value = serde_json::from_slice(&verified.stdout).unwrap();
        last["events"].as_u64().unwrap()
    };
    let survivor = servers.iter().map(|name| &processes[name]).max_by_key(|process| length(process)).unwrap();
    let from = survivor.data.clone().unwrap();
    let data = fleet.folder().join("alone");
    let words =
        ["operator", "raft", "force-new-cluster", "--from", from.to_str().unwrap(), "--data", data.to_str().unwrap()];
    refused(&certwright(&words, &addresses(survivor)), "USAGE");
    assert!(!data.exists());
    let forced = certwright(&[&words[..], &["--yes-others-are-lost", "-o", "json"]].concat(), &addresses(survivor));
    let report: Value = serde_json::from_slice(&forced.stdout).unwrap_or_else(|_| panic!("{forced:?}"));
    assert_eq!(report["epoch"], 2, "{report}");
    let server = Server::start(&fleet, &data, &[]);
    eventually("the survivor's heir serves", PATIENCE, || server.try_run(&["status"]).status.success().then_some(()));
    let opened = server.events().into_iter().find(|event| event["type"] == "EpochOpened").unwrap();
    assert_eq!(opened["data"]["cause"], "quorum_lost", "{opened}");
    assert!(
        issued(&server.events()).iter().any(|(epoch, _, serial)| *epoch == 1 && *serial == newest),
        "nothing is lost"
    );
    server.run(&["renew", "lasting", "--wait"]);
    eventually("the agent is served by the heir", PATIENCE, || serial(&directory).filter(|serial| *serial != newest));
}

#[test]
fn a_server_makes_backups_by_itself_and_keeps_so_many() {
    let mut fleet = Fleet::start(1, 1);
    let key = fleet.folder().join("backup.key").display().to_string();
    let recipient = must(Command::new(ours("certwright")).args(["operator", "backup", "keygen", &key]));
    let directory = fleet.folder().join("backups");
    let (name, place) = (fleet.servers().remove(0), directory.display().to_string());
    fleet.kill(&name);
    fleet.restart_with(
        &name,
        &[
            ("CERTWRIGHT_BACKUP_DIR", &place),
            ("CERTWRIGHT_BACKUP_RECIPIENT", recipient.trim()),
            ("CERTWRIGHT_BACKUP_EVERY", "1s"),
            ("CERTWRIGHT_BACKUP_KEEP", "2"),
        ],
    );
    let files = || -> Vec<PathBuf> {
        let entries = std::fs::read_dir(&directory).map(|all| all.map(|entry| entry.unwrap().path()).collect());
        let mut whole: Vec<PathBuf> = entries.unwrap_or_default();
        whole.retain(|path| path.extension().is_some_and(|end| end == "backup"));
        whole.sort();
        whole
    };
    let first = eventually("a first backup", PATIENCE, || files().first().cloned());
    eventually("two others, and the first one gone", PATIENCE, || {
        let files = files();
        (files.len() == 2 && !files.contains(&first)).then_some(())
    });
    eventually("check finds a fresh one", PATIENCE, || {
        let text = fleet.try_run(&["check", "-o", "json"]).stdout;
        let text = String::from_utf8_lossy(&text);
        (text.contains("cluster/backups") && text.contains("backups are made")).then_some(())
    });
    fleet.kill(&name);
    let newest = files().pop().unwrap().display().to_string();
    let drill = certwright(&["operator", "restore-drill", &newest, "--key", &key, "-o", "json"], &[]);
    assert!(drill.status.success(), "{drill:?}");
    // As it was at the beginning: no demo certificate yet.
    let export = |as_of: &str| {
        let words = ["operator", "backup", "export", &newest, "--key", &key, "-o", "json", "--as-of", as_of];
        let output = certwright(&words, &[]);
        serde_json::from_slice::<Value>(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
    };
    let kinds = |value: &Value| -> Vec<String> {
        value["items"].as_array().unwrap().iter().map(|item| item["kind"].as_str().unwrap().to_owned()).collect()
    };
    assert!(!kinds(&export("3")).contains(&"Certificate".to_owned()));
    let now = kinds(&export("2100-01-01T00:00:00Z"));
    assert!(now.contains(&"Certificate".to_owned()) && now.contains(&"Agent".to_owned()), "{now:?}");
}
