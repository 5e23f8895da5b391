//! What newcomers get wrong, and what they are told: the command line, the context, the server, the order of things.
//!
//! It refuses refusals that leave somebody looking: each names what is wrong and the way out.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use certwright_tests::program::{must, ours, run};

use crate::shared::{self, refusal};

#[test]
fn a_command_that_is_not_complete_shows_what_there_is() {
    for (words, named) in
        [(&[][..], "apply"), (&["token"], "revoke"), (&["ca"], "bundle"), (&["operator", "raft"], "remove")]
    {
        let output = run(Command::new(ours("certwright")).args(words));
        refusal(&output, 2, "USAGE");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.lines().any(|line| line.trim().starts_with(named)), "{words:?}: {said}");
    }
}

#[test]
fn what_is_missing_and_what_is_possible_is_named() {
    let cases: [(&[&str], &[&str]); 5] = [
        (&["issue", "--issuer", "demo", "--out", "o1"], &["--csr <FILE>"]),
        (&["renew"], &["<NAME>"]),
        (&["get", "nonsense"], &["possible values", "certificates", "issuers"]),
        (&["token", "create", "--role", "king"], &["node, agent"]),
        (&["--server", "foo", "status"], &["foo", "HOST:PORT"]),
    ];
    for (words, named) in cases {
        let message = refusal(&run(Command::new(ours("certwright")).args(words)), 2, "USAGE");
        assert!(named.iter().all(|name| message.contains(name)), "{words:?}: {message}");
    }
    let message = refusal(&run(Command::new(ours("certwright-agent")).args(["--join", "a:1"])), 2, "USAGE");
    assert!(message.contains("--token <@FILE>"), "{message}");
}

#[test]
fn a_server_that_is_down_does_not_cost_the_whole_time() {
    let fleet = shared::fleet();
    let start = Instant::now();
    let output = fleet.try_run(&["--server", "127.0.0.1:1", "--timeout", "60s", "status"]);
    refusal(&output, 1, "UNREACHABLE");
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    let message = refusal(&run(Command::new(ours("certwright")).args(["inspect", "localhost:1"])), 1, "UNREACHABLE");
    assert!(message.contains("localhost:1"), "{message}");
}

#[test]
fn an_administrators_context_is_not_an_agents() {
    let fleet = shared::fleet();
    let (context, state) = (fleet.context(), fleet.folder().join("no-agents-state"));
    let before = std::fs::read(&context).unwrap();
    for join in [&[][..], &["--join", "127.0.0.1:1", "--token", "cw1.x"]] {
        let mut agent = Command::new(ours("certwright-agent"));
        agent.arg("--state").arg(&state).args(join).env("CERTWRIGHT_CONTEXT", &context).env("CERTWRIGHT_LOG", "off");
        let message = refusal(&run(&mut agent), 4, "INVALID_CONTEXT");
        assert!(message.contains("administrator/"), "{message}");
    }
    assert_eq!(std::fs::read(&context).unwrap(), before, "the administrator's context was replaced");
}

#[test]
fn a_collector_that_cannot_be_one_is_said_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    // Without that mistake there would be another: there is no server here, and no agent.
    let server = ["server", "--data", folder.path().to_str().unwrap()];
    let programs = [("certwright", &server[..]), ("certwright", &["agent"]), ("certwright-agent", &[])];
    let start = |(program, words): (&str, &[&str]), endpoint: &str| {
        let mut command = Command::new(ours(program));
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint).env("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere.pem");
        run(command.args(words))
    };
    for program in programs {
        let message = refusal(&start(program, "me:secret@localhost:4317"), 2, "USAGE");
        let named = "OTEL_EXPORTER_OTLP_ENDPOINT=localhost:4317: not http://HOST:PORT or https://";
        assert!(message.contains(named), "{message}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    // A file that is not there is no reason not to start: what stops them is the other mistake.
    for program in programs {
        let output = start(program, "https://localhost:4317");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(told.contains("ERROR") && told.contains("OTEL_EXPORTER_OTLP_CERTIFICATE=/nowhere.pem: "), "{told}");
        let reason = told.lines().last().unwrap();
        assert!(reason.starts_with("reason ") && reason != "reason USAGE", "{told}");
    }
}

#[test]
fn an_authority_stays_as_it_was_made() {
    let fleet = shared::fleet();
    let file = fleet.folder().join("authority.yaml");
    let authority = |common_name: &str| {
        let text = format!(
            "apiVersion: certwright.dev/v1\nkind: Authority\nmetadata: {{name: kept}}\nspec: {{commonName: {common_name}}}\n"
        );
        std::fs::write(&file, text).unwrap();
        fleet.try_run(&["apply", "-f", file.to_str().unwrap()])
    };
    let printed = |output: std::process::Output| String::from_utf8(output.stdout).unwrap();
    assert_eq!(printed(authority("Kept")), "authority/kept created\n");
    assert_eq!(printed(authority("Kept")), "authority/kept unchanged\n");
    let message = refusal(&authority("Other"), 1, "ALREADY_EXISTS");
    let place = format!("error: {}: authority/kept: ", file.display());
    assert!(message.starts_with(&place) && message.contains("another spec.commonName"), "{message}");
}

#[test]
fn nothing_is_signed_for_a_place_that_cannot_be_written() {
    let fleet = shared::fleet();
    let file = fleet.folder().join("in-the-way");
    std::fs::write(&file, "x").unwrap();
    let issue = |out: &std::path::Path, issuer: &str| {
        let out = out.to_str().unwrap();
        vec!["issue", "--dns", "place.internal", "--issuer", issuer, "--out", out]
            .into_iter()
            .map(str::to_string)
            .collect()
    };
    let words: Vec<String> = issue(&file.join("out"), "demo");
    fleet.refused(&words.iter().map(String::as_str).collect::<Vec<_>>(), 1, "FILE_FAILED");

    // A refusal leaves the set of before alone.
    let kept = fleet.folder().join("kept-set");
    let words: Vec<String> = issue(&kept, "demo");
    fleet.run(&words.iter().map(String::as_str).collect::<Vec<_>>());
    let before = contents(&kept);
    let words: Vec<String> = issue(&kept, "nope");
    let message = fleet.try_run(&words.iter().map(String::as_str).collect::<Vec<_>>());
    refusal(&message, 1, "ISSUER_NOT_FOUND");
    assert_eq!(contents(&kept), before, "the refusal changed files or left some behind");
}

/// The files of a directory by name.
fn contents(folder: &std::path::Path) -> BTreeMap<String, Vec<u8>> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    files.map(|file| (file.file_name().into_string().unwrap(), std::fs::read(file.path()).unwrap())).collect()
}

#[test]
fn issue_replaces_its_own_set_and_nobody_elses_key() {
    let fleet = shared::fleet();
    let out = fleet.folder().join("issued-twice");
    let words = ["issue", "--dns", "twice.internal", "--issuer", "demo", "--out", out.to_str().unwrap()];
    let first = fleet.json(&words)["serial"].as_str().unwrap().to_string();
    let again = fleet.try_run(&words);
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
    let told = String::from_utf8_lossy(&again.stderr);
    assert!(told.contains(&format!("replacing key and certificate in {}: serial {first}", out.display())), "{told}");
    fleet.run(&["verify", out.to_str().unwrap()]);
    assert_eq!(contents(&out).len(), 6, "{:?}", contents(&out).keys());

    // Neither a key without its certificate nor a pair that another program wrote is issue's to replace.
    let own = contents(&out)["key.pem"].clone();
    for (file, text) in [("cert.pem", None), ("combined.pem", None), ("key.pem", Some("somebody's"))] {
        fleet.run(&[&words[..], &["--force"]].concat());
        match text {
            None => std::fs::remove_file(out.join(file)).unwrap(),
            Some(text) => std::fs::write(out.join(file), text).unwrap(),
        }
        let before = contents(&out);
        let message = fleet.refused(&words, 1, "ALREADY_EXISTS");
        assert!(message.contains("key.pem: it is not of a set that issue wrote; ") && message.contains("--force"));
        assert_eq!(contents(&out), before);
    }
    fleet.run(&[&words[..], &["--force"]].concat());
    fleet.run(&["verify", out.to_str().unwrap()]);
    assert_ne!(contents(&out)["key.pem"], own);
    let live = fleet.folder().join("live/web");
    for force in [&[][..], &["--force"]] {
        let words = [&words[..6], &[live.to_str().unwrap()], force].concat();
        let message = fleet.refused(&words, 1, "ALREADY_EXISTS");
        assert!(message.contains("an agent delivers into this directory"), "{message}");
        assert!(live.join("key.pem").is_symlink(), "{force:?} replaced the agent's link");
    }
}

#[test]
fn issue_leaves_what_others_wrote_whatever_its_name() {
    let fleet = shared::fleet();
    let out = fleet.folder().join("somebodys");
    std::fs::create_dir(&out).unwrap();
    for name in ["cert.pem", "chain.pem", "fullchain.pem", "privkey.pem"] {
        std::fs::write(out.join(name), "somebody's").unwrap();
    }
    must(
        Command::new("openssl")
            .args(["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "own.key"])
            .current_dir(&out),
    );
    let ask = ["req", "-new", "-key", "own.key", "-subj", "/CN=own.internal", "-out", "own.csr"];
    let names = ["-addext", "subjectAltName=DNS:own.internal"];
    must(Command::new("openssl").args(ask).args(names).current_dir(&out));
    let (before, csr) = (contents(&out), out.join("own.csr").display().to_string());
    for request in [["--dns", "own.internal"], ["--csr", &csr]] {
        let message = fleet.refused(
            &["issue", request[0], request[1], "--issuer", "demo", "--out", out.to_str().unwrap()],
            1,
            "ALREADY_EXISTS",
        );
        assert!(message.contains("cert.pem: it is not of a set that issue wrote; "), "{message}");
        assert_eq!(contents(&out), before);
    }

    // What cannot be looked at may be anything.
    let odd = fleet.folder().join("odd");
    std::fs::create_dir(&odd).unwrap();
    std::os::unix::fs::symlink("key.pem", odd.join("key.pem")).unwrap();
    fleet.refused(
        &["issue", "--dns", "odd.internal", "--issuer", "demo", "--out", odd.to_str().unwrap()],
        1,
        "FILE_FAILED",
    );
    assert!(std::fs::symlink_metadata(odd.join("key.pem")).unwrap().is_symlink());
}

#[test]
fn a_certificate_for_a_request_leaves_no_older_one_beside_it() {
    let fleet = shared::fleet();
    let out = fleet.folder().join("both");
    let place = out.to_str().unwrap();
    fleet.run(&["issue", "--dns", "both.internal", "--issuer", "demo", "--out", place]);
    let older = contents(&out);
    let ask = ["req", "-new", "-key", "key.pem", "-subj", "/CN=both.internal", "-out", "both.csr"];
    let names = ["-addext", "subjectAltName=DNS:both.internal"];
    must(Command::new("openssl").args(ask).args(names).current_dir(&out));
    let csr = out.join("both.csr").display().to_string();
    let issue = ["issue", "--csr", &csr, "--issuer", "demo", "--out", place];
    fleet.run(&issue);
    let newer = contents(&out);
    assert!(newer["key.pem"] == older["key.pem"] && newer["cert.pem"] != older["cert.pem"]);
    let combined = [&newer["fullchain.pem"][..], &newer["key.pem"]].concat();
    assert_eq!(newer["combined.pem"], combined, "combined.pem is of another certificate");

    // Without the key nobody could write it anew.
    std::fs::remove_file(out.join("key.pem")).unwrap();
    let output = fleet.try_run(&issue);
    assert!(output.status.success() && String::from_utf8_lossy(&output.stderr).contains("combined.pem"), "{output:?}");
    assert!(!contents(&out).contains_key("combined.pem"));
}

#[test]
fn a_certificate_for_a_request_comes_beside_its_own_key_only() {
    let fleet = shared::fleet();
    let out = fleet.folder().join("request");
    std::fs::create_dir(&out).unwrap();
    for name in ["key.pem", "other.pem"] {
        let make = ["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", name];
        must(Command::new("openssl").args(make).current_dir(&out));
    }
    let names = ["-subj", "/CN=request.internal", "-addext", "subjectAltName=DNS:request.internal"];
    for (key, csr) in [("key.pem", "own.csr"), ("other.pem", "other.csr")] {
        let ask = ["req", "-new", "-key", key, "-out", csr];
        must(Command::new("openssl").args(ask).args(names).current_dir(&out));
    }
    let issue = |csr: &str| {
        let csr = out.join(csr).display().to_string();
        ["issue", "--csr", &csr, "--issuer", "demo", "--out", out.to_str().unwrap()].map(str::to_string)
    };
    let message = fleet.refused(&issue("other.csr").each_ref().map(String::as_str), 1, "ALREADY_EXISTS");
    assert!(message.contains("key.pem: it is not the key of the request; "), "{message}");
    let key = std::fs::read(out.join("key.pem")).unwrap();
    fleet.run(&issue("own.csr").each_ref().map(String::as_str));
    assert_eq!(std::fs::read(out.join("key.pem")).unwrap(), key);
    fleet.run(&["verify", out.to_str().unwrap()]);
}

#[test]
fn a_request_can_be_checked_without_a_signature() {
    let fleet = shared::fleet();
    let before = fleet.happened();
    let check =
        |issuer: &str| ["issue", "--dns", "check.internal", "--issuer", issuer, "--validate-only"].map(str::to_string);
    let words = check("demo");
    let answer = fleet.json(&words.each_ref().map(String::as_str));
    assert!(answer["validated"] == true && answer["not_after"].is_string(), "{answer}");
    assert_eq!(before, fleet.happened());
    let words = check("nope");
    fleet.refused(&words.each_ref().map(String::as_str), 1, "ISSUER_NOT_FOUND");
}

#[test]
fn why_names_an_agent_that_nobody_has_joined_as() {
    let fleet = shared::fleet();
    fleet.apply(
        "apiVersion: certwright.dev/v1\nkind: Certificate\nmetadata: {name: lonely}\nspec:\n  \
         dnsNames: [lonely.internal]\n  issuerRef: {name: demo}\n  \
         targets:\n  - {name: files, agent: ghost, files: {directory: /x}}\n",
    );
    let output = fleet.try_run(&["why", "lonely"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("agent ghost, which is not registered") && said.contains("--agent ghost"), "{said}");
}
