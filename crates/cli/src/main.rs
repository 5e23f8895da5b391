//! The program `certwright`; everything it does is in the library, so that tests can use its parts.
//!
//! It refuses logic of its own.

fn main() -> std::process::ExitCode {
    certwright::main()
}
