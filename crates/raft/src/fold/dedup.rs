//! The deduplication table: which requests were committed lately, by whom, with what content, where.
//!
//! It refuses to grow: rows leave in log order, by number and by age in log time.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use certwright_core::log::{CodecError, Position, RequestId};
use certwright_core::mutant::{self, Mutant};
use certwright_core::time::Timestamp;
use prost::Message;

use crate::limits::{DEDUP_AGE_MAX, DEDUP_ROWS_MAX};

/// Rows of one shared run: a cut clones the list of runs and at most one run's worth of rows.
const RUN_ROWS: usize = 1024;

/// A request: its id and who made it.
pub(crate) type Key = (RequestId, Arc<str>);

/// One committed request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Row {
    pub(crate) actor: Arc<str>,
    pub(crate) id: RequestId,
    pub(crate) digest: [u8; 16],
    pub(crate) position: Position,
    pub(crate) at: Timestamp,
}

/// The table: rows in log order, and an index by key.
#[derive(Default)]
pub(crate) struct Dedup {
    /// Full runs, oldest first, shared with cuts.
    runs: VecDeque<Arc<Vec<Row>>>,
    /// The run being filled.
    tail: Vec<Row>,
    /// Rows of the oldest run (or of the tail) that were evicted already.
    evicted: usize,
    index: BTreeMap<Key, ([u8; 16], Position)>,
}

/// A consistent copy for a snapshot.
#[derive(Clone)]
pub(crate) struct DedupCut {
    runs: VecDeque<Arc<Vec<Row>>>,
    tail: Vec<Row>,
    evicted: usize,
}

impl Dedup {
    /// Digest and position of what the actor committed under this id within the window.
    pub(crate) fn find(&self, actor: &str, id: RequestId) -> Option<([u8; 16], Position)> {
        self.get(&(id, Arc::from(actor)))
    }

    /// The same, by a key that exists already.
    pub(crate) fn get(&self, key: &Key) -> Option<([u8; 16], Position)> {
        self.index.get(key).copied().filter(|_| !mutant::is(Mutant::RepeatsUnchecked))
    }

    /// How many rows there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    /// Remembers a request and evicts what is too old or too much; `row.at` never falls.
    pub(crate) fn insert(&mut self, row: Row) {
        let now = row.at;
        self.index.insert((row.id, row.actor.clone()), (row.digest, row.position));
        self.tail.push(row);
        if self.tail.len() == RUN_ROWS {
            self.runs.push_back(Arc::new(std::mem::take(&mut self.tail)));
        }
        self.evict(now);
    }

    /// Evicts what is too old at that log time, or too much.
    pub(crate) fn evict(&mut self, now: Timestamp) {
        let age_max = if mutant::is(Mutant::RequestsForgottenEarly) { Duration::from_secs(1) } else { DEDUP_AGE_MAX };
        while let Some(oldest) = self.oldest() {
            if self.index.len() <= DEDUP_ROWS_MAX && now.since(oldest.at) <= age_max {
                break;
            }
            let key = (oldest.id, oldest.actor.clone());
            self.index.remove(&key);
            self.evicted += 1;
            if self.runs.front().is_some_and(|run| run.len() == self.evicted) {
                self.runs.pop_front();
                self.evicted = 0;
            }
        }
        if self.runs.is_empty() && self.evicted > 0 {
            self.tail.drain(..self.evicted);
            self.evicted = 0;
        }
    }

    fn oldest(&self) -> Option<&Row> {
        self.runs.front().map_or(&self.tail, |run| run).get(self.evicted)
    }

    /// Log time went back: no row is younger than that. Copies that were made before keep what they have.
    pub(crate) fn rebase(&mut self, to: Timestamp) {
        let cut = self.cut();
        *self = Self::rebuild(cut.rows().map(|row| Row { at: row.at.min(to), ..row.clone() }));
    }

    /// A copy that later inserts do not change.
    pub(crate) fn cut(&self) -> DedupCut {
        DedupCut { runs: self.runs.clone(), tail: self.tail.clone(), evicted: self.evicted }
    }

    /// The table of these rows, in log order.
    pub(crate) fn rebuild(rows: impl IntoIterator<Item = Row>) -> Self {
        let mut dedup = Self::default();
        for row in rows {
            dedup.insert(row);
        }
        dedup
    }
}

impl DedupCut {
    fn rows(&self) -> impl Iterator<Item = &Row> {
        self.runs.iter().flat_map(|run| run.iter()).chain(&self.tail).skip(self.evicted)
    }

    /// Emits the rows, oldest first, in chunks that do not depend on how the table came to be.
    pub(crate) fn encode(&self, emit: &mut dyn FnMut(&[u8])) {
        let mut chunk = RowsForm::default();
        for row in self.rows() {
            chunk.rows.push(row.into());
            if chunk.rows.len() == RUN_ROWS {
                emit(&chunk.encode_to_vec());
                chunk.rows.clear();
            }
        }
        if !chunk.rows.is_empty() {
            emit(&chunk.encode_to_vec());
        }
    }

    /// Emits the rows one by one, oldest first.
    pub(crate) fn encode_pieces(&self, emit: &mut dyn FnMut(&[u8])) {
        self.rows().for_each(|row| emit(&RowForm::from(row).encode_to_vec()));
    }
}

/// A run of rows as stored.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct RowsForm {
    #[prost(message, repeated, tag = "1")]
    rows: Vec<RowForm>,
}

/// A row as stored.
#[derive(Clone, PartialEq, Eq, Message)]
struct RowForm {
    #[prost(string, tag = "1")]
    actor: String,
    #[prost(bytes = "bytes", tag = "2")]
    id: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    digest: Bytes,
    #[prost(uint64, tag = "4")]
    index: u64,
    #[prost(uint32, tag = "5")]
    ordinal: u32,
    #[prost(uint64, tag = "6")]
    at_millis: u64,
}

impl From<&Row> for RowForm {
    fn from(row: &Row) -> Self {
        Self {
            actor: row.actor.to_string(),
            id: Bytes::copy_from_slice(&row.id.0),
            digest: Bytes::copy_from_slice(&row.digest),
            index: row.position.index,
            ordinal: row.position.ordinal,
            at_millis: row.at.millis(),
        }
    }
}

impl TryFrom<RowForm> for Row {
    type Error = CodecError;

    fn try_from(form: RowForm) -> Result<Self, CodecError> {
        let fixed = |octets: &Bytes| {
            octets.as_ref().try_into().map_err(|_| CodecError {
                what: "deduplication row",
                why: format!("{} octets where 16 belong", octets.len()),
            })
        };
        Ok(Self {
            id: RequestId(fixed(&form.id)?),
            digest: fixed(&form.digest)?,
            actor: form.actor.into(),
            position: Position { index: form.index, ordinal: form.ordinal },
            at: Timestamp::from_millis(form.at_millis),
        })
    }
}

/// The rows of one chunk.
pub(crate) fn decode_rows(chunk: &[u8]) -> Result<Vec<Row>, CodecError> {
    RowsForm::decode(chunk)
        .map_err(|error| CodecError { what: "deduplication rows", why: error.to_string() })?
        .rows
        .into_iter()
        .map(Row::try_from)
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn row(number: u64, at_millis: u64) -> Row {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&number.to_be_bytes());
        Row {
            actor: "administrator/ada".into(),
            id: RequestId(id),
            digest: [7; 16],
            position: Position { index: number, ordinal: 1 },
            at: Timestamp::from_millis(at_millis),
        }
    }

    fn chunks(dedup: &Dedup) -> Vec<Vec<u8>> {
        let mut chunks = Vec::new();
        dedup.cut().encode(&mut |chunk| chunks.push(chunk.to_vec()));
        chunks
    }

    #[test]
    fn the_same_id_of_another_actor_is_another_request() {
        let mut dedup = Dedup::default();
        dedup.insert(row(1, 0));
        assert_eq!(dedup.find("administrator/ada", row(1, 0).id), Some(([7; 16], Position { index: 1, ordinal: 1 })));
        assert_eq!(dedup.find("administrator/bob", row(1, 0).id), None);
        assert_eq!(dedup.find("administrator/ada", row(2, 0).id), None);
    }

    #[test]
    fn rows_leave_when_their_number_exceeds_the_bound_by_one() {
        let mut dedup = Dedup::default();
        for number in 0..DEDUP_ROWS_MAX as u64 {
            dedup.insert(row(number, 0));
        }
        assert_eq!(dedup.len(), DEDUP_ROWS_MAX);
        assert!(dedup.find("administrator/ada", row(0, 0).id).is_some());
        dedup.insert(row(DEDUP_ROWS_MAX as u64, 0));
        assert_eq!(dedup.len(), DEDUP_ROWS_MAX);
        assert!(dedup.find("administrator/ada", row(0, 0).id).is_none(), "the oldest row leaves first");
        assert!(dedup.find("administrator/ada", row(1, 0).id).is_some());
    }

    #[test]
    fn rows_leave_one_millisecond_past_their_age_in_log_time() {
        let age = DEDUP_AGE_MAX.as_millis() as u64;
        let mut dedup = Dedup::default();
        dedup.insert(row(1, 0));
        dedup.evict(Timestamp::from_millis(age));
        assert_eq!(dedup.len(), 1);
        dedup.evict(Timestamp::from_millis(age + 1));
        assert_eq!(dedup.len(), 0);
        assert!(chunks(&dedup).is_empty());
    }

    #[test]
    fn a_snapshot_of_the_table_does_not_grow_with_the_requests_made() {
        let mut dedup = Dedup::default();
        let octets = |dedup: &Dedup| chunks(dedup).iter().map(Vec::len).sum::<usize>();
        // Two windows long a request each millisecond, then as many again.
        let window = DEDUP_AGE_MAX.as_millis() as u64;
        (0..2 * window).for_each(|number| dedup.insert(row((1 << 32) + number, number)));
        let (rows, full) = (dedup.len(), octets(&dedup));
        (2 * window..4 * window).for_each(|number| dedup.insert(row((1 << 32) + number, number)));
        assert_eq!((dedup.len(), rows), (window as usize + 1, window as usize + 1));
        assert!(octets(&dedup).abs_diff(full) < full / 100, "{} octets, {full} before", octets(&dedup));
    }

    #[test]
    fn equal_tables_encode_equally_however_they_came_to_be() {
        let mut evicted = Dedup::default();
        for number in 0..3000 {
            evicted.insert(row(number, number));
        }
        evicted.evict(Timestamp::from_millis(120_000 + 1500));
        let rebuilt = Dedup::rebuild((1500..3000).map(|number| row(number, number)));
        assert_eq!(evicted.len(), 1500);
        assert_eq!(chunks(&evicted), chunks(&rebuilt));
    }

    #[test]
    fn a_cut_does_not_see_later_rows() {
        let mut dedup = Dedup::rebuild((0..1500).map(|number| row(number, number)));
        let cut = dedup.cut();
        dedup.insert(row(2000, 2000));
        assert_eq!(cut.rows().count(), 1500);
    }

    #[test]
    fn golden_rows() {
        let dedup = Dedup::rebuild([row(0x0102, 5)]);
        let chunks = chunks(&dedup);
        assert_eq!(
            hex::encode(&chunks[0]),
            concat!(
                "0a3e0a1161646d696e6973747261746f722f616461",
                "121000000000000001020000000000000000",
                "1a1007070707070707070707070707070707",
                "20820228013005"
            )
        );
        assert_eq!(decode_rows(&chunks[0]).unwrap(), vec![row(0x0102, 5)]);
        assert!(decode_rows(&[0xff]).is_err());
    }
}
