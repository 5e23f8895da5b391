//! Servers of an older build are upgraded one by one and taken back, while people use the command line.
//!
//! It refuses a failed command, replicas that differ, and a format in use that a server of the cluster does not know.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use certwright_agent::{Connector, Context};
use certwright_core::Format;
use certwright_proto::v1;
use certwright_proto::v1::certificates_client::CertificatesClient;
use certwright_seams::Seams;
use certwright_tests::before;
use certwright_tests::fleet::Fleet;
use certwright_tests::people::People;
use certwright_tests::program::{eventually, ours};
use futures_util::StreamExt;
use serde_json::Value;

/// What this build knows.
const NEWEST: Format = Format::NEWEST;
const CERTIFICATES: usize = 10_000;
/// Calls that wait for their answer at one time.
const CONCURRENT: usize = 64;
const SERVER_WITHIN: Duration = Duration::from_secs(60);

/// Declares the certificates; nobody holds their targets, so that none is issued.
fn fill(fleet: &Fleet) {
    let seams = Seams::system();
    let context = Context::load(&*seams.disk, &fleet.context()).unwrap();
    let connector = Connector::new(&context, &seams).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let channel = connector.channel();
        let declare = |number: usize| {
            let mut client = CertificatesClient::new(channel.clone());
            let spec = v1::CertificateSpec {
                dns_names: vec![format!("c-{number}.demo.internal")],
                issuer: "demo".to_string(),
                ..Default::default()
            };
            let name = format!("namespaces/many/certificates/c-{number}");
            let certificate = Some(v1::Certificate { name, spec: Some(spec), ..Default::default() });
            async move {
                client.create_certificate(v1::CreateCertificateRequest { certificate, ..Default::default() }).await
            }
        };
        let mut answers = futures_util::stream::iter((0..CERTIFICATES).map(declare)).buffer_unordered(CONCURRENT);
        while let Some(answer) = answers.next().await {
            answer.unwrap();
        }
    });
}

/// The fleet, and those who use it while it changes.
struct Rollout {
    fleet: Fleet,
    people: People,
    start: Instant,
}

impl Rollout {
    /// One server stops in good order and another build goes on with its data: all are well, and equal.
    fn replace(&mut self, name: &str, program: &Path) {
        self.stop(name);
        self.people.go_on(2);
        self.fleet.restart_as(program, name, &[]);
        self.settled();
        self.people.go_on(2);
        self.fleet.agreed_digest();
        eprintln!("{:>5.1} s: {name} runs {}", self.start.elapsed().as_secs_f32(), program.display());
    }

    fn stop(&self, name: &str) {
        self.fleet.signal(name, "TERM");
        eventually("the server has stopped", SERVER_WITHIN, || self.fleet.is_gone(name).then_some(()));
    }

    fn settled(&self) {
        eventually("all servers are well", SERVER_WITHIN, || {
            self.fleet.try_run(&["status"]).status.success().then_some(())
        });
    }

    /// The cluster as some server sees it, degraded or not: a peer that answers late makes it so.
    fn status(&self) -> Value {
        serde_json::from_slice(&self.fleet.try_run(&["status", "-o", "json"]).stdout).unwrap()
    }

    /// The format in use, as the cluster says.
    fn format(&self) -> u64 {
        self.status()["format"].as_u64().unwrap().max(1)
    }

    /// A server of this build leads, asks what the others know, and says who holds the format up.
    fn held_up(&self, leader: &str, by: &str) {
        if self.fleet.leader() != leader {
            self.fleet.run(&["operator", "raft", "transfer", "--to", leader]);
        }
        eventually("the leader waits for the one that was not upgraded", SERVER_WITHIN, || {
            let log = self.log(leader);
            let told = log.lines().any(|line| line.contains("the log stays in format 1") && line.contains(by));
            told.then_some(())
        });
        assert_eq!(self.format(), 1);
        // Any server answers; those of the older build know nothing of formats.
        let wanted = format!("{by} knows format 1: the log stays in format 1, {NEWEST} waits");
        eventually("check names the one that was not upgraded", SERVER_WITHIN, || {
            self.finding().contains(&wanted).then_some(())
        });
        self.fleet.agreed_digest();
    }

    fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.fleet.folder().join(format!("{name}.log"))).unwrap()
    }

    /// What `check` says of formats.
    fn finding(&self) -> String {
        let output = self.fleet.try_run(&["check", "-o", "json"]);
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        let check = answer["checks"].as_array().unwrap().iter().find(|check| check["name"] == "cluster/format");
        check.unwrap()["detail"].as_str().unwrap().to_string()
    }
}

#[test]
fn servers_are_upgraded_one_by_one_and_taken_back_while_the_format_waits() {
    let (old, new) = (before::certwright(), ours("certwright"));
    let start = Instant::now();
    let fleet = Fleet::start_as(&old, 3, 1, &[]);
    fill(&fleet);
    eprintln!("{:>5.1} s: {CERTIFICATES} certificates are declared", start.elapsed().as_secs_f32());
    let people = People::start(&fleet, 2);
    let mut rollout = Rollout { fleet, people, start };
    let [first, second, third] = <[String; 3]>::try_from(rollout.fleet.servers()).unwrap();

    rollout.replace(&first, &new);
    rollout.held_up(&first, &second);
    rollout.replace(&second, &new);
    rollout.held_up(&second, &third);
    // Whatever this build did meanwhile, the one before goes on with it.
    rollout.replace(&second, &old);
    rollout.replace(&first, &old);
    assert_eq!(rollout.format(), 1);

    for name in [&first, &second, &third] {
        rollout.replace(name, &new);
    }
    eventually("the format is in use", SERVER_WITHIN, || (rollout.format() == u64::from(NEWEST.0)).then_some(()));
    let wanted = format!("written in format {NEWEST}, which all servers know");
    eventually("check says so", SERVER_WITHIN, || rollout.finding().contains(&wanted).then_some(()));

    // Now there is no way back: the build before says so, stops, and leaves what is there alone.
    rollout.stop(&third);
    rollout.fleet.restart_as(&old, &third, &[]);
    eventually("the older build stops", SERVER_WITHIN, || rollout.fleet.is_gone(&third).then_some(()));
    let said = rollout.log(&third);
    assert!(said.contains(&format!("format {NEWEST} is unknown; this build reads up to format 1")), "{said}");
    rollout.fleet.restart(&third);
    rollout.settled();
    rollout.people.go_on(4);
    rollout.fleet.agreed_digest();

    let declared = rollout.status()["certificates"].as_u64().unwrap();
    assert_eq!(declared, CERTIFICATES as u64 + 1, "and the demo's own");
    let Rollout { fleet, people, .. } = rollout;
    let answered = people.stop();
    // Any server answers, out of what it has applied: all apply this.
    fleet.agreed_digest();
    let events = fleet.run(&["events", "--from", "1", "--stream", "direct/", "-o", "json"]);
    let parsed = events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let logged: BTreeSet<String> = parsed.map(|event| event["data"]["serial"].as_str().unwrap().to_string()).collect();
    let lost: Vec<_> = answered.difference(&logged).collect();
    assert!(lost.is_empty(), "{} certificates that were handed out are not in the log: {lost:?}", lost.len());
    eprintln!("{:>5.1} s: done", start.elapsed().as_secs_f32());
}
