//! `completion`: a script for the user's shell.
//!
//! It refuses to install it; the shell's own documentation says where it goes.

use std::process::ExitCode;

use crate::args::{CompletionArgs, command};
use crate::failure::Failure;

/// Runs the verb.
pub fn run(args: &CompletionArgs) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command(), "certwright", &mut script);
    crate::output::line(String::from_utf8_lossy(&script).trim_end())?;
    Ok(ExitCode::SUCCESS)
}
