//! How a command fails: one `error:` line with cause and fix, then `reason CODE`, then the exit code.
//!
//! It refuses to guess: a refusal of the server keeps the server's reason.

use std::process::ExitCode;

use certwright_core::{Reason, Rejection};
use certwright_proto::status::{Exit, from_status};
use tonic::Status;

use crate::output::plain;

/// Why a command failed.
#[derive(Clone, Debug)]
pub struct Failure {
    exit: Exit,
    code: String,
    message: String,
    fix: String,
    /// Another attempt might have ended otherwise.
    lacked_time: bool,
}

impl Failure {
    /// A failure with its reason, cause and way out.
    pub fn new(reason: Reason, message: impl Into<String>, fix: impl Into<String>) -> Self {
        let (code, message, fix) = (reason.code().to_string(), message.into(), fix.into());
        Self { exit: Exit::of(reason), code, message, fix, lacked_time: false }
    }

    /// The command line itself is wrong in a way that the parser could not see.
    pub fn usage(message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(Reason::Usage, message, fix)
    }

    /// A file could not be read or written.
    pub fn file(path: impl std::fmt::Display, error: impl std::fmt::Display) -> Self {
        Self::from(Rejection::new(Reason::FileFailed, format!("{path}: {error}")))
    }

    /// A file that could not be read, or holds more than it may.
    pub fn read(path: impl std::fmt::Display, error: &std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::InvalidData => Self::from(Rejection::new(Reason::TooLarge, format!("{path}: {error}"))),
            _ => Self::file(path, error),
        }
    }

    /// The command looked and the answer is no.
    pub fn finding(message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(Reason::VerificationFailed, message, fix)
    }

    /// A wait took longer than it may.
    pub fn timed_out(message: impl Into<String>) -> Self {
        Self::from(Rejection::new(Reason::WaitTimedOut, message))
    }

    /// A fault of ours.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::from(Rejection::new(Reason::Internal, message))
    }

    /// The same, said of one place or object.
    pub fn about(mut self, what: impl std::fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// The same, of a call for which there was no time to repeat it.
    pub fn without_time_to_repeat(self) -> Self {
        Self { lacked_time: true, ..self }
    }

    /// Whether it is of a call for which there was no time to repeat it.
    pub fn lacked_time(&self) -> bool {
        self.lacked_time
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
        let message = plain(&self.message.replace('\n', " "));
        eprintln!("error: {message}; {}", plain(&self.fix));
        eprintln!("reason {}", plain(&self.code));
        ExitCode::from(self.exit.code())
    }
}

impl From<Rejection> for Failure {
    fn from(rejection: Rejection) -> Self {
        let reason = rejection.reason;
        Self::new(reason, rejection.to_string(), reason.fix())
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let refusal = from_status(&status);
        let message = match &refusal.field {
            Some(field) => format!("{field}: {}", refusal.message),
            None => refusal.message.clone(),
        };
        Self { code: refusal.code.clone(), ..Self::new(refusal.reason, message, refusal.reason.fix()) }
    }
}

impl From<certwright_agent::ContextError> for Failure {
    fn from(error: certwright_agent::ContextError) -> Self {
        Self::from(Rejection::new(Reason::InvalidContext, error.to_string()))
    }
}

impl From<certwright_agent::ConnectError> for Failure {
    fn from(error: certwright_agent::ConnectError) -> Self {
        use certwright_agent::ConnectError;
        let reason = match &error {
            ConnectError::Context(_) => Reason::InvalidContext,
            ConnectError::Unreachable(_) => Reason::Unreachable,
            ConnectError::Untrusted(_) => Reason::UntrustedServer,
        };
        Self::from(Rejection::new(reason, error.to_string()))
    }
}

impl From<certwright_agent::join::JoinError> for Failure {
    fn from(error: certwright_agent::join::JoinError) -> Self {
        Self::from(Rejection::new(error.reason(), error.to_string()))
    }
}

/// A command line that the parser refused: the same shape as every other failure.
pub fn usage(error: &clap::Error) -> ExitCode {
    let cause = certwright_agent::usage::cause(error);
    Failure::usage(cause, "see `certwright --help` or `certwright VERB --help`").report()
}
