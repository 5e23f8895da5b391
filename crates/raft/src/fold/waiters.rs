//! Those who proposed and wait for their transaction in this node's own apply.
//!
//! It refuses to guess: a waiter is told only what the applied log proves. A request stays known while it is under way
//! even when nobody waits for it any more, so that a repeat shares its outcome and is never appended twice.

use std::collections::BTreeMap;

use tokio::sync::oneshot;

use super::dedup::Key;
use crate::error::ProposeError;
use crate::view::Committed;

/// What a proposer is told.
pub(crate) type Answer = Result<Committed, ProposeError>;

/// A request under way.
struct Flight {
    term: u64,
    digest: [u8; 16],
    waiters: Vec<oneshot::Sender<Answer>>,
}

/// Requests under way.
#[derive(Default)]
pub(crate) struct Waiters {
    flights: BTreeMap<Key, Flight>,
}

/// Whether a request has to be appended or is under way already.
pub(crate) enum Joined {
    /// Nobody proposed it yet: append it.
    First(oneshot::Receiver<Answer>),
    /// The same request is under way; its outcome is this one's too.
    Shared(oneshot::Receiver<Answer>),
    /// The same id is under way for other content.
    Reused,
}

impl Waiters {
    /// Waits for a request that is proposed in that term.
    pub(crate) fn join(&mut self, key: &Key, digest: [u8; 16], term: u64) -> Joined {
        let (sender, receiver) = oneshot::channel();
        match self.flights.get_mut(key) {
            Some(flight) if flight.digest != digest => Joined::Reused,
            Some(flight) => {
                flight.waiters.retain(|waiter| !waiter.is_closed());
                flight.waiters.push(sender);
                Joined::Shared(receiver)
            }
            None => {
                self.flights.insert(key.clone(), Flight { term, digest, waiters: vec![sender] });
                Joined::First(receiver)
            }
        }
    }

    /// Waits for a request that may be under way; `None` when it is not.
    pub(crate) fn follow(&mut self, key: &Key) -> Option<oneshot::Receiver<Answer>> {
        let flight = self.flights.get_mut(key)?;
        let (sender, receiver) = oneshot::channel();
        flight.waiters.retain(|waiter| !waiter.is_closed());
        flight.waiters.push(sender);
        Some(receiver)
    }

    /// Ends a request: tells all who wait for it.
    pub(crate) fn answer(&mut self, key: &Key, answer: &Answer) {
        for waiter in self.flights.remove(key).into_iter().flat_map(|flight| flight.waiters) {
            // A waiter that is gone no longer wants to know.
            drop(waiter.send(answer.clone()));
        }
    }

    /// Settles what was proposed in earlier terms: an entry of a later term was applied without it.
    pub(crate) fn settle_before(&mut self, term: u64, mut answer: impl FnMut(&Key) -> Answer) {
        let earlier = self.flights.extract_if(.., |_, flight| flight.term < term);
        for (key, flight) in earlier {
            let answer = answer(&key);
            for waiter in flight.waiters {
                drop(waiter.send(answer.clone()));
            }
        }
    }

    /// Tells everybody the same.
    pub(crate) fn answer_all(&mut self, error: &ProposeError) {
        self.settle_before(u64::MAX, |_| Err(error.clone()));
    }

    /// How many requests are under way.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.flights.len()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use certwright_core::log::{Position, RequestId};
    use certwright_core::time::Timestamp;

    use super::*;

    fn key(number: u8) -> Key {
        (RequestId([number; 16]), "system".into())
    }

    fn committed() -> Committed {
        Committed { position: Position { index: 5, ordinal: 0 }, at: Timestamp::from_millis(9) }
    }

    #[test]
    fn the_same_request_twice_shares_one_outcome() {
        let mut waiters = Waiters::default();
        let Joined::First(mut first) = waiters.join(&key(1), [1; 16], 2) else { panic!("not first") };
        let Joined::Shared(mut second) = waiters.join(&key(1), [1; 16], 2) else { panic!("not shared") };
        assert!(matches!(waiters.join(&key(1), [2; 16], 2), Joined::Reused));
        waiters.answer(&key(1), &Ok(committed()));
        assert_eq!(first.try_recv().unwrap(), Ok(committed()));
        assert_eq!(second.try_recv().unwrap(), Ok(committed()));
        assert_eq!(waiters.len(), 0);
    }

    #[test]
    fn a_request_stays_known_when_its_waiter_gave_up() {
        let mut waiters = Waiters::default();
        let Joined::First(first) = waiters.join(&key(1), [1; 16], 2) else { panic!("not first") };
        drop(first);
        let Joined::Shared(mut again) = waiters.join(&key(1), [1; 16], 2) else { panic!("appended twice") };
        waiters.answer(&key(1), &Ok(committed()));
        assert_eq!(again.try_recv().unwrap(), Ok(committed()));
    }

    #[test]
    fn a_later_term_settles_earlier_terms_only() {
        let mut waiters = Waiters::default();
        let Joined::First(mut early) = waiters.join(&key(1), [1; 16], 2) else { panic!("not first") };
        let Joined::First(mut late) = waiters.join(&key(2), [1; 16], 3) else { panic!("not first") };
        waiters.settle_before(3, |_| Err(ProposeError::NotCommitted));
        assert_eq!(early.try_recv().unwrap(), Err(ProposeError::NotCommitted));
        assert!(late.try_recv().is_err());
        assert_eq!(waiters.len(), 1);
    }
}
