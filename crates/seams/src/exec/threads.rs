//! The production workers: pools of as many threads as there are cores, and single long-lived threads.
//!
//! It refuses tokio's blocking pool, which grows to hundreds of threads and has one name for all.
#![allow(clippy::disallowed_methods, reason = "the one module that starts threads which outlive a call")]

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::sync::{mpsc, oneshot};

use super::{Exec, Work, WorkerBody};
use crate::BoxFuture;

/// Pieces of work that wait in front of one pool's thread; more makes the callers wait, not the memory grow.
const QUEUE_PER_THREAD: usize = 64;

type Job = (Work, oneshot::Sender<()>);

/// Threads: for each pool name as many as there are cores, started at its first use, and one for each worker.
#[derive(Clone)]
pub struct ThreadExec {
    threads_per_pool: usize,
    pools: Arc<Mutex<BTreeMap<&'static str, mpsc::Sender<Job>>>>,
}

impl ThreadExec {
    /// Pools as wide as the machine has cores for this process (affinity and cgroup quota counted).
    pub fn new() -> Self {
        Self::with_threads(thread::available_parallelism().map_or(1, usize::from))
    }

    /// Pools of that many threads, at least one.
    pub fn with_threads(threads_per_pool: usize) -> Self {
        Self { threads_per_pool: threads_per_pool.max(1), pools: Arc::default() }
    }

    fn pool(&self, name: &'static str) -> mpsc::Sender<Job> {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        pools.entry(name).or_insert_with(|| start_pool(name, self.threads_per_pool)).clone()
    }
}

impl Default for ThreadExec {
    fn default() -> Self {
        Self::new()
    }
}

impl Exec for ThreadExec {
    fn run(&self, pool: &'static str, work: Work) -> BoxFuture<'static, ()> {
        let queue = self.pool(pool);
        Box::pin(async move {
            let (done, finished) = oneshot::channel();
            if queue.send((work, done)).await.is_ok() {
                // An error means that the work panicked; the panic has been reported by its thread.
                let _ = finished.await;
            }
        })
    }

    fn worker(&self, name: &'static str, body: WorkerBody) {
        spawn(name.to_string(), move || {
            tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()
                .expect("a runtime without input and output needs nothing of the system")
                .block_on(body());
        });
    }
}

/// Starts the threads of a pool; they end when its last sender is gone.
fn start_pool(name: &'static str, threads: usize) -> mpsc::Sender<Job> {
    let (sender, receiver) = mpsc::channel::<Job>(threads * QUEUE_PER_THREAD);
    let receiver = Arc::new(Mutex::new(receiver));
    for number in 0..threads {
        let receiver = Arc::clone(&receiver);
        spawn(format!("{name}-{number}"), move || {
            loop {
                // The lock is held while waiting: one thread waits for work, the others for the lock.
                let job = receiver.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
                let Some((work, done)) = job else { return };
                match catch_unwind(AssertUnwindSafe(work)) {
                    Ok(()) => drop(done.send(())),
                    Err(_) => tracing::error!(pool = name, "work on a pool panicked"),
                }
            }
        });
    }
    sender
}

fn spawn(name: String, body: impl FnOnce() + Send + 'static) {
    thread::Builder::new().name(name).spawn(body).expect("the system has room for the few threads of this process");
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::exec::compute;

    #[tokio::test]
    async fn results_come_back_from_a_named_thread() {
        let exec = ThreadExec::with_threads(2);
        let name = compute(&exec, "fold", || thread::current().name().map(str::to_string)).await;
        assert!(name.as_deref().is_some_and(|name| name.starts_with("fold-")), "{name:?}");
    }

    #[tokio::test]
    async fn a_pool_survives_work_that_panics() {
        let exec = ThreadExec::with_threads(1);
        exec.run("sign", Box::new(|| panic!("on purpose"))).await;
        assert_eq!(compute(&exec, "sign", || 7).await, 7);
    }

    #[tokio::test]
    async fn more_work_than_the_queue_holds_is_all_done() {
        let (exec, done) = (ThreadExec::with_threads(1), Arc::new(AtomicUsize::new(0)));
        let work = |_| {
            let (exec, done) = (exec.clone(), Arc::clone(&done));
            async move { compute(&exec, "many", move || done.fetch_add(1, Ordering::SeqCst)).await }
        };
        let tasks: Vec<_> = (0..QUEUE_PER_THREAD * 3).map(|number| tokio::spawn(work(number))).collect();
        for task in tasks {
            assert!(task.await.is_ok());
        }
        assert_eq!(done.load(Ordering::SeqCst), QUEUE_PER_THREAD * 3);
    }

    #[tokio::test]
    async fn a_worker_drives_its_body_with_timers() {
        let (exec, (sender, mut receiver)) = (ThreadExec::new(), mpsc::channel::<u8>(1));
        let (answer, answered) = oneshot::channel();
        exec.worker(
            "adder",
            Box::new(move || {
                Box::pin(async move {
                    let mut sum = 0;
                    while let Some(number) = receiver.recv().await {
                        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                        sum += number;
                    }
                    let _ = answer.send(sum);
                })
            }),
        );
        for number in 1..=3 {
            assert!(sender.send(number).await.is_ok());
        }
        drop(sender);
        assert_eq!(answered.await, Ok(6));
    }
}
