//! Verbs that answer without a server: verify, inspect, completion, and the shape of help.
//!
//! It refuses to repeat what unit tests hold: each verb once, on real files.

use std::process::{Command, Output};

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
fn log_verify_proves_a_log_whole_and_names_the_damage() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("cw");
    let dev = |words: &[&str]| must(Command::new(ours("certwright")).arg("dev").args(words).arg("--dir").arg(&data));
    let server = data.join("data");
    let verify = |words: &[&str]| run(Command::new(ours("certwright")).args(words).arg(&server));
    // The verdict is the last line of standard output, whatever the format; what people read goes elsewhere.
    let verdict = |output: &Output| -> Value {
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(told.lines().count(), 1, "{told}");
        serde_json::from_str(&told).unwrap()
    };
    dev(&["--detach"]);
    let running = verify(&["log", "verify"]);
    let told = String::from_utf8_lossy(&running.stderr).into_owned();
    assert!(running.status.success() && told.contains("a server writes to this log"), "{told}");
    assert!(verdict(&running)["first_bad_index"].is_null());
    dev(&["--stop"]);
    let whole = verify(&["log", "verify", "-o", "json"]);
    let told = String::from_utf8_lossy(&whole.stderr).into_owned();
    assert!(whole.status.success() && told.contains(".seg: from entry 0") && !told.contains("a server"), "{told}");
    let whole = verdict(&whole);
    assert!(whole["events"].as_u64().unwrap() > 10 && whole["first_bad_index"].is_null(), "{whole}");
    assert_eq!(whole.as_object().unwrap().len(), 2, "{whole}");
    // The same by its other name, and of the log alone.
    assert_eq!(verdict(&verify(&["verify"])), whole);
    let log = run(Command::new(ours("certwright")).args(["log", "verify"]).arg(server.join("log")));
    assert_eq!(verdict(&log), whole);

    let segment = std::fs::read_dir(server.join("log")).unwrap().map(|entry| entry.unwrap().path());
    let segment = segment.filter(|path| path.extension().is_some_and(|end| end == "seg")).min().unwrap();
    let sound = std::fs::read(&segment).unwrap();
    for offset in [0, 60, 127, 130, 3000, sound.len() - 1] {
        let mut octets = sound.clone();
        octets[offset] ^= 1;
        std::fs::write(&segment, octets).unwrap();
        let damaged = verify(&["log", "verify"]);
        let told = String::from_utf8_lossy(&damaged.stderr).into_owned();
        assert_eq!(damaged.status.code(), Some(1), "octet {offset}: {told}");
        assert!(told.ends_with("reason VERIFICATION_FAILED\n"), "octet {offset}: {told}");
        assert!(told.contains("the log is damaged from index"), "octet {offset}: {told}");
        let found = verdict(&damaged);
        let index = found["first_bad_index"].as_u64().unwrap_or_else(|| panic!("octet {offset}: {found}"));
        assert_eq!(index > 0, offset >= 3000, "octet {offset}: {found}");
    }
    std::fs::write(&segment, sound).unwrap();
    assert_eq!(verdict(&verify(&["log", "verify"])), whole, "nothing was written meanwhile");

    let nothing = run(Command::new(ours("certwright")).args(["log", "verify"]).arg(folder.path()));
    assert!(refusal(&nothing, 1, "FILE_FAILED").contains("holds no log"));
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

const MANIFESTS: &str = "apiVersion: certwright.dev/v1\nkind: Certificate\nmetadata: {name: shaped}\nspec:\n  \
                         dnsNames: [shaped.internal]\n  duration: DURATION\n  issuerRef: {name: shaped}\n---\n\
                         apiVersion: certwright.dev/v1\nkind: Issuer\nmetadata: {name: shaped}\nspec: {ca: {authority: shaped}}\n\
                         ---\napiVersion: certwright.dev/v1\nkind: Authority\nmetadata: {name: shaped}\n\
                         spec: {commonName: shaped}\n";

#[test]
fn apply_tells_programs_what_became_of_each_document() {
    let fleet = shared::fleet();
    let file = fleet.folder().join("shaped.yaml");
    let apply = |duration: &str, more: &[&str]| {
        std::fs::write(&file, MANIFESTS.replace("DURATION", duration)).unwrap();
        let output = fleet.try_run(&[&["apply", "-f", file.to_str().unwrap()], more].concat());
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let lines = |text: String| -> Vec<Value> { text.lines().map(|line| serde_json::from_str(line).unwrap()).collect() };
    let actions = |told: &[Value]| told.iter().map(|it| it["action"].as_str().unwrap().to_string()).collect::<Vec<_>>();
    let certificate = "namespaces/default/certificates/shaped";

    let created = lines(apply("1h", &["-o", "json"]));
    let names: Vec<&Value> = created.iter().map(|told| &told["name"]).collect();
    assert_eq!(names, ["authorities/shaped", "issuers/shaped", certificate]);
    let kinds: Vec<&Value> = created.iter().map(|told| &told["kind"]).collect();
    assert_eq!(kinds, ["Authority", "Issuer", "Certificate"]);
    assert_eq!(actions(&created), ["created"; 3]);
    let indexes: Vec<u64> = created.iter().map(|told| told["index"].as_u64().unwrap()).collect();
    assert!(indexes.is_sorted() && indexes[0] > 0, "{indexes:?}");

    let dry = lines(apply("2h", &["-o", "json", "--dry-run"]));
    assert_eq!((&dry[2]["action"], &dry[2]["dryRun"]), (&Value::from("configured"), &Value::Bool(true)), "{dry:?}");
    assert_eq!(actions(&dry), ["unchanged", "unchanged", "configured"]);
    let changed = lines(apply("2h", &["-o", "json"]));
    assert_eq!(actions(&changed), ["unchanged", "unchanged", "configured"]);
    assert!(changed[2]["revision"].as_u64() > created[2]["revision"].as_u64(), "{changed:?}");
    let stored = fleet.json(&["get", "certificate", "shaped"]);
    assert_eq!(stored["metadata"]["etag"], changed[2]["etag"], "{stored}");
    let declared = fleet.events().into_iter().rfind(|event| event["stream"] == certificate).unwrap();
    assert!(declared["index"].as_u64() >= changed[2]["index"].as_u64(), "{declared}");

    assert_eq!(apply("2h", &["-o", "name"]), "authority/shaped\nissuer/shaped\ncertificate/shaped\n");
    let yaml = apply("2h", &["-o", "yaml"]);
    assert_eq!(yaml.matches("---\n").count(), 3, "{yaml}");
    assert_eq!(yaml.matches("action: unchanged\n").count(), 3, "{yaml}");
    let new = MANIFESTS.split("---\n").next().unwrap().replace("name: shaped", "name: demo").replacen("demo", "new", 1);
    std::fs::write(&file, new.replace("DURATION", "1h")).unwrap();
    let told = fleet.run(&["apply", "-f", file.to_str().unwrap(), "--dry-run"]);
    assert_eq!(told, "certificate/new created (dry run)\n");
    let table = "authority/shaped unchanged\nissuer/shaped unchanged\ncertificate/shaped unchanged\n";
    assert_eq!(apply("2h", &[]), table);
}

#[test]
fn authorities_are_told_in_every_format() {
    let fleet = shared::fleet();
    let listed = fleet.json(&["ca", "list"]);
    assert!(listed.as_array().unwrap().iter().any(|it| it["metadata"]["name"] == "demo-ca"), "{listed}");
    let tree = fleet.json(&["ca", "tree"]);
    let root = tree.as_array().unwrap().iter().find(|it| it["name"] == "demo-root").unwrap();
    assert_eq!(root["signed"][0]["name"], "demo-ca");
    assert_eq!(root["signed"][0]["signed"], serde_json::json!([]));
    let bundle = fleet.json(&["ca", "bundle"]);
    let root = bundle.as_array().unwrap().iter().find(|it| it["name"] == "demo-root").unwrap();
    let text = fleet.run(&["ca", "bundle"]);
    assert!(text.contains(root["certificate"].as_str().unwrap().trim_end()), "{text}");
    assert_eq!(root["serial"].as_str().unwrap().len(), 40);

    for (words, first, second) in [
        (["ca", "list"], "authority/demo-ca", "authority/demo-root"),
        (["ca", "tree"], "authority/demo-root", "authority/demo-ca"),
    ] {
        let names = fleet.run(&[&words[..], &["-o", "name"]].concat());
        let place =
            |name: &str| names.lines().position(|line| line == name).unwrap_or_else(|| panic!("{name}: {names}"));
        assert!(place(first) < place(second), "{names}");
    }
    assert!(fleet.run(&["ca", "bundle", "-o", "name"]).lines().any(|line| line == "authority/demo-root"));
    assert!(fleet.run(&["ca", "bundle", "-o", "yaml"]).contains("BEGIN CERTIFICATE"));
    let tree = fleet.run(&["ca", "tree"]);
    assert!(tree.contains("demo-root (issuing, ") && tree.contains("\n  demo-ca (issuing, "), "{tree}");
}
