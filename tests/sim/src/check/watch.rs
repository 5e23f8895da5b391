//! What one watcher was told over all its connections: everything after where it began, once, in order. I8.
//!
//! It refuses to look at what events say: where they stand and what kind they are is enough.

use certwright_proto::v1;

use super::Verdict;
use super::history::place;

const CHECKER: &str = "watch";

/// Compares what a watcher was told, connection by connection, with the history as it is in the end.
pub fn check(verdict: &Verdict, told: &[Vec<v1::Event>], history: &[v1::Event]) {
    let mut heard: Vec<(u64, u32, u32)> = Vec::new();
    for connection in told {
        let places: Vec<_> = connection.iter().map(place).collect();
        if let (Some(last), Some(first)) = (heard.last().copied(), places.first())
            && is_cut(last, history)
            && *first == (last.0, last.1, 0)
        {
            // Whoever is cut in the middle of a transaction gets all of it again.
            heard.retain(|it| (it.0, it.1) != (last.0, last.1));
        }
        heard.extend(places);
    }
    let Some((first, last)) = heard.first().copied().zip(heard.last().copied()) else {
        return verdict.report("I8", CHECKER, format_args!("nothing was told"));
    };
    if let Some(twice) = heard.windows(2).find(|pair| pair[0] >= pair[1]) {
        return verdict.report("I8", CHECKER, format_args!("{:?} was told after {:?}", twice[1], twice[0]));
    }
    let expected: Vec<_> = history.iter().map(place).filter(|it| (first..=last).contains(it)).collect();
    if let Some(missed) = expected.iter().find(|it| heard.binary_search(it).is_err()) {
        return verdict.report("I8", CHECKER, format_args!("{missed:?} was never told"));
    }
    if let Some(made_up) = heard.iter().find(|it| expected.binary_search(it).is_err()) {
        verdict.report("I8", CHECKER, format_args!("{made_up:?} was told and is not in the log"));
    }
}

/// Whether an event is not the last of its transaction.
fn is_cut(at: (u64, u32, u32), history: &[v1::Event]) -> bool {
    history.iter().any(|event| place(event) == (at.0, at.1, at.2 + 1))
}
