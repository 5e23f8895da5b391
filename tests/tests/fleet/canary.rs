//! No private key, join token or request shows up in a log, a trace or a server's data, in any of the usual forms.
//!
//! It refuses quiet logs: every process logs at its most talkative level.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use certwright_tests::fleet::Fleet;
use certwright_tests::otlp::Receiver;
use certwright_tests::peers::free_port;
use certwright_tests::program::eventually;

/// A secret in one of its forms.
struct Needle {
    what: String,
    octets: Vec<u8>,
}

/// Raw, hexadecimal in both cases, and base64 as PEM and as a URL-safe token writes it.
fn forms(what: &str, secret: &[u8]) -> Vec<Needle> {
    let texts = [
        ("hex", hex::encode(secret)),
        ("HEX", hex::encode_upper(secret)),
        ("base64", base64::engine::general_purpose::STANDARD_NO_PAD.encode(secret)),
        ("base64url", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(secret)),
        ("list", format!("{secret:?}").trim_matches(['[', ']']).to_string()),
    ];
    let texts =
        texts.into_iter().map(|(form, text)| Needle { what: format!("{what} as {form}"), octets: text.into_bytes() });
    texts.chain([Needle { what: format!("{what} raw"), octets: secret.to_vec() }]).collect()
}

/// The private scalar of a P-256 key in PKCS#8 PEM, and lines of its PEM body.
fn key_needles(what: &str, pem: &str) -> Vec<Needle> {
    let body: String = pem
        .lines()
        .skip_while(|line| !line.contains("BEGIN PRIVATE KEY"))
        .skip(1)
        .take_while(|line| !line.starts_with('-'))
        .collect();
    let der = base64::engine::general_purpose::STANDARD.decode(&body).unwrap();
    let scalar = der.windows(2).position(|pair| pair == [0x04, 0x20]).map(|place| &der[place + 2..place + 34]).unwrap();
    let line = Needle { what: format!("{what} as PEM"), octets: body.as_bytes()[40..80].to_vec() };
    forms(what, scalar).into_iter().chain([line]).collect()
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => files(&path, found),
            kind if kind.is_file() => found.push(path),
            _ => {}
        }
    }
}

#[test]
fn no_secret_is_logged_or_stored_in_clear() {
    let (traces, collector) = (tempfile::TempDir::new().unwrap(), free_port());
    let receiver = Receiver::start(traces.path(), collector);
    let endpoint = format!("http://127.0.0.1:{collector}");
    let often = ("OTEL_BSP_SCHEDULE_DELAY", "100");
    let fleet =
        Fleet::start_with(1, 1, &[("CERTWRIGHT_LOG", "trace"), ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint), often]);
    let folder = fleet.folder().to_path_buf();
    let out = folder.join("issued");
    fleet.run(&["issue", "--dns", "canary.demo.internal", "--issuer", "demo", "--out", out.to_str().unwrap()]);
    fleet.run(&["renew", "web", "--wait"]);
    let token = fleet.run(&["token", "create", "--role", "agent"]).trim().to_string();
    let secret: serde_json::Value = serde_json::from_slice(
        &base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(token.strip_prefix("cw1.").unwrap()).unwrap(),
    )
    .unwrap();
    let secret = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(secret["s"].as_str().unwrap()).unwrap();

    let read =
        |path: PathBuf| std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let context_key = |name: &str| {
        let context: serde_json::Value = serde_json::from_str(&read(folder.join(name))).unwrap();
        context["key"].as_str().unwrap().to_string()
    };
    let mut needles = forms("join token secret", &secret);
    needles.extend(key_needles("delivered key", &read(folder.join("live/web/key.pem"))));
    needles.extend(key_needles("issued key", &read(out.join("key.pem"))));
    needles.extend(key_needles("administrator's key", &context_key("context")));
    needles.extend(key_needles("agent's key", &context_key("agent-1.context")));
    needles.push(Needle { what: "any PEM private key".into(), octets: b"PRIVATE KEY-----".to_vec() });
    needles.push(Needle { what: "any PEM request".into(), octets: b"BEGIN CERTIFICATE REQUEST".to_vec() });

    let log = folder.join("server-1.log");
    eventually("the server logs at its most talkative level", Duration::from_secs(10), || {
        std::fs::read_to_string(&log).unwrap().contains("TRACE").then_some(())
    });
    eventually("traces of both arrive, what was logged inside with them", Duration::from_secs(10), || {
        let spans = receiver.spans();
        let told = |name: &str| spans.iter().any(|span| span.name == name && !span.events.is_empty());
        (told("install") || told("deliver")).then_some(())
    });
    let mut searched = vec![receiver.file().to_path_buf()];
    files(&folder.join("data"), &mut searched);
    searched.extend(["server-1.log", "agent-1.log"].map(|name| folder.join(name)));
    let mut found = Vec::new();
    for path in &searched {
        let octets = std::fs::read(path).unwrap();
        let own_key = path.ends_with("data/node.key") || path.ends_with("data/administrator.context");
        for needle in &needles {
            // The server's own TLS key, and the first administrator's context until it is moved, are where they belong.
            let belongs = own_key && (needle.what.starts_with("any PEM") || needle.what.starts_with("administrator"));
            if !belongs && memchr::memmem::find(&octets, &needle.octets).is_some() {
                found.push(format!("{} in {}", needle.what, path.display()));
            }
        }
    }
    assert!(found.is_empty(), "secrets found:\n  {}", found.join("\n  "));
    assert!(searched.len() > 6, "only {} files were searched", searched.len());
}
