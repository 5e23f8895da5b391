//! `certwright` with a bug planted on purpose: what the checks of real processes must find.
//!
//! It refuses to run without one.

use std::process::ExitCode;

use certwright_core::mutant::{self, Mutant};

fn main() -> ExitCode {
    let name = std::env::var("CERTWRIGHT_MUTANT").unwrap_or_default();
    let Some(bug) = Mutant::ALL.iter().find(|it| it.name() == name) else {
        eprintln!("CERTWRIGHT_MUTANT names no bug: {name:?}");
        return ExitCode::FAILURE;
    };
    mutant::plant(*bug);
    certwright::main()
}
