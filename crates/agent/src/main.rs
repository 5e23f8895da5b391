//! The small binary: the agent and nothing else.
//!
//! It refuses options of its own: everything is in the library, for `certwright agent` is the same.

use std::process::ExitCode;

fn main() -> ExitCode {
    // One thread for the loop and the session; blocking work has its own bounded pools.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: no runtime: {error}; raise the limits of open files and threads");
            eprintln!("reason INTERNAL");
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(certwright_agent::main_from(std::env::args_os()))
}
