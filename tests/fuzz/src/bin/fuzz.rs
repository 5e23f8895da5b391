//! The fuzzer, when it was built with libFuzzer (`make fuzz`, tests/fuzz/run.sh): `CERTWRIGHT_FUZZ` names the target,
//! `CERTWRIGHT_MUTANT` a bug to plant first.
//!
//! It refuses to do anything in an ordinary build.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
mod engine {
    use std::sync::LazyLock;

    static RUN: LazyLock<fn(&[u8])> = LazyLock::new(|| {
        // A panic in a task or behind catch_unwind is a finding, too.
        let told = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            told(panic);
            std::process::abort();
        }));
        certwright_fuzz::plant();
        let name = std::env::var("CERTWRIGHT_FUZZ").unwrap_or_default();
        match certwright_fuzz::target(&name) {
            Some(target) => target.run,
            None => {
                eprintln!("CERTWRIGHT_FUZZ={name} is no target");
                std::process::exit(2);
            }
        }
    });

    /// What libFuzzer calls with each input.
    #[allow(unsafe_code, reason = "the interface of libFuzzer: a pointer and a length")]
    #[unsafe(no_mangle)]
    extern "C" fn LLVMFuzzerTestOneInput(data: *const u8, size: usize) -> i32 {
        // SAFETY: libFuzzer gives `size` octets at `data`, which stay as they are during the call.
        let input = if size == 0 { &[][..] } else { unsafe { std::slice::from_raw_parts(data, size) } };
        RUN(input);
        0
    }
}

#[cfg(not(fuzzing))]
fn main() {
    eprintln!("this build has no fuzzing engine: make fuzz");
    std::process::exit(2);
}
