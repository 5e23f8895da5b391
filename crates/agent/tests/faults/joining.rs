//! Joining with a token: trust that the token pins, a key that stays, servers found by one of them.

use std::process::{Command, Stdio};

use certwright_core::ids::TokenId;
use certwright_core::spec::Labels;
use certwright_core::x509::key::sha256;
use certwright_proto::join_token::{JoinRole, JoinToken, format};
use certwright_seams::Seams;
use zeroize::Zeroizing;

use crate::pki::CLUSTER;
use crate::rig::{INSTANCE, Rig};
use crate::target::spec;

fn token(rig: &Rig, role: JoinRole, secret: u8, ca_hash: Option<[u8; 32]>) -> Zeroizing<String> {
    format(&JoinToken {
        cluster_id: certwright_proto::identity::parse_cluster_id(CLUSTER).unwrap(),
        id: TokenId::parse("t-1").unwrap(),
        secret: Zeroizing::new([secret; 32]),
        role,
        ca_hash: ca_hash.unwrap_or_else(|| sha256(rig.estate.pki.system.der())),
    })
}

async fn join(rig: &Rig, token: &str) -> Result<certwright_agent::Context, certwright_agent::join::JoinError> {
    let server = rig.server.address.to_string();
    certwright_agent::join::join(&server, token, "edge", &Labels::new(), &Seams::system()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_do_not_fit_have_their_reasons() {
    let rig = Rig::new().await;
    let refused = |token: Zeroizing<String>| {
        let rig = &rig;
        async move { join(rig, &token).await.err().expect("refused").reason().code() }
    };
    assert_eq!(refused(token(&rig, JoinRole::Node, 1, None)).await, "TOKEN_FOREIGN");
    assert_eq!(refused(token(&rig, JoinRole::Agent, 1, Some([7; 32]))).await, "TOKEN_FOREIGN");
    assert!(rig.estate.state().joined.is_empty(), "nothing was sent to a server that the token does not vouch for");
    assert_eq!(refused(token(&rig, JoinRole::Agent, 2, None)).await, "TOKEN_USED");
    assert_eq!(refused(Zeroizing::new("cw1.nonsense".into())).await, "INVALID_TOKEN");
    join(&rig, &token(&rig, JoinRole::Agent, 1, None)).await.unwrap();
    assert_eq!(refused(token(&rig, JoinRole::Agent, 1, None)).await, "TOKEN_USED");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_binary_joins_says_so_and_learns_of_the_other_servers() {
    let rig = Rig::new().await;
    let second = rig.estate.serve(2, "127.0.0.1:0".parse().unwrap()).await;
    let addresses = [rig.server.address.to_string(), second.address.to_string()];
    rig.estate.state().servers = addresses.to_vec();
    let path = |name: &str| rig.root.path().join(name);
    std::fs::remove_file(path("context")).unwrap();
    std::fs::write(path("token"), token(&rig, JoinRole::Agent, 1, None).as_bytes()).unwrap();
    let start = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_certwright-agent"));
        command.arg("--context").arg(path("context")).arg("--state").arg(path("state")).args(["--name", "edge"]);
        command.args(["--join", &addresses[0], "--token", &format!("@{}", path("token").display())]);
        let log = std::fs::OpenOptions::new().create(true).append(true).open(path("log")).unwrap();
        let out = std::fs::File::create(path("out")).unwrap();
        crate::rig::Process(command.stdout(out).stderr(log).stdin(Stdio::null()).spawn().unwrap())
    };
    let agent = start();
    rig.estate.declare(INSTANCE, spec(&rig.live()));
    rig.written(1).await;
    assert_eq!(std::fs::read_to_string(path("out")).unwrap(), format!("READY agent/edge {}\n", addresses[0]));
    let mut known = addresses.to_vec();
    known.sort();
    let servers = || Some(certwright_agent::Context::parse(&std::fs::read(path("context")).ok()?).ok()?.servers);
    rig.until("both servers in the context", |_| servers() == Some(known.clone())).await;
    drop(agent);
    // Once joined, the token is not used again.
    let _again = start();
    rig.until("a second session", |estate| estate.state().hellos.len() == 2).await;
    assert_eq!(rig.estate.state().joined, ["edge"]);
    let log = std::fs::read_to_string(path("log")).unwrap();
    assert!(!log.contains("cw1.") && !log.contains("PRIVATE KEY"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_one_line_with_cause_and_fix_and_a_reason() {
    let rig = Rig::new().await;
    let missing = rig.root.path().join("nowhere");
    let run = |words: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_certwright-agent")).args(words).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        let lines: Vec<String> = text.lines().map(str::to_string).collect();
        assert!(output.stdout.is_empty());
        (output.status.code(), lines)
    };
    let missing = missing.display().to_string();
    let state = rig.root.path().join("state").display().to_string();
    let (code, lines) = run(&["--context", &missing, "--state", &state]);
    assert_eq!(code, Some(4), "{lines:?}");
    assert!(lines[0].starts_with("error: ") && lines[0].contains(&missing), "{lines:?}");
    assert_eq!(lines[1..], ["reason INVALID_CONTEXT"]);
    let (code, lines) = run(&["--no-such-flag"]);
    assert_eq!((code, lines.last().map(String::as_str)), (Some(2), Some("reason USAGE")), "{lines:?}");
    let context = rig.root.path().join("context").display().to_string();
    let (code, lines) = run(&["--context", &context, "--state", "/proc/nowhere"]);
    assert_eq!((code, lines.last().map(String::as_str)), (Some(1), Some("reason STORAGE_FAILED")), "{lines:?}");
}
