//! Named workers: threads in production, inline in simulation.
//!
//! It refuses unbounded spawning: a pool has a fixed number of workers, a thread has a name.

use crate::BoxFuture;

/// Where blocking and CPU-bound work runs.
pub trait Exec: Send + Sync + 'static {
    /// Runs one piece of CPU-bound work on the pool of that name (`sign`, `fold`, ...) and resolves when it is done;
    /// callers bring results out through the closure. Inline in simulation.
    fn run<'a>(&self, pool: &'static str, work: Box<dyn FnOnce() + Send + 'static>) -> BoxFuture<'a, ()>;

    /// Starts a long-lived loop under that name: a thread in production that blocks on its queue; in simulation a
    /// tokio task. `step` returns false when it has ended. `wake` resolves when there may be work.
    fn worker(&self, name: &'static str, body: WorkerBody);
}

/// A worker: an async body that production drives on its own thread with a current-thread runtime.
pub type WorkerBody = Box<dyn FnOnce() -> BoxFuture<'static, ()> + Send + 'static>;
