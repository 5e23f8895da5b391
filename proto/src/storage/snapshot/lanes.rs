//! Pure work on many pieces at once, its results in the order of the pieces.
//!
//! It refuses threads that outlive the call, and more pieces in flight than a few for each core.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

/// Pieces that wait in front of one lane, and results behind it.
const AHEAD: usize = 2;

/// One thread takes all results: more would hold memory and wait.
const LANES_MAX: usize = 8;

/// Fewer pieces than that are no work for threads.
const FEW: usize = 8;

/// Maps pieces on as many threads as there are cores, up to a few, and takes the results, in order, on the caller's. Ends with the first
/// error of `take`; pieces behind it may have been drawn.
///
/// # Panics
/// When `map` panicked.
pub(super) fn map_in_order<T: Send, U: Send, E>(
    pieces: &mut dyn Iterator<Item = T>,
    map: impl Fn(T) -> U + Sync,
    mut take: impl FnMut(U) -> Result<(), E>,
) -> Result<(), E> {
    let few: Vec<T> = pieces.take(FEW).collect();
    if few.len() < FEW {
        return few.into_iter().try_for_each(|piece| take(map(piece)));
    }
    let mut pieces = few.into_iter().chain(pieces);
    thread::scope(|scope| {
        let lanes: Vec<_> = (0..cores()).map(|_| lane(scope, &map)).collect();
        // Piece by piece around the lanes: what comes out of them in turn is in order.
        let (mut sent, mut taken) = (0, 0);
        loop {
            while sent < taken + lanes.len() * AHEAD
                && let Some(piece) = pieces.next()
            {
                lanes[sent % lanes.len()].0.send(piece).expect(PANICKED);
                sent += 1;
            }
            if taken == sent {
                return Ok(());
            }
            take(lanes[taken % lanes.len()].1.recv().expect(PANICKED))?;
            taken += 1;
        }
    })
}

const PANICKED: &str = "a lane takes what it is given and gives one result for each, unless `map` panicked";

fn lane<'scope, T: Send + 'scope, U: Send + 'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    map: &'scope (impl Fn(T) -> U + Sync),
) -> (SyncSender<T>, Receiver<U>) {
    let (pieces, queue) = sync_channel(AHEAD);
    let (done, results) = sync_channel(AHEAD);
    // It ends when either end is let go of.
    scope.spawn(move || queue.into_iter().try_for_each(|piece| done.send(map(piece))));
    (pieces, results)
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from).min(LANES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_however_long_each_takes() {
        for count in [0, 1, FEW as u64 - 1, FEW as u64, 1000] {
            let (mut pieces, mut taken) = (0..count, Vec::new());
            let work = |piece: u64| (0..(piece * 7919 % 5000)).fold(piece, |it, _| std::hint::black_box(it));
            let ended: Result<(), ()> = map_in_order(&mut pieces, work, |result| {
                taken.push(result);
                Ok(())
            });
            assert_eq!((ended, taken), (Ok(()), (0..count).collect()));
        }
    }

    #[test]
    fn the_first_error_ends_it() {
        let (mut pieces, mut taken) = (0..1000, 0);
        let take = |result| {
            taken += u32::from(result < 100);
            if result == 100 { Err(result) } else { Ok(()) }
        };
        assert_eq!(map_in_order(&mut pieces, |piece| piece, take), Err(100));
        assert_eq!(taken, 100);
        assert!(pieces.next().is_some_and(|next| next < 1000), "it went on to the end");
    }
}
