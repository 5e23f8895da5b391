//! openraft's log store over the write-ahead log.
//!
//! It refuses to keep, in the archive, entries that were never committed: what a snapshot jumps over is cut first.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use bytes::Bytes;
use certwright_proto::internal::v1::BackfillFrame;
use futures_util::stream::{self, Stream};
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{LogState, RaftLogReader};
use prost::Message;
use tokio::sync::oneshot;

use super::record::{VoteForm, decode, encode, entry_from, entry_octets};
use super::wire::EntryForm;
use super::{Entry, LogId, Types, Vote, log_id, term_of};
use crate::chain::Chain;
use crate::limits::{APPEND_BATCH_OCTETS_MAX, READ_OCTETS_MAX};
use crate::wal::gaps::Gaps;
use crate::wal::{LogMark, Record, Wal};

/// What the replica knows that the log has to respect.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Basis {
    /// Entries before this index are known to be committed: they were applied from this log.
    pub(crate) committed_before: u64,
    /// Index of the last entry that the replica covers, and the chain's value there.
    pub(crate) covered: Option<(u64, Chain)>,
}

/// The log store; clones share the log.
#[derive(Clone)]
pub(crate) struct LogStore {
    wal: Wal,
    gaps: Arc<Gaps>,
    basis: Arc<dyn Fn() -> Basis + Send + Sync>,
    /// Tests make a node send another payload for this entry, or say that it has nothing (0).
    #[cfg(test)]
    pub(crate) lie: Arc<std::sync::atomic::AtomicU64>,
}

/// A log id as the write-ahead log has it.
pub(crate) fn mark_of(id: &LogId) -> LogMark {
    LogMark { index: id.index(), term: term_of(id), node: 0 }
}

fn id_of(mark: LogMark) -> LogId {
    log_id(mark.term, mark.index)
}

fn record(entry: &Entry) -> Record {
    let (kind, payload) = entry_octets(entry);
    let LogMark { index, term, node } = mark_of(&entry.log_id);
    Record { index, term, node, kind, payload }
}

/// The entry that a record holds.
pub(crate) fn entry(record: Record) -> io::Result<Entry> {
    entry_from(log_id(record.term, record.index), record.kind, record.payload)
}

fn entries(records: Vec<Record>) -> io::Result<Vec<Entry>> {
    records.into_iter().map(entry).collect()
}

/// Later appends fail as well once the log has failed; nobody has to wait for this one.
fn unattended(what: &'static str) -> crate::wal::Done {
    Box::new(move |result| {
        if let Err(error) = result {
            tracing::error!(%error, what, "the log failed");
        }
    })
}

impl LogStore {
    pub(crate) fn new(wal: Wal, gaps: Arc<Gaps>, basis: Arc<dyn Fn() -> Basis + Send + Sync>) -> Self {
        Self {
            wal,
            gaps,
            basis,
            #[cfg(test)]
            lie: Arc::new(u64::MAX.into()),
        }
    }

    /// The log itself.
    pub(crate) fn wal(&self) -> &Wal {
        &self.wal
    }

    /// Applied entries as peers exchange them: what comes after them may be another's tomorrow.
    pub(crate) fn archive_frames(&self, from: u64, to: u64, octets_max: usize) -> io::Result<Vec<BackfillFrame>> {
        let applied = (self.basis)().covered.map_or(0, |(index, _)| index + 1);
        let records = self.gaps.archive_read(&self.wal, from, to.min(applied), octets_max)?;
        #[cfg(test)]
        let records = self.altered(records);
        if records.first().is_none_or(|record| record.index != from) {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        }
        Ok(records
            .into_iter()
            .map(|record| {
                let form = EntryForm {
                    term: record.term,
                    index: record.index,
                    kind: record.kind.into(),
                    payload: record.payload,
                };
                BackfillFrame { index: form.index, frame: Bytes::from(form.encode_to_vec()) }
            })
            .collect())
    }

    #[cfg(test)]
    fn altered(&self, mut records: Vec<Record>) -> Vec<Record> {
        let lie = self.lie.load(std::sync::atomic::Ordering::Relaxed);
        records.retain(|_| lie > 0);
        for record in records.iter_mut().filter(|record| record.index == lie) {
            record.payload = [&record.payload[..], b"!"].concat().into();
        }
        records
    }

    fn holds(&self, id: &LogId) -> io::Result<bool> {
        let records = self.wal.read(id.index(), id.index() + 1, READ_OCTETS_MAX)?;
        Ok(records.first().is_some_and(|record| record.index == id.index() && record.term == term_of(id)))
    }

    fn bounds(&self, range: &impl RangeBounds<u64>) -> (u64, u64) {
        let from = match range.start_bound() {
            Bound::Included(&from) => from,
            Bound::Excluded(&before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(&last) => last.saturating_add(1),
            Bound::Excluded(&to) => to,
            Bound::Unbounded => u64::MAX,
        };
        let next = self.wal.last_mark().map_or(0, |last| last.index + 1);
        (from.max(self.wal.first_index()), to.min(next))
    }
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<Entry>>
    where
        RB: RangeBounds<u64> + Clone + Debug + Send,
    {
        let (mut from, to) = self.bounds(&range);
        let mut found = Vec::new();
        while from < to {
            let records = self.wal.read(from, to, READ_OCTETS_MAX)?;
            let Some(last) = records.last() else { break };
            from = last.index + 1;
            found.extend(entries(records)?);
        }
        Ok(found)
    }

    async fn entries_stream<RB>(&mut self, range: RB) -> impl Stream<Item = io::Result<Entry>> + Send
    where
        RB: RangeBounds<u64> + Clone + Debug + Send,
    {
        let (from, to) = self.bounds(&range);
        let wal = self.wal.clone();
        let portions = stream::try_unfold((wal, from), move |(wal, from)| async move {
            if from >= to {
                return Ok(None);
            }
            let records = wal.read(from, to, READ_OCTETS_MAX)?;
            let Some(last) = records.last() else { return Ok(None) };
            let next = last.index + 1;
            let portion = stream::iter(entries(records)?.into_iter().map(Ok));
            Ok::<_, io::Error>(Some((portion, (wal, next))))
        });
        Box::pin(futures_util::TryStreamExt::try_flatten(portions))
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        let (from, to) = self.bounds(&(start..end));
        if from >= to {
            return Ok(Vec::new());
        }
        entries(self.wal.read(from, to, APPEND_BATCH_OCTETS_MAX)?)
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        self.wal.vote().map(|octets| decode::<VoteForm>("vote", &octets).map(Vote::from)).transpose()
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        Ok(LogState {
            last_purged_log_id: self.wal.purged_mark().map(id_of),
            last_log_id: self.wal.last_mark().map(id_of),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let (sender, receiver) = oneshot::channel();
        let done = Box::new(move |result| drop(sender.send(result)));
        self.wal.save_vote(encode(&VoteForm::from(vote)), done).await;
        receiver.await.unwrap_or_else(|_| Err(io::Error::other("the log has stopped")))
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        self.wal.save_committed(committed.as_ref().map(mark_of), unattended("save committed")).await;
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.wal.committed().map(id_of))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let records: Vec<Record> = entries.into_iter().map(|entry| record(&entry)).collect();
        self.wal.append(records, Box::new(move |result| callback.io_completed(result))).await;
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        self.wal.truncate_after(last.as_ref().map(LogId::index), unattended("truncate")).await;
        Ok(())
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        let already = self.wal.purged_mark().is_some_and(|purged| purged.index >= upto.index());
        if already {
            return Ok(());
        }
        let mut chain = None;
        if !self.holds(&upto)? {
            // A snapshot jumped over what is here: only what was applied from here is known to be committed.
            let basis = (self.basis)();
            let first = self.wal.first_index();
            let keep = basis.committed_before.max(first).checked_sub(1).filter(|keep| *keep >= first);
            let from = self.wal.last_mark().map_or(0, |last| last.index + 1).min(keep.map_or(first, |keep| keep + 1));
            tracing::warn!(from, to = upto.index(), "entries that a snapshot covers are not in this node's archive");
            self.wal.truncate_after(keep, unattended("truncate")).await;
            chain = basis.covered.filter(|(index, _)| *index == upto.index()).map(|(_, chain)| chain);
            if let Some(chain) = chain {
                self.gaps.record(&self.wal, from, upto.index() + 1, chain)?;
            }
        }
        self.wal.purge(mark_of(&upto), chain, unattended("purge")).await;
        Ok(())
    }
}
