//! Workers without threads.
//!
//! It refuses concurrency of its own: work runs where it is awaited, workers are tasks of the caller's runtime.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use crate::BoxFuture;
use crate::exec::{Exec, Work, WorkerBody};

/// How much longer than nothing every step of a worker takes: a slow disk, to whoever waits for it. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Lag(Arc<AtomicU64>);

impl Lag {
    /// From now on.
    pub fn set(&self, lag: Duration) {
        self.0.store(lag.as_millis() as u64, Ordering::SeqCst);
    }

    fn now(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::SeqCst))
    }
}

/// Runs work inline and workers as tokio tasks; must be used inside a runtime.
#[derive(Debug, Clone, Default)]
pub struct InlineExec(Lag);

impl InlineExec {
    /// One whose workers are as slow as that says.
    pub fn lagging(lag: Lag) -> Self {
        Self(lag)
    }
}

impl Exec for InlineExec {
    fn run(&self, _pool: &'static str, work: Work) -> BoxFuture<'static, ()> {
        Box::pin(async move { work() })
    }

    fn worker(&self, _name: &'static str, body: WorkerBody) {
        tokio::spawn(Slow { body: body(), lag: self.0.clone(), resting: None });
    }
}

/// A worker that rests before each step.
struct Slow {
    body: BoxFuture<'static, ()>,
    lag: Lag,
    resting: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Future for Slow {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let lag = self.lag.now();
        if self.resting.is_none() && !lag.is_zero() {
            self.resting = Some(Box::pin(tokio::time::sleep(lag)));
        }
        if let Some(rest) = &mut self.resting {
            std::task::ready!(rest.as_mut().poll(context));
            self.resting = None;
        }
        self.body.as_mut().poll(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::compute;

    #[tokio::test]
    async fn work_runs_where_it_is_awaited() {
        let here = std::thread::current().id();
        assert!(compute(&InlineExec::default(), "fold", move || std::thread::current().id() == here).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_is_a_task_as_slow_as_it_is_told() {
        for lag in [Duration::ZERO, Duration::from_millis(70)] {
            let slow = Lag::default();
            slow.set(lag);
            let (sender, receiver) = tokio::sync::oneshot::channel();
            let begun = tokio::time::Instant::now();
            let body = async move { sender.send(7).unwrap_or_default() };
            InlineExec::lagging(slow).worker("once", Box::new(|| Box::pin(body)));
            assert_eq!(receiver.await, Ok(7));
            assert_eq!(begun.elapsed(), lag);
        }
    }
}
