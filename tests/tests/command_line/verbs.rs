//! Verbs that answer without a server: verify, inspect, completion, and the shape of help.
//!
//! It refuses to repeat what unit tests hold: each verb once, on real files.

use std::process::Command;

use certwright_tests::program::{must, ours, run};
use serde_json::Value;

use crate::shared::{self, refusal};

#[test]
fn verify_accepts_what_was_delivered_and_refuses_what_was_mixed() {
    let fleet = shared::fleet();
    let (one, other) = (fleet.folder().join("verify-1"), fleet.folder().join("verify-2"));
    let issue = |out: &std::path::Path| {
        fleet.json(&["issue", "--dns", "verify.internal", "--issuer", "demo", "--out", out.to_str().unwrap()])
    };
    let issued = issue(&one);
    issue(&other);
    let verify =
        |out: &std::path::Path| run(Command::new(ours("certwright")).arg("verify").arg(out).args(["-o", "json"]));
    let verified: Value = serde_json::from_slice(&verify(&one).stdout).unwrap();
    assert_eq!((&verified["serial"], &verified["verified"]), (&issued["serial"], &Value::Bool(true)));

    std::fs::copy(other.join("key.pem"), one.join("key.pem")).unwrap();
    let message = refusal(&verify(&one), 1, "VERIFICATION_FAILED");
    assert!(message.contains("key.pem is not the key of cert.pem"), "{message}");
}

#[test]
fn verify_reads_the_log_of_a_stopped_server_and_names_the_damage() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("cw");
    let dev = |words: &[&str]| must(Command::new(ours("certwright")).arg("dev").args(words).arg("--dir").arg(&data));
    dev(&["--detach"]);
    dev(&["--stop"]);
    let server = data.join("data");
    let verify = || run(Command::new(ours("certwright")).arg("verify").arg(&server).args(["-o", "json"]));
    let whole: Value = serde_json::from_slice(&verify().stdout).unwrap();
    assert!(whole["events"].as_u64().unwrap() > 10 && whole["first_bad_index"].is_null(), "{whole}");

    let segment = std::fs::read_dir(server.join("log")).unwrap().map(|entry| entry.unwrap().path());
    let segment = segment.filter(|path| path.extension().is_some_and(|end| end == "seg")).min().unwrap();
    let mut octets = std::fs::read(&segment).unwrap();
    octets[3000] ^= 1;
    std::fs::write(&segment, octets).unwrap();
    let damaged = verify();
    assert_eq!(damaged.status.code(), Some(1));
    let told = String::from_utf8_lossy(&damaged.stderr);
    assert!(told.ends_with("reason VERIFICATION_FAILED\n") && told.contains("the log is damaged from index"), "{told}");
    let found: Value = serde_json::from_slice(&damaged.stdout).unwrap();
    assert!(found["first_bad_index"].as_u64().is_some_and(|index| index > 0), "{found}");
}

#[test]
fn inspect_explains_a_file_and_a_server() {
    let fleet = shared::fleet();
    let out = fleet.folder().join("inspect");
    let issue = ["issue", "--dns", "inspect.internal", "--issuer", "demo", "--out", out.to_str().unwrap()];
    let issued = fleet.json(&issue);
    let inspect = |subject: &str| -> Value {
        let text = must(Command::new(ours("certwright")).args(["inspect", subject, "-o", "json"]));
        serde_json::from_str(&text).unwrap()
    };
    let seen = inspect(out.join("fullchain.pem").to_str().unwrap());
    assert_eq!(seen[0]["serial"], issued["serial"]);
    assert_eq!(seen[0]["dnsNames"][0], "inspect.internal");
    assert_eq!((&seen[0]["isCA"], &seen[1]["isCA"]), (&Value::Bool(false), &Value::Bool(true)));

    let server = fleet.processes()["server-1"].grpc.clone().unwrap();
    let served = inspect(&server);
    assert!(served[0]["uris"][0].as_str().unwrap().ends_with("/node/1"), "{served}");
}

#[test]
fn completion_scripts_are_for_their_shells() {
    for (shell, word) in [("bash", "complete"), ("zsh", "#compdef certwright"), ("fish", "complete -c certwright")] {
        let script = must(Command::new(ours("certwright")).args(["completion", shell]));
        assert!(script.contains(word) && script.contains("history"), "{shell}: {script}");
    }
    let script = must(Command::new(ours("certwright")).args(["completion", "bash"]));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), script).unwrap();
    must(Command::new("bash").arg("-n").arg(file.path()));
}

#[test]
fn help_goes_to_standard_output_and_succeeds() {
    for words in [&["--help"][..], &["help"], &["apply", "--help"], &["token", "create", "--help"], &["--version"]] {
        let output = run(Command::new(ours("certwright")).args(words));
        assert!(output.status.success() && output.stderr.is_empty() && !output.stdout.is_empty(), "{words:?}");
    }
}

#[test]
fn help_tells_a_verbs_own_options_first_and_the_agents_all() {
    let help = |words: &[&str]| must(Command::new(ours("certwright")).args(words));
    for verb in [&["apply"][..], &["get"], &["status"], &["token", "create"], &["operator", "raft", "peers"]] {
        let text = help(&[verb, &["--help"]].concat());
        let (own, everywhere) = text.split_once("\nGlobal options:\n").unwrap_or_else(|| panic!("{verb:?}: {text}"));
        for name in ["--context", "--server", "--timeout", "--namespace", "--output"] {
            assert!(everywhere.contains(name) && !own.contains(name), "{verb:?}: {name} in {text}");
        }
        assert!(own.contains("\nOptions:\n") && own.contains("--help"), "{verb:?}: {text}");
    }
    for words in [["agent", "--help"], ["help", "agent"]] {
        let text = help(&words);
        assert!(text.contains("--trust-bundle") && text.contains("CERTWRIGHT_STATE"), "{words:?}: {text}");
        assert!(!text.contains("--timeout"), "{words:?}: {text}");
    }
    let script = help(&["completion", "bash"]);
    assert!(script.contains("--trust-bundle"), "completion does not know the agent's options");
}
