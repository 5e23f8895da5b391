//! The program `certwright`; everything it does is in the library, so that tests can use its parts.
//!
//! It refuses logic of its own.

/// A million certificates on record are ten million small allocations: with the C library's allocator a server takes 1.4 times
/// the memory and 1.8 times as long to start (docs/benchmarks.md).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    certwright::main()
}
