//! Targets: places, files, hooks, checks.

use super::table;
use crate::limits;
use crate::rejection::Reason;
use crate::spec::{CertificateSpec, FilesSink, Reload, ReloadAction, ServedCheck, Sink};
use crate::tests::fixtures::{labels, on, selecting, spec, target};

fn files(spec: &mut CertificateSpec) -> &mut FilesSink {
    match &mut spec.targets[0].sink {
        Sink::Files(files) => files,
        Sink::Secret { .. } => unreachable!("the fixture writes files"),
    }
}

fn exec(argv: &[&str]) -> Reload {
    let argv = argv.iter().map(|argument| (*argument).to_owned()).collect();
    Reload { action: ReloadAction::Exec(argv), test_exec: vec![], timeout_seconds: 30 }
}

fn signal(signal: &str, pid_file: &str) -> Reload {
    let action = ReloadAction::Signal { signal: signal.to_owned(), pid_file: pid_file.to_owned() };
    Reload { action, ..exec(&[]) }
}

fn with(reload: Reload) -> CertificateSpec {
    let mut spec = spec(on("a1"));
    spec.targets[0].reload = Some(reload);
    spec
}

fn path(octets: usize) -> String {
    format!("/{}", "x".repeat(octets - 1))
}

#[test]
fn number_names_and_places() {
    table(
        &spec(on("a1")),
        &[
            (None, |s| s.targets = (0..limits::TARGETS_MAX).map(|n| target(&format!("t{n}"), on("a1"))).collect()),
            (Some("spec.targets"), |s| {
                s.targets = (0..=limits::TARGETS_MAX).map(|n| target(&format!("t{n}"), on("a1"))).collect();
            }),
            (Some("spec.targets[1].name"), |s| s.targets.push(target("files", on("a2")))),
            (Some("spec.targets[1].files.directory"), |s| {
                s.targets.push(target("more", on("a1")));
                s.targets[1].sink = s.targets[0].sink.clone();
            }),
            (None, |s| {
                s.targets.push(target("more", on("a2")));
                s.targets[1].sink = s.targets[0].sink.clone();
            }),
            (None, |s| s.targets[0].holder = selecting(&[("zone", "a")])),
            (Some("spec.targets[0].selector"), |s| s.targets[0].holder = selecting(&[])),
            (Some("spec.targets[0].selector"), |s| s.targets[0].holder = selecting(&[("-", "a")])),
        ],
    );
    let mut secret = spec(on("a1"));
    secret.targets[0].sink = Sink::Secret { namespace: "default".to_owned(), name: "web".to_owned() };
    let rejection = secret.validate().unwrap_err();
    assert_eq!(
        (rejection.reason, rejection.field.as_deref()),
        (Reason::NotYetSupported, Some("spec.targets[0].secret"))
    );
}

#[test]
fn directories() {
    let at = Some("spec.targets[0].files.directory");
    table(
        &spec(on("a1")),
        &[
            (None, |s| files(s).directory = path(limits::PATH_OCTETS_MAX)),
            (at, |s| files(s).directory = path(limits::PATH_OCTETS_MAX + 1)),
            (None, |s| files(s).directory = "/etc/tls/..hidden/web.d/".to_owned()),
            (at, |s| files(s).directory = "etc/tls".to_owned()),
            (at, |s| files(s).directory = String::new()),
            (at, |s| files(s).directory = "/".to_owned()),
            (at, |s| files(s).directory = "//".to_owned()),
            (at, |s| files(s).directory = "/etc/../root".to_owned()),
            (at, |s| files(s).directory = "/etc/./tls".to_owned()),
            (at, |s| files(s).directory = "/etc/..".to_owned()),
            (at, |s| files(s).directory = "/etc/\0".to_owned()),
        ],
    );
}

#[test]
fn names_owners_and_modes() {
    table(
        &spec(on("a1")),
        &[
            (None, |s| files(s).names = labels(&[("key.pem", "tls.key"), ("cert.pem", "tls.crt")])),
            (Some("spec.targets[0].files.names.key"), |s| files(s).names = labels(&[("key", "tls.key")])),
            (Some("spec.targets[0].files.names.key.pem"), |s| files(s).names = labels(&[("key.pem", "a/b")])),
            (Some("spec.targets[0].files.names.key.pem"), |s| files(s).names = labels(&[("key.pem", "")])),
            (Some("spec.targets[0].files.names.key.pem"), |s| files(s).names = labels(&[("key.pem", "..")])),
            (None, |s| files(s).names = labels(&[("key.pem", &"x".repeat(limits::FILE_NAME_OCTETS_MAX))])),
            (Some("spec.targets[0].files.names.key.pem"), |s| {
                files(s).names = labels(&[("key.pem", &"x".repeat(limits::FILE_NAME_OCTETS_MAX + 1))]);
            }),
            // The certificate would overwrite the key.
            (Some("spec.targets[0].files.names"), |s| files(s).names = labels(&[("cert.pem", "key.pem")])),
            (None, |s| files(s).names = labels(&[("cert.pem", "key.pem"), ("key.pem", "cert.pem")])),
            (None, |s| files(s).owner = Some("www-data".to_owned())),
            (None, |s| files(s).group = Some("33".to_owned())),
            (Some("spec.targets[0].files.owner"), |s| files(s).owner = Some(String::new())),
            (Some("spec.targets[0].files.owner"), |s| files(s).owner = Some("-R".to_owned())),
            (Some("spec.targets[0].files.group"), |s| files(s).group = Some("x".repeat(65))),
            (None, |s| files(s).mode = Some(0o640)),
            (None, |s| files(s).mode = Some(0o400)),
            (Some("spec.targets[0].files.mode"), |s| files(s).mode = Some(0o1000 | 0o600)),
            (Some("spec.targets[0].files.mode"), |s| files(s).mode = Some(0o200)),
        ],
    );
}

#[test]
fn hooks() {
    let at = |field: &str| format!("spec.targets[0].reload.{field}");
    let long = |octets: usize| "x".repeat(octets);
    let argv = |count: usize| vec!["x".to_owned(); count];
    let timeout = |seconds| Reload { timeout_seconds: seconds, ..exec(&["nginx"]) };
    let test = |argv: Vec<String>| Reload { test_exec: argv, ..exec(&["nginx"]) };
    let rows = [
        (None, exec(&["nginx", "-s", "reload"])),
        (Some("exec"), exec(&[])),
        (Some("exec[0]"), exec(&[""])),
        (Some("exec[1]"), exec(&["nginx", "a\0b"])),
        (None, Reload { action: ReloadAction::Exec(argv(limits::ARGV_MAX)), ..exec(&[]) }),
        (Some("exec"), Reload { action: ReloadAction::Exec(argv(limits::ARGV_MAX + 1)), ..exec(&[]) }),
        (None, exec(&["nginx", &long(limits::PATH_OCTETS_MAX)])),
        (Some("exec[1]"), exec(&["nginx", &long(limits::PATH_OCTETS_MAX + 1)])),
        (None, test(vec!["nginx".to_owned(), "-t".to_owned()])),
        (Some("testExec"), test(argv(limits::ARGV_MAX + 1))),
        (Some("testExec[0]"), test(vec![String::new()])),
        (None, signal("HUP", "/run/nginx.pid")),
        (Some("signal"), signal("KILL", "/run/nginx.pid")),
        (Some("signal"), signal("", "/run/nginx.pid")),
        (Some("pidFile"), signal("USR1", "nginx.pid")),
        (None, timeout(1)),
        (None, timeout(limits::HOOK_SECONDS_MAX)),
        (Some("timeoutSeconds"), timeout(0)),
        (Some("timeoutSeconds"), timeout(limits::HOOK_SECONDS_MAX + 1)),
    ];
    for (field, reload) in rows {
        let result = with(reload.clone()).validate();
        let refused = result.as_ref().err().and_then(|rejection| rejection.field.clone());
        assert_eq!(refused, field.map(at), "{reload:?}: {result:?}");
    }
}

#[test]
fn served_checks() {
    let rows = [
        (None, "127.0.0.1:8443", "web.example.test"),
        (None, "[::1]:8443", "10.0.0.1"),
        (Some("address"), "127.0.0.1", "web.example.test"),
        (Some("address"), ":8443", "web.example.test"),
        (Some("address"), "web:0", "web.example.test"),
        (Some("address"), "web:65536", "web.example.test"),
        (Some("serverName"), "web:443", ""),
        (Some("serverName"), "web:443", "*.example.test"),
        (Some("serverName"), "web:443", "a b"),
    ];
    for (field, address, server_name) in rows {
        let mut wanted = spec(on("a1"));
        let check = ServedCheck { address: address.to_owned(), server_name: server_name.to_owned() };
        wanted.targets[0].served_check = Some(check);
        let refused = wanted.validate().err().and_then(|rejection| rejection.field);
        let at = field.map(|field| format!("spec.targets[0].servedCheck.{field}"));
        assert_eq!(refused, at, "{address} {server_name}");
    }
}
