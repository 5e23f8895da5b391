//! One question asked for everybody who waits for its answer: rounds, one after the other.
//!
//! It refuses answers that are older than the question: who comes while a round is under way waits for the next one.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

type Heard<A> = watch::Receiver<Option<A>>;

/// The rounds of one question.
pub(crate) struct Rounds<A>(Arc<Table<A>>);

struct Table<A> {
    /// The round that has not begun, if somebody waits for one.
    next: Mutex<Option<Heard<A>>>,
    /// Held by the round that is under way.
    turn: tokio::sync::Mutex<()>,
}

impl<A> Default for Rounds<A> {
    fn default() -> Self {
        Self(Arc::new(Table { next: Mutex::default(), turn: tokio::sync::Mutex::default() }))
    }
}

impl<A: Clone + Send + Sync + 'static> Rounds<A> {
    /// The answer of a round that begins after this call. Of all who wait for the same round one asks, in a task of its
    /// own: a caller that goes away takes no answer from the others. `None` when asking panicked.
    pub(crate) async fn ask<F: Future<Output = A> + Send + 'static>(
        &self,
        question: impl FnOnce() -> F + Send + 'static,
    ) -> Option<A> {
        let mut heard = self.next(question);
        let answer = heard.wait_for(Option::is_some).await.ok()?;
        answer.clone()
    }

    fn next<F: Future<Output = A> + Send + 'static>(&self, question: impl FnOnce() -> F + Send + 'static) -> Heard<A> {
        let mut next = self.0.next();
        if let Some(heard) = &*next {
            return heard.clone();
        }
        let (answer, heard) = watch::channel(None);
        let table = Arc::clone(&self.0);
        tokio::spawn(async move {
            let _turn = table.turn.lock().await;
            table.next().take();
            answer.send_replace(Some(question().await));
        });
        next.insert(heard).clone()
    }
}

impl<A> Table<A> {
    fn next(&self) -> MutexGuard<'_, Option<Heard<A>>> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Semaphore;
    use tokio::task::{JoinHandle, yield_now};

    use super::*;

    /// Rounds whose answers are numbers, each given once it is allowed.
    #[derive(Clone)]
    struct Asked {
        rounds: Arc<Rounds<usize>>,
        begun: Arc<AtomicUsize>,
        allowed: Arc<Semaphore>,
    }

    impl Asked {
        fn new() -> Self {
            let allowed = Arc::new(Semaphore::new(0));
            Self { rounds: Arc::default(), begun: Arc::default(), allowed }
        }

        /// Somebody who asks, and has been heard.
        async fn ask(&self) -> JoinHandle<Option<usize>> {
            let asked = self.clone();
            let asking = tokio::spawn(async move {
                let (begun, allowed) = (asked.begun.clone(), asked.allowed.clone());
                let question = move || async move {
                    let number = begun.fetch_add(1, Ordering::SeqCst) + 1;
                    allowed.acquire().await.unwrap().forget();
                    number
                };
                asked.rounds.ask(question).await
            });
            // On one thread everything that can go on does.
            for _ in 0..10 {
                yield_now().await;
            }
            asking
        }

        fn begun(&self) -> usize {
            self.begun.load(Ordering::SeqCst)
        }
    }

    #[tokio::test]
    async fn all_who_wait_share_one_round_and_none_hears_an_older_one() {
        let asked = Asked::new();
        let first = asked.ask().await;
        let mut later = Vec::new();
        for _ in 0..50 {
            later.push(asked.ask().await);
        }
        assert_eq!(asked.begun(), 1, "one round at a time");
        asked.allowed.add_permits(1);
        assert_eq!(first.await.unwrap(), Some(1));
        assert!(later.iter().all(|it| !it.is_finished()), "their round has just begun");
        asked.allowed.add_permits(1);
        for it in later {
            assert_eq!(it.await.unwrap(), Some(2));
        }
        asked.allowed.add_permits(1);
        assert_eq!(asked.ask().await.await.unwrap(), Some(3), "an answer is not kept");
    }

    #[tokio::test]
    async fn who_goes_away_takes_nothing_from_the_others() {
        let asked = Asked::new();
        let first = asked.ask().await;
        let (second, third) = (asked.ask().await, asked.ask().await);
        first.abort();
        second.abort();
        asked.allowed.add_permits(2);
        assert_eq!(third.await.unwrap(), Some(2));
    }

    #[tokio::test]
    async fn a_question_that_fails_does_not_silence_the_next() {
        let rounds = Rounds::<usize>::default();
        assert_eq!(rounds.ask(|| async { panic!("on purpose") }).await, None);
        assert_eq!(rounds.ask(|| async { 7 }).await, Some(7));
    }
}
