//! Tables of clocks: who is followed, how far, and what is a jump.

use std::sync::atomic::{AtomicU64, Ordering};

use certwright_seams::sim::SimClock;

use super::*;
use crate::limits::CLOCK_HASTE;

mod rebase;

const BASE: u64 = 1_800_000_000_000;
const HOUR: i64 = 3_600_000;

/// Node 1, its machine, and true time.
struct Fixture {
    clocks: Clocks,
    clock: Arc<SimClock>,
    elapsed_micros: Arc<AtomicU64>,
}

impl Fixture {
    /// Its own clock is ahead by that much.
    fn new(voters: &[u64], ahead_millis: i64) -> Self {
        let elapsed_micros = Arc::new(AtomicU64::new(0));
        let told = Arc::clone(&elapsed_micros);
        let elapsed = move || Duration::from_micros(told.load(Ordering::SeqCst));
        let clock = Arc::new(SimClock::driven_by(BASE, Arc::new(elapsed)));
        clock.set_skew_millis(ahead_millis);
        let clocks = Clocks::new(clock.clone(), 1, Timestamp::EPOCH);
        clocks.elect(voters.iter().copied().collect());
        Self { clocks, clock, elapsed_micros }
    }

    /// The same with a log that was last written an hour ago, before anybody told who votes.
    fn restarted(ahead_millis: i64) -> Self {
        let mut node = Self::new(&[], ahead_millis);
        let at = Timestamp::from_millis(BASE.saturating_add_signed(-HOUR));
        node.clocks = Clocks::new(node.clock.clone(), 1, at);
        node
    }

    fn pass(&self, time: Duration) {
        self.elapsed_micros.fetch_add(time.as_micros() as u64, Ordering::SeqCst);
    }

    fn truth(&self) -> u64 {
        BASE + self.elapsed_micros.load(Ordering::SeqCst) / 1000
    }

    /// A voter's clock is that much ahead.
    fn hears(&self, voter: u64, ahead_millis: i64) {
        let now = self.clocks.monotonic();
        self.clocks.note(voter, self.truth().saturating_add_signed(ahead_millis), now, now);
    }

    /// How far what would be stamped is ahead.
    fn ahead(&self) -> i64 {
        self.clocks.now().millis() as i64 - self.truth() as i64
    }
}

#[test]
fn one_clock_cannot_run_away() {
    for (own, others, expected) in [
        (0, [0, 0], 0),
        (3000, [0, 0], 3000),
        (HOUR, [0, 0], 5000),
        (-HOUR, [0, 0], -HOUR),
        (0, [HOUR, 0], 0),
        (0, [-HOUR, 0], 0),
        (24 * 365 * HOUR, [200, -200], 5200),
        // The majority is wrong together: nobody can tell.
        (HOUR, [HOUR, 0], HOUR),
    ] {
        let node = Fixture::new(&[1, 2, 3], own);
        node.hears(2, others[0]);
        node.hears(3, others[1]);
        assert_eq!(node.ahead(), expected, "own {own}, others {others:?}");
    }
}

#[test]
fn clocks_that_are_wrong_one_after_the_other_are_no_majority() {
    let node = Fixture::new(&[1, 2, 3], 0);
    let hear = || [2, 3].into_iter().for_each(|id| node.hears(id, 0));
    hear();
    assert_eq!(node.ahead(), 0);
    // The second one is set right, which nobody hears for a while; then the first one goes wrong.
    node.hears(2, HOUR);
    node.pass(Duration::from_secs(4));
    assert_eq!(node.ahead(), 0);
    node.clock.set_skew_millis(HOUR);
    assert_eq!((node.ahead(), node.clocks.is_known()), (0, false));
    node.hears(3, 0);
    assert_eq!(node.ahead(), 5000);
    node.hears(2, 0);
    assert_eq!(node.ahead(), 5000);
    assert_eq!(node.clocks.jump(), None);
}

/// Whoever asks for the time between two answers takes nobody's doubt away, and does not renew it.
#[test]
fn a_majority_that_is_ahead_is_followed_though_the_time_is_asked_for_meanwhile() {
    for (own, first, last) in [(0, HOUR, HOUR), (HOUR, 0, HOUR), (HOUR, HOUR, 0)] {
        let node = Fixture::new(&[1, 2, 3], 0);
        node.hears(2, 0);
        node.hears(3, 0);
        assert_eq!(node.ahead(), 0);
        node.clock.set_skew_millis(own);
        node.hears(2, first);
        node.hears(3, last);
        node.pass(Duration::from_millis(1));
        assert!(node.ahead() <= 5000, "it was not asked again");
        node.pass(CLOCK_HASTE);
        node.hears(2, first);
        node.clocks.now();
        node.hears(3, last);
        node.clocks.look();
        let jump = node.clocks.jump().map(|jump| jump.ahead_millis() as i64);
        assert_eq!(jump, Some(HOUR), "own {own}, others {first} and {last}");
        assert!(node.clocks.is_known() && node.clocks.compare().is_some());
    }
}

/// An answer that was on its way when the doubt arose is of before.
#[test]
fn who_was_asked_before_a_doubt_is_asked_again() {
    let node = Fixture::new(&[1, 2, 3], 0);
    node.hears(2, 0);
    node.hears(3, 0);
    assert_eq!(node.ahead(), 0);
    let asked = node.clocks.monotonic();
    let wrong = node.truth() + HOUR as u64;
    node.hears(2, HOUR);
    node.clock.set_skew_millis(HOUR);
    node.pass(Duration::from_millis(100));
    assert_eq!(node.ahead(), 0, "of two that were wrong at different times");
    node.clocks.note(2, wrong, asked, node.clocks.monotonic());
    assert_eq!(node.ahead(), 0);
    node.hears(2, 0);
    assert_eq!(node.ahead(), 5000);
}

#[test]
fn a_minority_that_is_heard_first_is_no_majority() {
    let node = Fixture::new(&[1, 2, 3, 4, 5], HOUR);
    node.hears(2, HOUR);
    node.hears(3, 0);
    assert_eq!(node.ahead(), 5000);
    node.hears(4, 0);
    assert_eq!(node.ahead(), 5000);
}

#[test]
fn the_only_voter_and_a_node_that_knows_none_go_by_their_own() {
    for voters in [&[][..], &[1]] {
        assert_eq!(Fixture::new(voters, HOUR).ahead(), HOUR);
    }
}

#[test]
fn without_a_quorum_time_goes_on_and_never_jumps() {
    let node = Fixture::new(&[1, 2, 3], 0);
    assert_eq!(node.clocks.now(), Timestamp::EPOCH, "on one clock's word");
    node.hears(2, 0);
    assert_eq!(node.ahead(), 0);
    node.pass(CLOCK_FRESH + Duration::from_secs(60));
    node.clock.set_skew_millis(HOUR);
    assert_eq!(node.ahead(), 0, "one clock jumped");
    node.hears(3, 0);
    assert_eq!(node.ahead(), 5000);
}

#[test]
fn who_is_no_voter_has_no_say() {
    let node = Fixture::new(&[1, 2, 3], 0);
    node.hears(2, -HOUR);
    node.hears(3, -HOUR);
    assert_eq!(node.ahead(), 5000 - HOUR);
    node.clocks.elect([1].into());
    assert_eq!(node.ahead(), 0);
    node.clock.set_skew_millis(2 * HOUR);
    node.hears(2, -HOUR);
    assert_eq!(node.ahead(), 2 * HOUR, "a stranger is heard");
}

#[test]
fn a_restarted_node_goes_on_from_its_log_until_a_quorum_is_known() {
    let node = Fixture::restarted(24 * 365 * HOUR);
    assert_eq!(node.ahead(), -HOUR, "on one clock's word, before it knows who votes");
    node.clocks.elect([1, 2, 3].into());
    node.pass(Duration::from_secs(60));
    assert_eq!((node.ahead(), node.clocks.is_known()), (-HOUR, false), "on one clock's word");
    node.hears(2, 0);
    assert_eq!((node.ahead(), node.clocks.is_known()), (5000, true));
}

#[test]
fn what_a_clock_was_ahead_for_a_moment_is_made_up_for_slowly() {
    let node = Fixture::new(&[1, 2, 3], 0);
    let hear = || [2, 3].into_iter().for_each(|id| node.hears(id, 0));
    hear();
    assert_eq!(node.ahead(), 0);
    node.clock.set_skew_millis(HOUR);
    assert_eq!(node.ahead(), 5000);
    node.clock.set_skew_millis(0);
    let mut last = node.clocks.now();
    for (millis, ahead) in [(0, 5000), (2, 4999), (3998, 3000), (6000, 0), (1000, 0)] {
        node.pass(Duration::from_millis(millis));
        hear();
        assert_eq!(node.ahead(), ahead, "after {millis}");
        assert!(node.clocks.now() >= last, "time went back");
        last = node.clocks.now();
    }
    // A clock that is set back by more is a wrong one: time goes on without it, however often it is asked for.
    node.clock.set_skew_millis(-HOUR);
    for _ in 0..4000 {
        node.pass(Duration::from_micros(250));
        hear();
        node.clocks.now();
    }
    assert_eq!(node.ahead(), 0);
}

#[test]
fn that_most_clocks_jumped_is_noticed_and_that_one_did_is_none() {
    const YEAR: i64 = 24 * 365 * HOUR;
    for (own, others, jumped) in [
        (0, [0, 0], None),
        (YEAR, [0, 0], None),
        (0, [YEAR, 0], None),
        (-YEAR, [-YEAR, 0], None),
        (0, [9 * 60_000, 9 * 60_000], None),
        (YEAR, [YEAR, 0], Some(YEAR)),
        // Whoever leads with the only right clock gives way; those who follow know.
        (0, [HOUR, HOUR], Some(HOUR)),
        (HOUR, [HOUR, HOUR], Some(HOUR)),
    ] {
        let node = Fixture::new(&[1, 2, 3], 0);
        let hear = |skews: [i64; 2]| [2, 3].into_iter().zip(skews).for_each(|(id, skew)| node.hears(id, skew));
        hear([0, 0]);
        node.clocks.now();
        node.pass(Duration::from_secs(30));
        node.clock.set_skew_millis(own);
        for _ in 0..2 {
            hear(others);
            node.clocks.now();
        }
        let found = node.clocks.jump().map(|jump| jump.ahead_millis() as i64);
        assert_eq!(found, jumped, "own {own}, others {others:?}");
        node.clocks.jump().into_iter().for_each(|jump| node.clocks.forget_jump(jump));
        node.clocks.now();
        assert_eq!(node.clocks.jump(), None, "once");
    }
}

#[test]
fn what_others_stamped_meanwhile_is_no_jump() {
    // Suspended for an hour, as its monotonic clock tells; the log went on.
    for (stamped, is_jump) in [(1, true), (30, false), (59, true)] {
        let node = Fixture::new(&[1, 2, 3], 0);
        node.hears(2, 0);
        node.clocks.look();
        node.clock.set_skew_millis(HOUR);
        for _ in 0..2 {
            node.hears(2, HOUR);
            node.clocks.look();
        }
        assert!(node.clocks.jump().is_some());
        node.clocks.stamped(Timestamp::from_millis(node.truth() + stamped * 60_000));
        assert_eq!(node.clocks.jump().is_some(), is_jump, "{stamped}");
    }
}

#[test]
fn a_jump_that_nobody_records_is_forgotten() {
    let node = Fixture::new(&[1], 0);
    node.clocks.look();
    node.clock.set_skew_millis(HOUR);
    node.clocks.look();
    assert!(node.clocks.jump().is_some());
    node.pass(JUMP_KEPT + Duration::from_secs(1));
    assert_eq!(node.clocks.jump(), None);
}

#[test]
fn a_jump_is_noticed_after_a_restart_with_a_log_that_is_a_little_ahead() {
    let mut node = Fixture::new(&[], 0);
    node.clocks = Clocks::new(node.clock.clone(), 1, Timestamp::from_millis(BASE + 5000));
    node.clocks.elect([1].into());
    node.clocks.look();
    node.clock.set_skew_millis(HOUR);
    node.clocks.look();
    assert!(node.clocks.jump().is_some());
}

#[test]
fn a_clock_that_is_behind_at_the_start_and_set_right_has_not_jumped() {
    let node = Fixture::restarted(-2 * HOUR);
    node.clocks.elect([1].into());
    node.clocks.look();
    node.clock.set_skew_millis(0);
    node.clocks.look();
    assert_eq!(node.clocks.jump(), None, "an hour after the log was written");
}

#[test]
fn a_cluster_that_was_away_for_days_has_seen_no_jump() {
    const DAY: i64 = 24 * HOUR;
    for (days, jumped) in [(6, None), (8, Some(8 * DAY))] {
        let node = Fixture::restarted(0);
        let at = Timestamp::from_millis(BASE - (days * DAY) as u64);
        let clocks = Clocks::new(node.clock.clone(), 1, at);
        clocks.elect([1].into());
        clocks.now();
        assert_eq!(clocks.jump().map(|jump| jump.ahead_millis() as i64), jumped, "{days} days");
    }
}

#[test]
fn a_log_that_goes_on_behind_an_old_snapshot_has_seen_no_jump_but_one_that_it_holds() {
    const DAY: i64 = 24 * HOUR;
    for (written_days, jumped) in
        [(vec![25, 20, 15, 10, 5, 0], None), (vec![26, 23], Some(23 * DAY)), (vec![26, 0], Some(26 * DAY))]
    {
        let mut node = Fixture::new(&[], 0);
        let ago = |days: i64| Timestamp::from_millis(BASE - (days * DAY) as u64);
        node.clocks = Clocks::new(node.clock.clone(), 1, ago(30));
        written_days.iter().for_each(|days| node.clocks.stamped(ago(*days)));
        node.clocks.elect([1, 2, 3].into());
        assert_eq!(node.clocks.now(), ago(*written_days.last().unwrap()), "of one clock in three");
        node.hears(2, 0);
        node.clocks.look();
        assert_eq!(node.clocks.jump().map(|jump| jump.ahead_millis() as i64), jumped, "{written_days:?}");
    }
}

#[test]
fn a_snapshot_from_others_proves_that_they_ran() {
    let mut node = Fixture::new(&[], 0);
    node.clocks = Clocks::new(node.clock.clone(), 1, Timestamp::from_millis(BASE - 8 * 24 * HOUR as u64));
    node.clocks.installed(Timestamp::from_millis(BASE));
    assert_eq!(node.clocks.jump(), None, "told before clocks are compared");
    node.clocks = Clocks::new(node.clock.clone(), 1, Timestamp::from_millis(BASE - 8 * 24 * HOUR as u64));
    node.clocks.elect([1].into());
    assert!(node.clocks.jump().is_some());
    node.clocks.installed(Timestamp::from_millis(BASE));
    assert_eq!(node.clocks.jump(), None, "told after");
}

#[test]
fn time_does_not_begin_anew_when_voters_join_whose_clocks_nobody_knows() {
    let node = Fixture::new(&[1], 0);
    node.pass(Duration::from_millis(50));
    node.clocks.elect([1, 2, 3].into());
    assert_eq!(node.ahead(), 0, "nothing was stamped while it was alone");
}

#[test]
fn time_goes_on_when_a_clock_is_set_back_or_one_of_two_is_behind() {
    for (own, other) in [(-HOUR, 0), (0, -HOUR), (-24 * 365 * HOUR, -HOUR)] {
        let node = Fixture::new(&[1, 2, 3], 0);
        node.hears(2, 0);
        assert_eq!(node.ahead(), 0);
        node.clock.set_skew_millis(own);
        node.hears(2, other);
        node.pass(Duration::from_secs(600));
        node.hears(2, other);
        assert_eq!(node.ahead(), 0, "own {own}, other {other}");
    }
}

#[test]
fn what_no_clock_shows_is_not_heard() {
    let node = Fixture::new(&[1, 2, 3], 0);
    let now = node.clocks.monotonic();
    for voter in [2, 3] {
        node.clocks.note(voter, u64::MAX, now, now);
    }
    assert!(!node.clocks.is_known());
    assert_eq!(node.clocks.compare(), None);
}

#[test]
fn of_two_clocks_nobody_says_which_is_wrong() {
    let node = Fixture::new(&[1, 2, 3], HOUR);
    node.hears(2, 0);
    assert_eq!(node.clocks.compare(), None);
    node.hears(3, 20_000);
    assert_eq!(node.clocks.compare(), Some(Comparison { ahead_millis: HOUR - 20_000, close: vec![3] }));
    node.pass(CLOCK_FRESH + Duration::from_millis(1));
    assert_eq!(node.clocks.compare(), None, "what was heard long ago says nothing");
}

#[test]
fn an_answer_counts_from_the_middle_of_its_way() {
    let node = Fixture::new(&[1, 2, 3], HOUR);
    node.pass(Duration::from_millis(400));
    node.clocks.note(2, BASE, Duration::ZERO, Duration::from_millis(400));
    node.clocks.note(3, BASE, Duration::ZERO, Duration::from_millis(400));
    assert_eq!(node.ahead(), 5000 - 200);
}

/// It led by clocks that were wrong, wrote nothing, and they were set right.
#[test]
fn what_a_node_took_for_the_time_and_nobody_wrote_is_forgotten_when_it_leads_again() {
    let node = Fixture::new(&[1, 2, 3], 0);
    let hear = |ahead| [2, 3].into_iter().for_each(|id| node.hears(id, ahead));
    hear(0);
    assert_eq!(node.ahead(), 0);
    node.clocks.stamped(Timestamp::from_millis(node.truth()));
    node.clock.set_skew_millis(HOUR);
    for _ in 0..2 {
        node.pass(CLOCK_HASTE);
        hear(HOUR);
        node.clocks.now();
    }
    assert_eq!(node.ahead(), HOUR);
    node.clock.set_skew_millis(0);
    node.pass(CLOCK_HASTE);
    hear(0);
    assert_eq!(node.ahead(), HOUR, "while it leads");
    node.clocks.go_on_from_log();
    assert_eq!(node.ahead(), 0);
    // Nor is it what the next jump is measured by.
    assert!(node.clocks.jump().is_some());
    node.clocks.forget_jump(node.clocks.jump().unwrap());
    node.clock.set_skew_millis(HOUR / 2);
    for _ in 0..2 {
        node.pass(CLOCK_HASTE);
        hear(HOUR / 2);
        node.clocks.look();
    }
    assert_eq!(node.clocks.jump().map(|jump| jump.ahead_millis() as i64), Some(HOUR / 2));
    node.clock.set_skew_millis(0);
    node.pass(CLOCK_HASTE);
    hear(0);
    // What was written stays.
    node.clocks.stamped(Timestamp::from_millis(node.truth() + HOUR as u64));
    node.pass(CLOCK_HASTE);
    hear(0);
    node.clocks.go_on_from_log();
    assert_eq!(node.ahead(), HOUR);
}

/// A leader whose clock was off took log time five seconds along, and it goes back at half speed.
#[test]
fn who_follows_goes_back_to_the_clocks_with_the_log() {
    let node = Fixture::new(&[1, 2, 3], 0);
    let hear = || [2, 3].into_iter().for_each(|id| node.hears(id, 0));
    hear();
    assert_eq!(node.ahead(), 0);
    let mut last = 0;
    for second in 0..=20 {
        let ahead = 5_000_u64.saturating_sub(second * 500);
        node.clocks.stamped(Timestamp::from_millis(node.truth() + ahead));
        hear();
        node.clocks.go_on_from_log();
        assert_eq!(node.ahead(), ahead as i64, "after {second} s");
        // A new leader's first entry, which has no time of its own.
        node.clocks.stamped(Timestamp::from_millis(last));
        last = node.truth() + ahead;
        node.clocks.go_on_from_log();
        assert_eq!(node.ahead(), ahead as i64, "after {second} s, again");
        node.pass(Duration::from_secs(1));
    }
}
