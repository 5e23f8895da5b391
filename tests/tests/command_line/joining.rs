//! Joining with tokens that do not admit, and what a cluster of two says of itself.
//!
//! It refuses to join anybody: every attempt here must fail with its reason and leave the cluster as it was.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use certwright_agent::Context;
use certwright_seams::Seams;
use certwright_tests::fleet::Fleet;
use certwright_tests::peers::free_port;
use certwright_tests::program::{eventually, ours, run};

use crate::shared::{self, refusal};

/// Attempts to join one cluster, each from a directory of its own.
struct Door<'a> {
    fleet: &'a Fleet,
    address: String,
    attempts: std::cell::Cell<usize>,
}

impl Door<'_> {
    fn folder(&self) -> std::path::PathBuf {
        self.attempts.set(self.attempts.get() + 1);
        self.fleet.folder().join(format!("joiner-{}", self.attempts.get()))
    }

    fn server(&self, token: &str) -> Output {
        let data = self.folder();
        let mut command = Command::new(ours("certwright"));
        command.args(["server", "--name", "intruder", "--join", &self.address, "--token", token, "--data"]).arg(&data);
        for port in ["--grpc", "--raft", "--http"] {
            command.args([port, &format!("127.0.0.1:{}", free_port())]);
        }
        run(command.env("CERTWRIGHT_LOG", "off"))
    }

    fn agent(&self, token: &str) -> Output {
        let folder = self.folder();
        let mut command = Command::new(ours("certwright-agent"));
        command.args(["--name", "intruder", "--join", &self.address, "--token", token]);
        command.arg("--context").arg(folder.join("context")).arg("--state").arg(folder.join("state"));
        let output = run(command.env("CERTWRIGHT_LOG", "off"));
        assert!(!folder.join("context").exists(), "a refused agent got a context");
        output
    }

    /// Servers and agents alike are refused.
    fn both(&self, token: &str, reason: &str) {
        refusal(&self.server(token), 1, reason);
        refusal(&self.agent(token), 1, reason);
    }
}

fn token(fleet: &Fleet, role: &str, more: &[&str]) -> String {
    fleet.run(&[&["token", "create", "--role", role], more].concat()).trim().to_string()
}

fn state(fleet: &Fleet, token: &str) -> String {
    let tokens = fleet.json(&["token", "list"]);
    let id = certwright_proto::join_token::parse(token).unwrap().id.to_string();
    let found = tokens.as_array().unwrap().iter().find(|known| known["id"] == id.as_str());
    found.unwrap_or_else(|| panic!("{id} is not in {tokens}"))["state"].as_str().unwrap().to_string()
}

/// Everything that happened but the demonstration's own renewals.
fn happened(fleet: &Fleet) -> usize {
    fleet.events().iter().filter(|event| event["stream"] != "namespaces/default/certificates/web").count()
}

#[test]
fn tokens_that_do_not_admit_and_servers_that_are_not_ours() {
    let fleet = Fleet::start(2, 1);
    let address = fleet.processes()["server-1"].grpc.clone().unwrap();
    let door = Door { fleet: &fleet, address: address.clone(), attempts: 0.into() };

    let expiring = [token(&fleet, "node", &["--duration", "1s"]), token(&fleet, "agent", &["--duration", "1s"])];
    let revoked = [token(&fleet, "node", &[]), token(&fleet, "agent", &[])];
    for token in &revoked {
        let id = certwright_proto::join_token::parse(token).unwrap().id.to_string();
        fleet.run(&["token", "revoke", &id]);
    }
    let (node, agent) = (token(&fleet, "node", &[]), token(&fleet, "agent", &[]));
    let used_agent = token(&fleet, "agent", &["--agent", "edge"]);
    join(&address, &used_agent);
    let used_node = format!("@{}", fleet.folder().join("server-2.token").display());
    for token in &expiring {
        eventually("the token expires", Duration::from_secs(10), || (state(&fleet, token) == "expired").then_some(()));
    }

    let before = happened(&fleet);
    for garbage in ["garbage", "cw1.AAAA", "cw1.", &node[..node.len() - 9]] {
        door.both(garbage, "INVALID_TOKEN");
    }
    refusal(&door.server(&expiring[0]), 1, "TOKEN_EXPIRED");
    refusal(&door.agent(&expiring[1]), 1, "TOKEN_EXPIRED");
    refusal(&door.server(&revoked[0]), 1, "TOKEN_REVOKED");
    refusal(&door.agent(&revoked[1]), 1, "TOKEN_REVOKED");
    refusal(&door.server(&used_node), 1, "TOKEN_USED");
    refusal(&door.agent(&used_agent), 1, "TOKEN_USED");
    // For another role.
    refusal(&door.server(&agent), 1, "TOKEN_FOREIGN");
    refusal(&door.agent(&node), 1, "TOKEN_FOREIGN");
    // Of another cluster: the servers are not those that the token vouches for.
    let other = shared::fleet();
    let foreign = [token(&other, "node", &[]), token(&other, "agent", &[])];
    refusal(&door.server(&foreign[0]), 1, "TOKEN_FOREIGN");
    refusal(&door.agent(&foreign[1]), 1, "TOKEN_FOREIGN");
    assert_eq!(happened(&fleet), before, "a refused joiner changed something");

    refusal(&other.try_run(&["--server", &address, "status"]), 4, "UNTRUSTED_SERVER");
    every_server_can_open_the_data_key(&fleet);
    leadership_goes_there_and_back(&fleet);
}

/// By name, by whoever is furthest, and not to whoever leads already; the vote is taken and given back.
fn leadership_goes_there_and_back(fleet: &Fleet) {
    let before = fleet.leader();
    let other = if before == "server-1" { "server-2" } else { "server-1" };
    let answer = fleet.json(&["operator", "raft", "transfer", "--to", other]);
    assert_eq!((&answer["leader"], &answer["previous"]), (&other.into(), &(&*before).into()), "{answer}");
    refusal(&fleet.try_run(&["operator", "raft", "transfer", "--to", other]), 1, "ALREADY_LEADER");
    let answer = fleet.run(&["operator", "raft", "transfer"]);
    assert!(answer.starts_with(&format!("server/{before} leads in term ")), "{answer}");
    let answer = fleet.run(&["operator", "raft", "demote", other, "--wait"]);
    assert_eq!(answer, format!("server/{other} is a learner\n"));
    refusal(&fleet.try_run(&["operator", "raft", "transfer", "--to", other]), 1, "NOT_A_VOTER");
    refusal(&fleet.try_run(&["operator", "raft", "demote", &before]), 1, "IN_USE");
    let answer = fleet.json(&["operator", "raft", "promote", other, "--wait"]);
    assert_eq!((&answer["role"], &answer["done"]), (&"voter".into(), &true.into()), "{answer}");
    checks_tell_what_they_looked_at(fleet);
}

/// Two servers serve, and neither can be spared: nothing fails, and something wants a look.
fn checks_tell_what_they_looked_at(fleet: &Fleet) {
    let found = fleet.json(&["check", "--wait"]);
    assert_eq!((&found["passed"], &found["worst"]), (&true.into(), &"warn".into()), "{found}");
    let checks = found["checks"].as_array().unwrap();
    let level = |name: &str| {
        let check = checks.iter().find(|check| check["name"] == name);
        check.unwrap_or_else(|| panic!("no {name} in {found}"))["level"].as_str().unwrap()
    };
    assert_eq!((level("cluster/leader"), level("cluster/quorum"), level("agents/connected")), ("ok", "warn", "warn"));
    let strict = fleet.try_run(&["check", "--fail-on", "warn"]);
    let told = String::from_utf8_lossy(&strict.stderr);
    assert_eq!(strict.status.code(), Some(1), "{told}");
    assert!(told.contains("cluster/quorum") && told.ends_with("reason VERIFICATION_FAILED\n"), "{told}");
    let text = fleet.run(&["check"]);
    assert!(text.contains("√ cluster/leader") && text.contains("‼ cluster/quorum"), "{text}");
    let junit = fleet.run(&["check", "-o", "junit"]);
    assert!(junit.starts_with("<testsuite name=\"certwright check\"") && junit.contains("failures=\"0\""), "{junit}");
    refusal(&fleet.try_run(&["status", "-o", "junit"]), 2, "USAGE");
}

/// Whoever answers says of every server that it could lead.
fn every_server_can_open_the_data_key(fleet: &Fleet) {
    for process in fleet.processes().values().filter(|process| process.role == "server") {
        eventually("both open it", Duration::from_secs(20), || {
            let answer = fleet.try_run(&["--server", process.grpc.as_deref().unwrap(), "status"]).stdout;
            let answer = String::from_utf8_lossy(&answer);
            let servers: Vec<&str> = answer.lines().filter(|line| line.starts_with("server-")).collect();
            (servers.len() == 2 && servers.iter().all(|line| line.contains(" true "))).then_some(())
        });
    }
}

/// Joins as agent `edge` without running one.
fn join(address: &str, token: &str) -> Context {
    let seams = Seams::system();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let context = runtime.block_on(certwright_agent::join::join(address, token, "edge", &Default::default(), &seams));
    context.unwrap_or_else(|error| panic!("{}: {error}", Path::new(address).display()))
}
