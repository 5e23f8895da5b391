//! One issuance is one trace across processes, as a receiver of another make got it; a collector that is slow or gone
//! is in nobody's way.
//!
//! It refuses spans from memory: everything is read back from what the receiver wrote down.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

use certwright_tests::fleet::Fleet;
use certwright_tests::otlp::{Receiver, Span};
use certwright_tests::peers::{Nginx, free_port};
use certwright_tests::program::{eventually, must};
use serde_json::Value;

/// Longer than the test: what arrives before a full batch is there was flushed when its process stopped.
const NEVER: (&str, &str) = ("OTEL_BSP_SCHEDULE_DELAY", "600000");
const OFTEN: (&str, &str) = ("OTEL_BSP_SCHEDULE_DELAY", "100");
const STREAM: &str = "namespaces/web/certificates/shop";
/// What one issuance consists of, each step after the one before.
const STEPS: [&str; 6] = ["request", "decide", "propose", "sign", "deliver", "install"];

/// Events of the certificate, oldest first.
fn events(fleet: &Fleet) -> Vec<Value> {
    fleet.events().into_iter().filter(|event| event["stream"] == STREAM).collect()
}

/// The trace of the first event of that type about that generation, which may name it or not.
fn trace_of(events: &[Value], kind: &str, generation: u64) -> String {
    let event = events.iter().find(|event| {
        event["type"] == kind && event["data"]["generation"].as_u64().is_none_or(|given| given == generation)
    });
    let event = event.unwrap_or_else(|| panic!("no {kind} of generation {generation}"));
    event["trace"].as_str().unwrap_or_else(|| panic!("no trace is stored with {event}")).to_string()
}

/// Whether the served check of a generation was reported.
fn is_served(events: &[Value], generation: u64) -> bool {
    events.iter().any(|event| {
        let data = &event["data"];
        event["type"] == "CertificateDelivered" && data["generation"] == generation && data["stage"] == "served"
    })
}

/// The spans of one trace by id; every parent but the root's must have arrived too.
fn whole_trace(spans: &[Span], trace: &str) -> BTreeMap<String, Span> {
    let tree: BTreeMap<String, Span> =
        spans.iter().filter(|span| span.trace == trace).map(|span| (span.span.clone(), span.clone())).collect();
    let roots: Vec<&Span> = tree.values().filter(|span| span.parent.is_empty()).collect();
    assert_eq!(roots.len(), 1, "a trace has one root: {roots:#?}\nof {tree:#?}");
    let orphans: Vec<&Span> =
        tree.values().filter(|span| !span.parent.is_empty() && !tree.contains_key(&span.parent)).collect();
    assert!(orphans.is_empty(), "spans whose parent never arrived: {orphans:#?}\nof {tree:#?}");
    tree
}

/// Names and services from a span up to the root.
fn ancestry<'a>(tree: &'a BTreeMap<String, Span>, span: &'a Span) -> Vec<(&'a str, &'a str)> {
    std::iter::successors(Some(span), |span| tree.get(&span.parent))
        .map(|span| (span.name.as_str(), span.service.as_str()))
        .collect()
}

/// The issuance of one generation: every step is there, in the right process, below the right span.
fn check_issuance(tree: &BTreeMap<String, Span>, servers: &BTreeSet<u32>, agent: u32) {
    const SERVER: &str = "certwright-server";
    const AGENT: &str = "certwright-agent";
    let find = |name: &'static str| tree.values().filter(move |span| span.name == name);
    for name in STEPS.into_iter().chain(["served"]) {
        assert!(find(name).next().is_some(), "no span {name} in {tree:#?}");
    }
    let leader = find("sign").next().unwrap().pid;
    assert!(servers.contains(&leader), "{leader} is no server");
    for name in ["schedule", "decide", "propose", "sign"] {
        assert!(find(name).all(|span| span.pid == leader && span.service == SERVER), "{name} runs on the leader alone");
    }
    for name in ["deliver", "install", "served"] {
        assert!(find(name).all(|span| span.pid == agent && span.service == AGENT), "{name} runs on the agent alone");
    }

    // From what the agent proved last back to what was asked first, through every process on the way.
    let served = find("served").next_back().unwrap();
    let up = ancestry(tree, served);
    assert_eq!(up[..2], [("served", AGENT), ("deliver", AGENT)]);
    let below = |child: (&str, &str), parent: (&str, &str)| {
        let place =
            up.iter().position(|it| *it == child).unwrap_or_else(|| panic!("no {child:?} above served: {up:?}"));
        assert!(up[place..].contains(&parent), "{child:?} is not below {parent:?}: {up:?}");
    };
    below(("deliver", AGENT), ("request", SERVER));
    below(("request", SERVER), ("request", AGENT));
    below(("request", AGENT), ("schedule", SERVER));
    let install = find("install").next().unwrap();
    assert_eq!(ancestry(tree, install)[1], ("deliver", AGENT));
    let sign = find("sign").next().unwrap();
    assert!(ancestry(tree, sign)[1..].iter().all(|it| ["request", "lead", "schedule"].contains(&it.0)));
    let csr = |span: &&Span| span.attributes.get("rpc.method").is_some_and(|method| method == "agent/csr");
    assert!(find("request").find(csr).is_some(), "the CSR's way into the servers is a span of its own");

    let starts: Vec<u64> = STEPS[1..].iter().map(|name| find(name).map(|span| span.start).min().unwrap()).collect();
    assert!(starts[0] <= starts[1] && starts[2] <= starts[3] && starts[3] <= starts[4], "out of order: {starts:?}");
    assert!(tree.values().all(|span| span.start <= span.end));
}

#[test]
fn one_issuance_is_one_trace_across_processes() {
    let (folder, collector) = (tempfile::TempDir::new().unwrap(), free_port());
    let receiver = Receiver::start(folder.path(), collector);
    let endpoint = format!("http://127.0.0.1:{collector}");
    let fleet = Fleet::start_with(3, 1, &[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint), NEVER]);
    // What an agent reports of several certificates at once is stored under one trace: here there is one certificate.
    fleet.run(&["delete", "certificate", "web"]);
    let (folder, live, port) = (folder.path().join("nginx"), fleet.folder().join("live/shop"), free_port());
    Nginx::configure(&folder, &live, port);
    let script = Nginx::write_hook(&folder);
    fleet.apply(&Nginx::manifest(&live, &script, port, ["60s", "54s"]));
    eventually("the first delivery", Duration::from_secs(30), || live.join("fullchain.pem").exists().then_some(()));
    let _nginx = Nginx::start(&folder, port);
    let events = eventually("a renewal is served", Duration::from_secs(60), || {
        std::thread::sleep(Duration::from_millis(500));
        Some(events(&fleet)).filter(|events| is_served(events, 2))
    });
    let processes = fleet.processes();
    // Something for each server to tell.
    for server in processes.values().filter_map(|process| process.grpc.as_deref()) {
        fleet.run(&["--server", server, "renew", "shop", "-n", "web"]);
    }
    fleet.stop();
    let spans = receiver.spans();

    let first = trace_of(&events, "CertificateDeclared", 1);
    for kind in ["IssuanceOpened", "CertificateIssued", "CertificateDelivered"] {
        assert_eq!(trace_of(&events, kind, 1), first, "{kind} is stored under another trace than the declaration");
    }
    let agent = processes["agent-1"].pid;
    let servers = processes.values().map(|process| process.pid).filter(|pid| *pid != agent).collect();
    let tree = whole_trace(&spans, &first);
    check_issuance(&tree, &servers, agent);
    let root = tree.values().find(|span| span.parent.is_empty()).unwrap();
    let asked = root.attributes["rpc.method"].as_str().unwrap();
    assert!(asked.starts_with("/certwright.v1.Certificates/"), "the administrator's wish is the root: {root:#?}");

    let second = trace_of(&events, "IssuanceOpened", 2);
    assert_ne!(second, first, "a renewal is a trace of its own");
    assert_eq!(trace_of(&events, "CertificateIssued", 2), second);
    let tree = whole_trace(&spans, &second);
    check_issuance(&tree, &servers, agent);
    let root = tree.values().find(|span| span.parent.is_empty()).unwrap();
    assert_eq!((root.name.as_str(), &root.links), ("schedule", &vec![first]), "it points at the generation before");
    let heard: BTreeSet<u32> = spans.iter().map(|span| span.pid).collect();
    let all: BTreeSet<u32> = processes.values().map(|process| process.pid).collect();
    assert_eq!(heard, all, "every process flushes when it stops");
}

/// How long one renewal of the demonstration's certificate takes until its files are switched.
fn renew(fleet: &Fleet) -> Duration {
    let begun = Instant::now();
    fleet.run(&["renew", "web", "--wait"]);
    begun.elapsed()
}

#[test]
fn a_collector_that_is_slow_or_gone_is_in_nobodys_way() {
    const QUICK: Duration = Duration::from_secs(15);
    let log = |fleet: &Fleet, name: &str| std::fs::read_to_string(fleet.folder().join(format!("{name}.log"))).unwrap();
    // It takes connections and never says a word.
    let port = free_port();
    let silent = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let endpoint = format!("http://127.0.0.1:{port}");
    let timeout = ("OTEL_EXPORTER_OTLP_TIMEOUT", "2000");
    let fleet = Fleet::start_with(1, 1, &[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint), timeout, OFTEN]);
    let took = renew(&fleet);
    assert!(took < QUICK, "a renewal took {took:?} while the collector was silent");
    // Nobody listens.
    drop(silent);
    for name in ["server-1", "agent-1"] {
        eventually("the loss is logged", Duration::from_secs(10), || {
            log(&fleet, name).contains("traces cannot be sent").then_some(())
        });
    }
    let took = renew(&fleet);
    assert!(took < QUICK, "a renewal took {took:?} while nobody listened");
    // It comes back.
    let folder = tempfile::TempDir::new().unwrap();
    let receiver = Receiver::start(folder.path(), port);
    eventually("both are heard again", Duration::from_secs(20), || {
        renew(&fleet);
        let services: BTreeSet<String> = receiver.spans().into_iter().map(|span| span.service).collect();
        // They say so after the receiver has answered, which is after it has written.
        let say_so = ["server-1", "agent-1"].iter().all(|name| log(&fleet, name).contains("traces are sent again"));
        (services.len() == 2 && say_so).then_some(())
    });
    for name in ["server-1", "agent-1"] {
        let log = log(&fleet, name);
        assert_eq!(log.matches("traces cannot be sent").count(), 1, "{name} repeats itself:\n{log}");
    }
    // It goes silent for ever, with spans on their way: processes stop all the same.
    receiver.freeze();
    renew(&fleet);
    let begun = Instant::now();
    fleet.stop();
    let took = begun.elapsed();
    assert!(took < QUICK, "the processes took {took:?} to stop");
    assert!(log(&fleet, "agent-1").contains("stopped"), "the agent did not stop in good order");
}

#[test]
fn a_collector_behind_tls_is_reached_only_with_its_root() {
    let (folder, port) = (tempfile::TempDir::new().unwrap(), free_port());
    let (key, certificate) = (folder.path().join("key.pem"), folder.path().join("cert.pem"));
    std::fs::write(folder.path().join("names"), "subjectAltName=DNS:localhost").unwrap();
    for line in [
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=ca -keyout ca.key -out ca.pem",
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=ca -keyout o.key -out other.pem",
        "req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=collector -keyout key.pem -out csr.pem",
        "x509 -req -in csr.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 1 -extfile names -out cert.pem",
    ] {
        must(Command::new("openssl").args(line.split(' ')).current_dir(folder.path()));
    }
    let receiver = Receiver::start_tls(folder.path(), port, &key, &certificate);
    let endpoint = format!("https://localhost:{port}");
    let environment = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), OFTEN];

    let rooted = |file: &str| folder.path().join(file).display().to_string();
    let root = rooted("other.pem");
    let stranger = Fleet::start_with(1, 1, &[&environment[..], &[("OTEL_EXPORTER_OTLP_CERTIFICATE", &root)]].concat());
    eventually("the refusal is logged", Duration::from_secs(20), || {
        std::fs::read_to_string(stranger.folder().join("server-1.log"))
            .unwrap()
            .contains("traces cannot be sent")
            .then_some(())
    });
    drop(stranger);
    assert_eq!(receiver.spans().len(), 0, "spans went to a collector that nobody vouched for");

    let root = rooted("ca.pem");
    let fleet = Fleet::start_with(1, 1, &[&environment[..], &[("OTEL_EXPORTER_OTLP_CERTIFICATE", &root)]].concat());
    eventually("servers and agents are heard", Duration::from_secs(30), || {
        let services: BTreeSet<String> = receiver.spans().into_iter().map(|span| span.service).collect();
        (services.len() == 2).then_some(())
    });
    drop(fleet);
}
