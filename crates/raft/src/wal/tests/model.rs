//! What a log must hold after a list of operations, in steps as small as frames.
//!
//! It refuses disks: it is the plainest possible statement of what the log promises.

use super::*;

/// An operation as the log offers it.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Append(Vec<Record>),
    Truncate(u64),
    Purge(LogMark),
    Vote(u64),
    Committed(LogMark),
}

/// What can be seen of a log.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Model {
    pub(super) first_index: u64,
    pub(super) entries: Vec<Record>,
    pub(super) purged: Option<LogMark>,
    pub(super) vote: Option<Bytes>,
    pub(super) committed: Option<LogMark>,
}

impl Step {
    /// For messages: payloads as their sizes.
    pub(super) fn brief(&self) -> String {
        match self {
            Self::Append(records) => format!("append {}", brief(records)),
            other => format!("{other:?}"),
        }
    }
}

fn brief(records: &[Record]) -> String {
    let one = |record: &Record| format!("{}@{}:{}", record.index, record.term, record.payload.len());
    records.iter().map(one).collect::<Vec<_>>().join(" ")
}

impl Model {
    /// For messages: payloads as their sizes.
    pub(super) fn brief(&self) -> String {
        let Self { first_index, entries, purged, vote, committed } = self;
        let entries = brief(entries);
        format!("from {first_index}: {entries}; purged {purged:?}, vote {vote:?}, committed {committed:?}")
    }

    pub(super) fn next_index(&self) -> u64 {
        self.first_index + self.entries.len() as u64
    }

    pub(super) fn last(&self) -> Option<LogMark> {
        self.entries.last().map(Record::mark).or(self.purged)
    }

    /// One step as the frames it consists of.
    pub(super) fn frames(step: &Step) -> Vec<Step> {
        match step {
            Step::Append(records) => records.iter().map(|record| Step::Append(vec![record.clone()])).collect(),
            other => vec![other.clone()],
        }
    }

    pub(super) fn apply(&mut self, step: &Step) {
        match step {
            Step::Append(records) => self.entries.extend(records.iter().cloned()),
            Step::Truncate(next_index) => self.entries.truncate((next_index - self.first_index) as usize),
            Step::Purge(mark) => {
                let count = (mark.index + 1 - self.first_index).min(self.entries.len() as u64);
                self.entries.drain(..count as usize);
                self.first_index = mark.index + 1;
                self.purged = Some(*mark);
            }
            Step::Vote(vote) => self.vote = Some(vote_octets(*vote)),
            Step::Committed(mark) => self.committed = Some(*mark),
        }
    }

    /// As a reader sees it: the committed mark is clamped.
    pub(super) fn seen(&self) -> Self {
        Self { committed: self.committed.min(self.last()), ..self.clone() }
    }

    /// What a log shows.
    pub(super) fn of(wal: &Wal) -> Self {
        Self {
            first_index: wal.first_index(),
            entries: live(wal),
            purged: wal.purged_mark(),
            vote: wal.vote(),
            committed: wal.committed(),
        }
    }
}

pub(super) fn vote_octets(vote: u64) -> Bytes {
    Bytes::copy_from_slice(&vote.to_be_bytes())
}

/// Submits a step without waiting for it to be durable.
pub(super) async fn submit(wal: &Wal, step: &Step, done: Done) {
    match step.clone() {
        Step::Append(records) => wal.append(records, done).await,
        Step::Truncate(next_index) => wal.truncate_after(next_index.checked_sub(1), done).await,
        Step::Purge(mark) => wal.purge(mark, Some([mark.index as u8; 32]), done).await,
        Step::Vote(vote) => wal.save_vote(vote_octets(vote), done).await,
        Step::Committed(mark) => wal.save_committed(Some(mark), done).await,
    }
}
