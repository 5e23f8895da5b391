//! The voters' clocks as this node has heard of them, and the time that may be stamped: never far ahead of what the clocks of
//! a majority have reached, which is their median when all are known, and no more than that when some are not.
//!
//! It also notices jumps of that majority, doubts clocks that seem ahead until all were asked again, and begins anew where log
//! time was set back. A bare [`Duration`] that is kept here is a moment of the monotonic clock.
//!
//! It refuses to set any clock right, and to follow one that goes ahead alone: one machine's jump must not age the estate.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use certwright_core::mutant::{self, Mutant};
use certwright_core::time::Timestamp;
use certwright_seams::Clock;

use crate::limits::{CLOCK_AHEAD_MAX, CLOCK_ANSWER_TIMEOUT, CLOCK_EVERY, CLOCK_FRESH};

const AHEAD_MAX_MILLIS: u64 = CLOCK_AHEAD_MAX.as_millis() as u64;

/// The end of the year 9999, beyond which no certificate is valid.
const WALL_MILLIS_MAX: u64 = 253_402_300_799_000;

/// How far the clocks of a majority may go ahead of the time that passed while this node ran, before that is a jump.
const JUMP: Duration = Duration::from_secs(10 * 60);
/// The same for the time that passed since the log was last written, as this node found it: nobody ran then, it may be.
const ABSENCE: Duration = Duration::from_secs(7 * 24 * 3600);
/// A jump that no leader has put on record for so long was none of the estate's.
const JUMP_KEPT: Duration = Duration::from_secs(3600);

/// How long a doubt counts: twice as long as it takes to ask everybody.
const DOUBT_KEPT: Duration = CLOCK_EVERY.saturating_add(CLOCK_ANSWER_TIMEOUT).saturating_mul(2);

/// How far ahead of this node's clock the time that may be stamped goes back to it, at half speed: what a clock that was
/// wrong for a moment can have left. Further ahead it is the clock that was set back.
const SLEW_MAX: Duration = Duration::from_secs(10);

/// What a voter's clock showed at a moment of this node's monotonic clock.
#[derive(Clone, Copy, Debug)]
struct Sample {
    wall_millis: u64,
    taken: Duration,
}

/// What a voter said its clock shows, and when it was asked.
#[derive(Clone, Copy)]
struct Answer {
    sample: Sample,
    asked: Duration,
}

/// Where the time that may be stamped goes on from: at half speed until what it is ahead is made up for.
#[derive(Clone, Copy)]
struct Base {
    from: Sample,
    ahead_millis: u64,
}

impl Base {
    fn shows(&self, monotonic: Duration) -> u64 {
        let passed = self.from.shows(monotonic) - self.from.wall_millis;
        self.from.wall_millis + passed - self.ahead_millis.min(passed / 2)
    }

    /// Whether it still goes at half speed.
    fn is_slow(&self, monotonic: Duration) -> bool {
        (self.from.shows(monotonic) - self.from.wall_millis) / 2 < self.ahead_millis
    }
}

#[derive(Default)]
struct Heard {
    me: u64,
    voters: BTreeSet<u64>,
    answers: BTreeMap<u64, Answer>,
    /// The last time that may be stamped whatever clocks say, and when: log time as it was found, then what a majority
    /// bounded. From there on time goes by the monotonic clock.
    base: Option<Base>,
    /// Log time as it is found, and when: what time goes on from when this node comes to lead.
    found: Option<Sample>,
    /// The furthest that a majority was, or log time as it was found, and when: what a jump is measured by.
    reached: Option<Sample>,
    /// A majority has come as far as that since this node started.
    is_bounded: bool,
    /// When a majority seemed to be ahead of that: what was asked before is in doubt.
    doubted: Option<Duration>,
    /// The newest jump that nobody has put on record, and when it was noticed.
    jump: Option<(ClockJump, Duration)>,
    /// When log time was set back, until all voters were heard since, or had the time to answer.
    set_back_at: Option<Duration>,
}

/// The clocks of a majority went ahead of the time that passed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClockJump {
    /// What they should have shown.
    pub from: Timestamp,
    /// What they showed.
    pub to: Timestamp,
}

impl ClockJump {
    /// By how much, milliseconds.
    pub fn ahead_millis(&self) -> u64 {
        self.to.millis().saturating_sub(self.from.millis())
    }
}

/// Why the voters' clocks give no time to set log time back to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClocksApart {
    /// Too few are known.
    Unknown {
        /// So many are, this node's own among them.
        known: usize,
        /// Of so many.
        voters: usize,
    },
    /// They do not show the same time.
    Apart {
        /// The voter whose clock is furthest from the median.
        voter: u64,
        /// Milliseconds that it is ahead of it; negative when it is behind.
        ahead_millis: i64,
    },
}

/// The clocks.
pub(crate) struct Clocks {
    clock: Arc<dyn Clock>,
    heard: Mutex<Heard>,
}

/// How this node's clock stands to the others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Comparison {
    /// Milliseconds that it is ahead of the median of at least three clocks.
    pub(crate) ahead_millis: i64,
    /// The other voters whose clocks are close to the median.
    pub(crate) close: Vec<u64>,
}

impl Clocks {
    /// Clocks of which none is known but this node's; `at` is the log time that it opens with.
    pub(crate) fn new(clock: Arc<dyn Clock>, me: u64, at: Timestamp) -> Self {
        let mut heard = Heard { me, ..Heard::default() };
        let monotonic = clock.monotonic();
        heard.learn(at, monotonic);
        heard.written(at, monotonic);
        Self { clock, heard: Mutex::new(heard) }
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This node's monotonic time, between asking and hearing.
    pub(crate) fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }

    /// Takes the newest set of voters; what is no voter has no say. Whose clocks are known now may not be a quorum of the
    /// next set: they are looked at.
    pub(crate) fn elect(&self, voters: BTreeSet<u64>) {
        let mut heard = self.heard();
        heard.answers.retain(|id, _| voters.contains(id));
        heard.voters = voters;
        drop(heard);
        self.look();
    }

    /// Whom to ask.
    pub(crate) fn others(&self) -> Vec<u64> {
        let heard = self.heard();
        heard.voters.iter().copied().filter(|id| *id != heard.me).collect()
    }

    /// A voter said what its clock shows, between these two moments.
    pub(crate) fn note(&self, voter: u64, wall_millis: u64, asked: Duration, answered: Duration) {
        let mut heard = self.heard();
        let is_of_before = heard.set_back_at.is_some_and(|since| asked < since);
        // Whatever is beyond that no machine shows by mistake.
        if heard.voters.contains(&voter) && wall_millis <= WALL_MILLIS_MAX && !is_of_before {
            let sample = Sample { wall_millis, taken: asked + answered.saturating_sub(asked) / 2 };
            heard.answers.insert(voter, Answer { sample, asked });
        }
    }

    /// Log time if it were stamped now: this node's clock, at most [`CLOCK_AHEAD_MAX`] ahead of what the clocks of a majority
    /// have reached. It never goes back but where log time was set back, or this node [goes on from the
    /// log](Self::go_on_from_log), and falls behind what it was and the time that has passed since by a little at most:
    /// a clock that is set back, or of two the one that is behind, must not make time stand still. Without a majority that is
    /// all there is: nothing is ever stamped ahead on one clock's word. A node without a log that knows no voters goes by its
    /// own clock.
    pub(crate) fn now(&self) -> Timestamp {
        let mut heard = self.heard();
        // Not before: whoever waited for the lock would bring an older time along.
        let (own, monotonic) = (self.clock.wall_millis(), self.clock.monotonic());
        if mutant::is(Mutant::ClockUnbounded) || mutant::is(Mutant::LogTimeGoesBack) {
            return Timestamp::from_millis(own);
        }
        // Before there is a log it is the epoch: nobody would come to anything.
        if let Some(base) = heard.base.filter(|base| base.from.wall_millis > 0 && mutant::is(Mutant::LogTimeFrozen)) {
            return Timestamp::from_millis(base.from.wall_millis);
        }
        let passed = heard.base.map_or(0, |base| base.shows(monotonic));
        if heard.voters.is_empty() {
            return Timestamp::from_millis(if heard.base.is_some() { passed } else { own });
        }
        let Some(majority) = heard.majority(own, monotonic) else { return Timestamp::from_millis(passed) };
        let bounded = own.min(majority.saturating_add(AHEAD_MAX_MILLIS));
        heard.measure(majority, monotonic);
        heard.go_on(bounded.max(passed), passed.saturating_sub(bounded), monotonic)
    }

    /// This node does not lead, or has just come to: time goes on from what the log says. What it took for the time by itself
    /// nobody has written, and the clocks that said so may have been set right since.
    pub(crate) fn go_on_from_log(&self) {
        let mut heard = self.heard();
        heard.base = heard.found.map(|from| Base { from, ahead_millis: 0 });
    }

    /// Log time: what the log says, and the time that has passed since; the epoch before everything.
    pub(crate) fn log_time(&self) -> Timestamp {
        let found = self.heard().found;
        found.map_or(Timestamp::EPOCH, |found| Timestamp::from_millis(found.shows(self.clock.monotonic())))
    }

    /// Looks whether a majority jumped: every node does, all the time, so that whoever comes to lead knows.
    pub(crate) fn look(&self) {
        let (own, monotonic) = (self.clock.wall_millis(), self.clock.monotonic());
        let mut heard = self.heard();
        if !heard.voters.is_empty()
            && let Some(majority) = heard.majority(own, monotonic)
        {
            heard.measure(majority, monotonic);
        }
    }

    /// The log has entries up to then. One stamped in the midst of a jump proves that time passed there: it was this machine
    /// that was suspended. Until a majority says more, it is at least that late.
    pub(crate) fn stamped(&self, at: Timestamp) {
        let passed = |(jump, _): &mut (ClockJump, Duration)| at > jump.from.plus(JUMP) && at.plus(JUMP) < jump.to;
        let mut heard = self.heard();
        heard.jump.take_if(passed);
        let monotonic = self.clock.monotonic();
        heard.learn(at, monotonic);
        if !heard.is_bounded {
            // Whoever wrote that may have ended before it put the jump on record; after a restore nobody has.
            heard.notice_jump(at.millis(), ABSENCE, monotonic);
            heard.written(at, monotonic);
        }
    }

    /// A snapshot of then came from others: somebody ran while this node was away.
    pub(crate) fn installed(&self, at: Timestamp) {
        let mut heard = self.heard();
        heard.jump.take_if(|(jump, _)| at > jump.from.plus(JUMP));
        let monotonic = self.clock.monotonic();
        heard.learn(at, monotonic);
        if !heard.is_bounded {
            heard.written(at, monotonic);
        }
    }

    /// Log time was set back to then. What was measured and heard was by the time that is taken back: this node goes on as
    /// one that has just started, with a log that ends there.
    pub(crate) fn rebased(&self, to: Timestamp) {
        if mutant::is(Mutant::RebaseLeavesClocks) {
            return;
        }
        let mut heard = self.heard();
        let monotonic = self.clock.monotonic();
        let (me, voters) = (heard.me, std::mem::take(&mut heard.voters));
        *heard = Heard { me, voters, set_back_at: Some(monotonic), ..Heard::default() };
        heard.learn(to, monotonic);
        heard.written(to, monotonic);
    }

    /// What all clocks that are known show, if those are a majority's and none is further than [`CLOCK_AHEAD_MAX`] from their
    /// median: the only time that log time may be set back to.
    pub(crate) fn agreed(&self) -> Result<Timestamp, ClocksApart> {
        let (own, monotonic) = (self.clock.wall_millis(), self.clock.monotonic());
        let heard = self.heard();
        let times = heard.times(own, monotonic);
        let (known, voters) = (times.len(), heard.voters.len());
        if voters == 0 || known <= voters / 2 {
            return Err(ClocksApart::Unknown { known, voters });
        }
        let median = median(&times);
        let fresh = heard.answers.iter().filter(|(_, answer)| answer.sample.is_fresh(monotonic));
        let shown = fresh.map(|(id, answer)| (*id, answer.sample.shows(monotonic)));
        let all = shown.chain(heard.has_say().then_some((heard.me, own)));
        match all.max_by_key(|(_, shows)| shows.abs_diff(median)) {
            Some((voter, shows)) if shows.abs_diff(median) > AHEAD_MAX_MILLIS => {
                Err(ClocksApart::Apart { voter, ahead_millis: difference_millis(shows, median) })
            }
            _ => Ok(Timestamp::from_millis(median)),
        }
    }

    /// The newest jump, until [`forget_jump`](Self::forget_jump).
    pub(crate) fn jump(&self) -> Option<ClockJump> {
        let monotonic = self.clock.monotonic();
        let mut heard = self.heard();
        heard.jump.take_if(|(_, noticed)| monotonic.saturating_sub(*noticed) > JUMP_KEPT);
        heard.jump.map(|(jump, _)| jump)
    }

    /// That jump was put on record.
    pub(crate) fn forget_jump(&self, known: ClockJump) {
        self.heard().jump.take_if(|(jump, _)| *jump == known);
    }

    /// Whether the clocks of a majority are known, and nothing of it is in doubt.
    pub(crate) fn is_known(&self) -> bool {
        let (own, monotonic) = (self.clock.wall_millis(), self.clock.monotonic());
        let heard = self.heard();
        heard.doubt(monotonic).is_none() && heard.reached_by_most(&heard.times(own, monotonic)).is_some()
    }

    /// How this node's clock stands to the voters'; `None` while fewer than three are known: of two nobody can say which
    /// one is wrong.
    pub(crate) fn compare(&self) -> Option<Comparison> {
        let (own, monotonic) = (self.clock.wall_millis(), self.clock.monotonic());
        let heard = self.heard();
        let times = heard.times(own, monotonic);
        if times.len() < 3 {
            return None;
        }
        let median = median(&times);
        let is_close = |it: &Sample| it.shows(monotonic).abs_diff(median) <= AHEAD_MAX_MILLIS;
        let counts = |it: &Sample| it.is_fresh(monotonic) && is_close(it);
        let close = heard.answers.iter().filter(|(_, it)| counts(&it.sample)).map(|(id, _)| *id);
        Some(Comparison { ahead_millis: difference_millis(own, median), close: close.collect() })
    }
}

impl Sample {
    /// What the clock would show now.
    fn shows(&self, monotonic: Duration) -> u64 {
        self.wall_millis.saturating_add(monotonic.saturating_sub(self.taken).as_millis() as u64)
    }

    fn is_fresh(&self, monotonic: Duration) -> bool {
        monotonic.saturating_sub(self.taken) <= CLOCK_FRESH
    }
}

impl Heard {
    /// Log time is that late by what was applied now. Where it goes back slowly it is a little earlier than it should be by
    /// now; what is much earlier was written long ago, and entries of consensus bring the time of before along.
    fn learn(&mut self, at: Timestamp, monotonic: Duration) {
        let is_next = |found: &Sample| {
            let behind = found.shows(monotonic).saturating_sub(at.millis());
            at.millis() > found.wall_millis && behind <= SLEW_MAX.as_millis() as u64
        };
        if self.found.as_ref().is_none_or(is_next) {
            self.found = Some(Sample { wall_millis: at.millis(), taken: monotonic });
        }
    }

    /// The log was written then, which is later than what is known so far, or changes nothing.
    fn written(&mut self, at: Timestamp, monotonic: Duration) {
        let found = Sample { wall_millis: at.millis(), taken: monotonic };
        let is_later = |than: Option<u64>| at.millis() > than.unwrap_or_default();
        if is_later(self.reached.map(|reached| reached.shows(monotonic))) {
            self.reached = Some(found);
        }
        if is_later(self.base.map(|base| base.shows(monotonic))) {
            self.base = Some(Base { from: found, ahead_millis: 0 });
        }
    }

    /// It is that late now, which is so many milliseconds ahead of what clocks say.
    fn go_on(&mut self, millis: u64, ahead_millis: u64, monotonic: Duration) -> Timestamp {
        let made_up_millis = if ahead_millis <= SLEW_MAX.as_millis() as u64 { ahead_millis } else { 0 };
        let is_slow = self.base.is_some_and(|base| base.is_slow(monotonic));
        // While the base holds it stays: whoever asked often would lose what is less than a millisecond each time.
        if ahead_millis == 0 || self.base.is_none() || is_slow != (made_up_millis > 0) {
            let from = Sample { wall_millis: millis, taken: monotonic };
            self.base = Some(Base { from, ahead_millis: made_up_millis });
        }
        Timestamp::from_millis(millis)
    }

    /// Notices a jump when a time is ahead of where time should be by now, by more than that; returns the latter.
    fn notice_jump(&mut self, millis: u64, tolerance: Duration, monotonic: Duration) -> Option<u64> {
        let expected = self.reached.map(|reached| reached.shows(monotonic));
        let is_jump = |from: &u64| millis.saturating_sub(*from) > tolerance.as_millis() as u64;
        if let Some(from) = expected.filter(is_jump).filter(|_| !mutant::is(Mutant::JumpUnnoticed)) {
            let (from, to) = (Timestamp::from_millis(from), Timestamp::from_millis(millis));
            self.jump = Some((ClockJump { from, to }, monotonic));
        }
        expected
    }

    /// What the clocks of a majority of all voters have reached; those that are not known might show anything. Farther ahead
    /// than time can be by now it counts when all were asked again: clocks that were wrong one after the other are no majority.
    fn majority(&mut self, own: u64, monotonic: Duration) -> Option<u64> {
        if self.set_back_at.is_some_and(|since| !self.was_heard_since(since, monotonic)) {
            return None;
        }
        self.set_back_at = None;
        let expected = self.reached.filter(|_| self.is_bounded).map(|reached| reached.shows(monotonic));
        let is_ahead =
            |millis: &u64| expected.is_some_and(|expected| *millis > expected.saturating_add(AHEAD_MAX_MILLIS));
        let majority = self.reached_by_most(&self.times(own, monotonic))?;
        if !is_ahead(&majority) || self.answers.is_empty() {
            return Some(majority);
        }
        let since = self.doubt(monotonic).unwrap_or(monotonic);
        self.doubted = Some(since);
        let again = self.reached_by_most(&self.times_asked_since(since, own, monotonic));
        if again.as_ref().is_some_and(is_ahead) {
            self.doubted = None;
        }
        again
    }

    /// Since when what was heard is in doubt, as long as that counts.
    fn doubt(&self, monotonic: Duration) -> Option<Duration> {
        self.doubted.filter(|since| monotonic.saturating_sub(*since) <= DOUBT_KEPT)
    }

    /// Whether all other voters have answered since log time was set back, or those who have not are away. Clocks that were
    /// behind all the while may be the first to be heard, and what is ahead of them is no jump.
    fn was_heard_since(&self, since: Duration, monotonic: Duration) -> bool {
        let mut others = self.voters.iter().filter(|id| **id != self.me);
        others.all(|id| self.answers.contains_key(id)) || monotonic.saturating_sub(since) > CLOCK_FRESH
    }

    /// What a majority of all voters have reached, of times in order.
    fn reached_by_most(&self, times: &[u64]) -> Option<u64> {
        times.iter().rev().nth(self.voters.len() / 2).copied()
    }

    /// Takes what a majority has reached for where time is by now.
    fn measure(&mut self, majority: u64, monotonic: Duration) {
        let expected = self.notice_jump(majority, if self.is_bounded { JUMP } else { ABSENCE }, monotonic);
        // Log time as it was found may be ahead of them, by as much as one clock could take it along.
        let slack = SLEW_MAX.as_millis() as u64;
        self.is_bounded |= expected.is_none_or(|expected| majority.saturating_add(slack) >= expected);
        let mut furthest = expected.unwrap_or_default();
        if furthest.saturating_sub(majority) > JUMP.as_millis() as u64 {
            // They were set back: how far they had been says nothing any more, unless it was written.
            furthest = self.found.map(|found| found.shows(monotonic)).unwrap_or_default();
        }
        let reached = Sample { wall_millis: majority.max(furthest), taken: monotonic };
        self.reached = Some(reached);
        self.base.get_or_insert(Base { from: reached, ahead_millis: 0 });
    }

    /// What the clocks of voters show now as far as they are known, in order; this node's own is one of them, if it votes
    /// or no voters are known yet.
    fn times(&self, own: u64, monotonic: Duration) -> Vec<u64> {
        self.times_asked_since(Duration::ZERO, own, monotonic)
    }

    fn has_say(&self) -> bool {
        self.voters.is_empty() || self.voters.contains(&self.me)
    }

    /// The same of those who were asked then or later.
    fn times_asked_since(&self, since: Duration, own: u64, monotonic: Duration) -> Vec<u64> {
        let asked = self.answers.values().filter(|it| it.asked >= since).map(|it| &it.sample);
        let fresh = asked.filter(|it| it.is_fresh(monotonic)).map(|it| it.shows(monotonic));
        let mut times: Vec<u64> = fresh.chain(self.has_say().then_some(own)).collect();
        times.sort_unstable();
        times
    }
}

/// By how much the first is ahead of the second.
fn difference_millis(one: u64, other: u64) -> i64 {
    i64::try_from(one).unwrap_or(i64::MAX).saturating_sub_unsigned(other)
}

/// The middle one; the lower one of two.
fn median(times: &[u64]) -> u64 {
    times[(times.len() - 1) / 2]
}

#[cfg(test)]
mod tests;
