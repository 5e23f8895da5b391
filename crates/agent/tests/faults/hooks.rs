//! Consumers: told by command or signal, tested before, rolled back, and looked at by a real handshake.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use certwright_proto::v1;

use crate::rig::{INSTANCE, Rig};
use crate::target::spec;

/// A script beside the target.
fn script(rig: &Rig, name: &str, body: &str) -> String {
    let path = rig.root.path().join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

fn declare(rig: &Rig, reload: v1::Reload) {
    let mut spec = spec(&rig.live());
    spec.targets[0].reload = Some(reload);
    rig.estate.declare(INSTANCE, spec);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hook_sees_the_new_files_and_its_environment() {
    let rig = Rig::new().await;
    let out = rig.root.path().join("environment");
    let body = format!(
        "env | grep -E '^(CERTWRIGHT|RENEWED)' | sort > {0}; cat $CERTWRIGHT_DIRECTORY/cert.pem >> {0}",
        out.display()
    );
    declare(&rig, v1::Reload { exec: vec![script(&rig, "hook", &body)], ..Default::default() });
    let agent = rig.agent().await;
    rig.written(1).await;
    let told = std::fs::read_to_string(&out).unwrap();
    let (live, serial) = (rig.live().display().to_string(), rig.issued_serial());
    let expected = format!(
        "CERTWRIGHT_CERTIFICATE=namespaces/web/certificates/c-{INSTANCE}\nCERTWRIGHT_DIRECTORY={live}\nCERTWRIGHT_SERIAL={serial}\n\
         RENEWED_DOMAINS=web.example.org www.example.org\nRENEWED_LINEAGE={live}\n"
    );
    assert_eq!(told, expected + &std::fs::read_to_string(rig.live().join("cert.pem")).unwrap());
    agent.stop().await;
}

/// Generation 1 with a working hook; then the hook is `broken`, generation 2 fails with `reason` and 1 is back; then
/// the hook works again and 2 arrives, unaided.
async fn rolls_back(broken: &str, reload: impl Fn(String) -> v1::Reload, reason: &str) -> String {
    let rig = Rig::new().await;
    declare(&rig, reload(script(&rig, "hook", "exit 0")));
    let agent = rig.agent().await;
    rig.written(1).await;
    let before = rig.issued_serial();
    script(&rig, "hook", broken);
    rig.estate.renew(INSTANCE);
    let report = rig.reported(2, "files", "verified", reason).await;
    assert_eq!(rig.live_serial(), Some(before), "the link is back");
    script(&rig, "hook", "exit 0");
    rig.written(2).await;
    assert_eq!(rig.live_serial(), Some(rig.issued_serial()));
    agent.stop().await;
    report.failure_message
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_hook_rolls_back() {
    let reload = |hook| v1::Reload { exec: vec![hook], ..Default::default() };
    let message = rolls_back("echo no such upstream >&2; exit 3", reload, "HOOK_FAILED").await;
    assert!(message.contains("code 3") && message.contains("no such upstream"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_roll_back_to_files_that_are_gone_is_not_reported_as_done() {
    let rig = Rig::new().await;
    let reload = |hook| v1::Reload { exec: vec![hook], ..Default::default() };
    declare(&rig, reload(script(&rig, "hook", "exit 0")));
    let agent = rig.agent().await;
    rig.written(1).await;
    script(&rig, "hook", "rm -rf $CERTWRIGHT_DIRECTORY/.versions/1-*; exit 3");
    rig.estate.renew(INSTANCE);
    let report = rig.reported(2, "files", "verified", "ROLL_BACK_FAILED").await;
    assert!(report.failure_message.contains("is gone") && report.failure_message.contains("code 3"), "{report:?}");
    assert_eq!(rig.live_serial(), Some(rig.issued_serial()), "as reported: the new files are in place");
    script(&rig, "hook", "exit 0");
    rig.written(2).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_pre_test_rolls_back_before_the_consumer_is_told() {
    let reload = |hook: String| v1::Reload {
        test_exec: vec![hook],
        exec: vec!["/bin/sh".into(), "-c".into(), "exit 0".into()],
        ..Default::default()
    };
    let message = rolls_back("exit 1", reload, "HOOK_FAILED").await;
    assert!(message.starts_with("testExec"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_that_hangs_is_killed_with_its_children_and_rolls_back() {
    let start = Instant::now();
    let reload = |hook| v1::Reload { exec: vec![hook], timeout_seconds: 1, ..Default::default() };
    let message = rolls_back("sleep 977 & sleep 977", reload, "HOOK_TIMEOUT").await;
    assert!(message.contains("1 s"), "{message}");
    assert!(start.elapsed() < Duration::from_secs(50));
    let processes = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| std::fs::read_to_string(entry.ok()?.path().join("cmdline")).ok());
    assert_eq!(processes.filter(|line| line.starts_with("sleep\u{0}977")).count(), 0, "no child is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_that_prints_the_key_does_not_put_it_into_the_report() {
    let reload = |hook| v1::Reload { exec: vec![hook], ..Default::default() };
    for body in ["cat $CERTWRIGHT_DIRECTORY/key.pem; exit 1", "grep -v -- --- $CERTWRIGHT_DIRECTORY/key.pem; exit 1"] {
        let message = rolls_back(body, reload, "HOOK_FAILED").await;
        assert!(message.contains("withheld"), "{message}");
        assert!(!message.contains("MIG"), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_reaches_the_process_of_the_pid_file() {
    let rig = Rig::new().await;
    let (pid, got) = (rig.root.path().join("pid"), rig.root.path().join("got"));
    let body = format!(
        "trap 'echo usr1 >> {}' USR1; echo $$ > {}; while :; do sleep 0.05; done",
        got.display(),
        pid.display()
    );
    let mut consumer = std::process::Command::new(script(&rig, "consumer", &body)).spawn().unwrap();
    rig.until("the consumer", |_| pid.exists()).await;
    declare(&rig, v1::Reload { signal: "USR1".into(), pid_file: pid.display().to_string(), ..Default::default() });
    let agent = rig.agent().await;
    rig.written(1).await;
    rig.until("the signal", |_| got.exists()).await;
    consumer.kill().unwrap();
    consumer.wait().unwrap();
    rig.estate.renew(INSTANCE);
    let report = rig.reported(2, "files", "verified", "HOOK_FAILED").await;
    assert!(report.failure_message.contains("USR1"), "{}", report.failure_message);
    agent.stop().await;
}

/// A TLS server that reads the pair of `directory` for every connection; of `frozen` when that is set.
async fn consumer(directory: PathBuf) -> (std::net::SocketAddr, tokio::sync::watch::Sender<Option<PathBuf>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (frozen, watched) = tokio::sync::watch::channel(None::<PathBuf>);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let directory = watched.borrow().clone().unwrap_or_else(|| directory.clone());
            let Some(config) = config(&directory) else { continue };
            let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
            tokio::spawn(async move {
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut [0]).await;
                }
            });
        }
    });
    (address, frozen)
}

fn config(directory: &Path) -> Option<rustls::ServerConfig> {
    use rustls_pki_types::pem::PemObject;
    let version = std::fs::canonicalize(directory.join(".current")).ok()?;
    let chain = rustls_pki_types::CertificateDer::pem_file_iter(version.join("fullchain.pem")).ok()?;
    let chain: Vec<_> = chain.collect::<Result<_, _>>().ok()?;
    let key = rustls_pki_types::PrivateKeyDer::from_pem_file(version.join("key.pem")).ok()?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().ok()?;
    builder.with_no_client_auth().with_single_cert(chain, key).ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_served_is_proved_by_a_handshake() {
    let rig = Rig::new().await;
    let (address, frozen) = consumer(rig.live()).await;
    let mut spec = spec(&rig.live());
    spec.targets[0].served_check =
        Some(v1::ServedCheck { address: address.to_string(), server_name: "web.example.org".into() });
    rig.estate.declare(INSTANCE, spec);
    let agent = rig.agent().await;
    rig.reported(1, "files", "served", "").await;
    let served =
        certwright_agent::served::probe(&certwright_seams::Seams::system(), &address.to_string(), "x").await.unwrap();
    assert_eq!((served.serial.clone(), served.chain.len()), (rig.issued_serial(), 2));
    // A consumer that does not load the new files.
    let copy = rig.root.path().join("frozen");
    std::fs::create_dir(&copy).unwrap();
    std::os::unix::fs::symlink(std::fs::canonicalize(rig.live().join(".current")).unwrap(), copy.join(".current"))
        .unwrap();
    frozen.send_replace(Some(copy));
    rig.estate.renew(INSTANCE);
    let report = rig.reported(2, "files", "written", "SERVED_MISMATCH").await;
    assert!(report.failure_message.contains(&served.serial), "{}", report.failure_message);
    assert_eq!(rig.live_serial(), Some(rig.issued_serial()), "the files are right and stay");
    // It loads them at last.
    frozen.send_replace(None);
    rig.reported(2, "files", "served", "").await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_is_down_is_reported_and_found_when_it_is_back() {
    let rig = Rig::new().await;
    // Bound and not listening: connections are refused, and nobody else gets the port.
    let consumer = tokio::net::TcpSocket::new_v4().unwrap();
    consumer.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = consumer.local_addr().unwrap();
    let mut spec = spec(&rig.live());
    spec.targets[0].served_check = Some(v1::ServedCheck { address: port.to_string(), server_name: String::new() });
    rig.estate.declare(INSTANCE, spec);
    let agent = rig.agent().await;
    rig.reported(1, "files", "written", "SERVED_UNREACHABLE").await;
    let listener = consumer.listen(16).unwrap();
    let live = rig.live();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config(&live).unwrap()));
            let _ = acceptor.accept(stream).await;
        }
    });
    rig.reported(1, "files", "served", "").await;
    agent.stop().await;
}
