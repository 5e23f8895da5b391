//! Random operations with the process killed or the power cut at any disk operation: nothing acknowledged is lost,
//! nothing truncated comes back, a vote never goes back.

use std::sync::atomic::AtomicUsize;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::model::{Model, Step, submit};
use super::*;

/// Lives of one log, each ended by a kill, a power cut or a clean end.
const LIVES: usize = 5;
/// Operations in one life at most.
const STEPS_MAX: usize = 14;

#[test]
fn first_thousand() {
    run(0..1000);
}

#[test]
fn second_thousand() {
    run(1000..2000);
}

fn run(seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(Saga::new(seed).run());
    }
}

struct Saga {
    seed: u64,
    rng: StdRng,
    rig: Rig,
    /// What the log holds at least, at the start of a life.
    model: Model,
    term: u64,
    vote: u64,
}

impl Saga {
    fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut rig = Rig::new(seed);
        rig.options.cache_octets = [0, 5000, limits::WAL_CACHE_OCTETS_MAX][rng.random_range(0..3)];
        rig.options.batch_octets = [1, 3000, limits::WAL_BATCH_OCTETS_MAX][rng.random_range(0..3)];
        Self { seed, rng, rig, model: Model::default(), term: 1, vote: 0 }
    }

    async fn run(mut self) {
        for life in 0..LIVES {
            self.life(life).await;
        }
    }

    async fn life(&mut self, life: usize) {
        let context = format!("seed {}, life {life}", self.seed);
        let (wal, recovered) = self.rig.try_open().unwrap_or_else(|error| panic!("{context}: {error}"));
        assert_eq!(Model::of(&wal), self.model.seen(), "{context}");
        assert_eq!((recovered.last, recovered.vote), (self.model.last(), self.model.vote.clone()), "{context}");
        assert_eq!(self.rig.verify().finding, None, "{context}");
        let mut power = self.rng.random_range(0..3) > 0;
        if self.rng.random_range(0..5) > 0 {
            self.rig.disk.kill_after(self.rng.random_range(1..40));
        }
        let (steps, acknowledged) = self.work(&wal).await;
        self.end(&wal, power).await;
        // Recovery itself may die, any number of times.
        while self.rng.random_range(0..3) == 0 {
            self.rig.disk.kill_after(self.rng.random_range(1..25));
            let again = self.rng.random_range(0..2) == 0;
            power |= again;
            match self.rig.try_open() {
                Ok((wal, _)) => self.end(&wal, again).await,
                Err(WalError::Io { .. }) => self.end_dead(again),
                Err(error) => panic!("{context}: {error}"),
            }
        }
        self.settle(&steps, &acknowledged, power, &context);
    }

    /// Submits random steps, now and then waiting for them. Answers with them and how many were acknowledged, by
    /// number.
    async fn work(&mut self, wal: &Wal) -> (Vec<Step>, Vec<usize>) {
        let mut steps = Vec::new();
        let acknowledged = Arc::new(std::sync::Mutex::new(Vec::new()));
        let answers = Arc::new(AtomicUsize::new(0));
        let mut ahead = self.model.clone();
        for number in 0..self.rng.random_range(1..=STEPS_MAX) {
            let step = self.step(&ahead);
            ahead.apply(&step);
            let (list, count) = (Arc::clone(&acknowledged), Arc::clone(&answers));
            let note = move |result: io::Result<()>| {
                count.fetch_add(1, Ordering::SeqCst);
                if result.is_ok() {
                    list.lock().unwrap().push(number);
                }
            };
            submit(wal, &step, Box::new(note)).await;
            steps.push(step);
            if wal.fatal().borrow().is_some() {
                break;
            }
            assert_eq!((wal.last_mark(), wal.vote()), (ahead.last(), ahead.vote.clone()), "seed {}", self.seed);
            if self.rng.random_range(0..3) > 0 {
                tokio::task::yield_now().await;
            }
        }
        while answers.load(Ordering::SeqCst) < steps.len() {
            tokio::task::yield_now().await;
        }
        let acknowledged = acknowledged.lock().unwrap().clone();
        assert!(acknowledged.is_sorted(), "answers come in order");
        (steps, acknowledged)
    }

    /// A step that the log allows after those before it.
    fn step(&mut self, ahead: &Model) -> Step {
        let (first, next) = (ahead.first_index, ahead.next_index());
        // What is committed is never truncated.
        let firm = ahead.committed.map_or(first, |mark| first.max(mark.index + 1));
        match self.rng.random_range(0..12) {
            0 if next > firm => {
                self.term += 1;
                Step::Truncate(self.rng.random_range(firm..next))
            }
            1 if next > first => Step::Purge(ahead.entries[self.rng.random_range(0..ahead.entries.len())].mark()),
            2 if self.rng.random_range(0..4) == 0 => {
                self.term += 1;
                Step::Purge(mark(next + self.rng.random_range(0..5), self.term))
            }
            3 | 4 => {
                self.vote += 1;
                Step::Vote(self.vote)
            }
            5 | 6 => ahead.last().map_or(Step::Vote(self.vote), Step::Committed),
            _ => {
                let octets = [0, 30, 500, 5000][self.rng.random_range(0..4)];
                Step::Append(records(next, next + self.rng.random_range(1..6), self.term, octets))
            }
        }
    }

    /// Ends the life of an open log.
    async fn end(&mut self, wal: &Wal, power: bool) {
        // Now and then in good order, as far as the disk lets it.
        let orderly = self.rng.random_range(0..4) == 0;
        if orderly {
            wal.close().await;
        }
        self.end_dead(power);
        wal.close().await;
    }

    fn end_dead(&mut self, power: bool) {
        if power {
            self.rig.disk.crash();
        } else {
            self.rig.disk.kill();
        }
    }

    /// Finds which prefix of what was submitted the next recovery must show: at least what was acknowledged.
    fn settle(&mut self, steps: &[Step], acknowledged: &[usize], power: bool, context: &str) {
        // A committed mark is acknowledged when written: a power cut may take it.
        let firm = |number: &&usize| !power || !matches!(steps[**number], Step::Committed(_));
        let sure = acknowledged.iter().filter(firm).max().map_or(0, |number| number + 1);
        let mut candidates = vec![self.model.clone()];
        let mut least = 0;
        for (number, step) in steps.iter().enumerate() {
            for frame in Model::frames(step) {
                let mut next = candidates[candidates.len() - 1].clone();
                next.apply(&frame);
                candidates.push(next);
            }
            if number + 1 == sure {
                least = candidates.len() - 1;
            }
        }
        // A dry run on a copy: recovery must be the same again on the disk itself, after dying on the way.
        let copy = Rig { disk: self.rig.disk.fork(self.seed), options: self.rig.options.clone() };
        let (wal, _) = copy.try_open().unwrap_or_else(|error| panic!("{context}: {error}"));
        let found = Model::of(&wal);
        let matching = candidates[least..].iter().find(|candidate| candidate.seen() == found);
        let Some(matching) = matching else {
            let steps: Vec<String> = steps.iter().map(Step::brief).collect();
            let (least, most) = (candidates[least].seen().brief(), candidates[candidates.len() - 1].seen().brief());
            panic!("{context}: {}\nis no state from {least}\nto {most}\nby {steps:#?}, {sure} sure", found.brief());
        };
        self.model = matching.clone();
    }
}
