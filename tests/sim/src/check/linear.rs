//! Whether what callers saw of one object can be put into one order that respects time: linearizability, by the search
//! of Wing and Gong with the memory of Lowe ("Testing for linearizability", 2017).
//!
//! It refuses objects other than a register with conditional writes; objects are checked one by one, which is enough
//! (Herlihy and Wing 1990, locality).

use std::collections::HashSet;

/// What was asked of the register, and what was answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Call {
    /// It had this value.
    Read(u64),
    /// It has this value from now on.
    Write(u64),
    /// It has the second value from now on, if it had the first: whether it did, where that is known.
    Exchange(u64, u64, Option<bool>),
}

/// One call of one caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Operation {
    /// The call.
    pub call: Call,
    /// When it was sent.
    pub begun: u64,
    /// When it was answered; nobody knows whether and when an unanswered one took effect.
    pub ended: Option<u64>,
}

/// Operations that one history may have, so that a set of them fits one word.
pub const OPERATIONS_MAX: usize = 128;

/// Whether there is such an order, from this value on.
pub fn is_linearizable(first: u64, operations: &[Operation]) -> bool {
    assert!(operations.len() <= OPERATIONS_MAX, "{} operations on one register", operations.len());
    let answered = operations.iter().zip(0..).filter(|(it, _)| it.ended.is_some());
    let wanted = answered.fold(0_u128, |set, (_, place)| set | 1 << place);
    let mut seen = HashSet::new();
    let mut open = vec![(0_u128, first)];
    while let Some((done, value)) = open.pop() {
        if done & wanted == wanted {
            return true;
        }
        if !seen.insert((done, value)) {
            continue;
        }
        let rest = || operations.iter().zip(0..).filter(|(_, place)| done & 1 << place == 0);
        // Whatever was answered before another one was sent comes first.
        let horizon = rest().filter_map(|(it, _)| it.ended).min().unwrap_or(u64::MAX);
        let next = rest().filter(|(it, _)| it.begun <= horizon);
        open.extend(next.flat_map(|(it, place)| {
            effects(it, value).into_iter().flatten().map(move |value| (done | 1 << place, value))
        }));
    }
    false
}

/// The values that the register may have after an operation; none when it cannot have been answered so.
fn effects(operation: &Operation, value: u64) -> [Option<u64>; 2] {
    match operation.call {
        Call::Read(read) => [(read == value).then_some(value), None],
        Call::Write(written) => [Some(written), None],
        Call::Exchange(from, to, Some(true)) => [(from == value).then_some(to), None],
        Call::Exchange(from, _, Some(false)) => [(from != value).then_some(value), None],
        Call::Exchange(from, to, None) => [(from == value).then_some(to), (from != value).then_some(value)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(calls: &[(Call, u64, Option<u64>)]) -> Vec<Operation> {
        calls.iter().map(|(call, begun, ended)| Operation { call: *call, begun: *begun, ended: *ended }).collect()
    }

    #[test]
    fn a_stale_read_is_found_and_a_concurrent_one_is_not() {
        let stale = history(&[(Call::Write(1), 1, Some(2)), (Call::Read(0), 3, Some(4))]);
        assert!(!is_linearizable(0, &stale));
        let concurrent = history(&[(Call::Write(1), 1, Some(4)), (Call::Read(0), 2, Some(3))]);
        assert!(is_linearizable(0, &concurrent));
        let back = history(&[(Call::Write(1), 1, Some(6)), (Call::Read(1), 2, Some(3)), (Call::Read(0), 4, Some(5))]);
        assert!(!is_linearizable(0, &back), "what was read once stays");
    }

    #[test]
    fn an_unanswered_write_may_take_effect_late_or_never() {
        let late = history(&[(Call::Write(1), 1, None), (Call::Read(0), 2, Some(3)), (Call::Read(1), 4, Some(5))]);
        assert!(is_linearizable(0, &late));
        let never = history(&[(Call::Write(1), 1, None), (Call::Read(0), 2, Some(3))]);
        assert!(is_linearizable(0, &never));
    }

    #[test]
    fn of_two_exchanges_from_one_value_one_succeeds() {
        let both = [(Call::Exchange(0, 1, Some(true)), 1, Some(9)), (Call::Exchange(0, 2, Some(true)), 2, Some(8))];
        assert!(!is_linearizable(0, &history(&both)));
        let one = [(Call::Exchange(0, 1, Some(true)), 1, Some(9)), (Call::Exchange(0, 2, Some(false)), 2, Some(8))];
        assert!(is_linearizable(0, &history(&one)));
        let lost = [(Call::Exchange(0, 1, Some(false)), 1, Some(2)), (Call::Read(0), 3, Some(4))];
        assert!(!is_linearizable(0, &history(&lost)), "a refusal without a reason");
    }

    #[test]
    fn many_concurrent_operations_are_decided_quickly() {
        let writes = (1..=40).map(|it| (Call::Write(it), it, Some(it + 6)));
        let reads = (1..=40).map(|it| (Call::Read(it), it + 5, Some(it + 11)));
        let mut all: Vec<_> = writes.chain(reads).collect();
        assert!(is_linearizable(0, &history(&all)));
        all.push((Call::Read(3), 90, Some(91)));
        assert!(!is_linearizable(0, &history(&all)));
    }
}
