//! Named workers: threads in production, inline in simulation.
//!
//! It refuses unbounded spawning: a pool has a fixed number of workers and a bounded queue, a thread has a name.

use crate::BoxFuture;

mod threads;

pub use threads::ThreadExec;

/// Where blocking and CPU-bound work runs.
pub trait Exec: Send + Sync + 'static {
    /// Runs one piece of CPU-bound work on the pool of that name (`sign`, `fold`, ...) and resolves when it is done or
    /// has panicked. It is queued when the future is first polled (waiting for room) and then runs to its end even
    /// when the future is dropped. Inline in simulation. [`compute`] brings a result out.
    fn run(&self, pool: &'static str, work: Work) -> BoxFuture<'static, ()>;

    /// Starts a long-lived body under that name: in production on a thread of its own, where it may block, driven by a
    /// current-thread tokio runtime with timers; in simulation a tokio task. It ends when the body does: the body
    /// owns a queue and returns when that is closed.
    fn worker(&self, name: &'static str, body: WorkerBody);
}

/// One piece of work for a pool.
pub type Work = Box<dyn FnOnce() + Send + 'static>;

/// A worker: an async body that production drives on its own thread with a current-thread runtime.
pub type WorkerBody = Box<dyn FnOnce() -> BoxFuture<'static, ()> + Send + 'static>;

/// Runs `work` on the pool and returns its result.
///
/// # Panics
/// When the work panicked: the caller cannot go on without what it asked for.
pub async fn compute<T: Send + 'static>(
    exec: &dyn Exec,
    pool: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    exec.run(pool, Box::new(move || drop(sender.send(work())))).await;
    receiver.await.expect("work on a pool ends with its result unless it panicked, which goes on here")
}
