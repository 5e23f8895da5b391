//! Asking one after the other without waiting for the silent: the first answer wins.
//!
//! It refuses to ask everybody at once: each gets a head start, and only so many are asked at a time.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

/// How long one that says nothing holds up the next: several round trips around the world, little to a person.
const HEAD_START: Duration = Duration::from_millis(250);
/// Asked at a time. A cluster that works has fewer silent servers than that.
const AT_ONCE_MAX: usize = 4;

/// Attempts these in order, each when the one before failed or has been silent for the head start; returns the first
/// success and drops what is still under way, or else every failure.
pub(super) async fn first<S, F, T, E>(servers: Vec<S>, attempt: impl Fn(S) -> F) -> Result<T, Vec<E>>
where
    F: Future<Output = Result<T, E>>,
{
    let mut waiting = servers.into_iter();
    let mut under_way = FuturesUnordered::new();
    let mut failures = Vec::new();
    loop {
        if under_way.len() < AT_ONCE_MAX
            && let Some(next) = waiting.next()
        {
            under_way.push(attempt(next));
        }
        let more = under_way.len() < AT_ONCE_MAX && waiting.len() > 0;
        tokio::select! {
            biased;
            outcome = under_way.next() => match outcome {
                Some(Ok(success)) => return Ok(success),
                Some(Err(failure)) => failures.push(failure),
                None => return Err(failures),
            },
            () = tokio::time::sleep(HEAD_START), if more => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::cell::Cell;

    use tokio::time::Instant;

    use super::*;

    /// Answers after so many milliseconds; an odd number is a failure.
    async fn answer(millis: u64) -> Result<u64, u64> {
        tokio::time::sleep(Duration::from_millis(millis)).await;
        if millis.is_multiple_of(2) { Ok(millis) } else { Err(millis) }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_one_costs_the_head_start() {
        let start = Instant::now();
        assert_eq!(first(vec![60_000, 60_002, 20], answer).await, Ok(20));
        assert_eq!(start.elapsed(), HEAD_START * 2 + Duration::from_millis(20));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_costs_nothing_and_a_slow_one_may_still_win() {
        let start = Instant::now();
        assert_eq!(first(vec![1, 3, 300, 60_000], answer).await, Ok(300));
        assert_eq!(start.elapsed(), Duration::from_millis(304));
    }

    #[tokio::test(start_paused = true)]
    async fn all_failures_are_told() {
        assert_eq!(first(vec![5, 3, 1], answer).await, Err(vec![5, 3, 1]));
        assert_eq!(first(Vec::new(), answer).await, Err(vec![]));
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_are_asked_at_a_time() {
        let (now, most) = (Cell::new(0), Cell::new(0));
        let attempt = |millis: u64| {
            now.set(now.get() + 1);
            most.set(most.get().max(now.get()));
            let now = &now;
            async move {
                let outcome = answer(millis).await;
                now.set(now.get() - 1);
                outcome
            }
        };
        assert_eq!(first(vec![5001; 20], attempt).await.unwrap_err().len(), 20);
        assert_eq!(most.get(), AT_ONCE_MAX);
    }
}
