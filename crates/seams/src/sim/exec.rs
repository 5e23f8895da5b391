//! Workers without threads.
//!
//! It refuses concurrency of its own: work runs where it is awaited, workers are tasks of the caller's runtime.

use crate::BoxFuture;
use crate::exec::{Exec, Work, WorkerBody};

/// Runs work inline and workers as tokio tasks; must be used inside a runtime.
#[derive(Debug, Clone, Copy, Default)]
pub struct InlineExec;

impl Exec for InlineExec {
    fn run(&self, _pool: &'static str, work: Work) -> BoxFuture<'static, ()> {
        Box::pin(async move { work() })
    }

    fn worker(&self, _name: &'static str, body: WorkerBody) {
        tokio::spawn(body());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::compute;

    #[tokio::test]
    async fn work_runs_where_it_is_awaited() {
        let here = std::thread::current().id();
        assert!(compute(&InlineExec, "fold", move || std::thread::current().id() == here).await);
    }

    #[tokio::test]
    async fn a_worker_is_a_task() {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        InlineExec.worker("once", Box::new(|| Box::pin(async move { sender.send(7).unwrap_or_default() })));
        assert_eq!(receiver.await, Ok(7));
    }
}
