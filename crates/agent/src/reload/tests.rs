//! Reloads against hooks that record what they were asked, and the real processes' edges.
#![allow(clippy::unwrap_used)]

use std::sync::Mutex;

use certwright_seams::Seams;

use super::*;

/// Answers with what it was given, and remembers what it was asked.
struct Recorder {
    answers: Mutex<Vec<Ended>>,
    asked: Mutex<Vec<String>>,
}

impl Hooks for Recorder {
    fn run<'a>(&'a self, argv: &'a [String], _: &'a [(String, String)], timeout: Duration) -> BoxFuture<'a, Ended> {
        self.asked.lock().unwrap().push(format!("{} within {}", argv.join(" "), timeout.as_secs()));
        let answer = self.answers.lock().unwrap().pop().unwrap();
        Box::pin(async move { answer })
    }

    fn signal(&self, process_id: i32, signal: &str) -> Result<(), String> {
        self.asked.lock().unwrap().push(format!("{signal} to {process_id}"));
        Ok(())
    }
}

fn context() -> HookContext {
    HookContext { certificate: String::new(), serial: String::new(), directory: String::new(), dns_names: vec![] }
}

fn exec(program: &str) -> ReloadAction {
    ReloadAction::Exec(vec![program.to_string()])
}

async fn reload(action: ReloadAction, test: &str, answers: &[Ended]) -> (Result<(), Failure>, Vec<String>) {
    let answers = Mutex::new(answers.iter().rev().cloned().collect());
    let recorder = Arc::new(Recorder { answers, asked: Mutex::default() });
    let reloader = Reloader::new(recorder.clone(), Seams::system().disk);
    let test_exec = test.split_whitespace().map(str::to_string).collect();
    let outcome = reloader.reload(&Reload { action, test_exec, timeout_seconds: 7 }, &context()).await;
    let asked = std::mem::take(&mut *recorder.asked.lock().unwrap());
    (outcome, asked)
}

#[tokio::test]
async fn the_action_runs_only_after_its_test() {
    let ok = Ended::Exit(Some(0), String::new());
    let bad = Ended::Exit(Some(1), "syntax".into());
    let (outcome, asked) = reload(exec("go"), "try it", &[ok.clone(), ok.clone()]).await;
    assert!(outcome.is_ok());
    assert_eq!(asked, ["try it within 7", "go within 7"]);
    let (outcome, asked) = reload(exec("go"), "try it", &[bad]).await;
    let failure = outcome.unwrap_err();
    assert_eq!(failure.reason, FailureReason::HookFailed);
    assert_eq!(failure.message, "testExec \"try\" ended with code 1: syntax");
    assert_eq!(asked, ["try it within 7"]);
}

#[tokio::test]
async fn ends_have_their_reasons() {
    for (ended, reason, message) in [
        (Ended::Timeout, FailureReason::HookTimeout, "longer than 7 s"),
        (Ended::Exit(None, String::new()), FailureReason::HookFailed, "by a signal"),
        (Ended::NotStarted("not found".into()), FailureReason::HookFailed, "not found"),
    ] {
        let failure = reload(exec("go"), "", &[ended]).await.0.unwrap_err();
        assert_eq!(failure.reason, reason);
        assert!(failure.message.contains(message), "{failure}");
    }
}

#[tokio::test]
async fn pid_files_hold_one_positive_number() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pid");
    for (held, asked) in [("42\n", vec!["HUP to 42"]), ("-1", vec![]), ("0", vec![]), ("", vec![]), ("1 2", vec![])] {
        Seams::system().disk.write_atomic(&path, held.as_bytes(), 0o600).unwrap();
        let action = ReloadAction::Signal { signal: "HUP".into(), pid_file: path.display().to_string() };
        let (outcome, told) = reload(action, "", &[]).await;
        assert_eq!(
            (outcome.is_ok(), told),
            (!asked.is_empty(), asked.iter().map(|text| text.to_string()).collect()),
            "{held:?}"
        );
    }
}

async fn process(script: &str, timeout: Duration) -> Ended {
    let argv = ["/bin/sh", "-c", script].map(str::to_string);
    ProcessHooks.run(&argv, &[("GIVEN".to_string(), "value".to_string())], timeout).await
}

#[tokio::test]
async fn processes_end_as_they_end() {
    let long = Duration::from_secs(20);
    assert_eq!(process("echo $GIVEN; echo bad >&2; exit 4", long).await, Ended::Exit(Some(4), "value\nbad\n".into()));
    assert_eq!(process("kill -9 $$", long).await, Ended::Exit(None, String::new()));
    assert_eq!(process("sleep 30", Duration::from_millis(100)).await, Ended::Timeout);
    let missing = ProcessHooks.run(&["/no/such/program".to_string()], &[], long).await;
    assert!(matches!(missing, Ended::NotStarted(_)));
    assert!(matches!(ProcessHooks.run(&[], &[], long).await, Ended::NotStarted(_)));
}

#[tokio::test]
async fn a_daemon_that_holds_the_output_open_is_not_waited_for() {
    let ended =
        tokio::time::timeout(Duration::from_secs(10), process("sleep 11 & echo started", Duration::from_secs(9)));
    assert_eq!(ended.await.expect("in time"), Ended::Exit(Some(0), "started\n".into()));
}

#[tokio::test]
async fn output_is_bounded_to_its_end() {
    let Ended::Exit(_, output) = process("yes | head -c 1000000; echo end", Duration::from_secs(20)).await else {
        panic!("no end");
    };
    assert!(output.len() <= 2 * OUTPUT_OCTETS_MAX && output.ends_with("end\n"));
}

#[test]
fn signals_are_those_of_the_list() {
    assert!(ProcessHooks.signal(i32::MAX, "HUP").is_err());
    assert!(ProcessHooks.signal(1, "KILL").unwrap_err().contains("KILL"));
}
