//! What people get wrong, through the binary: one `error:` line, `reason CODE`, an exit code, and nothing changed.
//!
//! It refuses refusals without a way out: the shape of each is checked in one place, `shared::failure`.

use std::path::{Path, PathBuf};
use std::process::Command;

use certwright_agent::{Connector, Context};
use certwright_core::limits::CSR_OCTETS_MAX;
use certwright_core::log::Position;
use certwright_proto::status::from_status;
use certwright_proto::v1;
use certwright_proto::v1::certificates_client::CertificatesClient;
use certwright_seams::Seams;
use certwright_tests::program::{must, ours, peer, run};
use tonic::transport::Channel;

use crate::shared::{self, Held, failure, refusal};

/// Writes a file into the fleet's folder; answers its path as a word.
fn file(fleet: &Held, name: &str, contents: &[u8]) -> String {
    let path = fleet.folder().join(name);
    std::fs::write(&path, contents).unwrap();
    path.display().to_string()
}

const NOBODYS: &str = "apiVersion: certwright.dev/v1\nkind: Certificate\nmetadata: {name: nobodys}\nspec:\n  \
                       dnsNames: [nobodys.internal]\n  issuerRef: {name: demo}\n  targets:\n  - {name: files, agent: nobody, files: {directory: /x}}\n";

#[test]
fn manifests_that_cannot_be() {
    let fleet = shared::fleet();
    let spec = |spec: &str| {
        format!("apiVersion: certwright.dev/v1\nkind: Certificate\nmetadata: {{name: bad}}\nspec: {spec}\n")
    };
    let cases: Vec<(&str, Vec<u8>, &str, &str)> = vec![
        ("not YAML", b"{".to_vec(), "INVALID_MANIFEST", "bad.yaml"),
        ("no manifest", b"kind: Certificate\n".to_vec(), "INVALID_MANIFEST", "document 1"),
        (
            "unknown field",
            spec("{dnsName: [a.internal], issuerRef: {name: demo}}").into(),
            "INVALID_MANIFEST",
            "dnsName",
        ),
        ("no names", spec("{issuerRef: {name: demo}}").into(), "INVALID_SPEC", ""),
        (
            "unknown issuer",
            spec("{dnsNames: [a.internal], issuerRef: {name: nope}}").into(),
            "ISSUER_NOT_FOUND",
            "nope",
        ),
        (
            "too short",
            spec("{dnsNames: [a.internal], duration: 9s, issuerRef: {name: demo}}").into(),
            "INVALID_SPEC",
            "duration",
        ),
        ("not binary", vec![0xff, 0xfe, 0x00], "FILE_FAILED", "bad.yaml"),
        ("oversized", vec![b' '; 1024 * 1024 + 1], "TOO_LARGE", "1048576"),
    ];
    for (what, contents, reason, named) in cases {
        let path = file(&fleet, "bad.yaml", &contents);
        let message = fleet.refused(&["apply", "-f", &path], 1, reason);
        assert!(message.contains(named), "{what}: {message}");
    }
    fleet.refused(&["apply", "-f", "/nowhere.yaml"], 1, "FILE_FAILED");
    // One bad document holds back the good one before it.
    let path = file(&fleet, "half.yaml", format!("{NOBODYS}---\nkind: x\n").as_bytes());
    fleet.refused(&["apply", "-f", &path], 1, "INVALID_MANIFEST");
}

#[test]
fn requests_that_no_authority_signs() {
    let fleet = shared::fleet();
    let (folder, out) = (fleet.folder().to_path_buf(), fleet.folder().join("refused").display().to_string());
    let csr = |name: &str, more: &[&str]| -> String {
        let path = folder.join(name);
        let mut command = Command::new(peer("openssl"));
        command.args([
            "req",
            "-new",
            "-nodes",
            "-subj",
            "/CN=x",
            "-addext",
            "subjectAltName=DNS:a.internal",
            "-keyout",
        ]);
        must(command.arg(folder.join("x.key")).args(more).arg("-out").arg(&path));
        path.display().to_string()
    };
    let p256: &[&str] = &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
    let ca = csr("ca.csr", &[p256, &["-addext", "basicConstraints=critical,CA:TRUE"]].concat());
    let weak = csr("weak.csr", &["-newkey", "rsa:1024"]);
    let garbage =
        file(&fleet, "garbage.csr", b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n");
    let large = file(&fleet, "large.csr", &vec![b'A'; CSR_OCTETS_MAX + 1]);
    for (csr, reason) in
        [(&ca, "CSR_NOT_ALLOWED"), (&weak, "KEY_NOT_ALLOWED"), (&garbage, "INVALID_CSR"), (&large, "TOO_LARGE")]
    {
        fleet.refused(&["issue", "--csr", csr, "--issuer", "demo", "--out", &out], 1, reason);
    }
    fleet.refused(&["issue", "--dns", "a.internal", "--issuer", "nope", "--out", &out], 1, "ISSUER_NOT_FOUND");
    assert!(!Path::new(&out).exists(), "a refused request left files behind");
}

#[test]
fn objects_that_are_not_there() {
    let fleet = shared::fleet();
    let cases: &[&[&str]] = &[
        &["get", "certificate", "nope"],
        &["get", "issuer", "nope"],
        &["get", "token", "nope"],
        &["describe", "agent", "nope"],
        &["delete", "certificate", "nope"],
        &["delete", "issuer", "nope"],
        &["renew", "nope"],
        &["why", "nope"],
        &["history", "nope"],
        &["token", "revoke", "nope"],
        &["operator", "raft", "remove", "nope"],
        &["operator", "raft", "transfer", "--to", "nope"],
        &["operator", "raft", "promote", "nope"],
        &["operator", "raft", "demote", "nope"],
    ];
    for arguments in cases {
        fleet.refused(arguments, 1, "NOT_FOUND");
    }
    fleet.refused(&["delete", "certificate", "web", "--etag", "1-0.1"], 1, "ETAG_MISMATCH");
    fleet.refused(&["delete", "issuer", "demo"], 1, "IN_USE");
}

#[test]
fn command_lines_that_cannot_be() {
    let fleet = shared::fleet();
    let cases: &[&[&str]] = &[
        &["bogus"],
        &["get", "nonsense"],
        &["get", "certificates", "-o", "xml"],
        &["issue", "--issuer", "demo", "--out", "x"],
        &["renew"],
        &["--timeout", "soon", "status"],
        &["token", "create", "--role", "king"],
        &["server", "--join", "127.0.0.1:1", "--data", "x"],
        &["inspect", "neither-file-nor-server"],
    ];
    for arguments in cases {
        fleet.refused(arguments, 2, "USAGE");
    }
}

#[test]
fn contexts_that_do_not_open_the_door() {
    let fleet = shared::fleet();
    let status =
        |context: &str, more: &[&str]| run(Command::new(ours("certwright")).args(["--context", context]).args(more));
    refusal(&status("/nowhere/context", &["status"]), 4, "INVALID_CONTEXT");
    refusal(&status(&file(&fleet, "broken.context", b"{}"), &["status"]), 4, "INVALID_CONTEXT");
    let agent = fleet.folder().join("agent-1.context").display().to_string();
    let apply = file(&fleet, "agents.yaml", NOBODYS.as_bytes());
    let before = fleet.happened();
    for words in [
        &["status"][..],
        &["get", "certificates"],
        &["apply", "-f", &apply],
        &["token", "list"],
        &["context", "--renew"],
    ] {
        refusal(&status(&agent, words), 4, "PERMISSION_DENIED");
    }
    assert_eq!(before, fleet.happened());
    let context = fleet.context().display().to_string();
    refusal(&status(&context, &["--server", "127.0.0.1:1", "--timeout", "1s", "status"]), 1, "UNREACHABLE");
}

#[test]
fn a_wait_that_takes_too_long() {
    let fleet = shared::fleet();
    fleet.apply(NOBODYS);
    let path = file(&fleet, "nobodys.yaml", NOBODYS.as_bytes());
    let before = fleet.happened();
    failure(&fleet.try_run(&["apply", "-f", &path, "--wait", "--timeout", "5s"]), 124, "WAIT_TIMED_OUT");
    assert_eq!(before, fleet.happened());
}

/// Starts a server that must refuse to start.
fn server(data: &Path, more: &[&str], reason: &str) {
    let free = ["--grpc", "127.0.0.1:0", "--raft", "127.0.0.1:0", "--http", "127.0.0.1:0"];
    let free: Vec<&str> = free.chunks(2).filter(|pair| !more.contains(&pair[0])).flatten().copied().collect();
    let mut command = Command::new(ours("certwright"));
    refusal(
        &run(command.args(["server", "--data"]).arg(data).args(more).args(free).env("CERTWRIGHT_LOG", "off")),
        1,
        reason,
    );
}

/// What a directory holds.
fn listing(folder: &Path) -> Vec<PathBuf> {
    let mut names: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    names
}

#[test]
fn data_directories_and_ports_that_belong_to_others() {
    let fleet = shared::fleet();
    let folder = tempfile::tempdir().unwrap();
    let foreign = folder.path().join("foreign");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::write(foreign.join("diary.txt"), "dear diary").unwrap();
    server(&foreign, &["--bootstrap"], "FOREIGN_DATA");
    assert_eq!(listing(&foreign), [foreign.join("diary.txt")]);

    server(&folder.path().join("empty"), &[], "NOT_INITIALIZED");
    let process = fleet.processes()["server-1"].clone();
    server(process.data.as_deref().unwrap(), &[], "DATA_IN_USE");

    let taken = process.grpc.unwrap();
    let fresh = folder.path().join("fresh");
    server(&fresh, &["--bootstrap", "--grpc", &taken], "PORT_IN_USE");
    assert!(!fresh.exists(), "a server founded a cluster that it cannot serve");
}

async fn channel(fleet: &Held) -> (Channel, Context) {
    let seams = Seams::system();
    let context = Context::load(&*seams.disk, &fleet.context()).unwrap();
    (Connector::new(&context, &seams).unwrap().connect().await.unwrap().0, context)
}

#[test]
fn frames_and_tokens_beyond_their_bounds() {
    let fleet = shared::fleet();
    let before = fleet.happened();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (channel, context) = channel(&fleet).await;
        let mut client = CertificatesClient::new(channel);
        for octets in [CSR_OCTETS_MAX + 1, 5 * 1024 * 1024] {
            let csr = vec![0x30; octets].into();
            let refused = client.issue(v1::IssueRequest { issuer: "demo".into(), csr, ..Default::default() }).await;
            assert_eq!(from_status(&refused.unwrap_err()).code, "TOO_LARGE", "{octets} octets");
        }
        let future = Position { index: 1 << 40, ordinal: 0 };
        let min_token = Some(certwright_proto::token::encode(context.cluster_id, 1, future));
        let name = "namespaces/default/certificates/web".to_string();
        let refused = client
            .get_certificate(v1::GetCertificateRequest { name, min_token, ..Default::default() })
            .await
            .unwrap_err();
        let refused = from_status(&refused);
        assert_eq!(refused.code, "BEHIND");
        assert!(refused.retry_after.is_some(), "it is worth repeating");
    });
    assert_eq!(before, fleet.happened());
}
