//! A Python client generated from the .proto files, through the death of a leader.
//!
//! It refuses our own client code: the script is tests/python/client.py.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use certwright_tests::fleet::Fleet;
use certwright_tests::program::{eventually, python};

#[test]
fn a_generated_python_client_survives_a_leader_kill() {
    let mut fleet = Fleet::start(3, 1);
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let signal = fleet.folder().join("python");
    let mut child = Command::new(python())
        .arg(tests.join("python/client.py"))
        .arg(tests.parent().unwrap().join("proto"))
        .arg(fleet.context())
        .arg(&signal)
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let request = signal.with_extension("request");
    eventually("the client asks for the leader's death", Duration::from_secs(90), || {
        assert!(child.try_wait().unwrap().is_none_or(|status| status.success()), "the client failed early");
        request.exists().then_some(())
    });
    let leader = fleet.leader();
    fleet.kill(&leader);
    std::fs::write(signal.with_extension("done"), "").unwrap();
    let status = child.wait().unwrap();
    assert!(status.success(), "the Python client failed: {status}");
}
