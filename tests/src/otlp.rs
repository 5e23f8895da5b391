//! A receiver of traces that is not ours: Python's gRPC and OpenTelemetry's own protocol definitions.
//!
//! It refuses to interpret: it starts and stops the process, and reads the spans that it wrote down.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::program::{eventually, must, python};

/// One span, as it was received.
#[derive(Clone, Debug, Deserialize)]
pub struct Span {
    pub service: String,
    pub pid: u32,
    pub trace: String,
    pub span: String,
    /// Empty for the root of a trace.
    pub parent: String,
    pub name: String,
    pub start: u64,
    pub end: u64,
    pub attributes: BTreeMap<String, Value>,
    /// What was logged inside it: message and fields.
    pub events: Vec<(String, BTreeMap<String, Value>)>,
    /// Traces that it points at.
    pub links: Vec<String>,
}

/// A running receiver.
pub struct Receiver {
    child: Child,
    file: PathBuf,
}

impl Receiver {
    /// Starts it on that port of the loopback and waits until it listens; it writes into `folder`.
    pub fn start(folder: &Path, port: u16) -> Self {
        Self::start_with(folder, port, &[])
    }

    /// The same behind TLS: files of its key and its certificate.
    pub fn start_tls(folder: &Path, port: u16, key: &Path, certificate: &Path) -> Self {
        Self::start_with(folder, port, &[key, certificate])
    }

    fn start_with(folder: &Path, port: u16, pair: &[&Path]) -> Self {
        let file = folder.join("spans.jsonl");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/otlp.py");
        let mut command = Command::new(python());
        let child =
            command.arg(script).arg(port.to_string()).arg(&file).args(pair).stdin(Stdio::null()).spawn().unwrap();
        let mut receiver = Self { child, file };
        let ready = receiver.file.with_extension("ready");
        eventually("the receiver listens", Duration::from_secs(30), || {
            let ended = receiver.child.try_wait().unwrap();
            assert!(ended.is_none(), "the receiver ended: {ended:?}");
            ready.exists().then_some(())
        });
        receiver
    }

    /// Lets it answer nobody from now on.
    pub fn freeze(&self) {
        must(Command::new("kill").args(["-s", "STOP", &self.child.id().to_string()]));
    }

    /// Where it writes.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Every span so far.
    pub fn spans(&self) -> Vec<Span> {
        let text = std::fs::read_to_string(&self.file).unwrap_or_default();
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        text[..whole].lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
