//! How a command fails: one `error:` line with cause and fix, then `reason CODE`, then the exit code.
//!
//! It refuses to guess: a refusal of the server keeps the server's reason.

use std::process::ExitCode;

use certwright_core::{Reason, Rejection};
use certwright_proto::status::{Exit, from_status};
use tonic::Status;

/// Why a command failed.
#[derive(Clone, Debug)]
pub struct Failure {
    exit: Exit,
    code: String,
    message: String,
    fix: String,
}

impl Failure {
    /// A failure with its stable code, cause and way out.
    pub fn new(exit: Exit, code: impl Into<String>, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { exit, code: code.into(), message: message.into(), fix: fix.into() }
    }

    /// The command line itself is wrong in a way that the parser could not see.
    pub fn usage(message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "USAGE", message, fix)
    }

    /// A file could not be read or written.
    pub fn file(path: impl std::fmt::Display, error: impl std::fmt::Display) -> Self {
        Self::new(Exit::Failed, "FILE", format!("{path}: {error}"), "check the path and its permissions")
    }

    /// The command looked and the answer is no.
    pub fn finding(message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(Exit::Failed, "FINDING", message, fix)
    }

    /// A wait took longer than it may.
    pub fn timed_out(message: impl Into<String>) -> Self {
        Self::new(
            Exit::TimedOut,
            "WAIT_TIMED_OUT",
            message,
            "give a longer --timeout; `certwright why` says what it waits for",
        )
    }

    /// A fault of ours.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::from(Rejection::new(Reason::Internal, message))
    }

    /// The exit code.
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// The stable code.
    pub fn code(&self) -> &str {
        &self.code
    }

    /// Prints it and answers with the exit code.
    pub fn report(&self) -> ExitCode {
        let message = self.message.replace('\n', " ");
        eprintln!("error: {message}; {}", self.fix);
        eprintln!("reason {}", self.code);
        ExitCode::from(self.exit.code())
    }
}

impl From<Rejection> for Failure {
    fn from(rejection: Rejection) -> Self {
        let reason = rejection.reason;
        Self::new(Exit::of(reason), reason.code(), rejection.to_string(), reason.fix())
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let refusal = from_status(&status);
        let message = match &refusal.field {
            Some(field) => format!("{field}: {}", refusal.message),
            None => refusal.message.clone(),
        };
        Self::new(refusal.exit(), refusal.code.clone(), message, refusal.reason.fix())
    }
}

impl From<certwright_agent::ContextError> for Failure {
    fn from(error: certwright_agent::ContextError) -> Self {
        let fix = "name a context with --context FILE or CERTWRIGHT_CONTEXT; bootstrap, dev and a join write one";
        Self::new(Exit::Denied, "CONTEXT", error.to_string(), fix)
    }
}

impl From<certwright_agent::ConnectError> for Failure {
    fn from(error: certwright_agent::ConnectError) -> Self {
        use certwright_agent::ConnectError;
        match &error {
            ConnectError::Context(_) => {
                Self::new(Exit::Denied, "CONTEXT", error.to_string(), "take a fresh context file")
            }
            ConnectError::Unreachable(_) => Self::new(
                Exit::Failed,
                "UNREACHABLE",
                error.to_string(),
                "check that the servers run and the addresses of the context",
            ),
            ConnectError::Untrusted(_) => {
                let fix = "use the context of the cluster you mean; this server belongs to another one";
                Self::new(Exit::Denied, "UNTRUSTED_SERVER", error.to_string(), fix)
            }
        }
    }
}

impl From<certwright_agent::join::JoinError> for Failure {
    fn from(error: certwright_agent::join::JoinError) -> Self {
        Self::from(Rejection::new(error.reason(), error.to_string()))
    }
}

/// A command line that the parser refused: the same shape as every other failure.
pub fn usage(error: &clap::Error) -> ExitCode {
    let text = error.to_string();
    let cause = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
    let tips: Vec<&str> =
        text.lines().map(str::trim).filter(|line| line.starts_with("tip:") || line.starts_with("<")).collect();
    let cause = std::iter::once(cause).chain(tips).collect::<Vec<_>>().join(" ");
    Failure::usage(cause, "see `certwright --help` or `certwright VERB --help`").report()
}
